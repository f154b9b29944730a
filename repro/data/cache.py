"""Folders of the data cache: made once, seen whole or not at all.

A folder is built beside its final place and renamed into it; a lock file keeps several jobs from building the same one
at once. Its name carries the manifest of what it is made of: changed pictures get a new folder.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from repro.errors import UserError
from slurm import watch
from slurm.files import held_by, holder

_UNWRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG),
)
_NAME = 120  # bytes
_TICK = 0.2  # seconds between two looks at a lock that somebody else holds
_LOOK = 10.0  # seconds between two looks at what it has made
_TELL = 60.0  # seconds between two words about it


def shortened(name: str) -> str:
    """A name for people, short enough to be part of another file's name: a name may have 255 bytes in all."""
    while len(os.fsencode(name)) > _NAME:
        name = name[:-1]
    return name


def build(final: Path, fill: Callable[[Path], None]) -> Path:
    """Make the folder `final` with `fill(temporary folder)` unless it is there. Atomic; concurrent callers are safe.

    Raises UserError where the place cannot be written or the disk is full.
    """
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _lock(final) as alone:
            if final.is_dir():
                return final
            if alone:  # what a killed process left half-done
                for stale in final.parent.glob(f"{final.name}.*.part"):
                    shutil.rmtree(stale, ignore_errors=True)
            # Not tempfile's, which only we could read: a group may share the workspace.
            temporary = final.with_name(f"{final.name}.{uuid.uuid4().hex}.part")
            temporary.mkdir()
            try:
                fill(temporary)
                with contextlib.suppress(FileExistsError):
                    _publish(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise UserError(
                f"cannot write the data cache {final.parent}: {error.strerror}; free space or choose another workspace"
            ) from error
        raise
    return final


def _publish(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # somebody was faster, and theirs is as good
            raise FileExistsError(final) from error
        raise


@contextlib.contextmanager
def _lock(final: Path) -> Iterator[bool]:
    """Hold the builder's lock; yields False on file systems without locks, where the rename alone must do.

    Raises UserError where another process holds it and does not go on.
    """
    import fcntl

    path = final.with_name(f".{final.name}.lock")
    with path.open("w") as handle:
        waiting = _Waiting(final, path)
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting.look()
                time.sleep(_TICK)
            except OSError:
                yield False
                return
            else:
                yield True
                return


class _Waiting:
    """Waiting for another process to make a folder, for as long as it goes on."""

    def __init__(self, final: Path, lock: Path) -> None:
        self.final, self.lock = final, lock
        self.told = -math.inf
        self.seen, self.moved = -1, time.monotonic()
        self.watch: watch.Watch | None = None

    def look(self) -> None:
        """Say from time to time for whom we wait: whoever watches us sees that too. UserError where it is in vain."""
        now, who = time.monotonic(), holder(self.lock)
        if who and (self.watch is None or self.watch.process != who):
            self.watch = watch.Watch(who)
        if now >= self.moved + _LOOK and (seen := self._size()) != self.seen:
            self.seen, self.moved = seen, now
        still = self.watch.still if self.watch else now - self.moved
        if self.watch.hangs() if self.watch else still > watch.PATIENCE:
            raise UserError(
                f"{held_by(self.lock)} is making {self.final} but makes no progress; end it, and run the command again"
            )
        if now - self.told > _TELL and still < _TELL:
            self.told = now
            print(f"{held_by(self.lock)} is making {self.final.name}: waiting for it", file=sys.stderr, flush=True)

    def _size(self) -> int:
        """Bytes of the unfinished folder, of another machine's process too."""
        files = (path for part in self.final.parent.glob(f"{self.final.name}.*.part") for path in part.rglob("*"))
        with contextlib.suppress(OSError):  # it is finished meanwhile
            return sum(path.stat().st_blocks for path in files)
        return -1
