"""The hint in a message on a mistyped name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """ "did you mean 'NAME'?" where the word is a close misspelling of a name, else `otherwise`.

    Case, "-" and "_" make no difference.
    """
    plain = {_plain(name): name for name in names}
    close = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=0.75)
    swapped = [name for name in plain if sorted(name) == sorted(_plain(word))]  # short ones, where 0.75 is too strict
    near = [plain[name] for name in [*close, *swapped]]
    return f"did you mean '{near[0]}'?" if near else otherwise


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
