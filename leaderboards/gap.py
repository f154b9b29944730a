"""Where a shortfall comes from: a paper's number, and ours on the way to it, one thing changed at a time.

    claimed   the paper's weights, its evaluation
    a         the authors' weights (imported), our evaluation of the paper's protocol
    b         our pre-training, the paper's protocol
    c         our pre-training, our protocol

Two numbers next to each other differ by what the first has of the paper and the second has of us: claimed - a is due to
the evaluation, a - b to the pre-training, b - c to the protocol. Where a step is missing, what lies on both sides of it
cannot be told apart. Only steps at the claim's own setting are subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from leaderboards.arms import Arm, Arms
from leaderboards.claims import Claim, of_training
from leaderboards.deviations import deviations, protocol_deviations
from leaderboards.reasons import Departure
from leaderboards.record_fields import OURS
from leaderboards.suite import Suite

CLAIMED = "claimed"
STEPS: Mapping[str, str] = {
    "a": "authors' weights, our evaluation",
    "b": "our pre-training, the paper's protocol",
    "c": "our pre-training, our protocol",
}


@dataclass(frozen=True)
class Step:
    """One number on the way from the claimed one to ours."""

    key: str  # of STEPS
    arms: tuple[Arm, ...]  # the method's; for a gain the baseline's too
    values: Mapping[int, float]  # by seed; for a gain, differences on shared seeds
    apart: tuple[Departure, ...]  # in what it differs from the claim's setting; empty: it may be subtracted

    @property
    def mean(self) -> float:
        return fmean(self.values.values())


@dataclass(frozen=True)
class Shortfall:
    """The difference of two adjacent steps, and what it is due to: several things where a step between is missing."""

    start: str  # CLAIMED or a key of STEPS
    end: str
    points: float
    due: tuple[str, ...]


def reason(claim: Claim) -> str:
    """Why a claim has no gap, or ""."""
    if claim.value is None:
        return "states no number, so there is no gap"
    if of_training(claim):
        return "is about cost, which no evaluation or protocol changes"
    return ""


def expected(claim: Claim, own: str) -> dict[str, tuple[str, ...]]:
    """The steps of a claim, in order, and what the change into each is due to.

    own: the protocol that we take for the claim's evaluation without being asked. Where the paper's is the same, b and
    c are one; where it is not known, there is no b.
    """
    if not claim.protocol:
        return {"a": ("evaluation", "protocol"), "c": ("pre-training",)}
    found: dict[str, tuple[str, ...]] = {"a": ("evaluation",), "b": ("pre-training",)}
    return found if own == claim.protocol else {**found, "c": ("protocol",)}


def steps(claim: Claim, known: Arms, own: str) -> list[Step]:
    """All that is there of every step, in the order of STEPS; those that may be subtracted and the fullest first.

    Args:
        known: of all kinds and tracks. An arm of the authors' weights belongs to the claim's method when it is called
            so: `glnet`, or `truncated_triplet_median` for a variant.
        own: as for `expected`.
    """
    every = known.of(known.suite.kind_of(claim.evaluation))
    found = []
    for key in expected(claim, own):
        protocol = own if key == "c" or not claim.protocol else claim.protocol
        ours = [arm for arm in every if _belongs(arm, claim.method, claim.variant, key)]
        if not claim.baseline:
            found += [_step(claim, known.suite, key, protocol, (arm,)) for arm in ours]
            continue
        theirs = [arm for arm in every if _belongs(arm, claim.baseline, claim.baseline_variant, key)]
        pairs = [(a, b) for a in ours for b in theirs if a.setting == b.setting]
        found += [_step(claim, known.suite, key, protocol, pair) for pair in pairs]
    kept = [step for step in found if step.values and _is_of(step, claim)]
    order = list(STEPS)
    return sorted(kept, key=lambda step: (order.index(step.key), len(step.apart) > 0, -len(step.values), _name(step)))


def _belongs(arm: Arm, method: str, variant: str, key: str) -> bool:
    if key == "a":
        return arm.trust == "author" and arm.method in ((f"{method}_{variant}",) if variant else (method,))
    return arm.trust == OURS and (arm.method, arm.variant) == (method, variant)


def _step(claim: Claim, suite: Suite, key: str, protocol: str, found: tuple[Arm, ...]) -> Step:
    metric = claim.metric_read(own=key != "c")
    values = [arm.values(metric) for arm in found]
    shared = sorted(set.intersection(*(set(each) for each in values)))
    sign = 1.0 if claim.better == "higher" else -1.0
    by_seed = {s: values[0][s] if len(values) == 1 else sign * (values[0][s] - values[1][s]) for s in shared}
    # of a file of weights nobody knows how it was trained; the claim says how its own was
    but = ["protocol", *(("epochs", "batch", "recipe", "data of pre-training") if key == "a" else ())]
    changes = {} if key == "c" else claim.changes.get(found[0].kind, {})
    apart = list[Departure]()
    for departures in (
        *(deviations(claim, arm, suite, but) for arm in found),
        protocol_deviations(found[0], suite, protocol, changes, "this step's"),
    ):
        apart += [departure for departure in departures if departure not in apart]
    return Step(key, found, by_seed, tuple(apart))


def _is_of(step: Step, claim: Claim) -> bool:
    """b is what was run under the paper's protocol, c what was run under any other."""
    papers = bool(claim.protocol) and step.arms[0].setting.protocol == claim.protocol
    return {"a": True, "b": papers, "c": not papers}[step.key]


def _name(step: Step) -> str:
    return " ".join(f"{arm.setting} {arm.label}" for arm in step.arms)


def taken(found: Sequence[Step]) -> dict[str, Step]:
    """By key, the steps that may be subtracted."""
    comparable: dict[str, Step] = {}
    for step in found:
        if not step.apart:
            comparable.setdefault(step.key, step)
    return comparable


def shortfalls(claim: Claim, found: Sequence[Step], own: str) -> list[Shortfall]:
    """What lies between the claimed number and the last step, in the order of the steps."""
    assert claim.value is not None
    here, start, last = taken(found), CLAIMED, claim.value
    made, due = [], list[str]()
    for key, cause in expected(claim, own).items():
        due += cause
        if key in here:
            made.append(Shortfall(start, key, last - here[key].mean, tuple(due)))
            start, last, due = key, here[key].mean, []
    return made
