"""COCO annotation files of all kinds: read as meant, with a word on what was mended, or refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.coco_file import CocoFile, CocoFolders, read
from eval.coco_objects import decompressed
from eval.coco_pictures import Finder
from eval.detection_metrics import coco_metrics

Content = dict[str, Any]
HEIGHT, WIDTH = 30, 40
BOX = [5, 6, 20, 10]
POLYGON = [[5, 6, 25, 6, 25, 16, 5, 16]]
NAN, INFINITE = float("nan"), float("inf")


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(path, exif=exif)


def three() -> Content:
    """A file of three pictures with an object each, of two categories."""
    names = ("a.png", "b.png", "c.png")
    images = [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names, start=1)]
    entry = {"bbox": BOX, "segmentation": POLYGON, "area": 200, "iscrowd": 0}
    annotations = [{"id": 10 + i, "image_id": i, "category_id": 1 + i % 2, **entry} for i in (1, 2, 3)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the three pictures."""
    for image in three()["images"]:
        picture(tmp_path / "pictures" / image["file_name"])
    return tmp_path


def reading(
    place: Path, change: Callable[[Content], object] = lambda content: None, masks: bool | None = True
) -> CocoFile:
    """The file of three pictures, changed, written and read."""
    content = three()
    change(content)
    (place / "three.json").write_text(json.dumps(content))
    return read(place / "three.json", place / "pictures", masks=masks)


def second(**values: object) -> Callable[[Content], object]:
    """A change of the second object."""
    return lambda content: content["annotations"][1].update(values)


def reasons(file: CocoFile) -> dict[str, int]:
    return {note.reason: note.count for note in file.account.notes}


def perfect(file: CocoFile, kind: str) -> float:
    """AP of the objects themselves as detections."""
    from pycocotools import mask as coding

    found = []
    for entry in file.annotations:
        image = next(image for image in file.images if image["id"] == entry["image_id"])
        common = {"image_id": entry["image_id"], "category_id": entry["category_id"], "score": 0.9}
        if kind == "bbox":
            found.append(common | {"bbox": entry["bbox"]})
        else:
            polygons = coding.frPyObjects(entry["segmentation"], image["height"], image["width"])
            found.append(common | {"bbox": entry["bbox"], "segmentation": coding.merge(polygons)})
    return coco_metrics(file.images, file.annotations, file.categories, found, [kind])[f"{kind}_AP"]


# ------------------------------------------------------------------------------------------- files as they should be


def test_a_file_that_is_right_is_taken_as_it_is(place: Path) -> None:
    from pycocotools.coco import COCO

    file = reading(place)
    assert file.lines() == [] and (file.account.annotations.taken, file.account.pictures.taken) == (3, 3)
    theirs = COCO(str(file.file))
    assert file.images == list(theirs.imgs.values())
    assert file.categories == list(theirs.cats.values())
    for mine, entry in zip(file.annotations, theirs.anns.values(), strict=True):
        assert {**mine, "id": entry["id"]} == entry
        assert theirs.annToMask(entry).sum() == mine["area"]


def test_real_files_are_taken_as_they_are(data_root: Path) -> None:
    root = data_root / "coco-mini"
    for split in ("train", "val"):
        path = root / f"annotations/instances_{split}.json"
        file, content = read(path, root / "images" / split), json.loads(path.read_text())
        assert file.lines() == []
        assert [entry | {"id": 0} for entry in file.annotations] == [e | {"id": 0} for e in content["annotations"]]
        assert [image["id"] for image in file.images] == [image["id"] for image in content["images"]]
        assert file.names == tuple(category["name"] for category in content["categories"])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(
    "numbered",
    [
        lambda i: i,  # from 0: pycocotools would give 44
        lambda i: 7 - 3 * i,
        lambda i: 2**60 + i,
        lambda i: f"object {i}",
        lambda i: str(i),
        lambda i: None,
        lambda i: i / 7 + 0.1,
    ],
)
def test_ids_of_objects_carry_no_meaning(place: Path, kind: str, numbered: Callable[[int], object]) -> None:
    def change(content: Content) -> None:
        for i, entry in enumerate(content["annotations"]):
            entry["id"] = numbered(i)

    file = reading(place, change)
    assert [entry["id"] for entry in file.annotations] == [1, 2, 3] and not file.lines()
    assert perfect(file, kind) == pytest.approx(100)


