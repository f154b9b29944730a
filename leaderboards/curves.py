"""The k-NN monitor: how good a network's features are while it is trained, and what it costs to get as far as another.

A pre-training keeps its looks as `details.knn_curve`, rows [epoch, updates, seconds, operations, top1 in percent]. The
monitor tells training pictures by the nearest of other training pictures. It is no test score: no verdict rests on it
but those on how fast a method learns (`learning.py`).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from leaderboards.arms import Arm
from leaderboards.claims import Claim
from leaderboards.paired_arms import apart, comparisons, fairest
from leaderboards.record_fields import OURS, Record, entry, finite

MONITOR = "k-NN on training images (%)"
"""What the monitor's values are called wherever they are shown."""
ABOUT = (
    "k-NN on training images is a monitor, not a test score. It classifies up to 1,000 training images by the 20"
    " nearest of up to 2,000 others, before a training and up to six times during it. Only verdicts on the speed of"
    " learning use it."
)


class Look(NamedTuple):
    """One look of the monitor at a training, or the mean of several seeds'."""

    epochs: float  # done; between two looks, in parts
    device_s: float  # of training so far
    flops: float  # so far
    top1: float  # percent

    def towards(self, other: Look, share: float) -> Look:
        """The point at `share` of the straight way to another look: 0 is here, 1 there."""
        return Look(*(a + share * (b - a) for a, b in zip(self, other, strict=True)))


Curve = Sequence[Look]


def looks(record: Record) -> list[Look]:
    """The looks of a pre-training in their order; empty where the record keeps none."""
    rows = entry(record, "details", "knn_curve")
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == 5:
            epoch, _, seconds, flops, top1 = map(finite, row)
            if epoch is not None and top1 is not None:
                found.append(Look(epoch, seconds or 0.0, flops or 0.0, top1))
    return sorted(found)


def by_seed(arm: Arm) -> dict[int, list[Look]]:
    """The looks at each training of an arm of pre-trainings, for the seeds that have some."""
    return {seed: found for seed, record in sorted(arm.records.items()) if (found := looks(record))}


def average(curves: Sequence[Curve]) -> list[Look]:
    """The mean over seeds at the epochs at which every one was looked at."""
    at = [{round(look.epochs, 6): look for look in curve} for curve in curves]
    common = sorted(set.intersection(*map(set, at))) if at else []
    return [Look(*map(statistics.fmean, zip(*(found[epoch] for found in at), strict=True))) for epoch in common]


def watched(found: Iterable[Arm]) -> list[Arm]:
    """Of arms of pre-trainings those that were watched."""
    return [arm for arm in found if by_seed(arm)]


def at_epoch(curve: Curve, epochs: float) -> Look | None:
    """A curve's value at any point of it, on straight lines between the looks; None outside of them."""
    for here, there in pairwise(curve):
        if here.epochs <= epochs <= there.epochs:
            way = there.epochs - here.epochs
            return here.towards(there, (epochs - here.epochs) / way if way else 0.0)
    return next((look for look in curve if look.epochs == epochs), None)


def reaching(curve: Curve, top1: float) -> Look | None:
    """Where a curve first is as high as `top1`, on straight lines between the looks; None where it never is."""
    before: Look | None = None
    for look in curve:
        if look.top1 >= top1:
            return look if before is None else before.towards(look, (top1 - before.top1) / (look.top1 - before.top1))
        before = look
    return None


@dataclass(frozen=True)
class Reach:
    """A method and a baseline of its claims that were watched on the same pictures; ends are means over their seeds."""

    ours: Arm
    theirs: Arm
    seeds: list[int]
    our_end: float  # percent
    their_end: float
    risen: bool  # whether the baseline ends above where both began; else there is nothing to reach


def reached(claims: Sequence[Claim], seen: Iterable[Arm]) -> list[Reach]:
    """Of every method and baseline that a claim names, were they watched on the same pictures.

    Only records of our own count, and only pairs that are fair (`pairs.apart`): a schedule decays with its length, so
    that a part of a longer one is no shorter one.  seen: what `watched` gives.
    """
    known = {arm: by_seed(arm) for arm in seen if arm.trust == OURS}
    by_scope: dict[Any, dict[str, list[Arm]]] = defaultdict(lambda: defaultdict(list))
    for arm in known:
        by_scope[arm.setting.scope][arm.name].append(arm)
    found = []
    for here in by_scope.values():
        for ours, theirs in comparisons(claims):
            pair = fairest(here.get(ours, ()), here.get(theirs, ()), known.__getitem__)
            if pair is None or apart(*pair):
                continue
            left, right = (known[arm] for arm in pair)
            seeds = sorted(left.keys() & right.keys())
            own, other = (average([curves[seed] for seed in seeds]) for curves in (left, right))
            if own and other:
                risen = other[-1].top1 > max(own[0].top1, other[0].top1)
                found.append(Reach(*pair, seeds, own[-1].top1, other[-1].top1, risen))
    return found
