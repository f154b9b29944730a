"""What is there: which data sets, how many pictures, with what content. Nothing is decoded."""

from __future__ import annotations

import functools
from pathlib import Path

from repro.data import packed
from repro.data.data_sets import DATA_SETS, Entry, entry_of, require_kind
from repro.data.layouts.table import DETECTION, LAYOUTS
from repro.data.manifest import decoded_anew, manifest, text_sha256
from repro.data.origins import ORIGINS, lacking
from repro.data.types import MissingData, Status
from repro.errors import UserError
from repro.settings import Where


def manifest_of(name: str, where: Where) -> str:
    """What a data set hands out, as 64 hex digits, without decoding anything: its content and how that is decoded.

    The content is known beforehand for generated sets and for official archives (whose md5 sums are checked when they
    are loaded); for the others see `manifest.manifest`. Raises MissingData where the data set is not there.
    """
    entry = entry_of(name)
    origin, layout = ORIGINS[entry.origin], LAYOUTS[entry.layout]
    content, anew = origin.content(entry), False
    if content is None:
        root = origin.find(entry, where)
        tree = layout.tree(entry, root)
        # asked first, as it takes the manifest on the way
        anew = entry.kind != "detection" and (decoded_anew(tree, where.cache) or layout.read_anew(entry, root))
        content = manifest(tree, where.cache)
    return content if entry.kind == "detection" else text_sha256(packed.ANEW if anew else packed.VERSION, content)


def train_pictures(name: str, where: Where) -> int:
    """How many training pictures a data set has: as published, for own folders as found (0: unreadable)."""
    entry = entry_of(name)
    if "train" in entry.counts:
        return entry.counts["train"]
    try:
        return counts(entry, ORIGINS[entry.origin].find(entry, where)).get("train", 0)
    except UserError:
        return 0


def require_tests(name: str, where: Where, what: str) -> None:
    """UserError where each class of own pictures has one, so that none is left to judge `what` on.

    What cannot be read is left to whoever reads it.
    """
    entry = entry_of(name)
    if entry.own is None:
        return
    try:
        found = counts(entry, ORIGINS[entry.origin].find(entry, where))
    except UserError:
        return
    if found.get("test") == 0:
        raise UserError(
            f"{entry.own}: each class has one picture, which is to train on, so there is none to judge {what} on;"
            " give each class two or more, or a folder val beside train"
        )


def has_masks(name: str) -> bool:
    """Whether the objects of a detection data set have masks, or boxes alone."""
    return DETECTION[require_kind(name, "detection").layout].masks


def counts(entry: Entry, root: Path) -> dict[str, int]:
    """Pictures by split, as found at `root`; for what is always whole, as they must be."""
    return dict(entry.counts) if ORIGINS[entry.origin].whole else LAYOUTS[entry.layout].counts(entry, root)


def short(entry: Entry, found: dict[str, int]) -> list[str]:
    """`24 of 1,281,167 train` for each split that has not the pictures of a whole copy."""
    return [f"{found[s]:,} of {n:,} {s}" for s, n in entry.counts.items() if s in found and found[s] != n]


def statuses(where: Where) -> list[Status]:
    """All data sets that there are: found or missing, counts, licence, how to get them."""
    return [_status(entry, where) for entry in DATA_SETS.values()]


def _status(entry: Entry, where: Where) -> Status:
    origin = ORIGINS[entry.origin]
    line = functools.partial(
        Status,
        name=entry.name,
        title=entry.title,
        kind=entry.kind,
        tracks=entry.tracks,
        licence=entry.licence,
        how=entry.how,
    )
    try:
        place = origin.find(entry, where)
    except MissingData:
        looked = origin.places(entry, where)
        return line(found=False, place=looked, counts={}, note=lacking(entry, where) or entry.note)
    try:
        found = counts(entry, place)
    except UserError as error:
        return line(found=False, place=str(place), counts={}, note=str(error))
    gaps = short(entry, found)
    note = "; ".join([*(["incomplete: " + ", ".join(gaps)] if gaps else []), *([entry.note] if entry.note else [])])
    return line(found=True, place=str(place), counts=found, note=note)
