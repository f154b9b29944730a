"""What the next check of a claim still lacks: which arms, and which of their seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from leaderboards import evalues
from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import SAME_COMPUTE, reader
from leaderboards.claims import INTERACTION, Claim, counted, lasts, tested_on, usual_length
from leaderboards.deviations import deviations
from leaderboards.reasons import Flagged, MachinesApart, OperationsApart, Reason, TuningApart
from leaderboards.record_fields import OURS
from leaderboards.setting import Setting
from leaderboards.verdicts import Verdict

ALONE = evalues.first_takes(1)
"""The evidence that a claim takes whose family has no other."""
MOST_TIMES = 20
"""How many times longer or shorter a baseline is trained at most for equal compute."""


@dataclass(frozen=True)
class Missing:
    """Pre-trainings of one arm that the next check of a claim still lacks."""

    claim: Claim  # that they are of; of an interaction, that at one of its lengths
    arm: str  # registry name
    seeds: tuple[int, ...]
    like: Arm | None  # what is there of it, which they are to join
    beside: Arm | None  # else what is there of the other arm, whose setting they are to share
    epochs: int | None = None  # in place of those of `like`


def in_vain(verdict: Verdict) -> Reason | None:
    """Why no further seed would decide this one; None where one may.

    Unequal tuning stands in the way where it is not known, or where it could explain what the pairs have shown.
    """
    for why in verdict.reasons:
        unknown = isinstance(why, TuningApart) and not (why.ours and why.theirs)
        explains = isinstance(why, TuningApart) and bool(verdict.arms)
        if unknown or explains or isinstance(why, Flagged | MachinesApart):
            return why
    return None


def missing(
    claim: Claim, known: Arms, track: str, own: bool, verdict: Verdict | None = None, takes: float = ALONE
) -> list[Missing]:
    """What the next check of a claim at one track lacks, arm by arm; nothing where it is decided.

    As many pairs as its evidence needs at least, one more where these are there, and of a cost without chance one run.

    own: the test at the claim's own setting; else that of its direction, at the setting of which there is most.
    verdict: that of this test so far; its arms go on, unless it is open again.
    takes: the evidence that the claim takes, as far as no verdict says it.
    """
    verdict = None if verdict and verdict.open_again else verdict
    if verdict is not None and verdict.decided:
        return []
    if claim.kind == INTERACTION:
        return [
            item
            for epochs in claim.lengths[track]
            for item in missing(claim.at_length(epochs), known, track, own, _at_length(verdict, epochs), takes)
        ]
    names = [claim.arm, *([claim.baseline_arm] if claim.baseline else [])]
    read = reader(claim, own)
    chosen = {arm.name: arm for arm in verdict.arms} if verdict else {}
    chosen = chosen or _fullest(claim, known, track, own, names)
    has = {name: set(read(chosen[name])) if name in chosen else set() for name in names}
    wanted = _wanted(claim, has, verdict, takes)
    return [
        Missing(
            claim=claim,
            arm=name,
            seeds=tuple(sorted(wanted - has[name])),
            like=chosen.get(name),
            beside=next((arm for other, arm in chosen.items() if other != name), None),
        )
        for name in names
        if wanted - has[name]
    ]


def at_equal_compute(first: Verdict, compute: Verdict | None, takes: float = ALONE) -> list[Missing]:
    """What the first check at equal compute lacks: the baseline, trained for as many operations as the method.

    Nothing where there are pairs, where operations are not recorded, where no number of epochs after the warm-up comes
    near enough, or where it is MOST_TIMES that of equal epochs.

    first: the verdict at equal epochs, which is decided.  compute: that at equal compute.
    takes: the evidence that the claim takes.
    """
    if compute is None or not any(isinstance(why, OperationsApart) for why in compute.reasons):
        return []
    ours, theirs = first.arms
    epochs, warm = theirs.setting.epochs or 0, theirs.options.get("pretrain.warmup_epochs") or 0
    if not (ours.operations and theirs.operations and epochs > 0):
        return []
    asked = math.log(ours.operations) - math.log(theirs.operations)  # their ratio may overflow
    if abs(asked) > math.log(MOST_TIMES):
        return []
    wanted = round(epochs * math.exp(asked))
    if wanted in (0, epochs) or wanted <= warm or abs(math.log(wanted / epochs) - asked) > math.log1p(SAME_COMPUTE):
        return []
    start = min(first.series.seeds)
    seeds = tuple(range(start, start + evalues.least(takes)))
    return [Missing(first.claim, theirs.name, seeds, like=theirs, beside=ours, epochs=wanted)]


def _at_length(verdict: Verdict | None, epochs: int) -> Verdict | None:
    """The verdict on an interaction, with the arms of one of its lengths alone."""
    return verdict and replace(verdict, arms=tuple(arm for arm in verdict.arms if arm.setting.epochs == epochs))


def _wanted(claim: Claim, has: dict[str, set[int]], verdict: Verdict | None, takes: float) -> set[int]:
    """The seeds that the next check is to have of each arm: those that entered, or the first ones, and those after."""
    there = set().union(*has.values())
    if counted(claim):
        return {min(there, default=0)}
    evidence, seeds = (verdict.evidence, verdict.series.seeds) if verdict else (None, ())
    least = evalues.least(evidence.takes[evidence.nearest] if evidence else takes)
    start = min(seeds or there, default=0)
    return set(range(start, start + max(least, len(seeds) + 1)))


def _fullest(claim: Claim, known: Arms, track: str, own: bool, names: list[str]) -> dict[str, Arm]:
    """By name, the arms of that setting of which there is most: of both, else of the length of the method's recipe.

    An arm that was trained longer for another claim draws no other arm after it.
    """
    read = reader(claim, own)
    length = None if own else usual_length(claim, track, known.suite)
    by_setting: dict[Setting, dict[str, Arm]] = defaultdict(dict)
    for arm in known.of(tested_on(claim, known.suite)):
        if arm.setting.track != track or arm.name not in names or arm.trust != OURS or arm.imported:
            continue
        if arm.setting.too_small or arm.setting.drawn is None or arm.setting.of_own_pictures(known.suite.own):
            continue
        if deviations(claim, arm, known.suite) if own else not lasts(claim, track, arm.setting.epochs):
            continue
        by_name = by_setting[arm.setting]
        if arm.name not in by_name or len(read(arm)) > len(read(by_name[arm.name])):
            by_name[arm.name] = arm
    fitting = [
        found
        for setting, found in by_setting.items()
        if len(found) == len(names) or length is None or setting.epochs == length
    ]
    return max(fitting, key=lambda found: (len(found), sum(len(read(arm)) for arm in found.values())), default={})
