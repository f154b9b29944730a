"""Detection and instance segmentation: mmdet's Faster and Mask R-CNN on a pre-trained encoder, judged by COCO's rules.

He et al., "Mask R-CNN", ICCV 2017 (arXiv:1703.06870), the transfer test of most self-supervised papers; Ren et al.,
"Faster R-CNN", NeurIPS 2015 (arXiv:1506.01497), without masks. Model, losses, samplers, transforms and data set are
mmdet's own; ours are the encoder as its backbone, the simple feature pyramid (`eval.pyramid`) for plain ViTs, the
training loop and the way from predictions to metrics.

The loop is not mmengine's runner: every draw derives from (seed, iteration), so that a killed job goes on where it was
and ends with the same weights, and its checkpoints hold tensors and plain types only.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import math
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from eval import mmcv_ops, resume
from eval.finetune import trainable
from eval.pictures import draw_detections
from eval.protocols.detection import DetectionProtocol
from eval.pyramid import SimpleFeaturePyramid

DRAWN = 4  # changes no number

# Order of pycocotools' summary, followed there by six recalls.
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class CocoFolders:
    """Where a data set in COCO format lies: two folders of pictures, two annotation files."""

    train_images: Path
    train_json: Path
    val_images: Path
    val_json: Path


def evaluate(
    encoder: nn.Module,
    coco: CocoFolders,
    mean: Sequence[float],
    std: Sequence[float],
    protocol: DetectionProtocol,
    *,
    device: torch.device | str,
    seed: int,
    work_dir: Path,
    progress: Callable[[int, int, dict[str, Any]], None],
    store: resume.Store | None = None,
    workers: int = 0,
) -> dict[str, Any]:
    """Train a detector that starts from `encoder` on the training pictures and judge it on the validation pictures.

    encoder: `channels`, `strides` and `feature_maps(x)`, for `detector = "c4"` with torchvision's `layer4`; a copy is
    trained, the one passed stays as it is.
    coco: annotations need masks only where the protocol has them; those with `"difficult": 1` (PASCAL VOC) are trained
    on and ignored by the judgement, as in detectron2.
    mean, std: of the three channels, for pictures in [0, 1].
    work_dir: where the drawing goes.
    store: where the state of the trainings is kept, and taken up again if it is this very run's (`details`' `resumed`).
    workers: processes that load pictures; changes no number.

    Returns `metrics` (`bbox_AP`, `bbox_AP50`, `bbox_AP75`, `bbox_APs`, `bbox_APm`, `bbox_APl`, with masks the same of
    `segm_`, and `overfit_bbox_AP50` where the protocol has an over-fit set; percent; sizes without an object are left
    out), `artifacts` (`detections`: a PNG) and `details`. With `metric = "voc07"`, `bbox_AP`, `bbox_AP50` and
    `bbox_AP75` are those of `voc07_metrics`, as in the papers' tables, and COCO's stand beside as `coco_bbox_AP` ....

    Raises FileNotFoundError or ValueError, in one line that names the file or the key, for missing, damaged or
    contradictory data, and for a loss that is not finite.
    """
    device = torch.device(device)
    train = _Split(coco.train_images, coco.train_json, protocol.masks)
    val = _Split(coco.val_images, coco.val_json, protocol.masks)
    if train.categories != val.categories:
        raise ValueError(f"{coco.train_json} and {coco.val_json} do not list the same categories in the same order")
    work_dir.mkdir(parents=True, exist_ok=True)

    # The check comes first: a detector that cannot learn eight pictures by heart shows before the long training.
    stages = [("train", protocol, train, val)]
    if protocol.overfit_pictures:
        few = train.only(protocol.overfit_pictures)
        last_fifth = 4 * protocol.overfit_iterations // 5  # without a smaller rate at the end it forgets as it learns
        check = replace(
            protocol,
            iterations=protocol.overfit_iterations,
            schedule="step",
            milestones=(last_fifth,),
            hflip=False,
        )
        stages.insert(0, ("overfit", check, few, few))
    total = sum(_updates(stage) + len(judged.images) for _, stage, _, judged in stages)
    details: dict[str, Any] = {}
    scores: dict[str, dict[str, float]] = {}
    before = 0
    with _own_randomness(device):
        for name, stage, learnt, judged in stages:

            def tell(done: int, info: dict[str, Any], name: str = name, before: int = before) -> None:
                progress(before + done, total, {"stage": name, **info})

            detector = _Detector(encoder, learnt, mean, std, stage, device, seed, name, store, workers)
            details[name] = detector.train(tell)
            scores[name], detections = detector.judge(judged, tell)
            before += _updates(stage) + len(judged.images)
    metrics = dict(scores["train"])
    if protocol.overfit_pictures:
        metrics["overfit_bbox_AP50"] = scores["overfit"]["bbox_AP50"]

    drawing = work_dir / "detections.png"
    occupied = {annotation["image_id"] for annotation in val.annotations}
    shown = _spread([image for image in val.images if image["id"] in occupied], DRAWN)
    draw_detections(
        [val.folder / image["file_name"] for image in shown],
        [val.of(image) for image in shown],
        [detections[image["id"]] for image in shown],
        {category["id"]: category["name"] for category in val.categories},
        drawing,
    )
    details["val"] = {"pictures": len(val.images), "instances": len(val.annotations)}
    return {"metrics": metrics, "artifacts": {"detections": drawing}, "details": details}


def build(
    encoder: nn.Module, classes: int, mean: Sequence[float], std: Sequence[float], protocol: DetectionProtocol
) -> nn.Module:
    """mmdet's `MaskRCNN` (`FasterRCNN` without masks) with `encoder` itself (no copy), the rest freshly initialised.

    `detector = "fpn"`: maps of a ViT (one map) go through `SimpleFeaturePyramid`, those of a ResNet through mmdet's
    `FPN`: its maps of the protocol's strides, with coarser levels subsampled from the last where the encoder ends
    earlier. "c4": a ResNet without its last stage, which is applied to each RoI instead (`LastStage`).
    The maps that the detector sees are held against those of the encoder as it was passed.

    Raises ValueError where the encoder does not fit `protocol.detector` or its strides not `protocol.strides`, and
    where those maps differ.
    """
    _import_mmdet()
    from mmdet.models.data_preprocessors import DetDataPreprocessor
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    untouched = copy.deepcopy(encoder)  # the detector shares the modules of `encoder`: what changes them changes it too
    if protocol.detector == "c4":
        parts, multiple = _c4(encoder, classes, protocol)
    else:
        parts, multiple = _fpn(encoder, classes, protocol)
    preprocessor = DetDataPreprocessor(
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
        bgr_to_rgb=False,  # our loader gives RGB
        pad_mask=protocol.masks,
        pad_size_divisor=multiple,
    )
    kind = {"type": "MaskRCNN" if protocol.masks else "FasterRCNN", "data_preprocessor": preprocessor}
    model = MODELS.build(ConfigDict({**parts, **_samples(protocol), **kind}))
    # Only mmdet's own modules have init_weights; the encoder keeps what it brought.
    with _quiet():
        model.init_weights()
    _same_maps(untouched, model, multiple)
    return model


@torch.no_grad()
def _same_maps(encoder: Any, model: Any, side: int) -> None:
    """Raises ValueError unless the detector computes the encoder's own maps, bit by bit.

    encoder: a copy that shares nothing with the detector.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    encoder.eval()
    parameter = next(encoder.parameters(), torch.empty(0))
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(parameter.device)
    backbone = model.backbone
    with torch.autocast(noise.device.type, torch.bfloat16, enabled=backbone.bf16):
        maps = encoder.feature_maps(noise)
    seen, expected = list(backbone(noise)), [maps[i] for i in backbone.used]
    if model.roi_head.with_shared_head:
        seen.append(model.roi_head.shared_head.last(seen[-1]))
        expected.append(maps[-1])
    if not all(torch.equal(a, b.float()) for a, b in zip(seen, expected, strict=True)):
        raise ValueError("the detector does not compute the encoder's own feature maps")
    for module, training in modes:
        module.training = training


