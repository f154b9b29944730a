"""COCO annotation files and pictures that mean something else than they seem to: refused or told in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval.coco_file import CocoFile, read

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
    why = r"no picture '2\.png'" if below else r"picture 2: its file_name '2\.png' is a pipe or device, no file"
    with pytest.raises((ValueError, FileNotFoundError), match=why):
        reading(place, {"bbox": [5, 6, 20, 10]})
