"""What must hold between the metrics of any record, whoever wrote it. Torch-free."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from eval.protocols import KINDS
from eval.protocols.base import collapse_metrics

_PERCENT = re.compile(r"top[15](_|$)|rank\d+$|mAP|mINP|(coco_)?bbox_|segm_")
_ORDERED = (  # (larger, smaller), regular expressions with the same groups
    (r"top5(.*)", r"top1{0}"),
    (r"rank5()", r"rank1"),
    (r"rank10()", r"rank5"),
    (r"rank20()", r"rank10"),
    (r"(bbox|segm|coco_bbox)_AP50", r"{0}_AP"),
    (r"(bbox|segm|coco_bbox)_AP50", r"{0}_AP75"),
    (r"top1_best_on_test()", r"top1"),
    (r"top1_best_on_test()", r"top1_selected"),
    (r"top1_best_on_test()", r"top1_last"),
    (r"mAP()", r"mAP_trapezoid"),
)
_EQUAL = (("top1_k1", "top1_nearest"),)
_SLACK = 1e-6  # percentage points: metrics are means in floating point
# Spread of unit-length features, 1 = over all directions; what we have seen of networks that learnt is 0.07 and more.
_COLLAPSED = 1e-3


def _required(kind: str, schema: int, stated: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that a record must have: those of cached features, or what the protocol of its evaluation says."""
    if kind == "features":
        return collapse_metrics("train", "test")
    if kind in KINDS and schema >= 2:
        return KINDS[kind].protocol.required(stated)
    return ()


def check_invariants(
    metrics: Mapping[str, float], kind: str = "", schema: int = 1, stated: Mapping[str, Any] | None = None
) -> list[str]:
    """One line for each rule that the metrics of a record of that kind break; [] if all is well.

    stated: the values of its protocol.

    Finite; shares within 0 and 100 %; top-5 >= top-1; Rank-20 >= Rank-10 >= Rank-5 >= Rank-1; AP50 >= AP and AP75;
    best-on-test >= what is reported; mAP at hits >= mAP of the trapezoid rule (precision falls between hits); k-NN with
    k = 1 is as often right as the nearest neighbour, which a record of kind "knn" must say; features have an effective
    rank of at least 1 and are not all alike, and a record says so of all features that it rests on and no other record
    is of. What came later is asked of records of schema 2 only.
    """
    missing = [key for key in _required(kind, schema, stated or {}) if key not in metrics]
    if missing:
        return [f"{missing[0]} is missing"]
    broken = [f"{key} is {value}, not a finite number" for key, value in metrics.items() if not math.isfinite(value)]
    for key, value in metrics.items():
        if _PERCENT.match(key) and not -_SLACK <= value <= 100 + _SLACK:
            broken.append(f"{key} = {value:g} is not between 0 and 100 percent")
        if re.search(r"(^|_)effective_rank$", key) and value < 1 - _SLACK:
            broken.append(f"{key} = {value:g} is below 1")
        if re.search(r"(^|_)feature_std$", key) and not _COLLAPSED <= value <= 1 + _SLACK:
            broken.append(
                f"{key} = {value:g}: the features have collapsed, they are nearly the same for all images"
                if 0 <= value < _COLLAPSED
                else f"{key} = {value:g} is not between 0 and 1"
            )
        for larger, smaller in _ORDERED:
            if match := re.fullmatch(larger, key):
                other = smaller.format(*match.groups())
                if other in metrics and metrics[other] > value + _SLACK:
                    broken.append(f"{other} = {metrics[other]:g} is above {key} = {value:g}")
    for key, other in _EQUAL:
        if key in metrics and other in metrics and abs(metrics[key] - metrics[other]) > _SLACK:
            broken.append(f"{key} = {metrics[key]:g} is not {other} = {metrics[other]:g}")
    return broken
