"""PASCAL VOC 2007 + 2012: lists of names, one XML a picture. Written once in COCO's format into the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from eval.coco_file import CocoFolders
from repro.data.cache import build
from repro.data.data_sets import Entry
from repro.data.layouts.layout import DetectionLayout
from repro.data.types import Progress
from repro.errors import UserError

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_SPLITS = {
    "train": (("VOC2007", "trainval"), ("VOC2012", "trainval")),
    "val": (("VOC2007", "test"),),
}


class Voc(DetectionLayout):
    """Boxes only; the pictures stay where they are."""

    masks = False

    def counts(self, entry: Entry, root: Path) -> dict[str, int]:
        """By the lists of names."""
        return {split: len(voc_names(root, split)) for split in VOC_SPLITS}

    def annotated(self, entry: Entry, root: Path, cache: Path, manifest: str, progress: Progress) -> CocoFolders:
        """Annotations in the cache, file names below the root."""

        def fill(folder: Path) -> None:
            for split in VOC_SPLITS:
                content = voc_as_coco(root, split, progress)
                (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")

        written = build(cache / "annotations" / f"{entry.name}-{manifest[:12]}", fill)
        return CocoFolders(root, written / "train.json", root, written / "val.json")


def voc_names(root: Path, split: str) -> list[tuple[str, str]]:
    """(year's folder, picture's name) of a split, in the order of its lists (ImageSets/Main). Raises UserError."""
    found = []
    for year, listed in VOC_SPLITS[split]:
        path = root / year / "ImageSets" / "Main" / f"{listed}.txt"
        try:
            lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path} ({error}); unpack the archive again") from error
        names = [line for line in lines if line]
        if not names:
            raise UserError(f"{path} names no image; unpack the archive again")
        found += [(year, name) for name in names]
    return found


def voc_as_coco(root: Path, split: str, progress: Progress) -> dict[str, Any]:
    """A split of VOC07+12 in COCO's annotation format, without masks; file names are below `root`.

    Corners in the XML count pixels from 1 and are both inside the box, so in COCO's coordinates a box reaches from
    xmin - 1 to xmax. `difficult` is kept as a key of its own: what it means is the protocol's to say.
    Raises UserError naming the file that is missing or wrong.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = voc_names(root, split)
    for number, (year, stem) in enumerate(names, start=1):
        picture = f"{year}/JPEGImages/{stem}.jpg"
        if not (root / picture).is_file():
            raise UserError(f"{root / picture} is missing, a list of {year} names it; unpack the archive again")
        path = root / year / "Annotations" / f"{stem}.xml"
        try:
            tree = ElementTree.parse(path).getroot()
            width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
            for found in tree.iter("object"):
                left, top, right, bottom = (
                    float(_text(found, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
                )
                name = _text(found, "name")
                if name not in VOC_CLASSES:
                    raise ValueError(f"no class '{name}'")
                box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
                if box[2] <= 0 or box[3] <= 0:
                    raise ValueError(f"a box of {box[2]:g} x {box[3]:g} pixels")
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1 + VOC_CLASSES.index(name),
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        "difficult": int(found.findtext("difficult", default="0")),
                    }
                )
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise UserError(f"{path} is not an annotation of PASCAL VOC ({error}); unpack the archive again") from error
        images.append({"id": number, "file_name": picture, "width": width, "height": height})
        progress(number, len(names), {"what": f"annotations of {split}"})
    categories = [{"id": i, "name": name} for i, name in enumerate(VOC_CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text.strip()
