"""What is there: which data sets, how many pictures, with what content. Nothing is decoded."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.data import packed
from repro.data.account import Account, one_class, one_picture_each, words
from repro.data.data_sets import DATA_SETS, Entry, entry_of, require_kind
from repro.data.layouts import class_folders
from repro.data.layouts.table import DETECTION, LAYOUTS
from repro.data.manifest import decoded_anew, manifest_and_anew, text_sha256
from repro.data.origins import ORIGINS, lacking
from repro.data.types import MissingData, Status
from repro.errors import UserError
from repro.settings import Where
from slurm.files import write_atomic


def manifest_of(name: str, where: Where) -> str:
    """What a data set hands out, as 64 hex digits, without decoding anything: its content and how that is decoded.

    The content is known beforehand for generated sets and for official archives (whose md5 sums are checked when they
    are loaded); for the others see `manifest.manifest`. Raises MissingData where the data set is not there.
    """
    entry = entry_of(name)
    if entry.own is not None:
        return own_pictures(entry, where).manifest
    origin, layout = ORIGINS[entry.origin], LAYOUTS[entry.layout]
    if entry.kind == "detection":
        return origin.content(entry, where)
    anew = False
    if not origin.whole:
        root = origin.find(entry, where)
        # asked first, as it takes the manifest on the way
        anew = decoded_anew(layout.tree(entry, root), where.cache) or layout.read_anew(entry, root)
    return _decoded(origin.content(entry, where), anew)


def _decoded(content: str, anew: bool) -> str:
    """The manifest of pictures of this content, with the way in which they are decoded."""
    return text_sha256(packed.VERSION_READ_ANEW if anew else packed.VERSION, content)


@dataclass(frozen=True)
class OwnPictures:
    """A folder of one's own pictures: its manifest, and what is taken of it."""

    folder: Path
    manifest: str
    account: Account


def own_pictures(entry: Entry, where: Where) -> OwnPictures:
    """List a folder of one's own pictures and hash those that are taken.

    Raises MissingData where it is not there, UserError where it cannot be read as pictures.
    """
    root = ORIGINS[entry.origin].find(entry, where)
    reading = class_folders.read(root)
    content, anew = manifest_and_anew(class_folders.own_tree(root, reading), where.cache)
    value = _decoded(content, anew)
    gone = _gone(root, reading.account.class_counts, where)
    return OwnPictures(root, value, dataclasses.replace(reading.account, gone=gone))


def require_unchanged(planned: Mapping[str, Any] | None, where: Where) -> None:
    """Raise UserError where own pictures are not those that a job was planned with (its spec's table `data`)."""
    entry = entry_of(planned["name"]) if planned else None
    if planned is None or entry is None or entry.own is None:
        return
    found = own_pictures(entry, where)
    if found.manifest != planned["manifest"]:
        raise UserError(
            f"{entry.own} has changed since this job was planned: now {words(found.account)}", "run the command again"
        )


def _gone(root: Path, counts: Mapping[str, int], where: Where) -> tuple[tuple[str, int], ...]:
    """The classes that were there when the folder was last looked at, with the pictures they had; remembers today's."""
    kept = where.cache / "classes" / f"{text_sha256(str(root.resolve()))[:16]}.json"
    last: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        last = dict(json.loads(kept.read_text(encoding="utf-8")))
    if last != counts:
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs the reminder
            write_atomic(kept, json.dumps(dict(counts)))
    return tuple((name, pictures) for name, pictures in last.items() if name not in counts)


def train_pictures(name: str, where: Where) -> int:
    """How many training pictures a data set has: as published, for own folders as found (0: unreadable)."""
    entry = entry_of(name)
    if "train" in entry.counts:
        return entry.counts["train"]
    try:
        return counts(entry, ORIGINS[entry.origin].find(entry, where)).get("train", 0)
    except UserError:
        return 0


def require_judgeable(own: OwnPictures | None, what: str, others: Iterable[str]) -> None:
    """UserError where own pictures have no classes, one class or one picture a class, nothing to judge `what` on.

    others: evaluations that need no classes of theirs.
    """
    if own and not own.account.classes:
        raise UserError(
            f"{own.folder}: its images have no classes, so there is nothing to evaluate {what} on",
            f"sort them into one folder per class; without classes, evaluate only on the track's images:"
            f" --eval {' '.join(others)}",
        )
    if own and len(own.account.classes) == 1:
        raise one_class(own.folder, own.account, f"evaluate {what} on")
    if own and any(taken.split == "test" and not taken.pictures for taken in own.account.taken):
        raise one_picture_each(own.folder, f"evaluate {what} on")


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
