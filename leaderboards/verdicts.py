"""Verdicts: what the records say of a claim, always at a named track and with its n.

Only records of our own count, never imported ones. The unit of replication is a pre-training, so n counts seeds. A
claim against a baseline is tested on pairs: same seed, data, protocol, network, as many tuning trials, and either as
many epochs and the same batch (equal epochs) or as many operations of training within 10 % (equal compute). Tests are
one-sided t-tests at 5 % and, for sameness, two one-sided tests (TOST) against the claim's frozen margin; where their
spread comes from says `statistics.py`. Within a family of claims they are Holm's. Costs are compared as logarithms; one
that lies within its margin is no difference. With so few seeds a difference that is not shown is `underpowered`, not
absent. An arm whose seeds ran twice or whose tuning trials are not recorded decides nothing.

A claim's own setting is one of its network, epochs, batch, data and protocol, the values of the protocol as they stand;
where no source tells one of these, nothing counts as it. All else at its own track tests the direction alone, where
`proxies` allows it, and leaves the claim's own setting `not run`.

    number       reproduced | below | above | underpowered
    gain         the same at the claim's own setting, or opposite; elsewhere it counts as a direction
    direction    holds | opposite | no difference | underpowered
    cost_ratio   reproduced | below | above | underpowered
    any          no verdict (embedded, or n too small) | not run | incomparable
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import COMPUTE, EPOCHS, NoTest, Sample, Used, sample
from leaderboards.claims import COST, Claim, tested_on, tracks_of
from leaderboards.reasons import Departure, NoVerdicts, Reason, SmallTestSet
from leaderboards.record_fields import OURS
from leaderboards.setting import Setting
from leaderboards.statistics import ALPHA, Mean, holm
from leaderboards.suite import Suite

NO_VERDICTS = "embedded"
"""The track at which no verdict is given."""
# Test sets so small that no number of pre-trainings helps: 57 pictures, 162 queries.
TOO_SMALL = {("mini", "detection"), ("mini", "segmentation"), ("mini", "reid")}
SMALL_TRACKS = ("mini", "cifar")
HEADLINE = 10  # pairs that a verdict needs at the small tracks before it may be quoted without them
UP, DOWN, NULL, SAME = TESTS = ("up", "down", "null", "same")
"""What a test may show: the mean lies above 0, below 0, within the margin of 0, within that of the stated value."""


@dataclass(frozen=True)
class Evidence:
    """The test of a claim: what was asked, and what its numbers say."""

    shows: str  # of TESTS; "" for none: nothing is shown, or the stated value lies outside the prediction interval
    p_values: Mapping[str, float]  # by what they would show, not corrected for the family
    mean: Mean  # on the scale of the test: of costs the logarithm of their ratio
    margin: float  # on that scale
    level: float  # that p has to meet after the correction
    family: int  # claims that the correction is for
    resolvable: float  # the smallest mean difference that this test would have shown: points, percent of a cost
    needed: int | None  # pairs that would show the claimed effect with a power of 80 %; None where not known
    setting: Setting  # of the method's arm
    seeds: int  # that are there, whether used or not

    @property
    def p(self) -> float | None:
        """Of what is shown, not corrected for the family."""
        return self.p_values[self.shows] if self.shows else None

    @property
    def trifling(self) -> bool:
        """Whether a difference is shown that is smaller than what counts as one."""
        return self.shows in (UP, DOWN) and abs(self.mean.value) < self.margin


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim at one track, as facts; `wording.py` says them."""

    claim: Claim
    track: str
    outcome: str
    basis: str = ""  # of a comparison of accuracies: equal epochs or equal compute
    own: bool = False  # whether it is of the claim's own setting
    n: int = 0  # pairs, or for a number pre-trainings
    gap: float | None = None  # measured: difference in favour of the claim, value, or cost ratio
    evidence: Evidence | None = None
    reasons: tuple[Reason, ...] = ()  # why there is no test
    lacks: tuple[Departure, ...] = ()  # of the direction alone, at the claim's own track: what its own setting has
    rests_on: tuple[Used, ...] = ()  # what it was computed from: the method's, then the baseline's
    at_equal_compute: str = ""  # of one at equal epochs: the outcome there, where that takes this one back

    @property
    def quotable(self) -> bool:
        """Whether it may be quoted without its n."""
        return self.outcome == "underpowered" or self.track not in SMALL_TRACKS or self.n >= HEADLINE


