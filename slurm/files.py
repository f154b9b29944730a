"""Files that several processes share: written whole or not at all, and locked."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text`, completely or not at all, even if a process dies in between. Raises OSError.

    A file name in it of other bytes than UTF-8 is escaped, so that JSON reads as it was.
    """
    path = path.absolute()  # "." has no name that one beside it could be made of
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number, which is another's on another machine; nor tempfile's, which only we could read.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    """`write_atomic` of a plain value."""
    write_atomic(path, json.dumps(data, indent=1))


def holder(path: Path) -> int | None:
    """The process of this machine that holds the lock of that file; None where the kernel does not tell."""
    try:
        about, locks = path.stat(), Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    for line in locks:
        # "1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"; of who only waits, an arrow comes before the kind
        words = line.split()
        if len(words) > 5 and words[1] != "->" and words[5] == place and words[4].isdecimal():
            return int(words[4]) or None
    return None


def held_by(path: Path) -> str:
    """Who holds the lock of that file, in words."""
    process = holder(path)
    return f"process {process}" if process else "a process of another machine or container"


def lock_soon(descriptor: int, path: Path, patience: float = 60.0) -> None:
    """Lock an open file that others lock only for a moment. Raises ValueError if it stays locked."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise ValueError(f"{held_by(path)} keeps {path} locked: end it, and run the command again") from None
        time.sleep(0.02)


def try_lock(path: Path) -> int | None:
    """Take the lock and return its file descriptor, or None while somebody else holds it.

    The kernel releases it when the descriptor is closed, by hand or by death. Raises ValueError, in one line, where the
    file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise ValueError(
            f"cannot lock {path} ({error.strerror}): use a folder on a file system that supports flock"
        ) from None
    return descriptor
