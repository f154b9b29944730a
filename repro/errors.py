"""The one error that a user sees: a line that says what is wrong and how to mend it."""

from __future__ import annotations

import difflib
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