@dataclass(frozen=True)
class _Tested:
    """A claim whose sample is there, and its p-values."""

    claim: Claim
    sample: Sample
    mean: Mean
    margin: float  # points, or log of a ratio
    target: float  # where the stated value lies on that scale
    p: Mapping[str, float]


def two_bases(claim: Claim) -> bool:
    """Whether the claim compares accuracies, which training for as long or for as much may change."""
    return bool(claim.baseline) and claim.evaluation != COST


def judge(claims: Sequence[Claim], known: Arms, track: str, basis: str = EPOCHS) -> list[Verdict]:
    """Verdicts on all claims at one track, in their order; Holm's correction runs over each family.

    A claim of the family that this track could test but has not yet counts in the correction all the same, so that it
    makes no difference in which order the runs were done. `basis` makes a difference where `two_bases` says so.
    """
    here: dict[str, list[Arm]] = {}
    for kind in {tested_on(claim, known.suite) for claim in claims}:
        here[kind] = [arm for arm in known.of(kind) if arm.trust == OURS and arm.setting.track == track]
    families: dict[str, list[str]] = defaultdict(list)
    for claim in claims:
        if track in tracks_of(claim):
            families[claim.family].append(claim.id)
    found = [
        _prepare(claim, here[tested_on(claim, known.suite)], known.suite, track, _basis(claim, basis))
        for claim in claims
    ]
    p = {item.claim.id: item.p for item in found if isinstance(item, _Tested)}
    shown: dict[str, set[str]] = {test: set() for test in TESTS}  # by test, the claims that it holds for
    for members in families.values():
        for test, passed in shown.items():
            values = [p[name][test] if name in p else 1.0 for name in members]
            passed.update(name for name, reject in zip(members, holm(values), strict=True) if reject)
    return [
        _decide(item, families[item.claim.family], shown, track, _basis(item.claim, basis))
        if isinstance(item, _Tested)
        else item
        for item in found
    ]


def _basis(claim: Claim, basis: str) -> str:
    return basis if two_bases(claim) else ""


def both(claims: Sequence[Claim], known: Arms, track: str) -> dict[str, list[Verdict]]:
    """By id of a claim, the verdict at equal epochs and, where it can differ and there is one, that at equal compute.

    Where these are of the direction alone, though at the claim's own track, its own setting follows: it was not run. A
    claim that holds at equal epochs and not at equal compute says so.
    """
    found = {item.claim.id: [item] for item in judge(claims, known, track)}
    comparing = [claim for claim in claims if two_bases(claim)]
    for compute in judge(comparing, known, track, COMPUTE):
        epochs = found[compute.claim.id][0]
        if epochs.outcome != "not run" or compute.outcome != "not run":
            found[compute.claim.id] = [_qualified(epochs, compute), compute]
    for name, (first, *others) in found.items():
        if first.lacks:
            own = Verdict(first.claim, track, "not run", own=True, reasons=first.lacks)
            found[name] = [first, *others, own]
    return found


def _qualified(epochs: Verdict, compute: Verdict) -> Verdict:
    taken_back = ("opposite", "no difference", "underpowered", "below")
    if epochs.outcome in ("holds", "reproduced", "above") and compute.outcome in taken_back:
        return replace(epochs, at_equal_compute=compute.outcome)
    return epochs


# ---------------------------------------------------------------------------------------------------------- the numbers


def _prepare(claim: Claim, arms: Sequence[Arm], suite: Suite, track: str, basis: str) -> _Tested | Verdict:
    """The numbers that this claim is tested on at this track, or the verdict that there are none."""
    if track == NO_VERDICTS:
        return Verdict(claim, track, "no verdict", basis, reasons=(NoVerdicts(),))
    try:
        found = sample(claim, arms, suite, track, basis)
    except NoTest as nothing:
        return Verdict(claim, track, nothing.outcome, basis, reasons=nothing.reasons)
    if (track, claim.evaluation) in TOO_SMALL:
        small = SmallTestSet(claim.metric)
        return replace(_about(claim, found, track, basis, "underpowered"), gap=None, reasons=(small,))
    if found.mean is None or found.mean.n < claim.n:
        return _about(claim, found, track, basis, "no verdict")
    margin = claim.margin if found.own else claim.proxies[track]
    margin = math.log1p(margin) if claim.evaluation == COST else margin
    target = 0.0 if claim.value is None else math.log(claim.value) if claim.kind == "cost_ratio" else claim.value
    return _Tested(claim, found, found.mean, margin, target, _p_values(found.mean, margin, target))


