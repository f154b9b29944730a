"""The one error that a user sees: a line that says what is wrong and how to fix it."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text as one line that every stream takes: `a\\nb` for a line feed, `caf\\xe9` for bytes that are no UTF-8.

    Names of files may hold both, and characters that turn the direction of writing, which are escaped too.
    """

    def escaped(found: re.Match[str]) -> str:
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that is no UTF-8
            return f"\\x{code - 0xDC00:02x}"
        return found[0].encode("unicode_escape").decode("ascii")

    return _UNPRINTABLE.sub(escaped, text)


class UserError(Exception):
    """Wrong use or bad input. The command line prints it as one line and exits with status 2.

    problem: what is wrong.  mend: what to do, "" where the problem says it.
    """

    def __init__(self, problem: str, mend: str = "") -> None:
        self.problem, self.mend = problem, mend

    def __str__(self) -> str:
        return printable(f"{self.problem}; {self.mend}" if self.mend else self.problem)


_LISTED = 20  # names in a message, more are counted


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name of which it is a close misspelling, "" for none. Case, "-" and "_" make no difference."""
    plain = {_plain(one): one for one in valid}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75)
    swapped = [one for one in plain if sorted(one) == sorted(_plain(name))]  # asp, where 0.75 is too strict
    return next((plain[one] for one in [*close, *swapped]), "")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")


def shortened(names: Sequence[str], most: int = _LISTED) -> str:
    """The names, or the first of them and how many there are: `a, b, ... (30)`."""
    more = f", ... ({len(names)})" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Unknown(UserError):
    """A name that is none of the valid ones.

    kind: of what.  nearest: the valid name of which it is a close misspelling, "" for none.
    mend: by default the valid names.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str], mend: str = "") -> None:
        self.kind, self.name, self.valid = kind, name, sorted(valid)
        self.nearest = nearest(name, self.valid)
        super().__init__(f"unknown {kind} '{name}'", mend or f"valid: {shortened(self.valid)}")

    def __str__(self) -> str:
        hint = f"; did you mean '{self.nearest}'?" if self.nearest else ";"
        return printable(f"{self.problem}{hint} {self.mend}")


def bad_toml(source: object, error: ValueError, text: str = "") -> UserError:
    """For a file that is no TOML: what its parser says, and the text of the line that it names.

    error: a TOMLDecodeError, whose message has the line but whose attributes have not, or a UnicodeDecodeError.
    """
    number = re.search(r"at line (\d+)", str(error))
    lines = text.splitlines()
    here = lines[int(number[1]) - 1].strip() if number and int(number[1]) <= len(lines) else ""
    return UserError(f"{source}: not valid TOML ({error})" + (f": {here:.80}" if here else ""))


class Stopped(Exception):
    """The process was asked to end (SIGTERM); what it had done is on the disk."""


def unknown(kind: str, name: str, valid: Iterable[str], mend: str = "") -> Unknown:
    """An unknown name, with the nearest valid one: `unknown method 'apss'; did you mean 'aps'? valid: aps`."""
    return Unknown(kind, name, valid, mend)


_FORBIDDEN = {errno.EACCES, errno.EPERM}  # to read as well as to write
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def unwritable(error: BaseException) -> str:
    """The line for a full disk, or a file or folder that may not be opened or is no such; "" for any other error."""
    if not isinstance(error, OSError) or error.errno not in _FORBIDDEN | _UNWRITABLE | _IN_THE_WAY:
        return ""
    what = error.filename or "its files"
    if error.errno in _FORBIDDEN:
        return (
            f"cannot open {what} ({(error.strerror or '').lower()}); what was finished is kept:"
            " its owner can permit it, or choose another --workspace, and run the command again"
        )
    if error.errno in _IN_THE_WAY:
        return (
            f"cannot open {what} ({(error.strerror or '').lower()}); what was finished is kept:"
            " move away what is there, or choose another --workspace, and run the command again"
        )
    return (
        f"cannot write {what} ({(error.strerror or '').lower()}); what was finished is kept:"
        " free some space or choose another --workspace, and run the command again"
    )
