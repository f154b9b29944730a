"""How composed pictures are written: as a COCO data set, or in the layout of Market-1501."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

REID_PARTS = ("bounding_box_train", "query", "bounding_box_test")


def write_coco(
    folder: Path,
    splits: Sequence[tuple[str, Iterable[tuple[np.ndarray, list[tuple[int, np.ndarray]]]]]],
    info: dict[str, str],
    categories: Sequence[tuple[str, str]],
) -> None:
    """Write images/SPLIT/*.png and annotations/instances_SPLIT.json.

    splits: name and scenes, each a picture uint8 [H, W, 3] and its (class, visible mask bool [H, W]) from the back to
    the front.  categories: name and supercategory of each class; its id is its number plus 1.
    """
    from PIL import Image

    (folder / "annotations").mkdir()
    for number, (split, scenes) in enumerate(splits):
        (folder / "images" / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, (picture, instances) in enumerate(scenes):
            image_id = 10_000 * number + i + 1
            name = f"{image_id:06d}.png"
            Image.fromarray(picture).save(folder / "images" / split / name)
            images.append({"id": image_id, "file_name": name, "width": picture.shape[1], "height": picture.shape[0]})
            for label, mask in instances:
                annotations.append(_annotation(len(annotations) + 1, image_id, label, mask))
        content = {
            "info": info,
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": [
                {"id": c + 1, "name": name, "supercategory": above} for c, (name, above) in enumerate(categories)
            ],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def _annotation(number: int, image_id: int, label: int, mask: np.ndarray) -> dict[str, Any]:
    """One COCO annotation: tight box [x, y, w, h] of the visible mask, mask as compressed RLE."""
    import numpy as np
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": label + 1,
        "bbox": [int(v) for v in (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)],
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
    }


def save_shot(folder: Path, part: str, identity: int, camera: int, frame: int, picture: np.ndarray) -> None:
    """Write one picture uint8 [H, W, 3] as PART/PPPP_cCs1_NNNNNN_00.png; identity -1 is junk, 0 a distractor.

    camera: counted from 0, in the name from 1.
    """
    from PIL import Image

    pid = f"{identity:04d}" if identity >= 0 else "-1"
    Image.fromarray(picture).save(folder / part / f"{pid}_c{camera + 1}s1_{frame:06d}_00.png")


def enlarge(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic resize of a float array [h, w] of [0, 1] (by Pillow on 8 bits, which is the same on every machine)."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(np.rint(values * 255).astype(np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) / 255
