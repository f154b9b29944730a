"""Checkpoints: tensors and plain types only, written so that a crash at any moment leaves a good one.

Writing: by `atomic`, and what was there stays as `*.prev`. Reading: always `torch.load(weights_only=True)`, after the
checksum of every part; nothing that a stranger sends is unpickled. When: pre-training and the trainings of evaluations
alike every 30 seconds, when they are asked to stop, and at their end.
"""

from __future__ import annotations

import contextlib
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from repro.errors import Stopped, UserError
from repro.store import atomic, time_spent

EVALUATION = "repro-evaluation"
_DELETE = "delete it and run again"
SAVE_EVERY = 30.0  # seconds between two checkpoints of a training


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path` and keep what was there as `*.prev`; before that, the time the job took (`time_spent`).

    Raises UserError and Superseded as `atomic.replace`, and leaves both as they are.
    """
    time_spent.keep(path.parent)
    atomic.replace(path, lambda stream: torch.save(dict(state), stream), previous=True)


def load(path: Path, form: str) -> dict[str, Any]:
    """The checkpoint of the given form at `path`, on the CPU.

    Raises UserError, in one line that names the file, where it is missing, truncated, of another form, or holds
    anything but tensors and plain types.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}", "give an existing file")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception:  # a flipped bit in a header may also say "encrypted", or name a compression there is not
        raise UserError(f"{path}: truncated, or not a PyTorch checkpoint", _DELETE) from None
    if broken:
        raise UserError(f"{path}: damaged (part {broken})", _DELETE)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own and pickle's errors, all meaning: not plain tensors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: refused, it holds more than tensors and plain values ({reason[:80]})",
            "give a file that repro wrote",
        ) from None
    if not isinstance(state, dict) or state.get("form") != form:
        raise UserError(f"{path}: not a {form} checkpoint of repro", "give a file that repro wrote")
    return state


def load_latest(path: Path, form: str) -> tuple[dict[str, Any] | None, str]:
    """The newest good checkpoint among `path` and `*.prev`, and a line on what was passed over ('' if nothing).

    Within an attempt (`atomic.attempt`) a bad one becomes `*.damaged`, lest the next `save` put it in place of the good
    one.
    """
    notes: list[str] = []
    for candidate in (path, path.with_name(path.name + ".prev")):
        if not candidate.is_file():
            continue
        try:
            return load(candidate, form), " and ".join(notes)
        except UserError as error:
            notes.append(error.problem)
            if atomic.attempted(path.parent):
                candidate.replace(path.with_name(path.name + ".damaged"))
    return None, " and ".join(notes)


@contextlib.contextmanager
def on_sigterm(handler: Callable[..., None]) -> Iterator[None]:
    """Let `handler` take SIGTERM while the block runs."""
    old = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


class Ranks(Protocol):
    """Those that share a training; each of them is one."""

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all of them must ask."""


class Alone:
    """A training that nobody shares."""

    first = True

    def any(self, flag: bool) -> bool:
        return flag


class Store:
    """Where the trainings of a job keep their state (eval.context.Store): files in its folder.

    Several ranks ask and save together: what is due for one is due for all, and the first alone writes.
    """

    def __init__(self, folder: Path, form: str = EVALUATION, ranks: Ranks | None = None) -> None:
        self.folder, self.form, self.ranks = folder, form, ranks or Alone()
        self._saved, self._asked = time.monotonic(), False

    def load(self, name: str) -> tuple[dict[str, Any] | None, str]:
        """`load_latest` of the file of that name."""
        return load_latest(self.folder / name, self.form)

    def due(self) -> bool:
        """Whether the last `save` was `SAVE_EVERY` seconds ago, or SIGTERM has come."""
        return self.ranks.any(self._asked or time.monotonic() - self._saved > SAVE_EVERY)

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """`save` in the file of that name. Raises Stopped after that where SIGTERM has come."""
        if self.ranks.first:
            save(self.folder / name, {"form": self.form, **state})
        self._saved = time.monotonic()
        if self.ranks.any(self._asked):
            raise Stopped

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """While it trains, SIGTERM ends it at the next `save`; before and after that it ends the process at once."""
        self._saved = time.monotonic()
        with on_sigterm(self._ask_to_stop):
            yield

    def _ask_to_stop(self, *_: object) -> None:
        self._asked = True
