"""Trainings of evaluations on the disk: damage, SIGTERM, a newer attempt. What goes on ends as what was left alone."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval import finetune, linear_crops, protocols, reid_finetune
from eval.context import Context
from eval.data import Classification, Identified, Labelled, Normalisation
from repro.errors import Stopped
from repro.store import atomic, checkpoints
from repro.store.checkpoints import Store
from slurm import fence

pytestmark = pytest.mark.trains

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
Evaluate = Callable[..., dict[str, Any]]
UPDATES, EPOCHS = 6, 2  # of each of the three, an epoch


class Tiny(nn.Module):
    dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.1)

    def features(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(x)).relu()).mean((2, 3))


def _protocol(kind: str, name: str, **changes: Any) -> Any:
    return protocols.load(kind, name, {"epochs": EPOCHS, "precision": "fp32", **changes})


def within(evaluate: Evaluate) -> Evaluate:
    """The evaluation in a context of these fields."""
    return lambda **fields: evaluate(Context(**fields))


def made(name: str) -> Evaluate:
    """An evaluation on random pictures that takes `store` and `progress`."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (48, 3, 8, 8), dtype=np.uint8), np.arange(48) % 4
    torch.manual_seed(0)
    encoder = Tiny()
    data = Classification(Labelled(x, y), Labelled(x, y), 4)
    if name == "finetune":
        p = _protocol("finetune", "mini", batch=8, holdout=0, train_pictures=0, crop_padding=1, size=[8, 8])
        return within(partial(finetune.evaluate, encoder, data, Normalisation(MEAN, STD), p))
    if name == "linear":
        p = _protocol("linear", "glnet", batch=8, size=[8, 8])
        return within(partial(linear_crops.probe, encoder, data, Normalisation(MEAN, STD), p))
    p = _protocol("reid_finetune", "mini", identities=4, pictures=2, erasing=0.5)
    given = [Identified(x, y + 1, np.arange(48) // 24)] * 3
    p = dataclasses.replace(p, size=(8, 8))
    return within(partial(reid_finetune.evaluate, encoder, *given, Normalisation(MEAN, STD), p))


@pytest.fixture(params=["finetune", "linear", "reid_finetune"])
def training(request: pytest.FixtureRequest) -> tuple[str, Evaluate, dict[str, Any]]:
    """The name of its file, the evaluation, and what it gives undisturbed."""
    evaluate = made(request.param)
    return f"{request.param}.pt", evaluate, evaluate()


class Killed(Exception):
    pass


def until(update: int, act: Callable[[], None]) -> Callable[..., None]:
    def progress(done: int, total: int, info: dict[str, Any]) -> None:
        if done == update and "note" not in info:
            act()

    return progress


def kill() -> None:
    raise Killed


def same(again: dict[str, Any], whole: dict[str, Any]) -> str:
    """Every digit of every metric and loss; returns what is said of the resumption."""
    details = [
        {key: value for key, value in result["details"].items() if key != "resumed"} for result in (again, whole)
    ]
    assert again["metrics"] == whole["metrics"] and details[0] == details[1]
    said = again["details"]["resumed"]
    assert isinstance(said, str) and "\n" not in said
    return said


def flip(path: Path) -> None:
    """One bit of the largest part, not of the padding between two parts, where it does no harm."""
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda part: part.file_size)
    raw = bytearray(path.read_bytes())
    names = sum(int.from_bytes(raw[part.header_offset + at :][:2], "little") for at in (26, 28))
    raw[part.header_offset + 30 + names + part.file_size // 2] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("spoil", "word"), [(cut, "truncated"), (flip, "damaged")])
def test_a_damaged_one_falls_back_to_the_one_before_it(
    training: tuple[str, Evaluate, dict[str, Any]],
    spoil: Callable[[Path], None],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, evaluate, whole = training
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0.0)
    with atomic.attempt(tmp_path), pytest.raises(Killed):
        evaluate(store=Store(tmp_path), progress=until(5, kill))
    spoil(tmp_path / name)
    with atomic.attempt(tmp_path):
        said = same(evaluate(store=Store(tmp_path)), whole)
    place = re.escape(str(tmp_path / name))
    assert re.fullmatch(
        rf"resumed after update 3 of epoch 1( \(all\))?, skipped a checkpoint: {place}: {word}[^;]*", said
    )
    for file in (name, f"{name}.prev"):
        spoil(tmp_path / file)
    with atomic.attempt(tmp_path):
        said = same(evaluate(store=Store(tmp_path)), whole)
        assert said.startswith(f"started afresh: {tmp_path / name}: {word}") and f"{name}.prev: {word}" in said
    assert same(evaluate(store=Store(tmp_path)), whole).startswith(f"resumed after epoch {EPOCHS}")


def test_asked_to_stop_in_the_first_epoch_it_has_lost_nothing(
    training: tuple[str, Evaluate, dict[str, Any]], tmp_path: Path
) -> None:
    name, evaluate, whole = training
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        evaluate(store=Store(tmp_path), progress=until(4, partial(os.kill, os.getpid(), signal.SIGTERM)))
    assert signal.getsignal(signal.SIGTERM) == before
    assert [file.name for file in tmp_path.iterdir()] == [name]  # the 30 seconds were not over
    assert re.fullmatch(r"resumed after update 4 of epoch 1( \(all\))?", same(evaluate(store=Store(tmp_path)), whole))


def test_an_older_attempt_that_wakes_up_replaces_nothing(
    training: tuple[str, Evaluate, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, evaluate, _ = training
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0.0)
    there: list[dict[str, int]] = []

    def newer() -> None:
        fence.claim(tmp_path / "attempts")
        there.append({file.name: file.stat().st_ino for file in tmp_path.iterdir() if file.is_file()})

    with atomic.attempt(tmp_path), pytest.raises(fence.Superseded):
        evaluate(store=Store(tmp_path), progress=until(4, newer))
    assert there == [{file.name: file.stat().st_ino for file in tmp_path.iterdir() if file.is_file()}]
    assert sorted(there[0]) == [name, f"{name}.prev"]
