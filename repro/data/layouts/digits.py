"""The digits of the `embedded` track, which are made in memory and lie nowhere but in packs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from repro.data import embedded
from repro.data.data_sets import Entry
from repro.data.layouts.layout import ClassificationLayout, PictureSplit
from repro.data.types import Split


class Digits(ClassificationLayout):
    """Pixels of MNIST's digits."""

    has_files = False

    def splits(self, entry: Entry, root: Path) -> Iterator[PictureSplit]:
        """Pixels."""
        for split in get_args(Split):
            pixels, labels = embedded.digit_pictures(split)
            yield PictureSplit(split, labels, tuple(map(str, range(10))), pixels=pixels)
