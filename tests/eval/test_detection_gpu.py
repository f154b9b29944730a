"""Detectors on a GPU: no operation of ours or of mmdet's mixes devices, in training and inference.

mmdet's assigners, samplers and NMS take indices that depend on values (`nonzero`, `unique`, masks as index), so they
run on the pretend device that has values. Each such index waits for the device: that is mmdet's way, and the named
places `Detector.train` and `Detector.judge` cannot tell it from a wait of ours in the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniatures import SMALL_DETECTOR

from eval import detection, protocols
from eval.coco_file import CocoFolders
from eval.context import Context
from eval.data import IMAGENET
from eval.protocols.detection import DetectionProtocol
from methods.parts.encoders import build_encoder

pytestmark = pytest.mark.seconds
SMALL = {**SMALL_DETECTOR, "iterations": 1}


@pytest.mark.parametrize("variant", ["", "vit"])
def test_training_and_inference_mix_no_devices(
    valued_gpu: Any, variant: str, shrunk: Callable[..., Any], miniature: Callable[..., Path], tmp_path: Path
) -> None:
    root = miniature("coco2017", tmp_path, train=2, val=1)
    files = [root / "annotations" / f"instances_{split}2017.json" for split in ("train", "val")]
    coco = CocoFolders(root / "train2017", files[0], root / "val2017", files[1])
    protocol = protocols.load_as(DetectionProtocol, "fast", SMALL)
    encoder = build_encoder(shrunk("random", variant)["network"]).to(valued_gpu.device)  # as a stage hands it over
    found = detection.evaluate(encoder, coco, IMAGENET, protocol, Context(valued_gpu.device, folder=tmp_path), seed=0)
    assert found["metrics"].keys() >= {"bbox_AP", "segm_AP"}
    assert next(encoder.parameters()).device.type == "cuda"


def test_what_was_computed_with_values_is_what_the_host_computes(valued_gpu: Any) -> None:
    x = torch.arange(6.0).view(2, 3)
    there = x.to(valued_gpu.device)
    there[:, 1] = 7.0
    x[:, 1] = 7.0
    product = there @ there.T
    assert product.device.type == "cuda"
    assert torch.equal(product.cpu() if valued_gpu.real else product.values, x @ x.T)
