"""Tiny data sets in the layouts of the large ones, for tests: noise and coloured shapes, no real picture.

`write(name, root)` makes the data set `name` below the data root `root` and returns its folder.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SMALL_DETECTOR = {
    "short_side": 64,
    "long_side": 96,
    "width": 8,
    "fc_width": 16,
    "mask_convs": 1,
    "anchor_size": 16,
    "candidates": 40,
    "proposals": 20,
    "test_candidates": 40,
    "test_proposals": 20,
    "rpn_samples": 16,
    "roi_samples": 16,
    "batch": 2,
    "warmup": 1,
    "milestones": [],
    "score_threshold": 0.0,
    "max_detections": 5,
}
"""Values of a detection protocol under which a test takes a second."""


def write(name: str, root: Path, **sizes: Any) -> Path:
    """Make a miniature of `name` (or "folder": own pictures) below `root`; `sizes` are the writer's arguments."""
    writers = {
        "folder": ("pictures", image_folder),
        "imagenet": ("imagenet", image_folder),
        "imagenet100": ("imagenet100", imagenet100),
        "cifar10-jpeg": ("cifar10-jpeg", cifar10_jpeg),
        "coco2017": ("coco2017", coco2017),
        "voc0712": ("VOCdevkit", voc0712),
        "market1501": ("market1501", market1501),
        "sysu30k": ("sysu30k", sysu30k),
    }
    place, writer = writers[name]
    folder = root / place
    writer(folder, **sizes)
    return folder


def shape(rng: np.random.Generator, kind: int, height: int, width: int) -> Image.Image:
    """A noisy picture whose colour and shape tell its kind."""
    noise = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    colour = tuple(int(v) for v in np.random.default_rng(kind).integers(90, 256, 3))
    side = int(min(height, width) * rng.uniform(0.4, 0.7))
    x, y = int(rng.integers(width - side)), int(rng.integers(height - side))
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if kind % 2 else pen.rectangle)((x, y, x + side, y + side), fill=colour)
    return picture


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def image_folder(
    folder: Path,
    *,
    classes: Sequence[str] = ("n01440764", "n01443537", "n01484850", "n01491361"),
    train: int = 6,
    test: int = 3,
    side: int = 40,
    splits: tuple[str, str] = ("train", "val"),
) -> None:
    """train/CLASS/*.JPEG and val/CLASS/*.JPEG, wider than high, so many of each class."""
    rng = np.random.default_rng(0)
    for split, count in zip(splits, (train, test), strict=True):
        for label, name in enumerate(classes):
            for i in range(count):
                save(shape(rng, label, side, side + 8), folder / split / name / f"{name}_{split}_{i}.JPEG")


def imagenet100(folder: Path, *, train: int = 1, test: int = 1, side: int = 32) -> None:
    """All 100 class folders."""
    names = resources.files("repro.data").joinpath("imagenet100.txt").read_text().split()
    image_folder(folder, classes=names, train=train, test=test, side=side)


