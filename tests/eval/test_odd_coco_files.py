"""COCO annotation files and pictures that mean something else than they seem to: refused or told in one line."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval.coco_file import CocoFile, CocoFolders, read

Content = dict[str, Any]
HEIGHT, WIDTH = 30, 40


def content(*entries: Content) -> Content:
    """A file of two pictures with these objects, all of the first picture and of one category."""
    images = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2)]
    annotations = [{"id": i, "image_id": 1, "category_id": 1, **entry} for i, entry in enumerate(entries, start=1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the two pictures."""
    (tmp_path / "pictures").mkdir()
    for i in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path


def reading(place: Path, *entries: Content) -> CocoFile:
    """The file with these objects, written and read."""
    (place / "two.json").write_text(json.dumps(content(*entries)))
    return read(place / "two.json", place / "pictures")


@pytest.mark.parametrize("below", [False, True])
def test_a_pipe_is_no_picture(place: Path, below: bool) -> None:
    (place / "pictures/2.png").unlink()
    (place / "pictures/deep").mkdir()
    os.mkfifo(place / "pictures" / ("deep/2.png" if below else "2.png"))
    why = r"no image '2\.png'" if below else r"image 2: its file_name '2\.png' is a pipe or device, not a file"
    with pytest.raises((ValueError, FileNotFoundError), match=why):
        reading(place, {"bbox": [5, 6, 20, 10]})


def test_a_missing_picture_is_named_with_the_fix(place: Path) -> None:
    (place / "pictures/2.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no image '2\.png' in .*, although .*two\.json lists it; put it there, or remove"
    ):
        reading(place, {"bbox": [5, 6, 20, 10]})


def test_a_compressed_file_is_to_be_unpacked(place: Path) -> None:
    (place / "two.json").write_bytes(gzip.compress(json.dumps(content()).encode()))
    with pytest.raises(ValueError, match=r"two\.json: it is compressed; unpack it with gunzip"):
        read(place / "two.json", place / "pictures")


@pytest.mark.parametrize(("key", "of"), [("annotations", "[]"), ("bbox", "[1, 2, 3, 4]")])
def test_a_key_that_comes_twice_is_refused(place: Path, key: str, of: str) -> None:
    text = json.dumps(content({"bbox": [5, 6, 20, 10]})).replace(f'"{key}":', f'"{key}": {of}, "{key}":')
    (place / "two.json").write_text(text)
    with pytest.raises(ValueError, match=rf"two\.json: one of its objects has the key '{key}' twice; merge the two"):
        read(place / "two.json", place / "pictures")


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([{"bbox": [0.5, 0.5, 0.2, 0.3]}, {"bbox": [0.1, 0.2, 0.9, 1]}], "smaller than one pixel: are they relative"),
        ([{"bbox": [5, 6, 20, 10], "ignore": 1}] * 2, "marked `ignore`"),
    ],
)
def test_a_file_without_an_object_to_train_on_is_no_training_file(
    place: Path, objects: list[Content], why: str
) -> None:
    good = [*objects, {"bbox": [5, 6, 20, 10]}]
    for name, own in (("bad", objects), ("good", good)):
        (place / f"{name}.json").write_text(json.dumps(content(*own)))
    pictures = place / "pictures"
    with pytest.raises(ValueError, match=rf"bad\.json: it has no object to train on; .*{why}"):
        CocoFolders(pictures, place / "bad.json", pictures, place / "good.json").read()
    data = CocoFolders(pictures, place / "good.json", pictures, place / "bad.json").read()
    assert (len(data.train.annotations), len(data.val.annotations)) == (3, 2)


def test_an_outline_that_crosses_itself_has_an_area(place: Path) -> None:
    bow_tie = [5, 6, 25, 16, 5, 16, 25, 6]  # two triangles of 20 x 5 / 2 pixels
    file = reading(place, {"bbox": [5, 6, 20, 10], "segmentation": [bow_tie], "area": 0})
    (entry,) = file.annotations
    assert (entry["iscrowd"], entry["segmentation"], entry["area"]) == (0, [bow_tie], 100)
    assert [note.reason for note in file.account.notes] == ["area"]


def outlined(x: float, y: float, w: float, h: float, **more: object) -> Content:
    """An object with a rectangle as its mask."""
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {"bbox": [x, y, w, h], "segmentation": [outline], "area": w * h, **more}


INSIDE = [(20, 15, 10, 10), (25, 16, 14, 12), (21, 3, 18, 5), (2, 16, 3, 12)]  # half of it or more to the right or low


@pytest.mark.parametrize("masks", [False, True])
def test_boxes_of_two_corners_are_refused(place: Path, masks: bool) -> None:
    objects = [outlined(*box) for box in INSIDE]
    assert reading(place, *objects).lines() == []
    for (x, y, w, h), entry in zip(INSIDE, objects, strict=True):
        entry["bbox"] = [x, y, x + w, y + h]
        if not masks:
            del entry["segmentation"]
    with pytest.raises(ValueError, match=r"4 of its 4 boxes .*two corners; COCO boxes are x, y, width, height"):
        reading(place, *objects)


def test_boxes_of_two_corners_that_stay_inside_are_known_by_their_masks(place: Path) -> None:
    small = [(x, y, 5, 6) for x, y in ((6, 4), (9, 5), (12, 7))]
    objects = [outlined(x, y, w, h, bbox=[x, y, x + w, y + h]) for x, y, w, h in small]
    with pytest.raises(ValueError, match="3 of its 3 boxes look like two corners of their masks"):
        reading(place, *objects)
    file = reading(place, objects[0], *[outlined(*box) for box in INSIDE])
    assert [(note.reason, note.count) for note in file.account.notes] == [("corners", 1)]


def test_a_mask_elsewhere_than_its_box_is_told(place: Path) -> None:
    part = outlined(8, 8, 3, 3, bbox=[6, 6, 20, 15])  # most of the object is hidden: the box is right
    wrong = outlined(3, 3, 8, 8, bbox=[25, 15, 10, 10])
    file = reading(place, part, wrong)
    assert [str(note) for note in file.account.notes] == [
        "1 of 2 annotations (annotation 2 of '1.png'): box and mask overlap by less than half of the smaller;"
        " both are kept, correct one of them"
    ]
    assert [entry["bbox"] for entry in file.annotations] == [[6, 6, 20, 15], [25, 15, 10, 10]]
