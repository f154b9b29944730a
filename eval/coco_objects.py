"""One object of a COCO annotation file, checked: its box, mask, area and flags, fit for compiled libraries.

A fault that no reading can mend (a number that is none, run lengths of another picture) raises `Refused`. What has a
usual reading is mended, and what cannot be seen is left out; either is noted by its reason (`coco_account.WORDS`).
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import reprlib
from collections.abc import Callable, Sequence
from operator import mul, sub
from typing import Any

ROUNDING = 1.0  # pixels: as far outside the picture a box may reach, as exporters round; it is left as it is
FAR = 100_000  # pixels: COCO's metrics know nothing larger. Outlines beyond cost pycocotools all memory
LONGEST = 1_000_000  # pixels of outline, of which pycocotools keeps five points each
HALF = 0.5  # of the smaller of box and mask the other holds at least this: below they lie apart
ALIKE = 0.8  # boxes that share so much of both are one
KEPT = ("difficult", "ignore")  # flags beside `iscrowd` that mmdet or a protocol look at

Box = list[float]
Note = Callable[[str], object]


class Refused(ValueError):
    """What is wrong with an entry, in a line without the file's name."""


def short(value: object) -> str:
    """A value in a message: one line, and no longer than it takes to find it."""
    return repr(value[:80]) if isinstance(value, str) else reprlib.repr(value)


def number(value: object, note: Note) -> float | None:
    """The finite number that it is, or that it spells; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        note("text")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) > 2**53:
        return None if abs(value) > 10**300 else float(value)
    return value if math.isfinite(value) else None


def whole(value: object, note: Note) -> int | None:
    """The integer that it is; None for anything else."""
    found = number(value, note)
    return int(found) if found is not None and found == int(found) else None


def read_object(
    entry: dict[str, Any], width: int, height: int, *, masks: bool, note: Note = lambda reason: None
) -> dict[str, Any] | None:
    """An annotation of a picture of that size with the keys that count, or None where it is left out.

    Keys: `bbox` (x, y, width, height; within the picture but for a rounding), `area`, `iscrowd`, those of `KEPT` that
    are set, and with `masks` a `segmentation` of that picture. An object whose mask cannot be used becomes a crowd, a
    region that is ignored, with its box as mask.

    Raises Refused.
    """
    found: dict[str, Any] = {"iscrowd": _flag(entry, "iscrowd", note)}
    found |= {key: 1 for key in KEPT if _flag(entry, key, note)}
    mask = _Mask(entry.get("segmentation"), width, height, note)
    if masks:
        mask.read()
    box = _box(entry.get("bbox"), mask, note)
    if box is None:
        return None
    if masks:
        if mask.usable:
            found["segmentation"] = mask.value
        else:
            note("maskless")
            found |= {"segmentation": [_corners(box)], "iscrowd": 1}
    area = number(entry.get("area"), note)
    if area is None or not 0 < area <= (width + 1) * (height + 1):
        note("area")
        area = mask.area() or box[2] * box[3]
    if min(box[2:]) < 1:
        note("thin")
    if "ignore" in found:
        note("ignore")
    extent = mask.extent() if masks else None
    if extent is not None and box != extent and (contradiction := contradicts(entry["bbox"], extent)):
        note(contradiction)
    return found | {"bbox": box, "area": area}


def trainable(entry: dict[str, Any]) -> bool:
    """Whether mmdet trains on an object that `read_object` gave; as for what is judged, see `coco_account.WORDS`."""
    return not entry["iscrowd"] and not entry.get("ignore") and bool(min(entry["bbox"][2:]) >= 1)


def _flag(entry: dict[str, Any], key: str, note: Note) -> int:
    value = entry.get(key)
    found = int(value) if isinstance(value, bool) else 0 if value is None else whole(value, note)
    if found not in (0, 1):
        raise Refused(f"its {key} is {short(value)}, not 0 or 1")
    return found


def _corners(box: Box) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


# ---------------------------------------------------------------------------------------------------------- boxes


def _box(value: object, mask: _Mask, note: Note) -> Box | None:
    """The box, or that of the mask where it shows nothing; None where that does not either."""
    missing = value is None or value == []
    if not missing:
        box = [number(side, note) for side in value] if isinstance(value, list) else []
        if len(box) != 4 or None in box:
            raise Refused(f"its bbox {short(value)} is not a list of four finite numbers")
        x, y, w, h = (side for side in box if side is not None)
        inside = clip(x, y, w, h, mask.width, mask.height)
        if inside is not None:
            if max(-x, -y, x + w - mask.width, y + h - mask.height) <= ROUNDING:
                return [x, y, w, h]
            note("clipped")
            return inside
    extent = mask.extent()
    if extent is not None:
        note("box")
        return extent
    if missing:
        raise Refused("it has neither a bbox nor a mask to compute one from")
    if w < 0 or h < 0:
        raise Refused(f"its bbox {short(value)} has a negative side and it has no mask; a bbox is x, y, width, height")
    note("outside" if w > 0 and h > 0 else "empty")
    return None


def clip(x: float, y: float, w: float, h: float, width: int, height: int) -> Box | None:
    """What of a box lies in a picture; None for nothing."""
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    return [left, top, right - left, bottom - top] if w > 0 and h > 0 and right > left and bottom > top else None


def contradicts(given: list[Any], extent: Box) -> str:
    """How a box contradicts the one round its mask: "corners" where it is that one's two corners, "apart", or ""."""
    sides = [number(side, lambda reason: None) for side in given]
    x, y, w, h = (side for side in sides if side is not None)
    if _overlap((x, y, w - x, h - y), extent) > ALIKE > _overlap((x, y, w, h), extent):
        return "corners"
    return "" if _overlap((x, y, w, h), extent, within=True) >= HALF or min(w, h) <= 0 else "apart"


