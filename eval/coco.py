"""Data sets in COCO format: the annotation file, checked, and their pictures in batches for a detector.

Transforms and the reading of boxes and masks are mmdet's own. Every draw derives from (seed, update), so it does not
matter which process loads a picture, or where a training that was killed begins again.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import itertools
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from eval import mmcv_ops
from eval.decoding import read
from eval.deep_pixels import Reach
from eval.protocols.detection import DetectionProtocol


@dataclass(frozen=True)
class CocoFolders:
    """Where a data set in COCO format lies: two folders of pictures, two annotation files."""

    train_images: Path
    train_json: Path
    val_images: Path
    val_json: Path


class CocoSplit:
    """One annotation file, checked, and the folder of its pictures.

    Raises FileNotFoundError or ValueError (one line) for what is missing or cannot be right.
    """

    def __init__(self, folder: Path, file: Path, masks: bool) -> None:
        self.folder, self.file = folder, file
        if not file.is_file():
            raise FileNotFoundError(f"no annotation file {file}")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            self.images: list[dict[str, Any]] = content["images"]
            self.annotations: list[dict[str, Any]] = content["annotations"]
            self.categories: list[dict[str, Any]] = content["categories"]
            self._check("picture", self.images, {"id", "file_name", "width", "height"})
            needed = {"id", "image_id", "category_id", "bbox", "area"} | ({"segmentation"} if masks else set())
            self._check("annotation", self.annotations, needed)
            self._check("category", self.categories, {"id", "name"})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is no COCO annotation file: {type(error).__name__}: {error}") from None
        self.names = tuple(category["name"] for category in self.categories)
        known, categories = {image["id"] for image in self.images}, {entry["id"] for entry in self.categories}
        for annotation in self.annotations:
            if annotation["image_id"] not in known or annotation["category_id"] not in categories:
                raise ValueError(f"{file}: annotation {annotation['id']} names a picture or category that is not there")
            annotation.setdefault("iscrowd", 0)
        if not self.annotations:
            raise ValueError(f"{file} has no annotation")
        for image in self.images:
            if not (folder / image["file_name"]).is_file():
                raise FileNotFoundError(f"no picture {folder / image['file_name']}, which {file} lists")

    @staticmethod
    def _check(kind: str, entries: list[dict[str, Any]], keys: set[str]) -> None:
        for entry in entries:
            if lacking := sorted(keys - entry.keys()):
                raise KeyError(f"{kind} {entry.get('id')} has no {lacking[0]}")
        if len({entry["id"] for entry in entries}) != len(entries):
            raise ValueError(f"two of its {kind} entries have one id")

    def of(self, image: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Annotations of one picture."""
        return [annotation for annotation in self.annotations if annotation["image_id"] == image["id"]]

    def only(self, ids: Sequence[int]) -> CocoSplit:
        """The same with these pictures alone. Raises ValueError where one is not there."""
        part = copy.copy(self)
        part.images = [image for image in self.images if image["id"] in ids]
        part.annotations = [annotation for annotation in self.annotations if annotation["image_id"] in ids]
        if lacking := sorted(set(ids) - {image["id"] for image in part.images}):
            raise ValueError(f"{self.file} has no picture {lacking[0]}, named by detection.overfit_pictures")
        return part


class LoadPicture:
    """Transform of mmdet's pipelines: `img_path` -> `img` uint8 `[H, W, 3]`, RGB.

    In place of mmdet's, which reads on after a truncation and does not say which file is damaged. As there, a picture
    is turned as its EXIF orientation says. reach: of the data set, see deep_pixels.py.
    """

    def __init__(self, reach: Reach | None = None) -> None:
        self.reach = reach

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        path, size = results["img_path"], (results["height"], results["width"])
        results["img"] = np.array(read(Path(path), str(path), self.reach))
        results["ori_shape"] = results["img_shape"] = results["img"].shape[:2]
        if results["img_shape"] != size:
            raise ValueError(f"{path} has height and width {results['img_shape']}, its annotation file says {size}")
        return results


