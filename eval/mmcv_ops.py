"""torchvision's operators under the names of `mmcv.ops`, for an mmcv that was installed without compiled operators.

The wheels of mmcv hold no `mmcv._ext`, and `import mmcv.ops` then raises, which keeps mmdet's detectors from being
imported at all. `install()` puts a module of the same name in its place, with what a Mask R-CNN calls; every other
name can be imported (mmdet's modules do so for detectors that nobody builds here) and raises `MissingOperator` as
soon as it is used.

Signatures and conventions are those of mmcv 2.x: boxes are `x1, y1, x2, y2` in pixels, detections `[N, 5]` with the
score last, RoIs `[N, 5]` with the picture's index in the batch first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import ops

# The submodules from which mmcv and mmdet import names; `mmcv.ops.nms` is both a module and a function in mmcv too.
_SUBMODULES = ("nms", "roi_align", "modulated_deform_conv", "merge_cells", "carafe", "multi_scale_deform_attn")


class MissingOperator(RuntimeError):
    """An operator of mmcv was asked for that only its compiled extension has."""


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0, score_threshold: float = 0, max_num: int = -1
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression.

    boxes: float `[N, 4]`; scores: float `[N]`; `score_threshold` > 0 first drops scores not above it, `max_num` > 0
    keeps that many. Returns `(dets [K, 5], keep int64 [K])`, scores falling. mmcv's `offset` of 1 (sides counted in
    whole pixels) has no counterpart in torchvision and raises `MissingOperator`.
    """
    if offset != 0:
        raise MissingOperator(f"nms(offset={offset}) needs mmcv's compiled operators; without them offset must be 0")
    candidates = (scores > score_threshold).nonzero().squeeze(1) if score_threshold > 0 else None
    if candidates is None:
        keep = ops.nms(boxes, scores, iou_threshold)
    else:
        keep = candidates[ops.nms(boxes[candidates], scores[candidates], iou_threshold)]
    if max_num > 0:
        keep = keep[:max_num]
    return torch.cat([boxes[keep], scores[keep, None]], dim=1), keep


def batched_nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor, nms_cfg: Mapping[str, Any] | None, class_agnostic: bool = False
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression within each class.

    boxes: float `[N, 4]`; scores: float `[N]`; idxs: int64 `[N]`, the class (or pyramid level) of each box.
    `nms_cfg`: `iou_threshold`, optionally `score_threshold`, `max_num`, `class_agnostic` and `type="nms"`; None only
    sorts by score. mmcv's `split_thr` saves memory and changes no result, so it is ignored.
    Returns `(dets [K, 5], keep int64 [K])`, scores falling.
    """
    if nms_cfg is None:
        scores, keep = scores.sort(descending=True)
        return torch.cat([boxes[keep], scores[:, None]], dim=1), keep
    options = {key: value for key, value in nms_cfg.items() if key != "split_thr"}
    if (kind := options.pop("type", "nms")) != "nms":
        raise MissingOperator(f"nms type {kind!r} needs mmcv's compiled operators; without them only 'nms' exists")
    if options.pop("class_agnostic", class_agnostic) or len(boxes) == 0:
        return nms(boxes, scores, **options)
    # Boxes of different classes are moved so far apart that they cannot overlap; the span also covers boxes that
    # reach below zero.
    span = boxes.max() - boxes.min() + 1
    _, keep = nms(boxes + (idxs.to(boxes) * span)[:, None], scores, **options)
    return torch.cat([boxes[keep], scores[keep, None]], dim=1), keep


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """RoIAlign (He et al., Mask R-CNN, section 3).

    input: float `[B, C, H, W]`; rois: float `[N, 5]`; returns `[N, C, h, w]`. `sampling_ratio` 0 takes as many
    samples as a bin covers cells. `pool_mode="max"` raises `MissingOperator`.
    """
    if pool_mode != "avg":
        raise MissingOperator(f"roi_align(pool_mode={pool_mode!r}) needs mmcv's compiled operators; use 'avg'")
    # torchvision writes "as many as needed" as -1.
    return ops.roi_align(input, rois, output_size, spatial_scale, sampling_ratio or -1, aligned)


class RoIAlign(nn.Module):
    """`roi_align` with fixed settings; the attributes are those of mmcv's class, which mmdet's extractors read."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        pool_mode: str = "avg",
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.pool_mode = pool_mode
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        size = (self.output_size[0], self.output_size[1])
        return roi_align(input, rois, size, self.spatial_scale, self.sampling_ratio, self.pool_mode, self.aligned)


def _missing(name: str) -> type:
    """A class that can be imported, inherited from and tested against, and raises when it is called."""

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise MissingOperator(
            f"mmcv.ops.{name} needs mmcv's compiled operators, which are not installed; "
            f"the stand-in has {', '.join(sorted(_OPERATORS))}"
        )

    return type(name, (), {"__init__": refuse})


_OPERATORS: dict[str, Any] = {"nms": nms, "batched_nms": batched_nms, "roi_align": roi_align, "RoIAlign": RoIAlign}


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return self.__dict__.setdefault(name, _missing(name))


def install() -> bool:
    """Let `mmcv.ops` be this stand-in where mmcv has no compiled operators; call it before importing mmdet.

    Returns whether the stand-in is in use. Calling it again changes nothing.
    """
    if importlib.util.find_spec("mmcv._ext") is not None:
        return False
    if isinstance(sys.modules.get("mmcv.ops"), _StandIn):
        return True
    import mmcv

    package = _StandIn("mmcv.ops", "Stand-in for mmcv's compiled operators.")
    package.__dict__.update(_OPERATORS, __path__=[])
    sys.modules["mmcv.ops"] = mmcv.ops = package
    for name in _SUBMODULES:
        module = _StandIn(f"mmcv.ops.{name}")
        module.__dict__.update(_OPERATORS)
        sys.modules[module.__name__] = module
    return True


def import_mmdet() -> None:
    """Import mmdet with `install()` done and its registries filled, without its remarks on what it does not find."""
    install()
    with contextlib.redirect_stdout(io.StringIO()):
        import mmdet.datasets
        import mmdet.models  # noqa: F401