class EncoderBackbone(nn.Module):
    """An encoder as mmdet's backbone: float `[B, 3, H, W]`, normalised -> the maps that the detector uses, float32.

    With `protocol.norm == "frozen"` BatchNorm layers keep their running statistics while training (their scale and
    shift are trained, as in mmdet's `norm_eval`); with "trained" they use and update those of the batch.
    `protocol.precision == "bf16"` runs the encoder, and only it, under autocast: boxes need float32.
    """

    def __init__(self, encoder: nn.Module, used: Sequence[int], protocol: DetectionProtocol) -> None:
        super().__init__()
        self.encoder = encoder
        self.used = tuple(used)
        self.freeze_norm = protocol.norm == "frozen"
        self.bf16 = protocol.precision == "bf16"

    def train(self, mode: bool = True) -> EncoderBackbone:
        super().train(mode)
        if self.freeze_norm:
            _hold_statistics(self.encoder)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            maps = self.encoder.feature_maps(x)  # type: ignore[operator]
        return tuple(maps[i].float() for i in self.used)


class LastStage(nn.Module):
    """The encoder's last stage as mmdet's shared head: float32 `[N, C, 14, 14]` of N RoIs -> `[N, D, 7, 7]`.

    `head_norm` puts a new BatchNorm behind it (MoCo's "extra norm after res5": the stage ends in a sum without one).
    Statistics and precision are the protocol's for the encoder, of which it is a part.
    """

    def __init__(self, stage: nn.Module, channels: int, protocol: DetectionProtocol) -> None:
        super().__init__()
        self.stage = stage
        self.norm = nn.BatchNorm2d(channels) if protocol.head_norm else nn.Identity()
        self.freeze_norm = protocol.norm == "frozen"
        self.bf16 = protocol.precision == "bf16"

    def train(self, mode: bool = True) -> LastStage:
        super().train(mode)
        if self.freeze_norm:
            _hold_statistics(self.stage)
        return self

    def last(self, x: Tensor) -> Tensor:
        """The stage alone."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            x = self.stage(x)
        return x.float()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.last(x))
        return y


def _hold_statistics(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def _cross_entropy(**kind: bool) -> dict[str, Any]:
    return {"type": "CrossEntropyLoss", "loss_weight": 1.0, **kind}


_L1 = {"type": "L1Loss", "loss_weight": 1.0}


def _coder(deviations: Sequence[float]) -> dict[str, Any]:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": list(deviations)}


def _proposal_head(channels: int, strides: Sequence[int], anchors: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "RPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "strides": list(strides),
            "ratios": [0.5, 1.0, 2.0],
            **anchors,
        },
        "bbox_coder": _coder([1.0] * 4),
        "loss_cls": _cross_entropy(use_sigmoid=True),
        "loss_bbox": _L1,
    }


def _box_head(kind: str, channels: int, classes: int, p: DetectionProtocol, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "in_channels": channels,
        "roi_feat_size": 7,
        "num_classes": classes,
        "bbox_coder": _coder([0.1, 0.1, 0.2, 0.2]),
        "reg_class_agnostic": p.class_agnostic,
        "loss_cls": _cross_entropy(use_sigmoid=False),
        "loss_bbox": _L1,
        **more,
    }


def _mask_head(channels: int, classes: int, p: DetectionProtocol, norm: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "type": "FCNMaskHead",
        "num_convs": p.mask_convs,
        "in_channels": channels,
        "conv_out_channels": p.width,
        "num_classes": classes,
        "class_agnostic": p.class_agnostic,
        "norm_cfg": norm,
        "loss_mask": _cross_entropy(use_mask=True),
    }


def _extractor(size: int, channels: int, strides: Sequence[int], **more: Any) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
        "out_channels": channels,
        "featmap_strides": list(strides),
        **more,
    }


def _fpn(encoder: nn.Module, classes: int, p: DetectionProtocol) -> tuple[dict[str, Any], int]:
    """The network after mmdet's `mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py`; what picture sides are a multiple of."""
    channels, strides = tuple(encoder.channels), tuple(encoder.strides)  # type: ignore[arg-type]
    used = [i for i, stride in enumerate(strides) if stride in p.strides]
    norm = {"type": "BN"} if p.head_norm else None
    neck: dict[str, Any]
    if len(strides) == 1:
        used = [0]
        neck = {
            "type": SimpleFeaturePyramid,
            "channels": channels[0],
            "patch": strides[0],
            "width": p.width,
            "strides": p.strides,
        }
    elif tuple(strides[i] for i in used) != p.strides[: len(used)] or not used:
        raise ValueError(f"the encoder's maps have strides {strides}, detection.strides asks for {p.strides}")
    else:
        neck = {
            "type": "FPN",
            "in_channels": [channels[i] for i in used],
            "out_channels": p.width,
            "num_outs": len(p.strides) + 1,
            "norm_cfg": norm,
        }
    levels = [*p.strides, 2 * p.strides[-1]]
    anchors = {"base_sizes": [p.anchor_size * 2**level for level in range(len(levels))], "scales": [1.0]}
    # FPN's rule (eq. 1 there): 224 pixels belong to stride 16 where the anchors begin at 32 pixels.
    finest = {"finest_scale": 56 * p.anchor_size / 32}
    fully: dict[str, Any] = {"fc_out_channels": p.fc_width}
    if p.box_head == "4conv1fc":
        fully |= {"conv_out_channels": p.width, "norm_cfg": norm}
    kind = {"2fc": "Shared2FCBBoxHead", "4conv1fc": "Shared4Conv1FCBBoxHead"}[p.box_head]
    head = {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": _extractor(7, p.width, p.strides, **finest),
        "bbox_head": _box_head(kind, p.width, classes, p, **fully),
    }
    if p.masks:
        head["mask_roi_extractor"] = _extractor(14, p.width, p.strides, **finest)
        head["mask_head"] = _mask_head(p.width, classes, p, norm)
    parts = {
        "backbone": {"type": EncoderBackbone, "encoder": encoder, "used": used, "protocol": p},
        "neck": neck,
        "rpn_head": _proposal_head(p.width, levels, anchors),
        "roi_head": head,
    }
    return parts, math.lcm(*strides, *p.strides)


