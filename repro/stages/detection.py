"""Boxes and masks: one detector on the pre-trained encoder, judged by COCO's or PASCAL VOC's metrics."""

from __future__ import annotations

import os

from eval import detection, protocols
from repro.data import loading
from repro.stages.context import JobContext, Outcome, device, source_of
from repro.store import checkpoints


def prepare(context: JobContext) -> int:
    """Make the data set, which is done once, before the job is timed; it counts its own steps."""
    loading.coco_set(context.spec["data"]["name"], context.where, progress=context.progress)
    return 0


def run(context: JobContext) -> Outcome:
    """Train and judge the detector of one pre-training."""
    trained = context.encoder()
    pictures = loading.coco_set(context.spec["data"]["name"], context.where, progress=context.progress)
    result = detection.evaluate(
        trained.encoder,
        detection.CocoFolders(pictures.train_images, pictures.train_json, pictures.val_images, pictures.val_json),
        trained.mean,
        trained.std,
        context.protocol(protocols.DetectionProtocol),
        device=device(),
        seed=context.job.seed,
        work_dir=context.folder,
        store=checkpoints.Store(context.folder),
        progress=context.progress,
        # One core trains, the others load; where there are fewer than asked for, fewer.
        workers=min(context.spec["threads"], len(os.sched_getaffinity(0))) - 1,
    )
    return Outcome.of(result, source_of(pictures))
