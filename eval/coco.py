"""Pictures of a checked COCO annotation file in batches for a detector.

Transforms and the reading of boxes and masks are mmdet's own. Every draw derives from (seed, update), so it does not
matter which process loads a picture, or where a training that was killed begins again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from eval import mmcv_ops
from eval.coco_file import CocoFile
from eval.decoding import read
from eval.deep_pixels import Reach
from eval.protocols.detection import DetectionProtocol


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
            raise ValueError(
                f"{path} has height and width {results['img_shape']}, but its annotation file says {size};"
                " correct one of the two"
            )
        return results


class CocoPictures(Dataset[dict[str, Any]]):
    """mmdet's `CocoDataset` and transforms; training pictures are asked for by `(draw, index)`, others by index.

    All randomness of one item comes from `draw`, so it does not matter which process loads it or what came before.
    """

    def __init__(
        self, split: CocoFile, protocol: DetectionProtocol, *, training: bool, reach: Reach | None = None
    ) -> None:
        """reach: of the deep pictures of the whole data set, by default of each alone."""
        mmcv_ops.import_mmdet()
        from mmcv.transforms import RandomChoiceResize
        from mmdet.datasets import CocoDataset, transforms
        from mmdet.datasets.api_wrappers import COCO

        class Checked(CocoDataset):
            """mmdet's data set of what was checked, in place of the file."""

            @staticmethod
            def COCOAPI(file: str) -> Any:
                index = COCO()
                images = [dict(image) for image in split.images]  # mmdet writes into them
                index.dataset = {"images": images, "annotations": split.annotations, "categories": split.categories}
                index.createIndex()
                index.img_ann_map, index.cat_img_map = index.imgToAnns, index.catToImgs  # mmdet's names for them
                return index

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
            self.source = Checked(
                ann_file=str(split.file),
                data_prefix={"img": str(split.folder)},
                metainfo={"classes": split.names},
                filter_cfg={"filter_empty_gt": True} if training else None,
                test_mode=not training,
                pipeline=pipeline,
            )
        self.file = split.file
        infos = [self.source.get_data_info(i) for i in range(len(self.source))]
        if not infos:
            raise ValueError(
                f"{split.file} has no image with an annotation to train on; choose another file, or annotate images"
            )
        self.ids = [info["img_id"] for info in infos]
        self.wide = [info["width"] >= info["height"] for info in infos]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Any) -> dict[str, Any]:
        draw, index = key if isinstance(key, tuple) else (0, key)
        np.random.seed(draw)  # noqa: NPY002  (mmdet's transforms draw from numpy's global generator)
        try:
            item: dict[str, Any] = self.source.prepare_data(index)
        except Exception as error:  # what PIL and pycocotools raise for damaged data has no common kind
            raise ValueError(f"{self.file}, image {self.ids[index]}: {error}") from error
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