def _c4(encoder: nn.Module, classes: int, p: DetectionProtocol) -> tuple[dict[str, Any], int]:
    """The network after mmdet's `_base_/models/mask-rcnn_r50-caffe-c4.py`; what picture sides are a multiple of."""
    channels, strides = tuple(encoder.channels), tuple(encoder.strides)  # type: ignore[arg-type]
    stage = getattr(encoder, "layer4", None)
    if stage is None or len(strides) != 4:
        raise ValueError("detection.detector = 'c4' needs a ResNet, whose last stage becomes the head; take 'fpn'")
    # The same modules but the last stage, which would compute, and count in its statistics, what nobody reads.
    body = copy.copy(encoder)
    body._modules = {**encoder._modules, "layer4": nn.Identity()}
    head: dict[str, Any] = {
        "type": "StandardRoIHead",
        "shared_head": {"type": LastStage, "stage": stage, "channels": channels[3], "protocol": p},
        "bbox_roi_extractor": _extractor(14, channels[2], strides[2:3]),
        "bbox_head": _box_head("BBoxHead", channels[3], classes, p, with_avg_pool=True),
    }
    if p.masks:
        head["mask_roi_extractor"] = None  # the box head's
        head["mask_head"] = _mask_head(channels[3], classes, p, None)
    parts = {
        "backbone": {"type": EncoderBackbone, "encoder": body, "used": [2], "protocol": p},
        "rpn_head": _proposal_head(
            channels[2], strides[2:3], {"base_sizes": [p.anchor_size], "scales": [1.0, 2.0, 4.0, 8.0, 16.0]}
        ),
        "roi_head": head,
    }
    return parts, math.lcm(*strides)


