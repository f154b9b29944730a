"""A data set made ready for use, once: generated, or decoded into a pack."""

from __future__ import annotations

from pathlib import Path

from repro.data.cache import build
from repro.data.data_sets import Entry, named
from repro.data.inventory import manifest_of
from repro.data.layouts.table import CLASSIFICATION, REID
from repro.data.origins import ORIGINS
from repro.data.packed import Pack
from repro.data.types import Progress, quiet
from repro.data.unpacked import Index
from repro.errors import UserError
from repro.settings import Where


def prepare(name_or_folder: str, where: Where, *, size: int | tuple[int, int], progress: Progress = quiet) -> Path:
    """Make a data set ready for use: generate it, or decode it once to packed uint8 (side or (height, width) `size`).

    Returns the folder in the cache, for a detection set (kept as files) the folder of its files. Safe to call from
    several processes at once; does nothing where it is done. Decoding ImageNet to 256 x 256 takes 250 GB; where the
    pictures are to stay in their files (`Where.stored`), they are listed, unless they have been decoded already.
    """
    entry = named(name_or_folder)
    if entry.kind == "detection":
        return ORIGINS[entry.origin].obtain(entry, where)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise UserError(f"images of {height} x {width} pixels: both sides must be at least 1")
    value = manifest_of(entry.name, where)
    fill = _fill_classification if entry.kind == "classification" else _fill_reid
    label = "own" if entry.own is not None else entry.name  # a folder that moved meets its pack again
    name = f"{label}-{height}x{width}-{value[:12]}"
    final = where.cache / "packed" / name
    listed = where.stored == "jpeg" and stays_in_files(entry) and not final.is_dir()

    def make(folder: Path) -> None:
        root = ORIGINS[entry.origin].obtain(entry, where)
        given = entry, folder, height, width, progress
        fill(entry, root, value, Index(*given, root=root) if listed else Pack(*given))

    return build(where.cache / "listed" / name if listed else final, make)


def stays_in_files(entry: Entry) -> bool:
    """Whether the pictures of a data set can be decoded as they are read."""
    return entry.kind == "classification" and CLASSIFICATION[entry.layout].a_file_each


def _fill_classification(entry: Entry, root: Path, manifest: str, pack: Pack) -> None:
    """Decode all splits of a classification data set into a pack."""
    import numpy as np

    classes: tuple[str, ...] = ()
    for split in CLASSIFICATION[entry.layout].splits(entry, root):
        if split.pixels is None:
            pack.pictures(split.name, split.files, crop=True)
        else:
            pack.decoded(split.name, split.pixels)
        if split.labels is not None:
            pack.numbers(f"{split.name}_labels", np.asarray(split.labels, np.int64))
        classes = split.classes
    pack.finish(manifest, classes=classes)


def _fill_reid(entry: Entry, root: Path, manifest: str, pack: Pack) -> None:
    """Decode the splits of a re-identification data set into a pack."""
    import numpy as np

    found = REID[entry.layout].splits(entry, root)
    for split, what in found.items():
        pack.pictures(split, [(str(path), path) for path in what.files], crop=False)
        pack.numbers(f"{split}_pids", np.asarray(what.pids, np.int64))
        pack.numbers(f"{split}_cams", np.asarray(what.cams, np.int64))
    shared = set(found["train"].pids) & set(found["query"].pids)
    if shared:
        raise UserError(
            f"{root}: identity {min(shared)} is in the training and in the test images; remove it from one of them"
        )
    names = {split: [p.relative_to(what.folder).as_posix() for p in what.files] for split, what in found.items()}
    pack.finish(manifest, files=names)
