"""Names that are not known, and the nearest one that is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnknownName(ValueError):
    """A name that is none of the valid ones: `unknown kind 'gian'; did you mean 'gain'?`, or their whole list."""

    def __init__(self, what: str, name: object, valid: Iterable[str]) -> None:
        self.what = what
        self.name = str(name)
        self.valid = list(valid)
        self.nearest = next(iter(difflib.get_close_matches(self.name, self.valid, n=1, cutoff=0.5)), "")
        choice = "" if self.nearest else f"; choose from {', '.join(self.valid)}"
        super().__init__(self.brief + choice)

    @property
    def brief(self) -> str:
        """Without the list, where that would be long."""
        return f"unknown {self.what} '{self.name}'" + (f"; did you mean '{self.nearest}'?" if self.nearest else "")
