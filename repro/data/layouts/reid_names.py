"""Re-identification: pictures whose names tell identity and camera. Which names there are is said here."""

from __future__ import annotations

import re
from pathlib import Path

from repro.data.data_sets import Entry
from repro.data.decoding import is_picture
from repro.data.layouts.layout import ReidFiles, ReidLayout
from repro.data.manifest import walk
from repro.errors import UserError

_MARKET = re.compile(r"^(-?\d+)_c(\d)")
_SYSU = re.compile(r"^(\d+(?:others)?)_?[^c]*c(\d)")


class Market(ReidLayout):
    """Market-1501's three folders."""

    def splits(self, entry: Entry, root: Path) -> dict[str, ReidFiles]:
        """One of the entry's parts each."""
        train, query, gallery = (market_files(root / part) for part in entry.parts)
        return {"train": train, "query": query, "gallery": gallery}


class Sysu(ReidLayout):
    """SYSU-30k's two test folders: its 29 million training pictures have no identities and no part in the protocol."""

    def splits(self, entry: Entry, root: Path) -> dict[str, ReidFiles]:
        """One of the entry's parts each, and no training pictures."""
        query, gallery = (sysu_files(root / part) for part in entry.parts)
        return {"train": ReidFiles(root, [], [], []), "query": query, "gallery": gallery}


def market_files(folder: Path) -> ReidFiles:
    """One folder of Market-1501: names PPPP_cC...; pid -1 junk, 0 distractor. Sorted by name."""
    return _reid_files(folder, sorted(p for p in folder.iterdir() if is_picture(p)), _MARKET, "0001_c1s1_000001_00.jpg")


def sysu_files(folder: Path) -> ReidFiles:
    """One test folder of SYSU-30k: folders by identity, names PPPPPPPPP_cC_N.jpg.

    The pictures of `0000others` get pid 0: distractors, not junk (the authors give them a label nobody has, -1000).
    """
    found = sorted(filter(is_picture, walk(folder)))
    return _reid_files(folder, found, _SYSU, "000028311_c1_1.jpg or 0000others_c1_1.jpg")


def _reid_files(folder: Path, found: list[Path], pattern: re.Pattern[str], example: str) -> ReidFiles:
    pids, cams = [], []
    for path in found:
        match = pattern.match(path.name)
        if not match:
            raise UserError(f"{path} tells neither identity nor camera; names look like {example}")
        pids.append(0 if match[1].endswith("others") else int(match[1]))
        cams.append(int(match[2]))
    if not found:
        raise UserError(f"no pictures in {folder}")
    return ReidFiles(folder, found, pids, cams)
