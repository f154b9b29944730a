"""What must hold between the metrics of any record, whoever wrote it. Torch-free."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_PERCENT = re.compile(r"top[15](_|$)|rank\d+$|mAP|mINP|(coco_)?bbox_|segm_")
_ORDERED = (  # (larger, smaller), regular expressions with the same groups
    (r"top5(.*)", r"top1{0}"),
    (r"rank5()", r"rank1"),
    (r"rank10()", r"rank5"),
    (r"(bbox|segm|coco_bbox)_AP50", r"{0}_AP"),
    (r"(bbox|segm|coco_bbox)_AP50", r"{0}_AP75"),
    (r"top1_best_on_test()", r"top1"),
    (r"top1_best_on_test()", r"top1_selected"),
    (r"top1_best_on_test()", r"top1_last"),
    (r"mAP()", r"mAP_trapezoid"),
)
_SLACK = 1e-6  # percentage points: metrics are means in floating point


def check_invariants(metrics: Mapping[str, float]) -> list[str]:
    """One line for each rule that the metrics of a record break; [] if all is well.

    Finite; shares within 0 and 100 %; top-5 >= top-1; Rank-10 >= Rank-5 >= Rank-1; AP50 >= AP and AP75; best-on-test >=
    what is reported; mAP at hits >= mAP of the trapezoid rule (precision falls between hits).
    """
    broken = [f"{key} is {value}, not a finite number" for key, value in metrics.items() if not math.isfinite(value)]
    for key, value in metrics.items():
        if _PERCENT.match(key) and not -_SLACK <= value <= 100 + _SLACK:
            broken.append(f"{key} = {value:g} is not between 0 and 100 percent")
        for larger, smaller in _ORDERED:
            if match := re.fullmatch(larger, key):
                other = smaller.format(*match.groups())
                if other in metrics and metrics[other] > value + _SLACK:
                    broken.append(f"{other} = {metrics[other]:g} is above {key} = {value:g}")
    return broken
