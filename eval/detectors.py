"""mmdet's Faster and Mask R-CNN with a pre-trained encoder as their backbone.

Heads, losses and samplers are mmdet's own; ours are the encoder's place among them and the simple feature pyramid
(`eval.pyramid`) for plain ViTs.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from eval import mmcv_ops
from eval.data import Normalisation
from eval.features import autocast
from eval.protocols.detection import DetectionProtocol
from eval.pyramid import SimpleFeaturePyramid


def build(encoder: nn.Module, classes: int, normalisation: Normalisation, protocol: DetectionProtocol) -> nn.Module:
    """mmdet's `MaskRCNN` (`FasterRCNN` without masks) with `encoder` itself (no copy), the rest freshly initialised.

    `detector = "fpn"`: maps of a ViT (one map) go through `SimpleFeaturePyramid`, those of a ResNet through mmdet's
    `FPN`: its maps of the protocol's strides, with coarser levels subsampled from the last where the encoder ends
    earlier. "c4": a ResNet without its last stage, which is applied to each RoI instead (`LastStage`).
    The maps that the detector sees are held against those of the encoder as it was passed.

    Raises ValueError where the encoder does not fit `protocol.detector` or its strides not `protocol.strides`, and
    where those maps differ.
    """
    mmcv_ops.import_mmdet()
    from mmdet.models.data_preprocessors import DetDataPreprocessor
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    untouched = copy.deepcopy(encoder)  # the detector shares the modules of `encoder`: what changes them changes it too
    if protocol.detector == "c4":
        parts, multiple = _c4(encoder, classes, protocol)
    else:
        parts, multiple = _fpn(encoder, classes, protocol)
    preprocessor = DetDataPreprocessor(
        mean=[255 * value for value in normalisation.mean],
        std=[255 * value for value in normalisation.std],
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
    with autocast(noise.device, backbone.precision):
        maps = encoder.feature_maps(noise)
    seen, expected = list(backbone(noise)), [maps[i] for i in backbone.used]
    if model.roi_head.with_shared_head:
        seen.append(model.roi_head.shared_head.last(seen[-1]))
        expected.append(maps[-1])
    if not all(torch.equal(a, b.float()) for a, b in zip(seen, expected, strict=True)):
        raise ValueError("the detector does not compute the encoder's own feature maps")
    for module, training in modes:
        module.training = training


class EncoderPart(nn.Module):
    """A part of the encoder within a detector, which trains as the protocol says.

    With `protocol.norm == "frozen"` BatchNorm layers keep their running statistics while training (their scale and
    shift are trained, as in mmdet's `norm_eval`); with "trained" they use and update those of the batch.
    `protocol.precision == "bf16"` runs the encoder, and only it, under autocast: boxes need float32.
    With `protocol.frozen` it runs without gradients, so that its weights stay as pre-training left them. BatchNorm
    statistics are another matter: with norm "trained" they become those of the data set.
    """

    def __init__(self, protocol: DetectionProtocol) -> None:
        super().__init__()
        self.freeze_norm = protocol.norm == "frozen"
        self.precision = protocol.precision
        self.frozen = protocol.frozen

    def pretrained(self) -> nn.Module:
        """What of it comes from pre-training."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.freeze_norm:
            for layer in self.pretrained().modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()
        return self

    @contextlib.contextmanager
    def _as_stated(self, device: torch.device) -> Iterator[None]:
        """Around the encoder's layers: precision and gradients as the protocol says."""
        with autocast(device, self.precision), torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            yield


class EncoderBackbone(EncoderPart):
    """An encoder as mmdet's backbone: float `[B, 3, H, W]`, normalised -> the maps that the detector uses, float32."""

    def __init__(self, encoder: nn.Module, used: Sequence[int], protocol: DetectionProtocol) -> None:
        super().__init__(protocol)
        self.encoder = encoder
        self.used = tuple(used)

    def pretrained(self) -> nn.Module:
        return self.encoder

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        with self._as_stated(x.device):
            maps = self.encoder.feature_maps(x)  # type: ignore[operator]
        return tuple(maps[i].float() for i in self.used)


class LastStage(EncoderPart):
    """The encoder's last stage as mmdet's shared head: float32 `[N, C, 14, 14]` of N RoIs -> `[N, D, 7, 7]`.

    `head_norm` puts a new BatchNorm behind it (MoCo's "extra norm after res5": the stage ends in a sum without one).
    """

    def __init__(self, stage: nn.Module, channels: int, protocol: DetectionProtocol) -> None:
        super().__init__(protocol)
        self.stage = stage
        self.norm = nn.BatchNorm2d(channels) if protocol.head_norm else nn.Identity()

    def pretrained(self) -> nn.Module:
        return self.stage

    def last(self, x: Tensor) -> Tensor:
        """The stage alone."""
        with self._as_stated(x.device):
            x = self.stage(x)
        return x.float()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.last(x))
        return y


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
        raise ValueError(
            f"the encoder's feature maps have strides {strides}, but detection.strides is {p.strides};"
            " set detection.strides to those of the encoder"
        )
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
        raise ValueError("detection.detector = 'c4' needs a ResNet, whose last stage becomes the head; use 'fpn'")
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