def _samples(p: DetectionProtocol) -> dict[str, Any]:
    """Which anchors, proposals and detections count, as in mmdet's files for the two networks."""

    def assigner(positive: float, negative: float, low_quality: bool) -> dict[str, Any]:
        return {
            "type": "MaxIoUAssigner",
            "pos_iou_thr": positive,
            "neg_iou_thr": negative,
            "min_pos_iou": negative,
            "match_low_quality": low_quality,
            "ignore_iof_thr": -1,
        }

    def sampler(number: int, positive: float, with_truth: bool) -> dict[str, Any]:
        return {
            "type": "RandomSampler",
            "num": number,
            "pos_fraction": positive,
            "neg_pos_ub": -1,
            "add_gt_as_proposals": with_truth,
        }

    def proposals(before: int, after: int) -> dict[str, Any]:
        nms = {"type": "nms", "iou_threshold": 0.7}
        return {"nms_pre": before, "max_per_img": after, "nms": nms, "min_bbox_size": 0}

    return {
        "train_cfg": {
            "rpn": {
                "assigner": assigner(0.7, 0.3, True),
                "sampler": sampler(p.rpn_samples, 0.5, False),
                "allowed_border": -1,
                "pos_weight": -1,
                "debug": False,
            },
            "rpn_proposal": proposals(p.candidates, p.proposals),
            "rcnn": {
                "assigner": assigner(0.5, 0.5, p.masks and p.detector == "fpn"),
                "sampler": sampler(p.roi_samples, 0.25, True),
                "mask_size": {"fpn": 28, "c4": 14}[p.detector],
                "pos_weight": -1,
                "debug": False,
            },
        },
        "test_cfg": {
            "rpn": proposals(p.test_candidates, p.test_proposals),
            "rcnn": {
                "score_thr": p.score_threshold,
                "nms": {"type": "nms", "iou_threshold": p.nms_iou},
                "max_per_img": p.max_detections,
                "mask_thr_binary": 0.5,
            },
        },
    }


