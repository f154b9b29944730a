"""What a method gains over the same network untrained, and what its parts add: short tables for pages of text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from leaderboards.arms import PIXELS, UNTRAINED, Arm, Arms
from leaderboards.claims import MECHANISM, Claim, arm_name
from leaderboards.controls import Controls
from leaderboards.record_fields import OURS, Record
from leaderboards.suite import Suite

FEWEST = 3
"""Pairs of seeds: with fewer a part of a method is not listed."""


@dataclass(frozen=True)
class Gain:
    """One metric of one arm on one track.

    value: mean over seeds, in the metric's unit (percent).
    above: mean, least and largest of (arm - the same network untrained), seed by seed; None where there is no control
        or the arm is one.
    """

    metric: str
    value: float
    above: tuple[float, float, float] | None


@dataclass(frozen=True)
class Row:
    """An arm and its gains, one entry a column; None where it has no record.

    seeds: the fewest and the most of a column.
    """

    arm: Arm
    seeds: tuple[int, int]
    gains: tuple[Gain | None, ...]


@dataclass(frozen=True)
class Part:
    """What one variant differs from its method by, on paired seeds: method - variant, mean, least and largest."""

    method: Arm
    variant: Arm
    metric: str
    difference: tuple[float, float, float]
    seeds: int


def gains(records: Iterable[Record], suite: Suite, track: str, evaluations: Sequence[str]) -> list[Row]:
    """The current arms of a track without variants, the largest gain in the first column first; controls last.

    Of the data sets and protocols of an evaluation only the one of its newest record counts, so that a column holds
    numbers that may be compared. All numbers of a row are of one length of training: that of the recipe, where there
    are any, else that with most seeds. Arms of one subset for all seeds are left out, and test sets that are too small.

    evaluations: names of evaluations; one that has a metric of few labels gives a second column for it.
    """
    known = Arms(records, suite)
    controls = Controls((), known.records, suite)
    columns = columns_of(suite, evaluations)
    found: dict[tuple[str, int | None], dict[int, Arm]] = defaultdict(dict)
    for place, (evaluation, metric) in enumerate(columns):
        arms = [arm for arm in known.current(suite.kind_of(evaluation)) if _shown(arm, track) and arm.values(metric)]
        scope = max(arms, key=lambda arm: arm.newest).setting.scope if arms else None
        for arm in (arm for arm in arms if arm.setting.scope == scope):
            cells = found[arm.name, arm.setting.epochs]
            if place not in cells or arm.standing > cells[place].standing:
                cells[place] = arm
    rows: dict[str, Row] = {}
    for (name, _), cells in sorted(found.items(), key=lambda item: _length(item[0], item[1], suite, track)):
        seeds = [len(arm.values(columns[place][1])) for place, arm in cells.items()]
        shown = [
            _gain(cells[place], metric, controls) if place in cells else None
            for place, (_, metric) in enumerate(columns)
        ]
        rows[name] = Row(next(iter(cells.values())), (min(seeds), max(seeds)), tuple(shown))
    return sorted(rows.values(), key=_order)


def _length(
    of: tuple[str, int | None], cells: Mapping[int, Arm], suite: Suite, track: str
) -> tuple[bool, tuple[int, str]]:
    """The larger, the more one length of an arm's training is to be shown: the recipe's, then that with most seeds."""
    name, epochs = of
    usual = suite.recipe(name, track).get("pretrain", {}).get("epochs")
    return epochs == usual, max(arm.standing for arm in cells.values())


def columns_of(suite: Suite, evaluations: Sequence[str]) -> list[tuple[str, str]]:
    """(evaluation, metric) of each column."""
    found = []
    for name in evaluations:
        evaluation = suite.evaluations[name]
        found += [(name, metric) for metric in (evaluation.metrics[0], evaluation.few) if metric]
    return found


def parts(known: Arms, claims: Sequence[Claim], track: str, evaluation: str) -> list[Part]:
    """Each variant beside its method, in the same setting and on at least three shared seeds, each with its own subset.

    A variant that a paper's claim compares with another method is left out: it has another base or network.
    """
    metric = known.suite.evaluations[evaluation].metrics[0]
    arms = [arm for arm in known.current(known.suite.kind_of(evaluation)) if arm.trust == OURS]
    arms = [arm for arm in arms if arm.setting.track == track]
    found = []
    others = [claim for claim in claims if claim.kind != MECHANISM and claim.baseline not in ("", claim.method)]
    claimed = {claim.arm for claim in others}
    changed = [arm for arm in arms if arm.variant and not arm.control and not arm.imported]
    for variant in (arm for arm in changed if arm.name not in claimed):
        for method in arms:
            if method.name != arm_name(variant.method, "") or method.setting != variant.setting:
                continue
            ours, theirs = method.values(metric), variant.values(metric)
            if len(seeds := sorted(ours.keys() & theirs.keys())) >= FEWEST:
                by = spread([ours[seed] - theirs[seed] for seed in seeds])
                found.append(Part(method, variant, metric, by, len(seeds)))
    return sorted(found, key=lambda part: (part.method.name, -part.difference[0]))


def part_names(claims: Iterable[Claim], evaluation: str) -> dict[tuple[str, str], str]:
    """What the first of two arms has and the second has not, in words, where a claim on this evaluation says it."""
    found = [one for one in claims if one.evaluation == evaluation]
    turned = {(one.baseline_arm, one.arm): one.lacks for one in found if one.lacks}
    return turned | {(one.arm, one.baseline_arm): one.part for one in found if one.part}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, least and largest."""
    return fmean(values), min(values), max(values)


def _shown(arm: Arm, track: str) -> bool:
    plain = not arm.variant or arm.control
    here = arm.setting.track == track and not arm.setting.too_small
    return here and arm.trust == OURS and not arm.imported and plain


def _gain(arm: Arm, metric: str, controls: Controls) -> Gain:
    values = arm.values(metric)
    untrained = controls.untrained_by_seed(arm, metric)
    pairs = [value - untrained[seed] for seed, value in values.items() if seed in untrained]
    return Gain(metric, fmean(values.values()), spread(pairs) if pairs else None)


def _order(row: Row) -> tuple[bool, float, str]:
    above = [gain.above[0] for gain in row.gains if gain and gain.above]
    control = row.arm.method == UNTRAINED or row.arm.options.get("network.arch") == PIXELS
    return control, -(above[0] if above else 0.0), row.arm.name