@pytest.mark.parametrize(
    ("named", "numbers", "said"),
    [
        (lambda i: i - 1, [0, 1, 2], {}),
        (lambda i: -5 * i, [-5, -10, -15], {}),
        (float, [1, 2, 3], {}),
        (str, [1, 2, 3], {}),
        (lambda i: f"image {i}", [1, 2, 3], {"number": 3}),
        (lambda i: "007"[:i] + "x", [1, 2, 3], {"number": 3}),
        (lambda i: 10**40 + i, [1, 2, 3], {"number": 3}),
    ],
)
def test_ids_of_pictures_of_any_kind(
    place: Path, named: Callable[[int], object], numbers: list[int], said: dict[str, int]
) -> None:
    def change(content: Content) -> None:
        for entry in content["images"]:
            entry["id"] = named(entry["id"])
        for entry in content["annotations"]:
            entry["image_id"] = named(entry["image_id"])

    file = reading(place, change)
    assert [image["id"] for image in file.images] == [entry["image_id"] for entry in file.annotations] == numbers
    assert reasons(file) == said
    assert perfect(file, "bbox") == pytest.approx(100)


@pytest.mark.parametrize("named", [lambda i: i - 1, lambda i: 90 * i, lambda i: "ab"[i - 1]])
def test_ids_of_categories_of_any_kind(place: Path, named: Callable[[int], object]) -> None:
    def change(content: Content) -> None:
        for entry in content["categories"]:
            entry["id"] = named(entry["id"])
        for entry in content["annotations"]:
            entry["category_id"] = named(entry["category_id"])

    file = reading(place, change)
    names = {entry["id"]: entry["name"] for entry in file.categories}
    assert [names[entry["category_id"]] for entry in file.annotations] == ["dog", "cat", "dog"]
    assert perfect(file, "bbox") == pytest.approx(100)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_of_byte_order(place: Path, encoding: str) -> None:
    (place / "three.json").write_text(json.dumps(three(), ensure_ascii=False), encoding=encoding)
    assert read(place / "three.json", place / "pictures").lines() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["annotations"][1].pop("iscrowd"),
        second(iscrowd=False),
        second(iscrowd=None),
        second(attributes={"occluded": True}, keypoints=[1, 2, 3]),
        lambda c: c["categories"][0].update(supercategory="animal", keypoints=[]),
        lambda c: c.update(info={}, licenses=None),
        lambda c: c["images"].reverse(),
        second(bbox=[5.0, 6.0, 20.0, 10.0]),
        second(
            bbox=[20, 20, 20.9, 10.5], segmentation=[[20, 20, 40, 20, 40, 30, 20, 30]]
        ),  # half a pixel beyond: exporters round
    ],
)
def test_what_changes_nothing_is_not_said(place: Path, change: Callable[[Content], object]) -> None:
    file = reading(place, change)
    assert file.lines() == []
    assert {entry["image_id"]: entry["iscrowd"] for entry in file.annotations} == {1: 0, 2: 0, 3: 0}


def test_a_picture_without_objects_stays(place: Path) -> None:
    file = reading(place, lambda content: content["annotations"].pop(1))
    assert len(file.images) == 3 and [entry["image_id"] for entry in file.annotations] == [1, 3] and not file.lines()


# ------------------------------------------------------------------------------------------------- what is mended


