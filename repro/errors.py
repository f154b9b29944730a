"""The one error that a user sees: a line that says what is wrong and how to mend it."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """Wrong use or bad input. The command line prints it as one line and exits with status 2."""


class Stopped(Exception):
    """The process was asked to end (SIGTERM); what it had done is on the disk."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """An unknown name, with the nearest valid one: `unknown method 'apss'; did you mean 'aps'? (valid: ...)`."""
    choices = sorted(valid)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return UserError(f"unknown {kind} '{name}'{hint} valid: {', '.join(choices)}")


_FORBIDDEN = {errno.EACCES, errno.EPERM}  # to read as well as to write
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def unwritable(error: BaseException) -> str:
    """The line for a full disk or a file or folder that may not be opened; "" for any other error."""
    if not isinstance(error, OSError) or error.errno not in _FORBIDDEN | _UNWRITABLE:
        return ""
    what = error.filename or "its files"
    if error.errno in _FORBIDDEN:
        return (
            f"cannot open {what} ({(error.strerror or '').lower()}); what was finished is kept:"
            " its owner can permit it, or choose another --workspace, and give the command again"
        )
    return (
        f"cannot write {what} ({(error.strerror or '').lower()}); what was finished is kept:"
        " free some space or choose another --workspace, and give the command again"
    )