class _Split:
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

    def only(self, ids: Sequence[int]) -> _Split:
        """The same with these pictures alone. Raises ValueError where one is not there."""
        part = copy.copy(self)
        part.images = [image for image in self.images if image["id"] in ids]
        part.annotations = [annotation for annotation in self.annotations if annotation["image_id"] in ids]
        if lacking := sorted(set(ids) - {image["id"] for image in part.images}):
            raise ValueError(f"{self.file} has no picture {lacking[0]}, named by detection.overfit_pictures")
        return part


class LoadPicture:
    """Transform of mmdet's pipelines: `img_path` -> `img` uint8 `[H, W, 3]`, RGB.

    In place of mmdet's, which reads on after a truncation and does not say which file is damaged.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        path, size = results["img_path"], (results["height"], results["width"])
        try:
            with Image.open(path) as picture:
                results["img"] = np.array(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # PIL says "broken PNG" with a SyntaxError
            raise ValueError(f"cannot read picture {path}: {error}") from None
        results["ori_shape"] = results["img_shape"] = results["img"].shape[:2]
        if results["img_shape"] != size:
            raise ValueError(f"{path} has height and width {results['img_shape']}, its annotation file says {size}")
        return results


class _Pictures(Dataset[dict[str, Any]]):
    """mmdet's `CocoDataset` and transforms; training pictures are asked for by `(draw, index)`, others by index.

    All randomness of one item comes from `draw`, so it does not matter which process loads it or what came before.
    """

    def __init__(self, split: _Split, protocol: DetectionProtocol, *, training: bool) -> None:
        _import_mmdet()
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
        pipeline: list[Any] = [LoadPicture(), resize]
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


class _Detector:
    """One detector: training with checkpoints, then judgement."""

    def __init__(
        self,
        encoder: nn.Module,
        split: _Split,
        mean: Sequence[float],
        std: Sequence[float],
        protocol: DetectionProtocol,
        device: torch.device,
        seed: int,
        name: str,
        store: resume.Store | None,
        workers: int,
    ) -> None:
        """name: of this training in the store."""
        self.protocol, self.device, self.workers = protocol, device, workers
        self.split = split
        self.seed = derive(seed, name)
        torch.manual_seed(derive(self.seed, "build"))
        # Any: mmdet has no types.
        self.model: Any = build(copy.deepcopy(encoder), len(split.names), mean, std, protocol).to(device)
        # What must agree for a checkpoint to be this job's; the new layers follow from the seed.
        shapes = [list(tensor.shape) for tensor in self.model.state_dict().values()]
        images = [image["id"] for image in split.images]
        plain = [dataclasses.asdict(protocol), seed, split.names, images, shapes, list(mean), list(std)]
        self.kept = resume.Kept(store, f"{name}.pt", resume.identity(plain, encoder), "detection")

    def train(self, progress: Callable[[int, dict[str, Any]], None]) -> dict[str, Any]:
        """Returns what is worth keeping of the training: counts and the mean loss of its last tenth."""
        p = self.protocol
        data = _Pictures(self.split, p, training=True)
        optimizer = _optimizer(self.model, p)
        losses = torch.zeros(p.iterations, device=self.device)
        first = self._resume(optimizer, losses)
        resumed = self.kept.note(f"update {first}")
        if resumed:
            progress(first, {"note": resumed})

        def state(done: int) -> dict[str, Any]:
            """All that it needs to go on after so many updates."""
            weights = {"model": self.model.state_dict(), "optimizer": optimizer.state_dict()}
            return {**weights, "losses": losses, "done": done}

        loader = self._loader(data, first, p.iterations)
        self.model.train()
        with self.kept.training():
            for update, batch in enumerate(_one_line(loader), start=first):
                torch.manual_seed(derive(self.seed, "update", update))  # for mmdet's samplers of anchors and RoIs
                for group in optimizer.param_groups:
                    group["lr"] = rate(update, p)
                loss, _ = self.model.parse_losses(self.model(**self.model.data_preprocessor(batch, True), mode="loss"))
                optimizer.zero_grad()
                loss.backward()
                if p.clip_grad > 0:
                    nn.utils.clip_grad_norm_(self.model.parameters(), p.clip_grad)
                optimizer.step()
                losses[update] = loss.detach()
                done = update + 1
                if done % 10 == 0 or done == p.iterations:
                    value = float(loss.detach())
                    if not math.isfinite(value):
                        raise ValueError(f"the detector's loss is {value} after {done} updates; lower detection.lr")
                    progress(done, {"loss": value})
                self.kept.keep(state, done, finished=done == p.iterations)
        self._renew_statistics(data, progress)
        return {
            "pictures": len(data),
            "iterations": p.iterations,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "loss": float(losses[-max(1, p.iterations // 10) :].mean()),
            "resumed": resumed,
        }

    def _loader(self, data: _Pictures, start: int, stop: int) -> DataLoader[dict[str, Any]]:
        """Batches of training pictures for updates `start` to `stop`."""
        return DataLoader(
            data,
            batch_sampler=batches(data.wide, self.protocol.batch, self.seed, start, stop),
            num_workers=self.workers,
            collate_fn=_collate,
            worker_init_fn=_heed_no_notice,
        )

    def _renew_statistics(self, data: _Pictures, progress: Callable[[int, dict[str, Any]], None]) -> None:
        """Replace running statistics of trained BatchNorm layers by means over `precise_norm` more batches.

        detectron2's PreciseBN: running means remember the last updates best, during which the weights still moved.
        """
        p = self.protocol
        kept = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        if not (p.precise_norm and kept):
            return
        momenta = [layer.momentum for layer in kept]
        for layer in kept:
            layer.reset_running_stats()
            layer.momentum = None  # torch's way to ask for the plain mean over all batches
        loader = self._loader(data, p.iterations, _updates(p))
        with torch.no_grad():
            for number, batch in enumerate(_one_line(loader), start=p.iterations):
                torch.manual_seed(derive(self.seed, "update", number))
                self.model(**self.model.data_preprocessor(batch, True), mode="loss")
                progress(number + 1, {})
        for layer, momentum in zip(kept, momenta, strict=True):
            layer.momentum = momentum

    def judge(
        self, split: _Split, progress: Callable[[int, dict[str, Any]], None]
    ) -> tuple[dict[str, float], dict[int, list[dict[str, Any]]]]:
        """The protocol's metrics on `split`, and the detections in COCO's results format by picture id."""
        data = _Pictures(split, self.protocol, training=False)
        categories = [category["id"] for category in split.categories]
        found: dict[int, list[dict[str, Any]]] = {}
        self.model.eval()
        loader = DataLoader(data, batch_size=1, num_workers=self.workers, collate_fn=_collate)
        with torch.inference_mode():
            for done, batch in enumerate(_one_line(loader), start=1):
                (sample,) = self.model(**self.model.data_preprocessor(batch, False), mode="predict")
                found[sample.img_id] = _coco_results(sample, categories)
                progress(_updates(self.protocol) + done, {})
        results = list(itertools.chain.from_iterable(found.values()))
        kinds = ("bbox", "segm") if self.protocol.masks else ("bbox",)
        metrics = coco_metrics(split.images, split.annotations, split.categories, results, kinds)
        if self.protocol.metric == "voc07":
            beside = {f"coco_{name}": value for name, value in metrics.items()}
            metrics = voc07_metrics(split.annotations, split.categories, results) | beside
        return metrics, found

    def _resume(self, optimizer: torch.optim.Optimizer, losses: Tensor) -> int:
        """Take up what is kept of this training; returns how many updates are done."""
        state = self.kept.state
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses.copy_(state["losses"])
        return int(state["done"])


def rate(update: int, protocol: DetectionProtocol) -> float:
    """Learning rate of one update: linear warm-up from `warmup_factor`, times a tenth a milestone or a cosine.

    As detectron2's WarmupMultiStepLR and WarmupCosineLR: the cosine runs from the first update, not from the warm-up.
    """
    p = protocol
    warm = 1.0 if update >= p.warmup else p.warmup_factor + (1 - p.warmup_factor) * update / p.warmup
    if p.schedule == "cosine":
        return p.lr * warm * 0.5 * (1 + math.cos(math.pi * update / p.iterations))
    return p.lr * warm * 0.1 ** sum(update >= milestone for milestone in p.milestones)


def _updates(protocol: DetectionProtocol) -> int:
    """Batches of training pictures: those trained on and those for statistics alone."""
    return protocol.iterations + protocol.precise_norm


def _optimizer(model: nn.Module, p: DetectionProtocol) -> torch.optim.Optimizer:
    groups = trainable(model, p.weight_decay)
    if p.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=p.lr, momentum=p.momentum)
    return torch.optim.AdamW(groups, lr=p.lr)


def _collate(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Pictures of a batch differ in size: a list of each, which the preprocessor pads."""
    return {key: [item[key] for item in items] for key in items[0]}


