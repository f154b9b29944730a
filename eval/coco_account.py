"""What became of the entries of a COCO annotation file: how many were taken, mended and left out, and why, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WORDS = {
    "images": {
        "text": "numbers written as text, read as numbers",
        "found": "not where its file_name says, found in another folder below",
        "size": "size missing, or that before its EXIF orientation turns it; the size as it looks is taken",
        "number": "ids are not all whole numbers; images are numbered from 1 instead",
        "twice": "a file that another entry lists too; both are kept",
    },
    "categories": {
        "number": "ids are not all whole numbers; categories are numbered from 1 instead",
        "name": "the name of another category; both are kept, told apart by id",
    },
    "annotations": {
        "text": "numbers written as text, read as numbers",
        "box": "box missing, empty, negative or outside the image; the box round the mask is taken",
        "clipped": "box reaches out of the image; clipped to it",
        "area": "area missing, not positive or larger than the image; computed from the mask or the box",
        "form": "polygons not written as lists of x, y, x, y, ...; read as such",
        "parts": "polygons of fewer than three points or an odd count of numbers; the mask's other polygons are kept",
        "maskless": "no mask with an area in the image; ignored, neither trained on nor judged",
        "thin": "box narrower than a pixel; judged, but not trained on",
        "apart": "box and mask lie apart; both are kept, correct one of them",
        "corners": "box looks like two corners of its mask, not x, y, width, height; kept as it is, correct it",
        "ignore": "marked `ignore`; judged, but not trained on",
        "empty": "box without width or height, and no mask to take one from; left out",
        "outside": "outside the image; left out",
    },
}
LEFT_OUT = frozenset({"empty", "outside"})


@dataclass(frozen=True)
class Note:
    """How many of the `of` entries of a kind were mended or left out for one reason, and which is the first of them.

    kind, reason: keys of `WORDS`.
    """

    kind: str
    reason: str
    count: int
    of: int
    first: str

    def __str__(self) -> str:
        more = ", ..." if self.count > 1 else ""
        return f"{self.count:,} of {self.of:,} {self.kind} ({self.first}{more}): {WORDS[self.kind][self.reason]}"


@dataclass(frozen=True)
class Tally:
    """How many entries were taken as they are, mended and taken, and left out; together all of the file."""

    taken: int
    changed: int
    left_out: int


@dataclass(frozen=True)
class Account:
    """What became of the entries of a file. `notes` says why, an entry may have several reasons."""

    pictures: Tally
    annotations: Tally
    notes: tuple[Note, ...]

    def plain(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return dataclasses.asdict(self)


class Ledger:
    """Counts reasons while a file is read."""

    def __init__(self) -> None:
        self._total = dict.fromkeys(WORDS, 0)
        self._changed = dict.fromkeys(WORDS, 0)
        self._left_out = dict.fromkeys(WORDS, 0)
        self._reasons: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, kind: str, name: str, reasons: Iterable[str] = ()) -> None:
        """One entry of a kind, what messages call it, and what was noted of it."""
        found = sorted(set(reasons))
        self._total[kind] += 1
        if found:
            (self._changed if LEFT_OUT.isdisjoint(found) else self._left_out)[kind] += 1
        for reason in found:
            count, first = self._reasons.get((kind, reason), (0, name))
            self._reasons[kind, reason] = count + 1, first

    def count(self, kind: str, reason: str) -> int:
        """Of entries of a kind that were added with this reason."""
        return self._reasons.get((kind, reason), (0, ""))[0]

    def account(self) -> Account:
        """What was added."""

        def tally(kind: str) -> Tally:
            changed, left_out = self._changed[kind], self._left_out[kind]
            return Tally(self._total[kind] - changed - left_out, changed, left_out)

        notes = [
            Note(kind, reason, count, self._total[kind], first)
            for (kind, reason), (count, first) in self._reasons.items()
        ]
        return Account(tally("images"), tally("annotations"), tuple(notes))
