"""What the next look at a claim still lacks: which arms, and which of their seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from leaderboards import evalues
from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import TOO_SMALL, reader
from leaderboards.claims import Claim, counted, tested_on
from leaderboards.deviations import deviations
from leaderboards.reasons import Flagged, MachinesApart, Reason, TuningApart
from leaderboards.record_fields import OURS
from leaderboards.setting import Setting
from leaderboards.verdicts import Verdict

FIRST_LOOK = evalues.least(2 / evalues.ALPHA)
"""The fewest pairs with which a claim that is no other's kin can be decided."""


@dataclass(frozen=True)
class Missing:
    """Pre-trainings of one arm that the next look at a claim still lacks."""

    arm: str  # registry name
    seeds: tuple[int, ...]
    like: Arm | None  # what is there of it, which they are to join
    beside: Arm | None  # else what is there of the other arm, whose setting they are to share


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


def missing(claim: Claim, known: Arms, track: str, own: bool, verdict: Verdict | None = None) -> list[Missing]:
    """What the next look at a claim at one track lacks, arm by arm; nothing where it is decided.

    As many pairs as its evidence needs at least, one more where these are there, and of a cost without chance one run.

    own: the test at the claim's own setting; else that of its direction, at the setting of which there is most.
    verdict: that of this test so far; its arms go on.
    """
    if verdict is not None and ((counted(claim) and verdict.arms) or (verdict.evidence and verdict.evidence.shown)):
        return []
    names = [claim.arm, *([claim.baseline_arm] if claim.baseline else [])]
    read = reader(claim, own)
    chosen = {arm.name: arm for arm in verdict.arms} if verdict else {}
    chosen = chosen or _fullest(claim, known, track, own, names)
    has = {name: set(read(chosen[name])) if name in chosen else set() for name in names}
    wanted = _wanted(claim, has, verdict)
    return [
        Missing(
            arm=name,
            seeds=tuple(sorted(wanted - has[name])),
            like=chosen.get(name),
            beside=next((arm for other, arm in chosen.items() if other != name), None),
        )
        for name in names
        if wanted - has[name]
    ]


def _wanted(claim: Claim, has: dict[str, set[int]], verdict: Verdict | None) -> set[int]:
    """The seeds that the next look is to have of each arm: those that entered, or the first ones, and those after."""
    there = set().union(*has.values())
    if counted(claim):
        return {min(there, default=0)}
    evidence, seeds = (verdict.evidence, verdict.series.seeds) if verdict else (None, ())
    least = evalues.least(evidence.takes[evidence.nearest]) if evidence else FIRST_LOOK
    start = min(seeds or there, default=0)
    return set(range(start, start + max(least, len(seeds) + 1)))


def _fullest(claim: Claim, known: Arms, track: str, own: bool, names: list[str]) -> dict[str, Arm]:
    """By name, the arms of that setting of which there is most."""
    most = math.inf if own else claim.proxy_epochs.get(track, math.inf)
    read = reader(claim, own)
    by_setting: dict[Setting, dict[str, Arm]] = defaultdict(dict)
    for arm in known.of(tested_on(claim, known.suite)):
        if arm.setting.track != track or arm.name not in names or arm.trust != OURS or arm.imported:
            continue
        if arm.setting.data in TOO_SMALL:
            continue
        if (arm.setting.epochs or 0) > most or (own and deviations(claim, arm, known.suite)):
            continue
        by_name = by_setting[arm.setting]
        if arm.name not in by_name or len(read(arm)) > len(read(by_name[arm.name])):
            by_name[arm.name] = arm
    return max(by_setting.values(), key=lambda found: sum(len(read(arm)) for arm in found.values()), default={})