def _about(claim: Claim, found: Sample, track: str, basis: str, outcome: str) -> Verdict:
    """A verdict with all that a sample tells of it, but for the test."""
    return Verdict(
        claim=claim,
        track=track,
        outcome=outcome,
        basis=basis,
        own=found.own,
        n=found.mean.n if found.mean else found.seeds,
        gap=_shown(claim, found.mean.value) if found.mean else None,
        lacks=found.lacks if track == claim.track else (),
        rests_on=found.rests_on,
    )


def _p_values(mean: Mean, margin: float, target: float) -> dict[str, float]:
    p = (mean.above(0.0), mean.below(0.0), mean.within(0.0, margin), mean.within(target, margin))
    return dict(zip(TESTS, p, strict=True))


def _shown(claim: Claim, value: float) -> float:
    """From the scale of the test to that of the reader: a ratio of costs for their logarithm."""
    if claim.evaluation != COST:
        return value
    return math.exp(value if claim.kind == "cost_ratio" or claim.better == "higher" else -value)


# --------------------------------------------------------------------------------------------------------- the decision


def _decide(item: _Tested, members: Sequence[str], shown: Mapping[str, set[str]], track: str, basis: str) -> Verdict:
    """The verdict that tests give.

    members: the claims of its family.  shown: by test, the claims for which it holds after the correction.
    """
    claim, mean = item.claim, item.mean
    main = UP if claim.kind in ("gain", "direction") else SAME
    still_open = max(1, len(members) - len(shown[main] & {*members} - {claim.id}))  # claims of which nothing is shown
    level = ALPHA / still_open
    shows, outcome = _outcome(item, {test for test in TESTS if claim.id in shown[test]})
    relative = claim.evaluation == COST
    resolvable = mean.resolvable(level)
    return replace(
        _about(claim, item.sample, track, basis, outcome),
        evidence=Evidence(
            shows=shows,
            p_values=item.p,
            mean=mean,
            margin=item.margin,
            level=level,
            family=len(members),
            resolvable=math.expm1(resolvable) * 100 if relative else resolvable,
            needed=mean.needed(effect(claim, item.margin), level) if main == UP and not relative else None,
            setting=item.sample.setting,
            seeds=item.sample.seeds,
        ),
    )


def _outcome(item: _Tested, passed: set[str]) -> tuple[str, str]:
    """(what is shown, outcome): the first of what speaks of this kind of claim that is shown."""
    claim = item.claim
    if claim.kind == "direction" or (claim.kind == "gain" and not item.sample.own):
        order = [(UP, "holds"), (DOWN, "opposite"), (NULL, "no difference")]
        if claim.evaluation == COST:  # costs hardly stray: any trifle would be shown
            order = [order[2], *order[:2]]
    elif claim.kind == "gain":
        order = [(SAME, "reproduced"), (DOWN, "opposite"), ("", _beyond(item)), (UP, "holds")]
    else:
        order = [(SAME, "reproduced"), ("", _beyond(item))]
    for test, outcome in order:
        if test in passed or (not test and outcome):
            return test, outcome
    return "", "underpowered"


def _beyond(item: _Tested) -> str:
    """On which side of the 95 % prediction interval the values lie, "" where the stated one is within its margin."""
    low, high = item.mean.next_value()
    outside = "above" if low > item.target else "below" if high < item.target else ""
    return outside if abs(item.mean.value - item.target) > item.margin else ""


def effect(claim: Claim, margin: float) -> float:
    """The difference that a test should be able to show: the claimed one, else the margin."""
    return claim.value if claim.kind in ("gain", "direction") and claim.value else margin
