"""CIFAR: the JPEG copy in one file, and the official batches."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from repro.data.archives import OFFICIAL_CIFAR
from repro.data.data_sets import Entry
from repro.data.layouts.layout import ClassificationLayout, PictureSplit
from repro.data.types import Split
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class CifarJpeg(ClassificationLayout):
    """The JPEG copy of CIFAR-10."""

    def counts(self, entry: Entry, root: Path) -> dict[str, int]:
        """As they must be: all pictures are in one file."""
        return dict(entry.counts)

    def splits(self, entry: Entry, root: Path) -> Iterator[PictureSplit]:
        """Bytes of JPEG."""
        for split in get_args(Split):
            sources, labels, classes = jpeg_pack(root / entry.parts[0], split)
            yield PictureSplit(split, labels, classes, files=sources)


class CifarOfficial(ClassificationLayout):
    """Batches of pixels, read by torchvision."""

    def splits(self, entry: Entry, root: Path) -> Iterator[PictureSplit]:
        """Pixels."""
        import numpy as np
        from torchvision import datasets

        dataset = getattr(datasets, OFFICIAL_CIFAR[entry.name].dataset)
        for split in get_args(Split):
            content = dataset(str(root), train=split == "train")
            labels = np.asarray(content.targets, np.int64)
            yield PictureSplit(split, labels, tuple(content.classes), pixels=content.data.transpose(0, 3, 1, 2))


def jpeg_pack(path: Path, split: Split) -> tuple[list[tuple[str, bytes]], np.ndarray, tuple[str, ...]]:
    """The JPEG copy of CIFAR-10 (one .npz, see its README): [(name, JPEG bytes)], labels int64 [N], classes."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as content:
            raw, offset = content[f"{split}_jpeg"].tobytes(), content[f"{split}_offset"]
            labels = content[f"{split}_label"].astype(np.int64)
            classes = tuple(str(name) for name in content["class_names"])
        if len(offset) != len(labels) + 1 or offset[-1] != len(raw) or not len(labels):
            raise ValueError("its arrays do not fit each other")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError("a label without a class")
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged, or not a CIFAR-10 JPEG pack ({error}); download it again") from error
    ends = offset.tolist()
    sources = [(f"{split} image {i} in {path}", raw[a:b]) for i, (a, b) in enumerate(pairwise(ends))]
    return sources, labels, classes