def _overlap(one: Sequence[float], other: Sequence[float], *, within: bool = False) -> float:
    """Of two boxes what they share, as a part of both together; `within`: of the smaller one."""
    shared = max(0.0, min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0]))
    shared *= max(0.0, min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1]))
    areas = one[2] * one[3], other[2] * other[3]
    whole = min(areas) if within else sum(areas) - shared
    return shared / whole if min(*one[2:], *other[2:]) > 0 else 0.0


def box_readings(box: Sequence[float], width: int, height: int) -> tuple[bool, bool]:
    """Whether a box lies in its picture as x, y, x, y of two corners, and as x, y, width, height."""
    x, y, w, h = box
    across, down = width + ROUNDING, height + ROUNDING
    return -ROUNDING <= x < w <= across and -ROUNDING <= y < h <= down, x + w <= across and y + h <= down


def require_sound(entries: Sequence[dict[str, Any]], what: str) -> None:
    """Raises ValueError for the first box or score that is not finite: metrics count it as a hit of anything."""
    for entry in entries:
        box = entry["bbox"]
        sound = len(box) == 4 and all(map(math.isfinite, (*box, entry.get("score", 0)))) and min(box[2:]) >= 0
        if not sound:
            score = f", score {entry['score']}" if "score" in entry else ""
            raise ValueError(f"{what} of image {entry['image_id']} is not valid: box {short(list(box))}{score}")