def cifar10_jpeg(folder: Path, *, train: int = 60, test: int = 30) -> None:
    """The .npz of JPEG files."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        files = []
        for label in labels:
            stream = io.BytesIO()
            shape(rng, int(label), 32, 32).save(stream, "JPEG")
            files.append(stream.getvalue())
        arrays[f"{split}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{split}_offset"] = np.cumsum([0, *map(len, files)])
        arrays[f"{split}_label"] = labels.astype(np.uint8)
    folder.mkdir(parents=True)
    names = np.array(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])
    np.savez_compressed(folder / "cifar10_jpeg.npz", class_names=names, **arrays)


def coco2017(folder: Path, *, train: int = 6, val: int = 4, side: int = 96) -> None:
    """train2017, val2017 and annotations/instances_*2017.json: polygons, and one crowd as uncompressed RLE."""
    rng = np.random.default_rng(0)
    categories = [{"id": i, "name": n, "supercategory": "thing"} for i, n in ((1, "person"), (3, "car"), (17, "cat"))]
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for i in range(1, count + 1):
            picture = Image.fromarray(rng.integers(0, 60, (side, side + 16, 3), dtype=np.uint8))
            pen = ImageDraw.Draw(picture)
            for category in rng.permutation(categories)[:2]:
                w, h = (int(v) for v in rng.integers(side // 4, side // 2, 2))
                x, y = int(rng.integers(side + 16 - w)), int(rng.integers(side - h))
                pen.rectangle((x, y, x + w - 1, y + h - 1), fill=(40 * category["id"] % 256, 200, 120))
                box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "category_id": category["id"]}
                corners = [[x, y, x + w, y, x + w, y + h, x, y + h]]
                annotations.append({"id": len(annotations) + 1, "image_id": i, "segmentation": corners, **box})
            name = f"{i:012d}.jpg"
            save(picture, folder / f"{split}2017" / name)
            images.append({"id": i, "file_name": name, "height": side, "width": side + 16})
        crowd = {"counts": [0, 10 * side, side * (side + 6)], "size": [side, side + 16]}
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": crowd,
                "bbox": [0, 0, 10, side],
                "area": 10 * side,
                "iscrowd": 1,
            }
        )
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def voc0712(folder: Path, *, trainval: int = 3, test: int = 2, side: int = 60) -> None:
    """VOC2007 and VOC2012: JPEGImages, Annotations, ImageSets/Main. A dog each, and every other time a difficult car.

    The dog fills the pixels 6 to 25 and 11 to 50 (counted from 1, across and down).
    """
    rng = np.random.default_rng(0)
    entry = (
        "<object><name>{}</name><truncated>0</truncated><difficult>{}</difficult><bndbox><xmin>{}</xmin>"
        "<ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox><part><name>head</name></part></object>"
    )
    for year, lists in (("VOC2007", {"trainval": trainval, "test": test}), ("VOC2012", {"trainval": trainval})):
        number = 0
        for listed, count in lists.items():
            names = []
            for _ in range(count):
                number += 1
                name = f"{number:06d}" if year == "VOC2007" else f"2008_{number:06d}"
                names.append(name)
                picture = Image.fromarray(rng.integers(0, 60, (side, side + 20, 3), dtype=np.uint8))
                ImageDraw.Draw(picture).rectangle((5, 10, 24, 49), fill=(200, 180, 60))
                save(picture, folder / year / "JPEGImages" / f"{name}.jpg")
                objects = entry.format("dog", 0, 6, 11, 25, 50)
                if number % 2 == 0:
                    objects += entry.format("car", 1, 30, 1, side + 20, 20)
                path = folder / year / "Annotations" / f"{name}.xml"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(
                    f"<annotation><filename>{name}.jpg</filename><size><width>{side + 20}</width>"
                    f"<height>{side}</height><depth>3</depth></size>{objects}</annotation>"
                )
            path = folder / year / "ImageSets" / "Main" / f"{listed}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names) + "\n")


def market1501(folder: Path, *, train: int = 4, test: int = 3) -> None:
    """Identities seen by two cameras, two shots in training; a distractor and a junk picture in the gallery."""
    rng = np.random.default_rng(0)

    def person(part: str, pid: str, camera: int, frame: int, kind: int) -> None:
        save(shape(rng, kind, 64, 32), folder / part / f"{pid}_c{camera}s1_{frame:06d}_00.jpg")

    for pid in range(1, train + 1):
        for frame in range(4):
            person("bounding_box_train", f"{pid:04d}", 1 + frame % 2, frame, pid)
    for pid in range(train + 1, train + test + 1):
        person("query", f"{pid:04d}", 1, 1, pid)
        person("bounding_box_test", f"{pid:04d}", 1, 2, pid)
        person("bounding_box_test", f"{pid:04d}", 2, 3, pid)
    person("bounding_box_test", "0000", 3, 4, 100)
    person("bounding_box_test", "-1", 3, 5, 101)


def sysu30k(folder: Path, *, test: int = 3, distractors: int = 4) -> None:
    """The test set: one true match a query, and distractors in `0000others`."""
    rng = np.random.default_rng(0)
    top = folder / "sysu_test_set_all"
    for pid in range(28311, 28311 + test):
        name = f"{pid:09d}"
        save(shape(rng, pid, 64, 24), top / "query" / name / f"{name}_c2_2.jpg")
        save(shape(rng, pid, 64, 24), top / "gallery" / name / f"{name}_c1_1.jpg")
    for i in range(1, distractors + 1):
        save(shape(rng, i, 64, 24), top / "gallery" / "0000others" / f"0000others_c1_{i}.jpg")
