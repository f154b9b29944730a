"""Temporary files of a process: a folder that can be written, and sockets whose path is short enough for the kernel.

multiprocessing makes its sockets in the folder for temporary files, and a socket's path has at most 107 bytes. With a
longer TMPDIR whatever one process hands to another (a batch of pictures) is lost, and who waits for it waits for ever.
Python 3.14 makes such sockets elsewhere by itself.
"""

from __future__ import annotations

import multiprocessing.util
import os
import tempfile

_LONGEST = 107 - len("/pymp-12345678/listener-12345678")
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def settle() -> str:
    """Make TMPDIR a folder that can be written; what there is to say of it, "" where it is one.

    Raises ValueError, in one line, where there is no such folder.
    """
    wanted = os.environ.get("TMPDIR", "")
    try:
        found = tempfile.gettempdir()
    except FileNotFoundError:
        named = f"TMPDIR={wanted}" if wanted else "TMPDIR is not set"
        raise ValueError(
            f"cannot write temporary files ({named}; /tmp and /var/tmp were tried too): free some space there, or set"
            " TMPDIR to a folder that can be written"
        ) from None
    if not wanted or os.path.realpath(wanted) == os.path.realpath(found):
        return ""
    os.environ["TMPDIR"] = found
    return f"TMPDIR={wanted} cannot be written: temporary files go to {found}"


def shorten_sockets() -> None:
    """Let this process, and those that it forks, make their sockets elsewhere where TMPDIR is too long for them.

    Raises ValueError, in one line, where no short folder can be written.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= _LONGEST:
        return
    for short in _SHORT:
        if os.access(short, os.W_OK | os.X_OK):
            tempfile.tempdir = short
            try:
                multiprocessing.util.get_temp_dir()  # makes the folder for sockets of this process, once
            finally:
                tempfile.tempdir = folder
            return
    raise ValueError(
        f"TMPDIR={folder} is too long for sockets ({len(os.fsencode(folder))} bytes, {_LONGEST} at most), and none of"
        f" {', '.join(_SHORT)} can be written: set TMPDIR to a shorter folder"
    )
