"""The hint that a message gives where somebody mistyped a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """ "did you mean 'NAME'?" where one of the names is near, else `otherwise`."""
    near = difflib.get_close_matches(word, list(names), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise
