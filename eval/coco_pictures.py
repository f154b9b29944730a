"""The pictures that a COCO annotation file lists: where they lie, and how large they look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from eval.coco_objects import Refused, short
from eval.decoding import ORIENTATION, SWAPS_SIDES, late_orientation, pillow, refused

MANY = 1000  # more pictures are opened by several threads: file systems of clusters are slow to answer


@dataclass(frozen=True)
class Look:
    """(height, width) of a picture, as it is stored and as it looks when it is turned by its EXIF orientation."""

    stored: tuple[int, int]
    shown: tuple[int, int]


def look(path: Path) -> Look | str:
    """A picture's sizes, from the head of its file, or why they cannot be read."""
    image = pillow()
    try:
        with image.open(path) as picture:
            width, height = picture.size
            orientation = 1
            if picture.format != "TIFF":  # its size is turned already
                with contextlib.suppress(Exception):  # damaged EXIF: as `decoding.orientation_of`
                    orientation = image.Image.getexif(picture).get(ORIENTATION)  # PNG's own would decode all of it
            if picture.format == "PNG":
                orientation = late_orientation(path) or orientation
    except Exception as error:  # what the readers of damaged files raise has no common kind
        return refused(path, error)
    stored = height, width
    return Look(stored, (width, height) if orientation in SWAPS_SIDES else stored)


def look_at_all(paths: Sequence[Path]) -> Iterator[Look | str]:
    """`look` at each, in order."""
    if len(paths) <= MANY:
        yield from map(look, paths)
        return
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(paths), MANY):
            yield from pool.map(look, paths[start : start + MANY])


class Finder:
    """Files of a folder by the names that an annotation file gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> str | None:
        """Where a picture lies below the folder, None for nowhere.

        At its file_name, or else the one file of that name in a folder below; of several the one whose folder is named
        too. Raises Refused where it may be either of two.
        """
        # os.path's: they say no to names that no file can have, where pathlib raises
        if os.path.isfile(self.folder / name):  # noqa: PTH113
            return name
        if os.path.exists(self.folder / name) and not os.path.isdir(self.folder / name):  # noqa: PTH110, PTH112
            raise Refused(f"its file_name {short(name)} is a pipe or device, not a file; put the image there")
        wanted = PurePosixPath(name.replace("\\", "/"))
        # regular files only: to open a pipe waits for ever
        found = sorted(place for place in self._by_name.get(wanted.name, []) if (self.folder / place).is_file())
        for depth in range(1, len(wanted.parts) + 1):
            if len(found) > 1:
                found = [place for place in found if PurePosixPath(place).parts[-depth:] == wanted.parts[-depth:]]
        if len(found) > 1:
            raise Refused(
                f"its file_name {short(name)} may be {short(found[0])} or {short(found[1])}; add the folder to it"
            )
        return found[0] if found else None

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        seen: set[tuple[int, int]] = set()
        for folder, below, names in os.walk(self.folder, followlinks=True):
            about = Path(folder).stat()
            if (about.st_dev, about.st_ino) in seen:  # a link that leads back
                below.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
            for name in names:
                found.setdefault(name, []).append((Path(folder) / name).relative_to(self.folder).as_posix())
        return found
