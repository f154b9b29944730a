"""What became of the entries of a COCO annotation file: how many were taken, mended and left out, and why, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WORDS = {
    "images": {
        "text": "numbers written as text, read as numbers",
        "found": "not at its file_name, found in a subfolder",
        "size": "size missing, or given before the EXIF orientation is applied; the size after it is used",
        "number": "ids are not all whole numbers; images are numbered from 1 instead",
        "twice": "another entry lists the same file; both are kept",
    },
    "categories": {
        "number": "ids are not all whole numbers; categories are numbered from 1 instead",
        "name": "another category has the same name; both are kept as two categories",
    },
    "annotations": {
        "text": "numbers written as text, read as numbers",
        "box": "box missing, empty, negative or outside the image; the mask's bounding box is used",
        "clipped": "box reaches beyond the image; clipped",
        "area": "area missing, not positive or larger than the image; computed from the mask or the box",
        "form": "polygons not written as lists of x, y, x, y, ...; converted",
        "parts": "polygons with fewer than three points or an odd number of values; the mask's other polygons are kept",
        "maskless": "no mask inside the image; the object is ignored in training and evaluation",
        "thin": "box narrower than one pixel; used for evaluation, not for training",
        "apart": "box and mask overlap by less than half of the smaller; both are kept, correct one of them",
        "corners": "box looks like the two corners of its mask, not x, y, width, height; kept unchanged, correct it",
        "ignore": "marked `ignore`; used for evaluation, not for training",
        "empty": "box without width or height, and no mask to compute it from; left out",
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
