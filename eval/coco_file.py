"""One COCO annotation file, read and checked before anything is trained, judged or drawn with it.

The only reader of such files: what it hands on is what compiled libraries may be given. Its parts are objects
(`coco_objects.py`), pictures (`coco_pictures.py`), and what was mended or left out (`coco_account.py`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.coco_account import Account, Ledger
from eval.coco_objects import FAR, Refused, box_readings, number, read_object, short, trainable, whole
from eval.coco_pictures import Finder, Look, look_at_all

NEARLY_ALL = 0.95  # of the boxes
FEW = 3  # boxes: of fewer each may reach out by itself

Entry = dict[str, Any]
Id = int | str


@dataclass(frozen=True)
class CocoFile:
    """A checked annotation file and the folder of its pictures.

    images: `id` (int), `file_name` (a file below the folder), `width`, `height` (of the picture as it looks).
    annotations: as `coco_objects.read_object` gives them, with `id` (from 1), `image_id`, `category_id`.
    categories: `id` (int), `name`.
    """

    file: Path
    folder: Path
    images: list[Entry]
    annotations: list[Entry]
    categories: list[Entry]
    account: Account

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the categories."""
        return tuple(category["name"] for category in self.categories)

    def lines(self) -> list[str]:
        """What was mended or left out, in words, a line for each reason; none where all was taken as it is."""
        return [f"{self.file.name}: {note}" for note in self.account.notes]

    def of(self, image: Entry) -> list[Entry]:
        """Annotations of one picture."""
        return [annotation for annotation in self.annotations if annotation["image_id"] == image["id"]]

    def only(self, ids: Sequence[int]) -> CocoFile:
        """The same with these pictures alone. Raises ValueError where one is not there or they have no object."""
        images = [image for image in self.images if image["id"] in ids]
        annotations = [annotation for annotation in self.annotations if annotation["image_id"] in ids]
        if lacking := sorted(set(ids) - {image["id"] for image in images}):
            raise ValueError(f"{self.file} has no image {lacking[0]}")
        if all(annotation["iscrowd"] or annotation.get("difficult") for annotation in annotations):
            raise ValueError(f"{self.file} has no object to evaluate in the images {', '.join(map(str, ids))}")
        return dataclasses.replace(self, images=images, annotations=annotations)

    def in_order_of(self, other: CocoFile) -> CocoFile:
        """The same with its categories in the order of another file's.

        They are matched by name; where some share a name, by id too. Raises ValueError where the two list others.
        """
        plain = all(len(set(file.names)) == len(file.names) for file in (self, other))

        def keys(file: CocoFile) -> list[tuple[str, int]]:
            return [(entry["name"], 0 if plain else entry["id"]) for entry in file.categories]

        mine, theirs = dict(zip(keys(self), self.categories, strict=True)), keys(other)
        if odd := sorted(mine.keys() ^ set(theirs)):
            which = short(odd[0][0]) + ("" if plain else f" with id {odd[0][1]}")
            raise ValueError(
                f"{other.file} and {self.file} do not list the same categories: only one has {which};"
                " list the same in both"
            )
        return dataclasses.replace(self, categories=[mine[key] for key in theirs])


@dataclass(frozen=True)
class CocoFolders:
    """Where a data set in COCO format lies: two folders of pictures, two annotation files."""

    train_images: Path
    train_json: Path
    val_images: Path
    val_json: Path

    def read(self, masks: bool | None = None) -> CocoData:
        """Both files, checked. masks: as for `coco_file.read`. Raises as it, and where they list other categories."""
        train = read(self.train_json, self.train_images, masks=masks)
        if not any(map(trainable, train.annotations)):
            thin = all(entry["iscrowd"] or min(entry["bbox"][2:]) < 1 for entry in train.annotations)
            why = (
                "its boxes are smaller than one pixel: are they relative (YOLO)? COCO boxes are in pixels"
                if thin
                else "all are crowds, smaller than one pixel or marked `ignore`; correct these entries"
            )
            raise ValueError(f"{self.train_json}: it has no object to train on; {why}")
        return CocoData(train, read(self.val_json, self.val_images, masks=masks).in_order_of(train))