def require_masks(images: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError for the first object whose mask `read_object` would not give: pycocotools may die of it."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    for entry in entries:
        mask = _Mask(entry.get("segmentation"), *sizes[entry["image_id"]], lambda reason: None)
        try:
            mask.read()
        except Refused as error:
            raise ValueError(f"an object of image {entry['image_id']}: {error}") from None
        if mask.value is None or mask.value != entry["segmentation"]:
            raise ValueError(f"an object of image {entry['image_id']} has no mask inside its image")


# ---------------------------------------------------------------------------------------------------------- masks


class _Mask:
    """A segmentation, read where something asks for it. `usable`: it has an area in the picture."""

    def __init__(self, given: object, width: int, height: int, note: Note) -> None:
        self.given, self.width, self.height, self.note = given, width, height, note
        self.value: Any = None
        self.done = False

    @property
    def usable(self) -> bool:
        self.read()
        return self.value is not None

    def read(self) -> None:
        """Fill `value`: polygons or run lengths as pycocotools takes them, None where there is nothing to see."""
        if self.done:
            return
        self.done = True
        if isinstance(self.given, dict) and self.given:
            self.value = _run_lengths(self.given, self.width, self.height)
        elif isinstance(self.given, list):
            polygons = _polygons(self.given, self.note)
            if any(self._visible(polygon) for polygon in polygons):
                self.value = polygons
        elif self.given not in (None, {}):
            raise Refused(f"its segmentation {short(self.given)} is neither polygons nor run lengths")

    def _visible(self, polygon: list[float]) -> bool:
        x, y = polygon[::2], polygon[1::2]
        if clip(min(x), min(y), max(x) - min(x), max(y) - min(y), self.width, self.height) is None:
            return False
        if sum(map(mul, x, y[1:] + y[:1])) != sum(map(mul, x[1:] + x[:1], y)):  # twice its area
            return True
        # 0 also where the outline crosses itself: the two parts have opposite signs
        from pycocotools import mask as coding

        return bool(coding.area(coding.frPyObjects([polygon], self.height, self.width)).sum())

    def extent(self) -> Box | None:
        """The box round what of the mask lies in the picture."""
        if not self.usable:
            return None
        if isinstance(self.value, dict):
            from pycocotools import mask as coding

            return [float(side) for side in coding.toBbox(self._encoded())]
        shown = [polygon for polygon in self.value if self._visible(polygon)]
        x, y = ([side for polygon in shown for side in polygon[axis::2]] for axis in (0, 1))
        return clip(min(x), min(y), max(x) - min(x), max(y) - min(y), self.width, self.height)

    def area(self) -> float:
        """In pixels; 0 where there is no mask."""
        if not self.usable:
            return 0.0
        from pycocotools import mask as coding

        return float(coding.area(self._encoded()))

    def _encoded(self) -> Any:
        from pycocotools import mask as coding

        if isinstance(self.value, dict) and isinstance(self.value["counts"], str):
            return self.value
        encoded = coding.frPyObjects(self.value, self.height, self.width)
        return encoded if isinstance(self.value, dict) else coding.merge(encoded)


def _polygons(given: list[Any], note: Note) -> list[list[float]]:
    """Those of three points or more. One list of numbers is one polygon, and so is a list of points."""
    lists = given
    if given and not all(isinstance(part, list) for part in given):
        lists = [given]
    elif len(given) > 2 and all(len(part) == 2 for part in given):
        lists = [list(itertools.chain.from_iterable(given))]
    flat: list[list[Any]] = []
    for part in lists:
        kinds = set(map(type, part))
        if list not in kinds:
            flat.append(part)
        elif kinds == {list} and all(len(one) == 2 for one in part):
            flat.append(list(itertools.chain.from_iterable(part)))
        elif kinds == {list}:
            flat += part
        else:
            raise Refused(f"its polygon {short(part)} is not a list of x, y, x, y, ...")
    if flat != given:
        note("form")
    read = [_coordinates(part, note) for part in flat]
    kept = [polygon for polygon in read if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if kept and len(kept) < len(flat):
        note("parts")
    return kept


def _coordinates(given: list[Any], note: Note) -> list[float]:
    """The numbers of a polygon. Raises Refused for what is none, or too far away or too long for pycocotools."""
    polygon = given
    if not _plain(given):
        for one in given:
            if number(one, note) is None:
                raise Refused(f"its polygon has the coordinate {short(one)}, which is not a finite number")
        polygon = [float(one) for one in given]
    if not polygon:
        return polygon
    if not -FAR <= min(polygon) <= max(polygon) <= FAR:
        far = max(min(polygon), max(polygon), key=abs)
        raise Refused(f"its polygon has a corner at {far:g}, more than {FAR:,} pixels away")
    if sum(sum(map(abs, map(sub, line, line[1:]))) for line in (polygon[::2], polygon[1::2])) > LONGEST:
        raise Refused(f"its polygon has an outline longer than {LONGEST:,} pixels")
    return polygon


def _plain(given: list[Any]) -> bool:
    """Whether these are finite numbers, fast."""
    try:
        return set(map(type, given)) <= {int, float} and all(map(math.isfinite, given))
    except OverflowError:  # an integer beyond all floats
        return False


def _run_lengths(given: dict[str, Any], width: int, height: int) -> dict[str, Any] | None:
    """COCO's run lengths, plain or compressed, of a picture of that size; None for an empty mask."""
    size, counts = given.get("size"), given.get("counts")
    if size != [height, width]:
        raise Refused(f"its run lengths are for height and width {short(size)}, but its image has {[height, width]}")
    runs = decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or set(map(type, runs)) != {int} or min(runs) < 0:
        raise Refused(f"its run lengths {short(counts)} are not valid")
    if sum(runs) != width * height:
        raise Refused(f"its run lengths cover {sum(runs)} pixels, but its image has {width * height}")
    return {"size": [height, width], "counts": counts} if any(runs[1::2]) else None


_RUN = re.compile("[P-o]{0,7}[0-O]")  # characters that say "more follows", and a last one


def decompressed(text: str) -> list[int] | None:
    """The run lengths of COCO's compressed form (pycocotools' `rleFrString`), None where the text is none.

    From the fourth on they are differences from the last but one.
    """
    written = _RUN.findall(text)
    if sum(map(len, written)) != len(text):
        return None
    runs = [*map(_run, written)]
    runs[1::2] = itertools.accumulate(runs[1::2])
    runs[2::2] = itertools.accumulate(runs[2::2])
    return runs


@functools.lru_cache(10_000)
def _run(written: str) -> int:
    """One number: five bits a character, lowest first; the fifth of the last is the sign."""
    codes = [ord(character) - 48 for character in written]
    value = sum((code & 31) << 5 * place for place, code in enumerate(codes))
    return value - (1 << 5 * len(codes)) if codes[-1] & 16 else value
