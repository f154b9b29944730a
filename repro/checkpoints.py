"""Checkpoints: tensors and plain types only, written so that a crash at any moment leaves a good one.

Writing: temporary file, fsync, what was there linked to `*.prev`, the new one renamed into place. In a job's folder the
temporary file lies where only the newest attempt at that job can write (`attempt`, slurm.fence), so an older one that
wakes up replaces nothing. Reading: always `torch.load(weights_only=True)`; nothing that a stranger sends is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from repro.errors import UserError
from slurm import fence

_attempts: dict[Path, fence.Attempt] = {}  # of this process, by the folder that they write to


@contextlib.contextmanager
def attempt(folder: Path) -> Iterator[fence.Attempt]:
    """Be the newest attempt at the job of that folder: from now on only this process's checkpoints get there."""
    mine = _attempts[folder] = fence.claim(folder / "attempts")
    try:
        yield mine
    finally:
        del _attempts[folder]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` and keep what was there as `*.prev`.

    Raises Superseded, and leaves both as they are, in an attempt that is not the newest any more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = _attempts.get(path.parent)
    place = mine.folder if mine else path.parent
    fresh, old = (place / f".{path.name}.{os.getpid()}{end}" for end in ("", ".prev"))
    try:
        with fresh.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            old.unlink(missing_ok=True)
            os.link(path, old)
            old.replace(path.with_name(path.name + ".prev"))
        fresh.replace(path)
    except OSError as error:
        if mine:
            mine.require()
        fresh.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path} ({error.strerror}); free some space or choose another --workspace"
        ) from None


def load(path: Path, form: str) -> dict[str, Any]:
    """The checkpoint of the given form at `path`, on the CPU.

    Raises UserError, in one line that names the file, where it is missing, truncated, of another form, or holds
    anything but tensors and plain types.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception:  # a flipped bit in a header may also say "encrypted", or name a compression there is not
        raise UserError(f"{path}: truncated, or no PyTorch checkpoint; delete it and run again") from None
    if broken:
        raise UserError(f"{path}: damaged (part {broken}); delete it and run again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own and pickle's errors, all meaning: not plain tensors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: refused, it holds more than tensors and plain values ({reason[:80]})") from None
    if not isinstance(state, dict) or state.get("form") != form:
        raise UserError(f"{path}: not a {form} checkpoint of repro")
    return state


def load_latest(path: Path, form: str) -> tuple[dict[str, Any] | None, str]:
    """The newest good checkpoint among `path` and `*.prev`, and a line on what was passed over ('' if nothing).

    Within an `attempt` a bad one becomes `*.damaged`, lest the next `save` put it in place of the good one.
    """
    note = ""
    for candidate in (path, path.with_name(path.name + ".prev")):
        if not candidate.is_file():
            continue
        try:
            return load(candidate, form), note
        except UserError as error:
            note = str(error)
            if path.parent in _attempts:
                candidate.replace(path.with_name(path.name + ".damaged"))
    return None, note
