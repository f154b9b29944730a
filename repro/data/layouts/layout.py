"""What a layout is: how a data set lies below its folder, and what is read of it.

One class of layouts for each kind of data set. A layout overrides what is other with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from eval.coco_file import CocoFolders
from repro.data.data_sets import Entry
from repro.data.listing import walk
from repro.data.manifest import Tree
from repro.data.names import is_picture
from repro.data.types import Progress

if TYPE_CHECKING:
    import numpy as np


class Layout:
    """How a data set lies below its root, the folder that its origin gives. Readers raise UserError."""

    has_files: ClassVar[bool] = True  # False: it is made in memory

    def tree(self, entry: Entry, root: Path) -> Tree:
        """The files that make it up: their content is what its manifest stands for."""
        return Tree(root, entry.parts, entry.huge)

    def folders(self, entry: Entry) -> tuple[str, ...]:
        """Below the root, those of the pictures, in the order of the entry's counts."""
        return entry.parts

    def read_anew(self, entry: Entry, root: Path) -> bool:
        """Whether version 1 of our packs read something else of its names."""
        return False

    def counts(self, entry: Entry, root: Path) -> dict[str, int]:
        """Pictures by split, by listing folders."""
        places = zip(entry.counts, self.folders(entry), strict=True)
        return {split: sum(map(is_picture, walk(root / folder))) for split, folder in places}


@dataclass(frozen=True)
class PictureSplit:
    """A split of a classification data set: pictures to decode, or pixels that are decoded already.

    labels: [N], indices into `classes`; None for pictures without classes.
    files: (what messages call it, file or its bytes).  pixels: uint8 [N, 3, H, W].
    """

    name: str
    labels: Sequence[int] | np.ndarray | None
    classes: tuple[str, ...]
    files: Sequence[tuple[str, Path]] | Sequence[tuple[str, bytes]] = ()
    pixels: np.ndarray | None = None


class ClassificationLayout(Layout, ABC):
    """Of pictures with or without classes."""

    a_file_each: ClassVar[bool] = False  # True: its splits have files, below the root

    @abstractmethod
    def splits(self, entry: Entry, root: Path) -> Iterable[PictureSplit]:
        """Its splits, one after another; all have the same classes."""


class DetectionLayout(Layout, ABC):
    """Of pictures with boxes, and masks where it has them."""

    masks: ClassVar[bool] = True
    as_found: ClassVar[bool] = False  # True: its annotation files are not made here

    @abstractmethod
    def annotated(self, entry: Entry, root: Path, cache: Path, manifest: str, progress: Progress) -> CocoFolders:
        """Its files in COCO's format; what must be written first goes to the cache, by its manifest."""


@dataclass(frozen=True)
class ReidFiles:
    """A split of a re-ID data set: files at or below `folder`, sorted, and what their names tell."""

    folder: Path
    files: list[Path]
    pids: list[int]
    cams: list[int]


class ReidLayout(Layout, ABC):
    """Of identities seen by cameras."""

    @abstractmethod
    def splits(self, entry: Entry, root: Path) -> dict[str, ReidFiles]:
        """train (may be empty), query and gallery."""
