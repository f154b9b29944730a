"""Files that appear whole or not at all, whatever dies and however full the disk is.

A temporary file, fsync, a rename. In a job's folder the temporary file lies where only the newest attempt at that job
can write (`attempt`, slurm.fence), so an older one that wakes up replaces nothing. For what a library writes to a
stream, and for what an older attempt must not touch; other text goes by slurm.files.write_atomic.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from repro.errors import UserError
from slurm import fence

_attempts: dict[Path, fence.Attempt] = {}  # of this process, by the folder that they write to


@contextlib.contextmanager
def attempt(folder: Path) -> Iterator[fence.Attempt]:
    """Be the newest attempt at the job of that folder: from now on only this process's files get there."""
    mine = _attempts[folder] = fence.claim(folder / "attempts")
    try:
        yield mine
    finally:
        del _attempts[folder]


def attempted(folder: Path) -> bool:
    """Whether this process is in an `attempt` at the job of that folder."""
    return folder in _attempts


class _Stream:
    """A file as torch.save and numpy.save take it, with the first error in writing to it.

    Both put another of their own in its place, numpy even one without a number where it is given the file itself.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        with self._noting():
            return self.file.write(data)

    def flush(self) -> None:
        with self._noting():
            self.file.flush()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            raise


def replace(path: Path, write: Callable[[Any], object], *, previous: bool = False) -> None:
    """Put what `write(stream)` writes in place of `path`; previous: what was there stays as `*.prev`.

    Raises UserError where it cannot be written, and Superseded in an attempt that is not the newest any more; both
    files are then as they were, and no other is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = _attempts.get(path.parent)
    place = mine.folder if mine else path.parent
    # Not by the process's number, which is another's on another machine.
    fresh = place / f".{path.name}.{uuid.uuid4().hex}"
    old, stream = fresh.with_name(f"{fresh.name}.prev"), None
    try:
        with fresh.open("xb") as file:
            stream = _Stream(file)
            write(stream)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            os.link(path, old)
            old.replace(path.with_name(path.name + ".prev"))
        fresh.replace(path)
    except BaseException as error:
        for file_of_ours in (fresh, old):
            with contextlib.suppress(OSError):
                file_of_ours.unlink()
        cause = (stream and stream.error) or error
        if not isinstance(cause, OSError):
            raise
        if mine:
            mine.require()
        raise UserError(
            f"cannot write {path} ({cause.strerror or cause}); free some space or choose another --workspace"
        ) from None
