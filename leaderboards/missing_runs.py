"""What the test of a claim still lacks: which arms, and which of their seeds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import reader
from leaderboards.claims import Claim, tested_on
from leaderboards.deviations import deviations
from leaderboards.record_fields import OURS
from leaderboards.setting import Setting


@dataclass(frozen=True)
class Missing:
    """Pre-trainings of one arm that a test of a claim still lacks."""

    arm: str  # registry name
    seeds: tuple[int, ...]
    like: Arm | None  # what is there of it, which they are to join
    beside: Arm | None  # else what is there of the other arm, whose setting they are to share


def missing(claim: Claim, known: Arms, track: str, own: bool) -> list[Missing]:
    """What the test of a claim at one track lacks, arm by arm; nothing where the frozen n is there.

    own: the test at the claim's own setting; else that of its direction, at the setting of which there is most.
    """
    names = [claim.arm, *([claim.baseline_arm] if claim.baseline else [])]
    here = [arm for arm in known.of(tested_on(claim, known.suite)) if arm.setting.track == track and arm.name in names]
    every = [arm for arm in here if arm.trust == OURS and not arm.imported]
    fitting = [arm for arm in every if not own or not deviations(claim, arm, known.suite)]
    read = reader(claim, own)
    by_setting: dict[Setting, dict[str, Arm]] = defaultdict(dict)
    for arm in fitting:
        by_name = by_setting[arm.setting]
        if arm.name not in by_name or len(read(arm)) > len(read(by_name[arm.name])):
            by_name[arm.name] = arm
    chosen = max(by_setting.values(), key=lambda found: sum(len(read(arm)) for arm in found.values()), default={})
    has = {name: set(read(chosen[name])) if name in chosen else set() for name in names}
    there = sorted(set().union(*has.values()), key=lambda seed: (-sum(seed in its for its in has.values()), seed))
    fresh = (seed for seed in range(len(there) + claim.n) if seed not in there)
    wanted = [*there, *fresh][: claim.n]
    return [
        Missing(
            arm=name,
            seeds=tuple(sorted(set(wanted) - has[name])),
            like=chosen.get(name),
            beside=next((arm for other, arm in chosen.items() if other != name), None),
        )
        for name in names
        if set(wanted) - has[name]
    ]
