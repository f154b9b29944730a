"""What the tests of several evaluations share: labelled data, and how an interruption is judged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from eval.data import Classification, Labelled


@pytest.fixture
def labelled() -> Callable[..., Classification[Any]]:
    """`labelled(train_x, train_y, test_x, test_y, classes)`."""

    def data(train_x: Any, train_y: np.ndarray, test_x: Any, test_y: np.ndarray, classes: int) -> Classification[Any]:
        return Classification(Labelled(train_x, train_y), Labelled(test_x, test_y), classes)

    return data


class Killed(Exception):
    pass


@pytest.fixture
def interrupted(memory: Callable[..., Any]) -> Callable[..., tuple[str, dict[str, Any], Any]]:
    """`interrupted(run, at, of, every)`: a training that died when `at` of its `of` updates were done, and went on.

    run(**context) trains, and returns the result. Its state is kept after `every` updates; it dies as its progress is
    told, of `at` above `of` not at all. The end must be that of a training which nobody interrupted.
    Returns what it says of going on, the result, and the store.
    """

    def check(run: Callable[..., dict[str, Any]], at: int, of: int, every: int) -> tuple[str, dict[str, Any], Any]:
        whole, store = run(), memory(every)

        def die(done: int, total: int, info: Mapping[str, Any]) -> None:
            assert total == of
            if done == at:
                raise Killed

        with pytest.raises(Killed) if at <= of else contextlib.nullcontext():
            run(store=store, progress=die)
        torch.manual_seed(at)  # whatever state the process is in
        again = run(store=store)
        said = again["details"].pop("resumed")
        assert whole["details"].pop("resumed") == ""
        assert again == whole  # every digit of every metric and loss
        return said, whole, store

    return check