class CocoPictures(Dataset[dict[str, Any]]):
    """mmdet's `CocoDataset` and transforms; training pictures are asked for by `(draw, index)`, others by index.

    All randomness of one item comes from `draw`, so it does not matter which process loads it or what came before.
    """

    def __init__(
        self, split: CocoSplit, protocol: DetectionProtocol, *, training: bool, reach: Reach | None = None
    ) -> None:
        """reach: of the deep pictures of the whole data set, by default of each alone."""
        mmcv_ops.import_mmdet()
        from mmcv.transforms import RandomChoiceResize
        from mmdet.datasets import CocoDataset, transforms

        long = (training and protocol.train_long_side) or protocol.long_side
        sides = (training and protocol.train_sides) or (protocol.short_side,)
        resize = RandomChoiceResize(
            scales=[(long, side) for side in sides],
            resize_type=transforms.Resize,  # by its name mmcv's own would be taken, which leaves masks as they are
            keep_ratio=True,
            interpolation=protocol.resize,
        )
        pipeline: list[Any] = [LoadPicture(reach), resize]
        if training:
            pipeline.insert(1, transforms.LoadAnnotations(with_bbox=True, with_mask=protocol.masks))
            if protocol.hflip:
                pipeline.append(transforms.RandomFlip(prob=0.5))
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
        pipeline.append(transforms.PackDetInputs(meta_keys=(*keys, "flip", "flip_direction") if training else keys))
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            self.source = CocoDataset(
                ann_file=str(split.file),
                data_prefix={"img": str(split.folder)},
                metainfo={"classes": split.names},
                filter_cfg={"filter_empty_gt": True} if training else None,
                test_mode=not training,
                pipeline=pipeline,
            )
        self.file = split.file
        wanted = {image["id"] for image in split.images}
        infos = ((i, self.source.get_data_info(i)) for i in range(len(self.source)))
        kept = [(i, info["img_id"], info["width"] >= info["height"]) for i, info in infos if info["img_id"] in wanted]
        if not kept:
            raise ValueError(f"{split.file} has no picture with an annotation to train on")
        self.indices, self.ids, self.wide = map(list, zip(*kept, strict=True))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> dict[str, Any]:
        draw, index = key if isinstance(key, tuple) else (0, key)
        np.random.seed(draw)  # noqa: NPY002  (mmdet's transforms draw from numpy's global generator)
        try:
            item: dict[str, Any] = self.source.prepare_data(self.indices[index])
        except Exception as error:  # what PIL and pycocotools raise for damaged data has no common kind
            raise ValueError(f"{self.file}, picture {self.ids[index]}: {error}") from error
        return item


def batches(wide: Sequence[bool], batch: int, seed: int, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
    """The `(draw, index)` of the pictures of updates `start` to `stop`, a pure function of the arguments.

    Every pass shuffles the pictures and puts those of one orientation together, which saves padding; what is left over
    of the two goes into mixed batches, the last of which is filled from the pass's beginning. So every picture comes
    at least once a pass.
    """
    full = sum(wide) // batch + (len(wide) - sum(wide)) // batch
    per_pass = full + -(-(len(wide) - full * batch) // batch)
    for epoch in range(start // per_pass, -(-stop // per_pass)):
        rng = np.random.default_rng(derive(seed, "pass", epoch))
        order = rng.permutation(len(wide)).tolist()
        sides = [[i for i in order if wide[i] == side] for side in (True, False)]
        cut = [len(side) // batch * batch for side in sides]
        rest = [i for side, end in zip(sides, cut, strict=True) for i in side[end:]]
        rest += list(itertools.islice(itertools.cycle(order), -len(rest) % batch))
        flat = [i for side, end in zip(sides, cut, strict=True) for i in side[:end]] + rest
        for position, chosen in enumerate(rng.permutation(per_pass).tolist()):
            update = epoch * per_pass + position
            if start <= update < stop:
                indices = flat[chosen * batch : (chosen + 1) * batch]
                yield [(derive(seed, "picture", update, slot), index) for slot, index in enumerate(indices)]


def derive(*parts: object) -> int:
    """A seed of 32 bits from (seed, what, where)."""
    return int.from_bytes(hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=4).digest(), "big")


def collate(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Pictures of a batch differ in size: a list of each, which the preprocessor pads."""
    return {key: [item[key] for item in items] for key in items[0]}


def heed_no_notice(worker: int) -> None:
    """In a process that loads pictures: what asks the whole group to end is for the one that trains to answer."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def one_line(loader: DataLoader[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches; of an error in a loading process only its own line, not the traceback that torch wraps it in."""
    try:
        yield from loader
    except ValueError as error:
        raise ValueError(str(error).strip().rpartition("\n")[2].removeprefix("ValueError: ")) from None
