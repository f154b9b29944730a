"""COCO: folders of pictures and one annotation file a split. What such a file must be is checked here, before use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.data.data_sets import Entry
from repro.data.layouts.layout import Annotated, DetectionLayout
from repro.data.types import MissingData, Progress
from repro.errors import UserError


@dataclass(frozen=True)
class Coco(DetectionLayout):
    """pictures, annotations: where those of a split lie, with `{}` for its name."""

    pictures: str
    annotations: str

    def folders(self, entry: Entry) -> tuple[str, ...]:
        """Those of the pictures."""
        return tuple(self.pictures.format(split) for split in ("train", "val"))

    def annotated(self, entry: Entry, root: Path, cache: Path, manifest: str, progress: Progress) -> Annotated:
        """The files as they are, checked."""
        images, jsons = (
            {split: root / pattern.format(split) for split in ("train", "val")}
            for pattern in (self.pictures, self.annotations)
        )
        for path in (*images.values(), *jsons.values()):
            if not path.exists():
                raise MissingData(f"{entry.name} ({entry.title}): {path} is missing; {entry.how}")
        classes, counts = {}, {}
        for split in images:
            classes[split], counts[split] = check_instances(jsons[split], images[split])
        if classes["train"] != classes["val"]:
            raise UserError(
                f"{jsons['train']} and {jsons['val'].name} list different categories; take both of one release"
            )
        return Annotated(images, jsons, classes["val"], counts)


def check_instances(path: Path, pictures: Path) -> tuple[tuple[str, ...], int]:
    """Check one annotation file against its folder of pictures: (category names, number of pictures).

    Raises UserError where it is no COCO instances file, names a picture that is not there, or refers to nothing.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read annotations {path} ({error}); fetch the file again") from error
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        categories = {category["id"]: category["name"] for category in content["categories"]}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in names or annotation["category_id"] not in categories:
                raise UserError(f"{path}: annotation {annotation['id']} refers to an unlisted picture or category")
            if len(annotation["bbox"]) != 4 or "segmentation" not in annotation:
                raise UserError(f"{path}: annotation {annotation['id']} lacks its box or its mask")
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no COCO instances file: {type(error).__name__} {error}") from error
    there = {p.name for p in pictures.iterdir()}
    for name in names.values():
        if name not in there:
            raise UserError(f"{pictures / name} is missing, {path.name} lists it; fetch the pictures again")
    return tuple(categories[i] for i in sorted(categories)), len(names)
