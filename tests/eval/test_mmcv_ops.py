"""The stand-in for mmcv.ops, against torchvision, a naive suppression and closed forms."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys

import pytest
import torch
from torch import Tensor
from torchvision import ops

from eval import mmcv_ops


def random_boxes(number: int, seed: int, origin: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=rng) * 60 + origin
    boxes = torch.cat([corner, corner + 5 + torch.rand(number, 2, generator=rng) * 30], dim=1)
    return boxes, torch.rand(number, generator=rng), torch.randint(0, 4, (number,), generator=rng)


def naive_suppression(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, above: float) -> list[int]:
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if scores[i] <= above:
            continue
        rivals = [k for k in kept if groups[k] == groups[i]]
        if all(ops.box_iou(boxes[i : i + 1], boxes[k : k + 1]).item() <= threshold for k in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("origin", [0.0, -50.0])
@pytest.mark.parametrize(
    ("options", "agnostic", "above", "most"),
    [
        ({}, False, 0.0, None),
        ({"type": "nms", "split_thr": 10}, False, 0.0, None),
        ({"class_agnostic": True}, False, 0.0, None),
        ({}, True, 0.0, None),
        ({"score_threshold": 0.4}, False, 0.4, None),
        ({"max_num": 7}, False, 0.0, 7),
        ({"score_threshold": 0.4, "max_num": 7, "class_agnostic": True}, False, 0.4, 7),
    ],
)
def test_batched_nms_is_suppression_class_by_class(options, agnostic, above, most, origin):
    boxes, scores, classes = random_boxes(80, seed=3, origin=origin)
    dets, keep = mmcv_ops.batched_nms(boxes, scores, classes, {"iou_threshold": 0.3, **options}, agnostic)
    groups = torch.zeros_like(classes) if agnostic or options.get("class_agnostic") else classes
    expected = naive_suppression(boxes, scores, groups, 0.3, above)[:most]
    assert 0 < len(expected) < 80
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], dim=1))


def test_batched_nms_without_configuration_only_sorts():
    boxes, scores, classes = random_boxes(20, seed=1)
    dets, keep = mmcv_ops.batched_nms(boxes, scores, classes, None)
    assert keep.tolist() == scores.argsort(descending=True).tolist()
    assert torch.equal(dets[:, 4], scores.sort(descending=True).values)


def test_batched_nms_of_nothing():
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    dets, keep = mmcv_ops.batched_nms(*empty, {"iou_threshold": 0.5})
    assert dets.shape == (0, 5)
    assert keep.shape == (0,)


def test_nms_is_torchvisions():
    boxes, scores, _ = random_boxes(60, seed=2)
    dets, keep = mmcv_ops.nms(boxes, scores, 0.5)
    assert torch.equal(keep, ops.nms(boxes, scores, 0.5))
    assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], dim=1))


def test_roi_align_of_a_ramp_is_its_value_at_the_middle_of_each_bin():
    # Cell i of a map of stride 4 covers pixels 4i to 4i + 4, so the ramp "pixel at the middle of the cell" is linear.
    ramp = (torch.arange(32.0) * 4 + 2).expand(1, 1, 32, 32)
    rois = torch.tensor([[0.0, 20.0, 30.0, 48.0, 86.0]])
    bins = 20 + (torch.arange(7) + 0.5) * (48 - 20) / 7
    for ratio in (0, 2):
        out = mmcv_ops.roi_align(ramp, rois, 7, 0.25, ratio, "avg", True)
        torch.testing.assert_close(out, bins.expand(1, 1, 7, 7))


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_is_torchvisions(ratio, aligned):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 16, 16, generator=rng, requires_grad=True)
    rois = torch.cat([torch.tensor([[0.0], [1.0], [1.0]]), random_boxes(3, seed=4)[0]], dim=1)
    layer = mmcv_ops.RoIAlign(output_size=7, spatial_scale=0.25, sampling_ratio=ratio, aligned=aligned)
    expected = ops.roi_align(x, rois, (7, 7), 0.25, ratio if ratio else -1, aligned)
    out = layer(x, rois)
    assert torch.equal(out, expected)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert gradient.abs().sum() > 0


def test_what_torchvision_has_not_raises_one_clear_error():
    boxes, scores, classes = random_boxes(5, seed=0)
    for call in (
        lambda: mmcv_ops.nms(boxes, scores, 0.5, offset=1),
        lambda: mmcv_ops.batched_nms(boxes, scores, classes, {"type": "soft_nms", "iou_threshold": 0.5}),
        lambda: mmcv_ops.roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), 2, pool_mode="max"),
    ):
        with pytest.raises(mmcv_ops.MissingOperator, match="mmcv's compiled operators"):
            call()


@pytest.mark.skipif(importlib.util.find_spec("mmcv._ext") is not None, reason="mmcv has its compiled operators here")
def test_mmdet_gets_the_stand_in():
    assert mmcv_ops.install()
    assert mmcv_ops.install()  # a second call changes nothing
    from mmcv import ops as stand_in
    from mmcv.ops import DeformConv2d
    from mmcv.ops.nms import batched_nms
    from mmdet.models.layers import bbox_nms

    assert stand_in is sys.modules["mmcv.ops"]
    assert batched_nms is bbox_nms.batched_nms is mmcv_ops.batched_nms
    with pytest.raises(mmcv_ops.MissingOperator, match=r"mmcv\.ops\.DeformConv2d"):
        DeformConv2d(3, 3, 3)
    with pytest.raises(AttributeError):
        stand_in.__wrapped__  # noqa: B018  (introspection must find nothing)


def test_compiled_operators_stay_in_place(monkeypatch):
    found = importlib.machinery.ModuleSpec("mmcv._ext", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    before = sys.modules.get("mmcv.ops")
    assert not mmcv_ops.install()
    assert sys.modules.get("mmcv.ops") is before
