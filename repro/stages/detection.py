"""Boxes and masks: one detector on the pre-trained encoder, judged by COCO's or PASCAL VOC's metrics."""

from __future__ import annotations

import os

from eval import detection, protocols
from eval.coco import CocoFolders
from repro.data import catalogue
from repro.stages.common import Outcome, Task, context_of, load_encoder, outcome_of, protocol_of, source_of


def run(task: Task) -> Outcome:
    """Train and judge the detector of one pre-training."""
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    pictures = catalogue.coco_set(task.spec["data"]["name"], task.where, progress=task.progress)
    result = detection.evaluate(
        trained.encoder,
        CocoFolders(pictures.train_images, pictures.train_json, pictures.val_images, pictures.val_json),
        trained.normalisation,
        protocol_of(task, protocols.DetectionProtocol),
        # One core trains, the others load; where there are fewer than asked for, fewer.
        context_of(task, workers=min(task.spec["threads"], len(os.sched_getaffinity(0))) - 1),
        seed=task.seed,
    )
    outcome = outcome_of(result, source_of(pictures))
    outcome.scratch = ("*.pt*",)
    return outcome
