"""Any COCO annotation file, however damaged: all of its entries are accounted for, or it is refused in one line."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from eval.coco_account import LEFT_OUT, WORDS
from eval.coco_file import CocoFile, read
from eval.coco_objects import ROUNDING
from eval.detection_metrics import coco_metrics

Content = dict[str, Any]

# (file, height, width) as they look; the second is stored lying and turned by its EXIF orientation.
PICTURES = [("a.png", 30, 40), ("b.png", 35, 25), ("deep/c.png", 20, 20)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("any")
    for name, height, width in PICTURES:
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "b.png" else 1
        Image.new("RGB", (height, width) if name == "b.png" else (width, height)).save(path, exif=exif)
    return root


# ------------------------------------------------------------------------------------------------- files of all kinds


def compressed(runs: list[int]) -> str:
    """Run lengths in COCO's compressed form, as the loop of pycocotools' `rleToString` writes them."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != -1 if code & 16 else value != 0
            text += chr(48 + (code | 32 if more else code))
    return text


@st.composite
def sound(draw: st.DrawFn) -> Content:
    """A file as it should be: up to three pictures and five objects, masks of all forms or none."""
    masks = draw(st.sampled_from(["polygon", "plain", "compressed", "mixed", "none"]))
    listed = PICTURES[: draw(st.integers(1, 3))]
    images = [{"id": i, "file_name": n, "height": h, "width": w} for i, (n, h, w) in enumerate(listed, start=1)]
    annotations = []
    for number in range(draw(st.integers(1, 5))):
        image = draw(st.sampled_from(images))
        height, width = image["height"], image["width"]
        x, y = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        w, h = draw(st.integers(1, width - x)), draw(st.integers(1, height - y))
        entry: Content = {"id": number + 1, "image_id": image["id"], "category_id": draw(st.sampled_from([1, 7]))}
        entry |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": int(number > 0 and draw(st.booleans()))}
        form = draw(st.sampled_from(["polygon", "plain", "compressed"])) if masks == "mixed" else masks
        # Columns one after another: what is above the box, the box, what is below and above in the next column.
        runs = [x * height + y, *[h, height - h] * (w - 1), h, (width - x - w) * height + height - y - h]
        if form == "polygon":
            entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        elif form != "none":
            counts = runs if form == "plain" else compressed(runs)
            entry["segmentation"] = {"size": [height, width], "counts": counts}
        annotations.append(entry)
    categories = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


NUMBERS = [0, 1, -1, 2, 0.5, -0.5, 24, 30, 100, 1e5, -1e5, 2e8, 1e300, 2**31, 2**63, 10**20, 10**400]
TEXTS = [
    "",
    "1",
    "7",
    "12.5",
    "-3",
    "nan",
    "inf",
    "1e999",
    "cat",
    "a.png",
    "c.png",
    "x/a.png",
    "\0",
    "\ud800",
    "\n",
    "~",
]
values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, math.nan, math.inf, -math.inf, *NUMBERS, *TEXTS]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner),
    max_leaves=12,
)
polygons = st.lists(st.lists(st.sampled_from([*NUMBERS, math.nan, None, "5"]), max_size=9), max_size=3)
FAULTS = ["inside", "inside", "value", "value", "delete", "all", "twice"]
KEYS = {
    "images": ["id", "file_name", "width", "height"],
    "annotations": ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "difficult", "ignore"],
    "categories": ["id", "name", "supercategory"],
}


# What has a usual reading, and so shall be read.
MILD: dict[str, dict[str, list[Any]]] = {
    "annotations": {
        "id": [0, None, "x", 7.5, [1], 2**70],
        "bbox": [
            None,
            [],
            [0, 0, 0, 5],
            [5, 5, -3, 4],
            [-9, -9, 99, 99],
            [500, 500, 5, 5],
            [1, 1, 0.4, 3],
            list("1234"),
        ],
        "area": [0, None, -1, math.nan, math.inf, 1e12, "40", True],
        "segmentation": [
            *(
                None,
                [],
                {},
                [[1, 1, 5, 5]],
                [1, 1, 8, 1, 8, 8],
                [[[1, 1], [8, 1], [8, 8]]],
                [[1, 1, 8, 1, 8, 8], [2, 2]],
            ),
            *([[500, 500, 600, 500, 600, 600]], [[1, 1, 4, 4, 8, 8]], [[-50, -50, 90, -50, 90, 90]]),
        ],
        "iscrowd": [True, None, "1", 1.0, 0],
        "difficult": [1, True, "0"],
        "ignore": [1, False],
    },
    "images": {"width": [None, 0], "height": [None, 0], "file_name": ["c.png", "x/a.png", "deep\\c.png"]},
    "categories": {"name": ["cat", "dog", "cow"], "supercategory": [None, "animal"]},
}


