"""Boxes and masks: one detector on the pre-trained encoder, judged by COCO's or PASCAL VOC's metrics."""

from __future__ import annotations

import os

from eval import detection
from eval.protocols.detection import DetectionProtocol
from repro.data import loading
from repro.stages.context import JobContext, Outcome, source_of


def prepare(context: JobContext) -> int:
    """Make the data set, which is done once, before the job is timed; it counts its own steps."""
    loading.coco_set(context.spec["data"]["name"], context.where, progress=context.progress)
    return 0


def run(context: JobContext) -> Outcome:
    """Train and judge the detector of one pre-training."""
    trained = context.encoder()
    protocol = context.protocol(DetectionProtocol)
    name = context.spec["data"]["name"]
    pictures = loading.coco_set(name, context.where, masks=protocol.masks, progress=context.progress)
    for line in pictures.remarks:
        print(line, flush=True)
    result = detection.evaluate(
        trained.encoder,
        pictures.content,
        trained.normalisation,
        protocol,
        # One core trains, the others load; where there are fewer than asked for, fewer.
        context.evaluation(workers=min(context.spec["threads"], len(os.sched_getaffinity(0))) - 1),
        seed=context.job.seed,
    )
    for remark in result["details"].get("remarks", ()):
        print(f"{pictures.name}: {remark}", flush=True)
    return Outcome.of(result, source_of(pictures))