def _heed_no_notice(worker: int) -> None:
    """In a process that loads pictures: what asks the whole group to end is for the one that trains to answer."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _one_line(loader: DataLoader[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches; of an error in a loading process only its own line, not the traceback that torch wraps it in."""
    try:
        yield from loader
    except ValueError as error:
        raise ValueError(str(error).strip().rpartition("\n")[2].removeprefix("ValueError: ")) from None


def _coco_results(sample: Any, categories: Sequence[int]) -> list[dict[str, Any]]:
    """mmdet's prediction for one picture -> COCO's results format (boxes `x, y, w, h` in pixels of the file)."""
    from pycocotools import mask as coding

    predicted = sample.pred_instances.cpu()
    boxes = predicted.bboxes.numpy().astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    results: list[dict[str, Any]] = []
    for box, score, label in zip(boxes, predicted.scores, predicted.labels, strict=True):
        results.append(
            {
                "image_id": sample.img_id,
                "category_id": categories[int(label)],
                "bbox": box.tolist(),
                "score": float(score),
            }
        )
    if "masks" in predicted:
        for result, mask in zip(results, predicted.masks.numpy(), strict=True):
            run_lengths = coding.encode(np.asfortranarray(mask.astype(np.uint8)))
            result["segmentation"] = {"size": run_lengths["size"], "counts": run_lengths["counts"].decode("ascii")}
    return results