@st.composite
def mended(draw: st.DrawFn) -> Content:
    """A sound file with a few oddities."""
    content = draw(sound())
    for kind in ("annotations", "annotations", draw(st.sampled_from(["annotations", "images", "categories"]))):
        entry = draw(st.sampled_from(content[kind]))
        for key in sorted(draw(st.sets(st.sampled_from(sorted(MILD[kind])), max_size=3))):
            entry[key] = copy.deepcopy(draw(st.sampled_from(MILD[kind][key])))
        if draw(st.integers(0, 2)) == 0:
            entry.pop("segmentation", None)
    return content


@st.composite
def changed(draw: st.DrawFn) -> Content:
    """A sound file with up to three faults, most of them deep inside."""
    content = draw(sound())
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["images", "annotations", "annotations", "annotations", "categories"]))
        entries = content[kind]
        if not isinstance(entries, list) or not entries:
            continue
        index = draw(st.integers(0, len(entries) - 1))
        if not isinstance(entries[index], dict):
            continue
        entry, key = entries[index], draw(st.sampled_from(KEYS[kind]))
        match draw(
            st.sampled_from([*FAULTS, "top"] if kind != "annotations" else [*FAULTS, "box", "box", "mask", "mask"])
        ):
            case "inside":  # one number of a list or a list in it
                inner = entry.get(key)
                while isinstance(inner, list) and inner and isinstance(inner[0], list):
                    inner = inner[0]
                if isinstance(inner, dict):
                    inner[draw(st.sampled_from(["size", "counts"]))] = draw(values)
                elif isinstance(inner, list) and inner:
                    inner[draw(st.integers(0, len(inner) - 1))] = draw(values)
                else:
                    entry[key] = draw(values)
            case "value":
                entry[key] = draw(values)
            case "box":  # numbers, but elsewhere
                entry["bbox"] = draw(st.lists(st.sampled_from([-20, -1, 0, 0.3, 5, 18, 60]), min_size=4, max_size=4))
                entry["segmentation"] = draw(st.sampled_from([None, entry.get("segmentation")]))
            case "mask":
                mask = entry.get("segmentation")
                if isinstance(mask, dict) and isinstance(mask.get("counts"), list) and mask["counts"]:
                    mask["counts"][0] = draw(st.sampled_from([0, 5, 1200, -1]))
                elif isinstance(mask, dict) and isinstance(mask.get("counts"), str):
                    mask["counts"] = draw(st.text("0Ppo5", max_size=6)) + mask["counts"][draw(st.integers(0, 2)) :]
                else:
                    entry["segmentation"] = draw(polygons)
            case "delete":
                entry.pop(key, None)
            case "all":
                value = draw(values)
                for one in entries:
                    if isinstance(one, dict):
                        one[key] = copy.deepcopy(value)
            case "twice":
                entries.append(copy.deepcopy(entry))
            case "top":
                if draw(st.integers(0, 3)) == 0:
                    place = draw(st.sampled_from([*KEYS, "info"]))
                    content[place] = draw(values)
                else:
                    entries.pop(index)
    return content


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """The bytes of a file: nine of ten times JSON, else damaged."""
    raw = json.dumps(draw(changed() | mended() | mended())).encode(
        draw(st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16"]))
    )
    if draw(st.integers(0, 9)) == 0:
        start = draw(st.integers(0, len(raw)))
        raw = raw[:start] + draw(st.binary(max_size=4)) + raw[start + draw(st.integers(0, 20)) :]
    return raw


# --------------------------------------------------------------------------------------------- what must be true of all


def hold(place: Path, raw: bytes, masks: bool | None) -> set[str]:
    """Check one file; returns what became of it: read (and what was noted), refused, or refused at the first check."""
    path = place / "any.json"
    path.write_bytes(raw)
    try:
        file = read(path, place / "pictures", masks=masks)
    except (ValueError, FileNotFoundError) as error:
        line = str(error)
        assert type(error) in (ValueError, FileNotFoundError)
        assert str(path) in line and line.isprintable() and len(line) < 600
        first = "it is not a COCO annotation file" in line or "its list '" in line or ", not an object" in line
        return {"no such file" if first else "refused"}
    content = json.loads(raw)
    for entries, tally, kept in (
        (content["images"], file.account.pictures, file.images),
        (content["annotations"], file.account.annotations, file.annotations),
    ):
        assert tally.taken + tally.changed + tally.left_out == len(entries)
        assert min(tally.taken, tally.changed, tally.left_out) >= 0
        assert tally.taken + tally.changed == len(kept)
    left_out = sum(note.count for note in file.account.notes if note.reason in LEFT_OUT)
    assert left_out == file.account.annotations.left_out
    assert all(line.isprintable() for line in file.lines())
    assert bool(file.lines()) == any(note.count > 0 for note in file.account.notes)
    sizes = {image["id"]: (image["height"], image["width"]) for image in file.images}
    assert list(sizes.values()) == [
        next((h, w) for name, h, w in PICTURES if name == image["file_name"]) for image in file.images
    ]
    for number, entry in enumerate(file.annotations, start=1):
        assert entry["id"] == number and entry["iscrowd"] in (0, 1) and math.isfinite(entry["area"])
        assert entry["category_id"] in {category["id"] for category in file.categories}
        x, y, w, h = entry["bbox"]
        height, width = sizes[entry["image_id"]]
        assert w > 0 and h > 0 and entry["area"] > 0
        assert -ROUNDING <= x < x + w <= width + ROUNDING and -ROUNDING <= y < y + h <= height + ROUNDING
        if masks:
            decoded = mask_of(entry["segmentation"], height, width)
            assert decoded.shape == (height, width) and decoded.max() <= 1
    judge(file, masks=bool(masks))
    # What was read is itself a file that needs no change.
    again = {"images": file.images, "annotations": file.annotations, "categories": file.categories}
    path.write_text(json.dumps(again))
    second = read(path, place / "pictures", masks=masks)
    assert (second.images, second.annotations, second.categories) == tuple(again.values())
    assert {note.reason for note in second.account.notes} <= {"thin", "ignore", "twice", "name", "apart", "corners"}
    return {"read"} | {note.reason for note in file.account.notes}


def mask_of(segmentation: Any, height: int, width: int) -> Any:
    """As mmdet decodes it."""
    from pycocotools import mask as coding

    if isinstance(segmentation, list):
        return coding.decode(coding.merge(coding.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        segmentation = coding.frPyObjects(segmentation, height, width)
    return coding.decode(segmentation)


def judge(file: CocoFile, masks: bool) -> None:
    """Perfect boxes are perfect, however the file was."""
    hits = [{**entry, "score": 0.5} for entry in file.annotations if not (entry["iscrowd"] or entry.get("difficult"))]
    found = coco_metrics(file.images, file.annotations, file.categories, hits, ["bbox"])
    if hits:
        assert found["bbox_AP"] == pytest.approx(100)
    if masks:
        values = coco_metrics(file.images, file.annotations, file.categories, [], ["segm"])
        assert all(value == 0 for value in values.values())


def text(**values: object) -> bytes:
    """A file of one object with these values."""
    entry = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0}
    entry["segmentation"] = [[2, 3, 12, 3, 12, 13, 2, 13]]
    images = [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}]
    categories = [{"id": 1, "name": "cat"}]
    return json.dumps({"images": images, "annotations": [entry | values], "categories": categories}).encode()


@pytest.mark.parametrize(
    "number", [pytest.param(200, marks=pytest.mark.seconds), pytest.param(2500, marks=pytest.mark.slow)]
)
def test_any_file_is_accounted_for_or_refused_in_a_line(place: Path, number: int) -> None:
    became: Counter[str] = Counter()

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(raw=files(), masks=st.sampled_from([True, True, False, None]))
    @example(raw=text(bbox=[math.nan, 3, 10, 10]), masks=True)
    @example(raw=text(segmentation=[[2, 3, 12, 3, 2.08e8, 3.5e8, 2, 13]]), masks=True)
    @example(raw=text(segmentation=[[2, 3, math.nan, 3, 12, 13, 2, 13]]), masks=True)
    @example(raw=text(segmentation=[[2, 3, 12, 13]]), masks=True)
    @example(raw=text(bbox=[0.3, 3, 10**400, 10]), masks=True)
    @example(raw=text(bbox=[2, 3, 12, 13]), masks=True)  # two corners
    @example(raw=text(bbox=[25, 15, 10, 10]), masks=True)
    @example(raw=text(file_name=1, area=10**400), masks=None)
    def check(raw: bytes, masks: bool | None) -> None:
        became.update(hold(place, raw, masks))

    check()
    total = became["read"] + became["refused"] + became["no such file"]
    assert total >= number
    assert became["read"] + became["refused"] >= total / 2  # past the first check
    assert became["read"] >= total / 5
    if number > 2000:
        assert {reason for reason in WORDS["annotations"] if not became[reason]} == set()
