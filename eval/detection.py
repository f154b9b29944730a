"""Detection and instance segmentation: mmdet's Faster and Mask R-CNN on a pre-trained encoder, judged by COCO's rules.

He et al., "Mask R-CNN", ICCV 2017 (arXiv:1703.06870), the transfer test of most self-supervised papers; Ren et al.,
"Faster R-CNN", NeurIPS 2015 (arXiv:1506.01497), without masks. Read on in detectors.py (the network), coco.py (the
pictures), detection_training.py (the loop) and detection_metrics.py (the judgement).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from eval.coco_file import CocoData, CocoFolders
from eval.context import PLAIN, Context, part_of
from eval.data import Normalisation
from eval.decoding import reach_of
from eval.detection_training import Detector, training_batches
from eval.pictures import draw_detections
from eval.protocols.detection import DetectionProtocol

DRAWN = 4  # changes no number


def evaluate(
    encoder: nn.Module,
    coco: CocoFolders | CocoData,
    normalisation: Normalisation,
    protocol: DetectionProtocol,
    context: Context = PLAIN,
    *,
    seed: int,
) -> dict[str, Any]:
    """Train a detector that starts from `encoder` on the training pictures and judge it on the validation pictures.

    encoder: `channels`, `strides` and `feature_maps(x)`, for `detector = "c4"` with torchvision's `layer4`; a copy is
    trained, the one passed stays as it is.
    coco: files, or what was read of them with the protocol's `masks`; annotations with `"difficult": 1` (PASCAL VOC)
    are trained on and ignored by the judgement, as in detectron2.

    Returns `metrics` (`bbox_AP`, `bbox_AP50`, `bbox_AP75`, `bbox_APs`, `bbox_APm`, `bbox_APl`, with masks the same of
    `segm_`, and `overfit_bbox_AP50` where the protocol has an over-fit set; percent; sizes without an object are left
    out), `artifacts` (`detections`: a PNG in the context's folder) and `details` (of each training `resumed`: whether
    it went on from what the store has; `data`: what of the files was mended or left out, if anything; `remarks`: how
    pictures of more than 8 bits were read, if there are any). With
    `metric = "voc07"`, `bbox_AP`, `bbox_AP50` and `bbox_AP75` are those of `voc07_metrics`, as in the papers' tables,
    and COCO's stand beside as `coco_bbox_AP` ....

    Raises FileNotFoundError or ValueError, in one line that names the file or the key, for missing, damaged or
    contradictory data, and for a loss that is not finite.
    """
    data = coco.read(protocol.masks) if isinstance(coco, CocoFolders) else coco
    train, val = data.train, data.val
    if all(annotation["iscrowd"] or annotation.get("difficult") for annotation in val.annotations):
        raise ValueError(f"{val.file} has no object to evaluate: all are crowds or difficult")

    reach, deep = reach_of(part.folder / image["file_name"] for part in (train, val) for image in part.images)

    # The check comes first: a detector that cannot learn eight pictures by heart shows before the long training.
    stages = [("train", protocol, train, val)]
    if protocol.overfit_pictures:
        try:
            few = train.only(protocol.overfit_pictures)
        except ValueError as error:
            raise ValueError(f"{error}, chosen by detection.overfit_pictures") from None
        stages.insert(0, ("overfit", _by_heart(protocol), few, few))
    total = sum(training_batches(stage) + len(judged.images) for _, stage, _, judged in stages)
    details: dict[str, Any] = {}
    scores: dict[str, dict[str, float]] = {}
    before = 0
    with _own_randomness(context.device):
        for name, stage, learnt, judged in stages:
            inside = replace(context, progress=part_of(context.progress, before, total, stage=name))
            detector = Detector(encoder, learnt, normalisation, stage, inside, seed=seed, name=name, reach=reach)
            details[name] = detector.train()
            scores[name], detections = detector.judge(judged)
            before += training_batches(stage) + len(judged.images)
    metrics = dict(scores["train"])
    if protocol.overfit_pictures:
        metrics["overfit_bbox_AP50"] = scores["overfit"]["bbox_AP50"]
    details["val"] = {"pictures": len(val.images), "instances": len(val.annotations)}
    if deep:
        details["remarks"] = [reach.words(deep)]
    if changed := {name: file.account.plain() for name, file in vars(data).items() if file.account.notes}:
        details["data"] = changed
    artifacts = {}
    if context.folder is not None:
        context.folder.mkdir(parents=True, exist_ok=True)
        artifacts["detections"] = context.folder / "detections.png"
        occupied = {annotation["image_id"] for annotation in val.annotations}
        shown = _spread([image for image in val.images if image["id"] in occupied], DRAWN)
        draw_detections(
            [val.folder / image["file_name"] for image in shown],
            [val.of(image) for image in shown],
            [detections[image["id"]] for image in shown],
            {category["id"]: category["name"] for category in val.categories},
            artifacts["detections"],
            reach=reach,
        )
    return {"metrics": metrics, "artifacts": artifacts, "details": details}


def _by_heart(protocol: DetectionProtocol) -> DetectionProtocol:
    """The protocol of the check on a few pictures."""
    last_fifth = 4 * protocol.overfit_iterations // 5  # without a smaller rate at the end it forgets as it learns
    return replace(
        protocol, iterations=protocol.overfit_iterations, schedule="step", milestones=(last_fifth,), hflip=False
    )


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


def _spread(entries: list[Any], number: int) -> list[Any]:
    """Up to `number` of `entries`, evenly spaced."""
    return [entries[len(entries) * i // number] for i in range(number)] if len(entries) > number else entries
