"""Re-identification: pictures whose names tell identity and camera. Which names there are is said here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.data.data_sets import Entry
from repro.data.layouts.layout import ReidFiles, ReidLayout
from repro.data.listing import walk
from repro.data.names import is_picture
from repro.errors import UserError


@dataclass(frozen=True)
class Names:
    """A way to name pictures. pattern: of the whole name without its ending; identity first, then camera."""

    of: str
    example: str
    pattern: re.Pattern[str]

    def read(self, name: str) -> tuple[int, int] | None:
        """(identity, camera); -1 is junk, 0 a distractor. None for a name of another kind."""
        match = self.pattern.fullmatch(name.rpartition(".")[0])
        return None if match is None else (0 if match[1].endswith("others") else int(match[1]), int(match[2]))


def _names(of: str, example: str, pattern: str) -> Names:
    return Names(of, example, re.compile(pattern, re.ASCII | re.DOTALL))


_ID, _CAMERA = r"(-1|\d{1,18})", r"c(\d{1,9})"
MSMT = _names(
    "MSMT17",
    "0000_000_01_0303morning_0015_0.jpg",
    r"(\d{1,18})_\d+_(\d{1,9})_\d+(?:morning|noon|afternoon)_\d+_\d+.*",
)
KNOWN = (
    _names("Market-1501", "0002_c1s1_000451_03.jpg", rf"{_ID}_{_CAMERA}s\d+(?:_.*)?"),
    _names("DukeMTMC-reID", "0001_c2_f0046182.jpg", rf"{_ID}_{_CAMERA}_f\d+.*"),
    _names("VeRi-776", "0001_c001_00016450_0.jpg", rf"{_ID}_{_CAMERA}(?:_(?!f\d).*)?"),
    MSMT,
)
SYSU = _names(
    "SYSU-30k", "000028311_c1_1.jpg or 0000others_c1_1.jpg", r"(\d{1,18}(?:others)?)_?[^c]*c(\d{1,9})(?!\d).*"
)

_LONG_CAMERA = re.compile(r"[^c]*c\d\d")


class Market(ReidLayout):
    """Market-1501's three folders, with names of any of the kinds in `KNOWN`."""

    def splits(self, entry: Entry, root: Path) -> dict[str, ReidFiles]:
        """One of the entry's parts each."""
        folders = [root / part for part in entry.parts]
        names = kind_of([path for folder in folders for path in _pictures(folder)])
        train, query, gallery = (_reid_files(folder, _pictures(folder), names) for folder in folders)
        if -1 in query.pids:
            junk = query.files[query.pids.index(-1)]
            raise UserError(f"{junk} is junk (identity -1), which only gallery images may be; remove it")
        if names is MSMT:
            train, query, gallery = _numbered_once(train, query, gallery)
        return {"train": train, "query": query, "gallery": gallery}

    def read_anew(self, entry: Entry, root: Path) -> bool:
        """Version 1 took the first digit of a camera's number."""
        paths = (path for part in entry.parts for path in _pictures(root / part))
        return any(_LONG_CAMERA.match(path.name) for path in paths)


class Sysu(ReidLayout):
    """SYSU-30k's two test folders: its 29 million training pictures have no identities and no part in the protocol."""

    def splits(self, entry: Entry, root: Path) -> dict[str, ReidFiles]:
        """One of the entry's parts each, and no training pictures."""
        query, gallery = (sysu_files(root / part) for part in entry.parts)
        return {"train": ReidFiles(root, [], [], []), "query": query, "gallery": gallery}

    def read_anew(self, entry: Entry, root: Path) -> bool:
        """As Market's; of the queries alone, as the gallery is too large to be listed for every plan."""
        return any(_LONG_CAMERA.match(path.name) for path in walk(root / entry.parts[0]))


def sysu_files(folder: Path) -> ReidFiles:
    """One test folder of SYSU-30k: folders by identity, names PPPPPPPPP_cC_N.jpg.

    The pictures of `0000others` get pid 0: distractors, not junk (the authors give them a label nobody has, -1000).
    """
    return _reid_files(folder, _pictures(folder), SYSU)


def kind_of(found: Sequence[Path]) -> Names:
    """The one kind that all these names are of. UserError for a name of no kind, and for two kinds."""
    first: tuple[Path, Names] | None = None
    for path in found:
        kind = next((names for names in KNOWN if names.read(path.name)), None)  # no name is of two
        if kind is None:
            known = ", ".join(f"{names.example} ({names.of})" for names in KNOWN)
            raise UserError(f"the name of {path} does not give identity and camera; rename it like {known}")
        first = first or (path, kind)
        if kind is not first[1]:
            raise UserError(
                f"{first[0]} is named as in {first[1].of}, but {path} as in {kind.of}; keep one kind of names"
            )
    return first[1] if first else KNOWN[0]


def _pictures(folder: Path) -> list[Path]:
    """Those at or below the folder: some data sets have a folder for each identity."""
    return sorted(filter(is_picture, walk(folder)))


def _reid_files(folder: Path, found: list[Path], names: Names) -> ReidFiles:
    """Sorted files of one folder, and what their names tell."""
    pids, cams = [], []
    for path in found:
        told = names.read(path.name)
        if told is None:
            raise UserError(f"the name of {path} does not give identity and camera; rename it like {names.example}")
        pids.append(told[0])
        cams.append(told[1])
    if not found:
        raise UserError(f"no images in {folder}", "put the images there")
    return ReidFiles(folder, found, pids, cams)


def _numbered_once(train: ReidFiles, query: ReidFiles, gallery: ReidFiles) -> tuple[ReidFiles, ReidFiles, ReidFiles]:
    """MSMT17 numbers persons from 0, which elsewhere is a distractor, and anew in its test set: 0 gets a number that is
    free, and where a number stands for two persons, those of the training set get others."""
    tested = {*query.pids, *gallery.pids}
    free = 1 + max(tested | set(train.pids))

    def moved(split: ReidFiles, by: int) -> ReidFiles:
        return replace(split, pids=[by + (pid or free) for pid in split.pids])

    return moved(train, free if tested & set(train.pids) else 0), moved(query, 0), moved(gallery, 0)
