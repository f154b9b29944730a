"""Names that are not known, and the nearest one that is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 20  # names in a message, more are counted


class UnknownName(ValueError):
    """A name that is none of the valid ones: `unknown kind 'gian'; did you mean 'gain'?`, or a list of them."""

    def __init__(self, what: str, name: object, valid: Iterable[str]) -> None:
        self.what = what
        self.name = str(name)
        self.valid = list(valid)
        self.nearest = _nearest(self.name, self.valid)
        more = f", ... ({len(self.valid)})" if len(self.valid) > _LISTED else ""
        choice = "" if self.nearest else f"; choose from {', '.join(self.valid[:_LISTED])}{more}"
        super().__init__(self.brief + choice)

    @property
    def brief(self) -> str:
        """Without the list, where that would be long."""
        return f"unknown {self.what} '{self.name}'" + (f"; did you mean '{self.nearest}'?" if self.nearest else "")


def _nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name of which it is a close misspelling, "" for none. Case, "-" and "_" make no difference."""
    plain = {_plain(one): one for one in valid}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75)
    swapped = [one for one in plain if sorted(one) == sorted(_plain(name))]  # short ones, where 0.75 is too strict
    return next((plain[one] for one in [*close, *swapped]), "")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