def run_lengths() -> dict[str, Any]:
    """The mask of `BOX` in plain run lengths: by columns, the first run is of zeros."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=int)
    mask[6:16, 5:25] = 1
    flat = mask.ravel(order="F")
    cuts = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *cuts, flat.size]).tolist()}


def compressed() -> dict[str, Any]:
    from pycocotools import mask as coding

    coded = coding.frPyObjects(run_lengths(), HEIGHT, WIDTH)
    return {"size": [HEIGHT, WIDTH], "counts": coded["counts"].decode()}


@pytest.mark.parametrize(
    ("values", "expected", "reason"),
    [
        ({"area": 0}, {"area": 200}, "area"),
        ({"area": None}, {"area": 200}, "area"),
        ({"area": -3}, {"area": 200}, "area"),
        ({"area": NAN}, {"area": 200}, "area"),
        ({"area": INFINITE}, {"area": 200}, "area"),
        ({"area": 1e11}, {"area": 200}, "area"),  # beyond 1e10 COCO's metrics would leave the object out
        ({"area": True}, {"area": 200}, "area"),
        ({"area": 0, "segmentation": [[5, 6, 25, 6, 5, 16]]}, {"area": 100}, "area"),
        ({"area": 0, "segmentation": run_lengths()}, {"area": 200}, "area"),
        ({"bbox": None}, {"bbox": BOX}, "box"),
        ({"bbox": []}, {"bbox": BOX}, "box"),
        ({"bbox": [5, 6, 0, 10]}, {"bbox": BOX}, "box"),
        ({"bbox": [25, 16, -20, -10]}, {"bbox": BOX}, "box"),
        ({"bbox": [500, 500, 20, 10]}, {"bbox": BOX}, "box"),
        ({"bbox": None, "segmentation": run_lengths()}, {"bbox": BOX}, "box"),
        ({"bbox": None, "segmentation": compressed()}, {"bbox": BOX}, "box"),
        ({"bbox": [-5, 6, 20, 10]}, {"bbox": [0, 6, 15, 10]}, "clipped"),
        ({"bbox": [-1000, -1000, 5000, 5000]}, {"bbox": [0, 0, WIDTH, HEIGHT]}, "clipped"),
        ({"bbox": ["5", "6", "20", "10"]}, {"bbox": BOX}, "text"),
        ({"iscrowd": "1"}, {"iscrowd": 1}, "text"),
        ({"segmentation": POLYGON[0]}, {"segmentation": POLYGON}, "form"),
        ({"segmentation": [[[5, 6], [25, 6], [25, 16], [5, 16]]]}, {"segmentation": POLYGON}, "form"),
        ({"segmentation": [[5, 6], [25, 6], [25, 16], [5, 16]]}, {"segmentation": POLYGON}, "form"),
        ({"segmentation": [POLYGON]}, {"segmentation": POLYGON}, "form"),
        ({"segmentation": [*POLYGON, [1, 1, 2, 2]]}, {"segmentation": POLYGON}, "parts"),
        ({"segmentation": [*POLYGON, [1, 1, 2, 2, 3, 3, 4]]}, {"segmentation": POLYGON}, "parts"),
        ({"segmentation": []}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"segmentation": None}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"segmentation": {}}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"segmentation": [[5, 6, 25, 16]]}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"segmentation": [[5, 6, 25, 6, 25, 16, 5]]}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"segmentation": [[5, 6, 15, 6, 25, 6]]}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"segmentation": [[50, 6, 60, 6, 60, 16]]}, {"iscrowd": 1, "segmentation": POLYGON}, "maskless"),
        ({"bbox": [5, 6, 0.5, 10]}, {"bbox": [5, 6, 0.5, 10]}, "thin"),
        ({"ignore": 1}, {"ignore": 1}, "ignore"),
    ],
)
def test_what_is_mended_is_said(place: Path, values: Content, expected: Content, reason: str) -> None:
    file = reading(place, second(**values))
    assert reasons(file) == {reason: 1}
    (line,) = file.lines()
    assert line.startswith("three.json: 1 of 3 annotations (annotation 12 of 'b.png'): ")
    tally = file.account.annotations
    assert (tally.taken, tally.changed, tally.left_out) == (2, 1, 0)
    _, entry, _ = file.annotations
    assert {key: entry[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("box", "reason"),
    [([5, 6, 0, 10], "empty"), ([5, 6, 20, 0], "empty"), ([5, 40, 20, 10], "outside"), ([-20, 6, 20, 10], "outside")],
)
def test_what_cannot_be_seen_is_left_out(place: Path, box: list[float], reason: str) -> None:
    file = reading(place, second(bbox=box, segmentation=[]))
    assert reasons(file) == {reason: 1}
    assert (file.account.annotations.taken, file.account.annotations.left_out) == (2, 1)
    assert [(entry["id"], entry["image_id"]) for entry in file.annotations] == [(1, 1), (2, 3)]


def test_boxes_alone_need_no_masks(place: Path) -> None:
    def change(content: Content) -> None:
        for entry in content["annotations"]:
            del entry["segmentation"]
        content["annotations"][0]["area"] = 0

    file = reading(place, change, masks=None)
    assert [entry["area"] for entry in file.annotations] == [200] * 3 and reasons(file) == {"area": 1}
    assert not any("segmentation" in entry for entry in file.annotations)
    with pytest.raises(ValueError, match="none of its objects has a mask; choose a detection protocol without masks"):
        reading(place, change)
    # Masks that nobody asks for are not looked at.
    assert reading(place, second(segmentation=[[NAN] * 6]), masks=False).lines() == []


def test_a_crowd_may_be_a_polygon_or_run_lengths(place: Path) -> None:
    for mask in (POLYGON, run_lengths(), compressed()):
        file = reading(place, second(iscrowd=1, segmentation=mask))
        assert file.annotations[1]["segmentation"] == mask and file.annotations[1]["iscrowd"] == 1 and not file.lines()


def test_run_lengths_decompress_as_pycocotools_does() -> None:
    from pycocotools import mask as coding

    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(1, 90, 2))
        mask = np.asfortranarray(rng.random((height, width)) < rng.random() ** 3, np.uint8)
        mask[rng.integers(height) :] = rng.integers(2)  # long runs too
        coded = coding.encode(mask)
        runs = decompressed(coded["counts"].decode())
        assert coding.frPyObjects({"size": [height, width], "counts": runs}, height, width) == coded
        assert runs is not None and (sum(runs), sum(runs[1::2])) == (mask.size, mask.sum())
    assert decompressed("~") is None and decompressed("o") is None and decompressed("oooooooooo0") is None


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (second(bbox=[NAN, 6, 20, 10]), r"its bbox \[nan, 6, 20, 10\] is not a list of four finite numbers"),
        (second(bbox=[5, 6, INFINITE, 10]), "not a list of four finite numbers"),
        (second(bbox=[5, 6, 20]), "not a list of four finite numbers"),
        (second(bbox=[5, 6, 20, None]), "not a list of four finite numbers"),
        (second(bbox=[5, 6, True, 10]), "not a list of four finite numbers"),
        (second(bbox=[5, 6, 20, "wide"]), "not a list of four finite numbers"),
        (second(bbox="5 6 20 10"), "not a list of four finite numbers"),
        (second(bbox={"x": 5}), "not a list of four finite numbers"),
        (second(bbox=[5, 6, 10**400, 10]), "not a list of four finite numbers"),
        (second(bbox=None, segmentation=[]), "it has neither a bbox nor a mask to compute one from"),
        (second(bbox=[25, 6, -20, 10], segmentation=[]), r"its bbox \[25, 6, -20, 10\] has a negative side"),
        (second(segmentation=[[NAN, 6, 25, 6, 25, 16]]), "its polygon has the coordinate nan"),
        (second(segmentation=[[5, 6, 25, 6, 25, None]]), "its polygon has the coordinate None"),
        (second(segmentation=[[5, 6, 2.08e8, 3.5e8, 25, 16]]), r"a corner at 3.5e\+08, more than 100,000 pixels away"),
        (second(segmentation=[[-9e4, -9e4, 9e4, 9e4] * 9]), "an outline longer than 1,000,000 pixels"),
        (second(segmentation=[[5, 6, [25, 6], 25, 16]]), "is not a list of x, y, x, y"),
        (second(segmentation=[{"x": 5, "y": 6}]), "its polygon has the coordinate {'x': 5, 'y': 6}"),
        (second(segmentation="5 6 25 6"), "its segmentation '5 6 25 6' is neither polygons nor run lengths"),
        (
            second(segmentation={"size": [WIDTH, HEIGHT], "counts": [1200]}),
            r"height and width \[40, 30\], .* \[30, 40\]",
        ),
        (second(segmentation={"size": [HEIGHT, WIDTH], "counts": [0, 10]}), "cover 10 pixels, but its image has 1200"),
        (second(segmentation={"size": [HEIGHT, WIDTH], "counts": [-5, 1205]}), "are not valid"),
        (second(segmentation={"size": [HEIGHT, WIDTH], "counts": [NAN]}), "are not valid"),
        (second(segmentation={"size": [HEIGHT, WIDTH], "counts": "~~~"}), "are not valid"),
        (second(segmentation={"size": [HEIGHT, WIDTH], "counts": compressed()["counts"][:-1]}), "are not valid|cover"),
        (second(segmentation={"counts": [1200]}), "for height and width None"),
        (second(iscrowd=2), "its iscrowd is 2, not 0 or 1"),
        (second(iscrowd=NAN), "its iscrowd is nan, not 0 or 1"),
    ],
)
def test_an_object_that_cannot_be_read_is_named(place: Path, change: Callable[[Content], object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"three\.json: annotation 12 of 'b\.png': .*{message}") as caught:
        reading(place, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [e.update(id=0) for e in c["annotations"]], "two of its annotation entries have the same id, 0"),
        (lambda c: c["annotations"][0].update(id="12"), "two of its annotation entries have the same id, 12"),
        (second(image_id=7), "annotation 12 refers to an image or category that is not listed: its image_id is 7"),
        (second(image_id=None), "its image_id is None"),
        (second(image_id=True), "its image_id is True"),
        (second(category_id=7), "its category_id is 7"),
        (second(category_id=1.5), "its category_id is 1.5"),
        (second(id=None, category_id=7), "annotation number 2 of the list refers"),
        (lambda c: c["images"][1].update(id=1), "two of its image entries have the same id, 1"),
        (lambda c: c["images"][1].update(id=None), "image number 2 of the list has no valid id"),
        (lambda c: c["images"][1].pop("file_name"), "image 2 has no valid file_name"),
        (lambda c: c["images"][1].update(file_name=7), "image 2 has no valid file_name"),
        (lambda c: c["images"][1].update(width=-4), "image 2 has the width -4, which is not a number of pixels"),
        (lambda c: c["images"][1].update(height="tall"), "image 2 has the height 'tall'"),
        (lambda c: c["images"][1].update(width=20, height=15), r"b\.png has height and width \(30, 40\), .*\(15, 20\)"),
        (
            lambda c: c["images"][1].update(width=None, height=15),
            r"b\.png has height and width \(30, 40\), .*\(15, 40\)",
        ),
        (lambda c: c["categories"][1].update(id=1), "two of its category entries have the same id, 1"),
        (lambda c: c["categories"][1].pop("name"), "category 2 has no valid name"),
        (lambda c: c["categories"].clear(), "its list 'categories' is empty"),
        (lambda c: c["annotations"].clear(), "its list 'annotations' is empty"),
        (lambda c: c["images"].clear(), "its list 'images' is empty"),
        (lambda c: c.pop("annotations"), "it is not a COCO annotation file: it has no list 'annotations'"),
        (lambda c: c.update(images={"1": {}}), "it is not a COCO annotation file: it has no list 'images'"),
        (lambda c: c["annotations"].append(7), "entry 4 of 'annotations' is 7, not an object"),
        (lambda c: [e.update(iscrowd=1) for e in c["annotations"]], "it has no usable object"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    place: Path, change: Callable[[Content], object], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"three\.json: .*{message}") as caught:
        reading(place, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "not a JSON object with images, annotations and categories"),
        (b'{"images": [', "Expecting value"),
        (b'{"images": "\xe4"}', r"not in UTF-8 \(byte 12\)"),
        (b"[" * 100_000, "its lists are nested too deeply"),
        (b"\x00\x01\x02", "Expecting value|not in UTF-8"),
    ],
)
def test_what_is_no_annotation_file(place: Path, raw: bytes, message: str) -> None:
    (place / "three.json").write_bytes(raw)
    with pytest.raises(ValueError, match=rf"three\.json: it is not a COCO annotation file: .*{message}") as caught:
        read(place / "three.json", place / "pictures")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*four\.json"):
        read(place / "four.json", place / "pictures")


# ------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("file_name", "lies", "said"),
    [
        ("batch/d.png", "batch/d.png", {}),
        ("d.png", "batch/d.png", {"found": 1}),
        ("train/images/d.png", "batch/d.png", {"found": 1}),
        ("batch\\d.png", "batch/d.png", {"found": 1}),
    ],
)
def test_pictures_in_folders(place: Path, file_name: str, lies: str, said: dict[str, int]) -> None:
    picture(place / "pictures" / lies)
    file = reading(place, lambda content: content["images"][1].update(file_name=file_name))
    assert file.images[1]["file_name"] == lies and reasons(file) == said


def test_pictures_of_one_name_are_told_apart_by_folder(place: Path) -> None:
    picture(place / "pictures" / "left" / "d.png")
    picture(place / "pictures" / "right" / "d.png")
    file = reading(place, lambda content: content["images"][1].update(file_name="train/right/d.png"))
    assert file.images[1]["file_name"] == "right/d.png"
    with pytest.raises(ValueError, match=r"image 2: its file_name 'd\.png' may be 'left/d\.png' or 'right/d\.png'"):
        reading(place, lambda content: content["images"][1].update(file_name="d.png"))


@pytest.mark.parametrize("file_name", ["gone.png", "x" * 5000, "\0", "\ud800.png", "../pictures", "elsewhere/a.png"])
def test_a_picture_that_is_not_there_is_named(place: Path, file_name: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no image '.*' in .*pictures, although .*three\.json lists it"
    ) as caught:
        reading(place, lambda content: content["images"][1].update(file_name=file_name))
    assert str(caught.value).isprintable()


def test_one_picture_listed_twice_is_said(place: Path) -> None:
    assert reasons(reading(place, lambda content: content["images"][1].update(file_name="a.png"))) == {"twice": 1}


def test_a_damaged_picture_is_named(place: Path) -> None:
    (place / "pictures" / "b.png").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"three\.json: image 2: cannot decode .*b\.png \(.*; replace or remove"
    ) as caught:
        reading(place)
    assert "\n" not in str(caught.value)


def test_missing_sizes_are_those_of_the_pictures(place: Path) -> None:
    def change(content: Content) -> None:
        del content["images"][0]["width"]
        content["images"][1].update(width=0, height=0)
        content["images"][2].update(width=str(WIDTH), height=float(HEIGHT))

    file = reading(place, change)
    assert {(image["height"], image["width"]) for image in file.images} == {(HEIGHT, WIDTH)}
    assert reasons(file) == {"size": 2, "text": 1}


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_has_the_size_that_it_shows(place: Path, suffix: str, orientation: int) -> None:
    path = place / "pictures" / f"d.{suffix}"
    picture(path, orientation=orientation)
    shown = (WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH)
    size = {"file_name": path.name, "height": shown[0], "width": shown[1]}
    file = reading(place, lambda content: content["images"][1].update(size))
    assert not file.lines() and (file.images[1]["height"], file.images[1]["width"]) == shown


def test_a_turned_picture_with_its_stored_size(place: Path) -> None:
    picture(place / "pictures" / "b.png", orientation=6)  # 40 high and 30 wide as it looks

    def with_box(*box: int) -> Callable[[Content], object]:
        x, y, w, h = box
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        return second(bbox=list(box), segmentation=polygon, area=w * h)

    file = reading(place, with_box(5, 25, 10, 12))  # reaches down to 37: only as it looks
    assert (file.images[1]["height"], file.images[1]["width"]) == (40, 30) and reasons(file) == {"size": 1}
    for box in ((5, 6, 20, 10), (25, 6, 12, 10)):  # within both; only within the stored one
        with pytest.raises(ValueError, match=r"b\.png has height and width \(40, 30\) .*file says \(30, 40\)"):
            reading(place, with_box(*box))
    assert reasons(reading(place, lambda content: content["annotations"].pop(1))) == {"size": 1}


# ------------------------------------------------------------------------------------------------ two files, metrics


def test_links_to_folders_above_are_walked_once(tmp_path: Path) -> None:
    picture(tmp_path / "batch1" / "a.png")
    for name in ("up", "again"):
        (tmp_path / "batch1" / name).symlink_to(tmp_path)
    assert Finder(tmp_path).find("a.png") == "batch1/a.png"


@pytest.mark.parametrize(
    ("categories", "names", "ids"),
    [
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], ["cat", "dog"], [1, 2]),
        ([{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}], ["cat", "dog"], [1, 2]),
        ([{"id": 1, "name": "cat", "supercategory": ""}, {"id": 2, "name": "dog"}], ["cat", "dog"], [1, 2]),
        ([{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}], ["cat", "dog"], [2, 1]),
    ],
)
def test_categories_of_two_files_agree_by_name(
    place: Path, categories: list[Content], names: list[str], ids: list[int]
) -> None:
    for name, own in (("train", three()["categories"]), ("val", categories)):
        (place / f"{name}.json").write_text(json.dumps(three() | {"categories": own}))
    data = CocoFolders(place / "pictures", place / "train.json", place / "pictures", place / "val.json").read()
    assert list(data.val.names) == list(data.train.names) == names
    assert [category["id"] for category in data.val.categories] == ids


@pytest.mark.parametrize("categories", [[("cat", 1), ("dogs", 2)], [("cat", 1), ("dog", 2), ("cow", 3)]])
def test_other_categories_are_refused(place: Path, categories: list[tuple[str, int]]) -> None:
    (place / "train.json").write_text(json.dumps(three()))
    other = three() | {"categories": [{"id": i, "name": name} for name, i in categories]}
    (place / "val.json").write_text(json.dumps(other))
    folders = CocoFolders(place / "pictures", place / "train.json", place / "pictures", place / "val.json")
    with pytest.raises(ValueError, match=r"val\.json do not list the same categories: only one has '(dog|cow)'"):
        folders.read()


def test_categories_that_share_a_name_are_told_apart_by_id(place: Path) -> None:
    def change(content: Content) -> None:
        content["categories"][1]["name"] = "cat"

    file = reading(place, change)
    assert reasons(file) == {"name": 1} and [entry["id"] for entry in file.in_order_of(file).categories] == [1, 2]
    assert perfect(file, "bbox") == pytest.approx(100)
    with pytest.raises(ValueError, match=r"only one has 'cat' with id 2"):
        reading(place).in_order_of(file)


@pytest.mark.parametrize("odd", [{"bbox": [NAN, 6, 20, 10]}, {"bbox": [5, 6, -20, 10]}, {"bbox": [5, 6, INFINITE, 1]}])
def test_metrics_refuse_boxes_that_match_anything(place: Path, odd: Content) -> None:
    file = reading(place)
    hits = [
        {"image_id": e["image_id"], "category_id": e["category_id"], "bbox": BOX, "score": 0.9}
        for e in file.annotations
    ]
    truth = [file.annotations[0], file.annotations[1] | odd, file.annotations[2]]
    with pytest.raises(ValueError, match="an object of image 2 is not valid: box"):
        coco_metrics(file.images, truth, file.categories, hits, ["bbox"])
    for wrong in (odd, {"score": NAN}):
        with pytest.raises(ValueError, match="a detection of image 1 is not valid: box"):
            coco_metrics(file.images, file.annotations, file.categories, [hits[0] | wrong, *hits[1:]], ["bbox"])


@pytest.mark.parametrize(
    "mask", [[[NAN, 6, 25, 6, 25, 16]], [], None, [[5, 6, 25, 16]], {"size": [1, 1], "counts": [1]}]
)
def test_metrics_refuse_masks_that_are_none(place: Path, mask: object) -> None:
    file = reading(place)
    truth = [file.annotations[0], file.annotations[1] | {"segmentation": mask}]
    with pytest.raises(ValueError, match="an object of image 2"):
        coco_metrics(file.images, truth, file.categories, [], ["segm"])
