"""What the leaderboards are told: the evaluations and how each is shown, protocols and neutral keys as they stand."""

from __future__ import annotations

from functools import cache
from typing import Any

from eval import protocols
from leaderboards.suite import Evaluation, Suite
from repro import jobs, recipes

_PERCENT = "percent"
_AVERAGE_PRECISION = "COCO average precision, 0 to 100"
_RANKS = ("rank5", "rank10", "mINP")

_EVALUATIONS = (
    Evaluation("knn", "knn", "k-NN", ("top1",), _PERCENT, ("top5",), "k-NN Classification"),
    Evaluation(
        name="linear",
        kind="linear",
        title="Linear probe",
        metrics=("top1",),
        unit=_PERCENT,
        further=("top5", "top1_10_per_class", "top1_1pct", "top1_10pct"),
        task="Linear Classification",
    ),
    Evaluation(
        name="finetune",
        kind="finetune",
        title="Fine-tuning",
        metrics=("top1",),
        unit=_PERCENT,
        further=("top1_selected", "top5"),
        task="Image Classification",
    ),
    Evaluation(
        name="detection",
        kind="detection",
        title="Object detection (boxes)",
        metrics=("bbox_AP",),
        unit=_AVERAGE_PRECISION,
        further=("bbox_AP50", "bbox_AP75"),
        task="Object Detection",
    ),
    Evaluation(
        name="segmentation",
        kind="detection",
        title="Instance segmentation (masks)",
        metrics=("segm_AP",),
        unit=_AVERAGE_PRECISION,
        further=("segm_AP50", "segm_AP75"),
        task="Instance Segmentation",
    ),
    Evaluation("reid", "reid", "Re-identification", ("rank1", "mAP"), _PERCENT, _RANKS, "Re-Identification"),
    Evaluation(
        name="reid_finetune",
        kind="reid_finetune",
        title="Re-identification, fine-tuned",
        metrics=("rank1", "mAP"),
        unit=_PERCENT,
        further=_RANKS,
        task="Re-Identification",
    ),
)


@cache
def suite() -> Suite:
    """The evaluations in the order of their boards, and what is needed to compare old records with new ones."""
    return Suite(
        evaluations={evaluation.name: evaluation for evaluation in _EVALUATIONS},
        protocols=_named_protocols(),
        neutral=recipes.neutral(),
    )


def _named_protocols() -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluation -> name -> hash and values, as records hold them."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in protocols.KINDS}
    for kind, named in found.items():
        for name in protocols.names(kind):
            values = protocols.values(protocols.load(kind, name))
            named[name] = {key: value for key, value in jobs.protocol_of(kind, name, values).items() if key != "name"}
    return found