@dataclass(frozen=True)
class CocoData:
    """What a detector is trained on and judged on, both checked, with the same categories in the same order."""

    train: CocoFile
    val: CocoFile


def read(file: Path, folder: Path, *, masks: bool | None = None) -> CocoFile:
    """An annotation file, checked against the pictures in `folder`.

    masks: whether objects need them; None: where any object of the file has one.
    Raises FileNotFoundError or ValueError, a line with the file and the entry, for what is missing or cannot be right.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no annotation file {file}; put it there")
    try:
        return _Reader(file, folder, _content(file.read_bytes()), masks).result()
    except Refused as error:
        raise ValueError(f"{file}: {error}") from None


def _content(raw: bytes) -> dict[str, list[Entry]]:
    none = "it is not a COCO annotation file"
    if raw[:2] == b"\x1f\x8b":
        raise Refused("it is compressed; unpack it with gunzip")
    try:
        content = json.loads(raw, object_pairs_hook=_once)  # with or without a byte order mark
    except Refused:
        raise
    except UnicodeDecodeError as error:
        raise Refused(f"{none}: not in UTF-8 (byte {error.start:,})") from None
    except RecursionError:
        raise Refused(f"{none}: its lists are nested too deeply") from None
    except ValueError as error:
        raise Refused(f"{none}: {error}") from None
    if not isinstance(content, dict):
        raise Refused(f"{none}: not a JSON object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise Refused(f"{none}: it has no list '{key}'")
        if not content[key]:
            raise Refused(f"its list '{key}' is empty")
        for position, entry in enumerate(content[key], start=1):
            if not isinstance(entry, dict):
                raise Refused(f"entry {position} of '{key}' is {short(entry)}, not an object")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Of a key that comes twice Python would keep the last value only."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refused(f"one of its objects has the key {short(twice)} twice; merge the two, or remove one")
    return found


def _id(value: object) -> Id | None:
    """An id as it is compared: 1, 1.0 and "1" are one. None for what can be none."""
    if isinstance(value, str):
        digits = value.removeprefix("-")
        plain = digits.isascii() and digits.isdigit() and len(digits) < 16 and str(int(value)) == value
        return int(value) if plain else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def _name(kind: str, entry: Entry, position: int) -> str:
    """What messages call an entry."""
    own = _id(entry.get("id"))
    return f"{kind} number {position} of the list" if own is None else f"{kind} {short(own)}"


def _numbers(kind: str, entries: Sequence[Entry]) -> tuple[dict[Id, int], bool]:
    """The number by which each id goes from here on, and whether it is another: COCO's libraries know whole numbers."""
    ids: dict[Id, int] = {}
    for position, entry in enumerate(entries, start=1):
        own = _id(entry.get("id"))
        if own is None:
            raise Refused(f"{_name(kind, entry, position)} has no valid id (found {short(entry.get('id'))})")
        if own in ids:
            raise Refused(f"two of its {kind} entries have the same id, {short(own)}")
        ids[own] = position
    if any(isinstance(own, str) or abs(own) > 2**53 for own in ids):
        return ids, True
    return {own: own for own in ids if isinstance(own, int)}, False