def coco_metrics(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    results: list[dict[str, Any]],
    kinds: Sequence[str] = ("bbox", "segm"),
) -> dict[str, float]:
    """COCO's AP of boxes (`bbox_AP`, ...) and masks (`segm_AP`, ...) in percent, by faster-coco-eval.

    It gives pycocotools' numbers (a test holds them against each other) in a fraction of the time.
    All arguments in COCO's formats. AP, AP50, AP75 and AP of small, medium and large objects, 100 detections a
    picture; a metric for which there is no object (the evaluator says -1) is left out. Objects marked `difficult` are
    ignored as crowds are.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    def index(entries: list[dict[str, Any]]) -> Any:
        return COCO({"images": images, "annotations": entries, "categories": categories})

    metrics: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index(
            [{**entry, "iscrowd": int(bool(entry["iscrowd"] or entry.get("difficult")))} for entry in annotations]
        )
        for kind in kinds:
            # A result with both keys would be sized by its box in the judgement of masks.
            other = {"bbox": "segmentation", "segm": "bbox"}[kind]
            own = [{key: value for key, value in result.items() if key != other} for result in results]
            judge = COCOeval_faster(truth, truth.loadRes(own) if own else index([]), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            values = zip(_METRICS, judge.stats, strict=False)
            metrics |= {f"{kind}_{name}": 100 * float(value) for name, value in values if value >= 0}
    return metrics


def voc07_metrics(
    annotations: list[dict[str, Any]], categories: list[dict[str, Any]], results: list[dict[str, Any]]
) -> dict[str, float]:
    """PASCAL VOC 2007's average precision as detectron2 reports it: `bbox_AP`, `bbox_AP50` and `bbox_AP75`, percent.

    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010: precision at 11 recalls; a
    detection belongs to the object that it overlaps most; whatever belongs to a `difficult` object counts neither for
    nor against. `bbox_AP` is the mean over IoU 0.5 to 0.95. Classes without an object are left out.
    """
    _import_mmdet()
    from mmdet.evaluation.functional.mean_ap import average_precision, tpfp_default

    def corners(entries: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
        boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    thresholds = [0.5 + 0.05 * step for step in range(10)]
    truths, found = (_by_class_and_picture(entries) for entries in (annotations, results))
    precisions = []
    for category in (entry["id"] for entry in categories):
        # What the release calls difficult is ignored, crowds (which VOC has none of) likewise.
        counted = {
            image: [not (entry.get("difficult") or entry["iscrowd"]) for entry in entries]
            for image, entries in truths.get(category, {}).items()
        }
        objects = sum(map(sum, counted.values()))
        if not objects:
            continue
        scores = [np.empty(0)]
        marks = [np.empty((len(thresholds), 2, 0))]
        for image, entries in found.get(category, {}).items():
            theirs = corners(truths.get(category, {}).get(image, []))
            counts = np.array(counted.get(image, []), dtype=bool)
            score = np.array([entry["score"] for entry in entries])
            boxes = np.concatenate([corners(entries), score[:, None]], axis=1)
            hits = [tpfp_default(boxes, theirs[counts], theirs[~counts], iou_thr=value) for value in thresholds]
            scores.append(score)
            marks.append(np.array([[tp[0], fp[0]] for tp, fp in hits]))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        true, false = np.concatenate(marks, axis=2)[:, :, order].cumsum(axis=2).swapaxes(0, 1)
        precision = true / np.maximum(true + false, 1)
        precisions.append(average_precision(true / objects, precision, mode="11points"))
    if not precisions:
        return {}
    means = 100 * np.array(precisions, dtype=np.float64).mean(axis=0)
    return {"bbox_AP": float(means.mean()), "bbox_AP50": float(means[0]), "bbox_AP75": float(means[5])}


def _by_class_and_picture(entries: Sequence[dict[str, Any]]) -> dict[int, dict[int, list[dict[str, Any]]]]:
    sorted_out: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for entry in entries:
        sorted_out.setdefault(entry["category_id"], {}).setdefault(entry["image_id"], []).append(entry)
    return sorted_out


def _import_mmdet() -> None:
    """Fill mmdet's registries, without the remarks on what it does not find."""
    mmcv_ops.install()
    with contextlib.redirect_stdout(io.StringIO()):
        import mmdet.datasets
        import mmdet.models  # noqa: F401


@contextlib.contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Give the global generators, from which mmdet draws, back as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without mmengine's remarks; its warnings and errors still come through."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _spread(entries: list[Any], number: int) -> list[Any]:
    """Up to `number` of `entries`, evenly spaced."""
    return [entries[len(entries) * i // number] for i in range(number)] if len(entries) > number else entries
