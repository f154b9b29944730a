"""COCO: folders of pictures and one annotation file a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eval.coco_file import CocoFolders
from repro.data.data_sets import Entry
from repro.data.layouts.layout import DetectionLayout
from repro.data.types import MissingData, Progress


@dataclass(frozen=True)
class Coco(DetectionLayout):
    """pictures, annotations: where those of a split lie, with `{}` for its name."""

    as_found = True

    pictures: str
    annotations: str

    def folders(self, entry: Entry) -> tuple[str, ...]:
        """Those of the pictures."""
        return tuple(self.pictures.format(split) for split in ("train", "val"))

    def annotated(self, entry: Entry, root: Path, cache: Path, manifest: str, progress: Progress) -> CocoFolders:
        """The files as they are."""
        places = [
            root / pattern.format(split) for split in ("train", "val") for pattern in (self.pictures, self.annotations)
        ]
        for path in places:
            if not path.exists():
                raise MissingData(f"{entry.called}: {path} is missing; {entry.how}")
        return CocoFolders(*places)
