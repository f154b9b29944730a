"""Folders of the data cache: made once, seen whole or not at all.

A folder is built beside its final place and renamed into it; a lock file keeps several jobs from building the same one
at once. Its name carries the manifest of what it is made of: changed pictures get a new folder.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from repro.errors import UserError


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
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR):
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
    """Hold the builder's lock; yields False on file systems without locks, where the rename alone must do."""
    import fcntl

    with final.with_name(f".{final.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