class _Reader:
    """The content of one file on its way to a `CocoFile`. Its methods raise Refused."""

    def __init__(self, file: Path, folder: Path, content: Mapping[str, list[Entry]], masks: bool | None) -> None:
        self.file, self.folder, self.content = file, folder, content
        given = any(entry.get("segmentation") for entry in content["annotations"])
        if masks and not given:
            raise Refused("none of its objects has a mask; choose a detection protocol without masks")
        self.masks = given if masks is None else masks
        self.ledger = Ledger()
        self.images: dict[Id, Entry] = {}  # by the file's own ids
        self.turned: dict[Id, Look] = {}  # those whose size in the file is that before they are turned

    def result(self) -> CocoFile:
        """All of it."""
        categories, category_ids = self._categories()
        self._pictures()
        annotations = self._annotations(category_ids)
        images = list(self.images.values())
        return CocoFile(self.file, self.folder, images, annotations, categories, self.ledger.account())

    def _categories(self) -> tuple[list[Entry], dict[Id, int]]:
        entries = self.content["categories"]
        ids, renumbered = _numbers("category", entries)
        found: list[Entry] = []
        names: set[str] = set()
        for own, (position, entry) in zip(ids, enumerate(entries, start=1), strict=True):
            who, name = _name("category", entry, position), entry.get("name")
            if not isinstance(name, str) or not name:
                raise Refused(f"{who} has no valid name (found {short(name)})")
            reasons = {"number"} if renumbered else set()
            self.ledger.add("categories", who, reasons | ({"name"} if name in names else set()))
            names.add(name)
            found.append({"id": ids[own], "name": name})
        return found, ids

    # ---------------------------------------------------------------------------------------------------- pictures

    def _pictures(self) -> None:
        entries = self.content["images"]
        ids, renumbered = _numbers("image", entries)
        places: list[str] = []
        elsewhere: set[str] = set()
        notes: list[set[str]] = []
        finder, listed = Finder(self.folder), {str(entry.get("file_name")) for entry in entries}
        for position, entry in enumerate(entries, start=1):
            name = entry.get("file_name")
            if not isinstance(name, str) or not name:
                raise Refused(f"{_name('image', entry, position)} has no valid file_name (found {short(name)})")
            try:
                place = finder.find(name)
            except Refused as error:
                raise Refused(f"{_name('image', entry, position)}: {error}") from None
            # A file that another entry lists, or has been found for, is not this one's.
            if place is None or (place != name and (place in listed or place in elsewhere)):
                raise FileNotFoundError(
                    f"no image {short(name)} in {self.folder}, although {self.file} lists it;"
                    " put it there, or remove its entries from the file"
                )
            places.append(place)
            elsewhere |= {place} if place != name else set()
            notes.append(({"number"} if renumbered else set()) | ({"found"} if place != name else set()))
        seen: set[str] = set()
        looks = look_at_all([self.folder / place for place in places])
        for own, place, reasons, shown, (position, entry) in zip(
            ids, places, notes, looks, enumerate(entries, start=1), strict=True
        ):
            who = _name("image", entry, position)
            if isinstance(shown, str):
                raise Refused(f"{who}: {shown}")
            if place in seen:
                reasons.add("twice")
            seen.add(place)
            height, width = self._size(own, who, entry, place, shown, reasons)
            self.images[own] = {"id": ids[own], "file_name": place, "width": width, "height": height}
            self.ledger.add("images", f"{who}, {short(place)}", reasons)

    def _size(self, own: Id, who: str, entry: Entry, place: str, shown: Look, reasons: set[str]) -> tuple[int, int]:
        """Height and width of a picture as it looks, held against what the file says of it."""
        said: list[int] = []
        for side, real in zip(("height", "width"), shown.shown, strict=True):
            value = entry.get(side)
            read = 0 if value is None else whole(value, reasons.add)
            if read is None or read < 0:
                raise Refused(f"{who} has the {side} {short(value)}, which is not a number of pixels")
            if not read:
                reasons.add("size")
            said.append(read or real)
        if max(shown.shown) > FAR:
            raise Refused(f"{who} has a side of more than {FAR:,} pixels")
        if tuple(said) != shown.shown:
            if tuple(said) != shown.stored or "size" in reasons:
                raise Refused(
                    f"{self.folder / place} has height and width {shown.shown},"
                    f" but its annotation file says {tuple(said)}"
                )
            reasons.add("size")
            self.turned[own] = shown
        return shown.shown

    def _fits_as_it_looks(self, own: Id, entries: Sequence[Entry]) -> None:
        """Refuse a turned picture whose annotations may be those of the picture as it is stored."""

        def fit(size: tuple[int, int]) -> bool:
            return all(_fits(entry, size) for entry in entries)

        shown = self.turned[own]
        if entries and (fit(shown.stored) or not fit(shown.shown)):
            place = self.folder / self.images[own]["file_name"]
            raise Refused(
                f"{place} has height and width {shown.shown} after its EXIF orientation is applied, but its"
                f" annotation file says {shown.stored}, and its boxes may fit either; rotate the image's pixels"
                " or correct the size in the file"
            )

    # ------------------------------------------------------------------------------------------------- annotations

    def _annotations(self, category_ids: Mapping[Id, int]) -> list[Entry]:
        entries, seen = self.content["annotations"], set[Id]()
        places: list[Id] = []
        of_turned: dict[Id, list[Entry]] = {own: [] for own in self.turned}
        for position, entry in enumerate(entries, start=1):
            who, own = _name("annotation", entry, position), _id(entry.get("id"))
            if own is not None and own in seen:
                raise Refused(f"two of its annotation entries have the same id, {short(own)}")
            if own is not None:
                seen.add(own)
            image, category = _id(entry.get("image_id")), _id(entry.get("category_id"))
            for key, value, known in (("image_id", image, self.images), ("category_id", category, category_ids)):
                if value is None or value not in known:
                    raise Refused(
                        f"{who} refers to an image or category that is not listed: its {key} is {short(entry.get(key))}"
                    )
            assert image is not None
            places.append(image)
            if image in of_turned:
                of_turned[image].append(entry)
        for image, theirs in of_turned.items():
            self._fits_as_it_looks(image, theirs)
        self._no_two_corners(places)
        found: list[Entry] = []
        for image, (position, entry) in zip(places, enumerate(entries, start=1), strict=True):
            picture, reasons = self.images[image], set[str]()
            who = f"{_name('annotation', entry, position)} of {short(picture['file_name'])}"
            try:
                read = read_object(entry, picture["width"], picture["height"], masks=self.masks, note=reasons.add)
            except Refused as error:
                raise Refused(f"{who}: {error}") from None
            self.ledger.add("annotations", who, reasons)
            if read is not None:
                category = category_ids[_id(entry["category_id"])]  # type: ignore[index]
                found.append({"id": len(found) + 1, "image_id": picture["id"], "category_id": category, **read})
        corners = self.ledger.count("annotations", "corners")
        if corners >= max(FEW, NEARLY_ALL * len(found)):
            raise Refused(
                f"{corners:,} of its {len(found):,} boxes look like two corners of their masks;"
                " COCO boxes are x, y, width, height"
            )
        if all(entry["iscrowd"] for entry in found):
            raise Refused("it has no usable object: all are crowds, are outside their images or have no mask")
        return found

    def _no_two_corners(self, places: Sequence[Id]) -> None:
        """Refuse a file whose boxes all fit their pictures as x, y, x, y, and most do not as x, y, width, height."""
        fit = reach_out = count = 0
        for image, entry in zip(places, self.content["annotations"], strict=True):
            box, picture = entry.get("bbox"), self.images[image]
            sides = [number(side, lambda reason: None) for side in box] if isinstance(box, list) else []
            if len(known := [side for side in sides if side is not None]) == 4 == len(sides):
                as_corners, as_sides = box_readings(known, picture["width"], picture["height"])
                count += 1
                fit += as_corners
                reach_out += not as_sides
        if fit >= NEARLY_ALL * count and reach_out > count / 2 and count >= FEW:
            raise Refused(
                f"{reach_out:,} of its {count:,} boxes reach beyond their images, and {fit:,} look like two corners;"
                " COCO boxes are x, y, width, height"
            )


def _fits(entry: Entry, size: tuple[int, int]) -> bool:
    """Whether an annotation lies within a picture of that height and width, as far as it can be read."""
    mask, box = entry.get("segmentation"), entry.get("bbox")
    if isinstance(mask, dict) and mask.get("size") != list(size):
        return False
    if not isinstance(box, list) or len(box) != 4:
        return True
    sides = [number(side, lambda reason: None) for side in box]
    x, y, w, h = (0 if side is None else side for side in sides)
    return x + w <= size[1] + 1 and y + h <= size[0] + 1
