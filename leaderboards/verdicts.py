"""Verdicts: what the records say of a claim, always at a named track and with its n.

Only records of our own count, and those of another lab that ran the same code on the same data; never other imported
ones. The unit of replication is a pre-training, so n counts seeds.

A claim against a baseline is tested on pairs: same seed, data, protocol, network, and either as many epochs and the
same batch (equal epochs) or as many operations of training within 10 % (equal compute, tested once equal epochs is
decided). The tests are e-values (`evalues.py`), which may be looked at after every pair; the claims of one paper that a
run can test are a family, and share one error rate of 5 % per question by Holm's procedure. A verdict depends on the
records of its own pair and on numbers that were frozen before. An arm whose seeds ran twice or whose tuning is not
recorded decides nothing. Of two arms that were not tuned alike (by one procedure, or by hand with as many trials) only
the one with fewer trials can be shown to be better. Pairs of which all seeds share one training subset, of an older
setup of mini, are `not run`; a cost without chance is still compared by them.

A claim's own setting is one of its network, epochs, batch, data and protocol, the values of the protocol as they stand;
where no source tells one of these, nothing counts as it. All else at its own track tests the direction alone, where
`proxies` allows it, and leaves the claim's own setting `not run`.

    number       reproduced | below | above | not decided yet
    gain         the same at the claim's own setting, or opposite, or holds; elsewhere it counts as a direction
    direction    holds | opposite | no difference | not decided yet; the first two also smaller than the margin
    interaction  the same, of how much larger the difference is with fewer epochs
    mechanism    the same as a direction
    cost_ratio   reproduced | below | above | not decided yet
    any          no verdict (embedded) | not run | incomparable | cannot be tested

Costs without chance (operations, updates) are compared as they are: no n, no error rate, no `not decided yet`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from leaderboards import evalues
from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import COMPUTE, EPOCHS, NoTest, Sample, Used, sample, times_operations
from leaderboards.claims import COST, INTERACTION, MECHANISM, Claim, counted, of_training, shown, tested_on
from leaderboards.deviations import departures, of_older_recipe
from leaderboards.reasons import Departure, Deviation, EpochsFirst, NoVerdicts, OtherTracks, Reason, TuningApart
from leaderboards.record_fields import OURS
from leaderboards.series import Series, collapsed
from leaderboards.setting import Setting
from leaderboards.statistics import Mean, own
from leaderboards.suite import Suite
from leaderboards.testable import hindrance, members, unreachable
from leaderboards.tuning import fewer

NO_VERDICTS = "embedded"
"""The track at which no verdict is given."""
UP, DOWN, NULL, SAME, OVER, UNDER = TESTS = ("up", "down", "null", "same", "over", "under")
"""What a test may show of the mean: above or below 0, within the margin of 0 or of the stated value, beyond these."""
QUESTIONS = ((UP, DOWN), (NULL, SAME), (OVER, UNDER))
"""Tests that answer one question; a family has an error rate for each."""

HOLDS, OPPOSITE, NO_DIFFERENCE, UNDECIDED = "holds", "opposite", "no difference", "not decided yet"
REPRODUCED, ABOVE, BELOW = "reproduced", "above", "below"
SMALLER = ", smaller than the margin"
NOT_RUN, INCOMPARABLE, UNTESTABLE, NONE = "not run", "incomparable", "cannot be tested", "no verdict"
OUTCOMES = (
    *(HOLDS, HOLDS + SMALLER, OPPOSITE, OPPOSITE + SMALLER, NO_DIFFERENCE, REPRODUCED, ABOVE, BELOW),
    *(UNDECIDED, INCOMPARABLE, NOT_RUN, UNTESTABLE, NONE),
)
"""All that a verdict may be."""


@dataclass(frozen=True)
class Evidence:
    """The test of a claim: what was asked, and what its numbers say."""

    by_test: Mapping[str, float]  # of the tests that were asked: the largest so far
    takes: Mapping[str, float]  # of each of them, what it takes, or took
    shown: tuple[str, ...]  # of them
    signs_apart: tuple[str, ...]  # of what is shown, that with which a sign test of the same values disagrees
    values: tuple[float, ...]  # that were tested, in the order in which they entered
    mean: Mean  # on the scale of the test: of costs the logarithm of their ratio
    margin: float  # on that scale
    target: float  # on it: the stated value, 0 without one
    family: int  # claims that share the error rate
    collapsed: Mapping[str, tuple[int, ...]]  # by arm, of the seeds that entered
    # of what is shown of the speed of learning, that which the checks alone do not show: the evidence of these
    by_checks: Mapping[str, float] = field(default_factory=dict)

    @property
    def fragile(self) -> bool:
        """Whether another sound way to read the same values does not show what is shown."""
        return bool(self.signs_apart or self.by_checks)

    @property
    def nearest(self) -> str:
        """The test that is nearest to what it takes."""
        return max(self.by_test, key=lambda test: self.by_test[test] / self.takes[test])


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim at one track, as facts; `wording.py` says them."""

    claim: Claim
    track: str
    outcome: str
    basis: str = ""  # of a comparison of accuracies: equal epochs or equal compute
    own: bool = False  # whether it is of the claim's own setting
    gap: float | None = None  # measured: difference in favour of the claim, value, or cost ratio
    evidence: Evidence | None = None
    reasons: tuple[Reason, ...] = ()  # why there is no test
    lacks: tuple[Departure, ...] = ()  # of the direction alone, at the claim's own track: what its own setting has
    departs: tuple[Deviation, ...] = ()  # in what the method's recipe is not that of the own track
    arms: tuple[Arm, ...] = field(default=(), repr=False)  # that it rests on: the method's, then the baseline's
    series: Series = field(default_factory=Series)  # the seeds that entered, and those that did not
    rests_on: tuple[Used, ...] = ()  # the records that it was computed from
    tuning: TuningApart | None = None  # where the arms were not tuned alike
    form: str = ""  # the variant, where it is of the method in the paper's own form, beside the claim's
    at_equal_compute: str = ""  # of one at equal epochs: the outcome there, where that takes this one back
    same_runs: bool = False  # of one at equal compute: its runs are those at equal epochs
    older_recipe: bool = False  # of a cost without chance: a recipe has changed since

    @property
    def times(self) -> float | None:
        """How many times the operations of the baseline's training the method's took; None where that is not known."""
        return times_operations(*self.arms[:2]) if len(self.arms) > 1 else None

    @property
    def n(self) -> int:
        """Pairs, or for a number pre-trainings; 0 for a cost without chance."""
        return 0 if counted(self.claim) else len(self.series.seeds)

    @property
    def setting(self) -> Setting | None:
        """Of the method's arm."""
        return self.arms[0].setting if self.arms else None

    @property
    def open_again(self) -> bool:
        """Whether it is of a cost that is open again: of an older setup of the track, and the recipe has changed."""
        return self.older_recipe and self.setting is not None and self.setting.drawn is None

    @property
    def decided(self) -> bool:
        """Whether its question is answered, be it by no difference."""
        answered = self.rests_on if counted(self.claim) else self.evidence and self.evidence.shown
        return bool(answered) and not self.open_again


@dataclass(frozen=True)
class _Tested:
    """A claim whose sample is there, and its evidence."""

    claim: Claim
    sample: Sample
    margin: float  # points, or log of a ratio
    target: float  # where the stated value lies on that scale
    by_test: Mapping[str, float]  # of the tests that this kind of claim asks
    usable: frozenset[str]  # of them: not those that might be the doing of unequal tuning

    def best(self, question: Sequence[str]) -> float:
        """The largest evidence of the tests of a question."""
        return max((self.by_test[test] for test in question if test in self.usable), default=1.0)


_Found = dict[str, _Tested | Verdict]  # by id of the claim
_Takes = dict[str, dict[str, float]]  # by id of the claim: what each of its tests takes


def two_bases(claim: Claim) -> bool:
    """Whether the claim compares accuracies, which may differ between equal epochs and equal compute."""
    return bool(claim.baseline) and not of_training(claim) and claim.kind != INTERACTION


def judge(claims: Sequence[Claim], known: Arms, track: str) -> dict[str, list[Verdict]]:
    """By id of a claim, the verdict at equal epochs and, where it can differ and there is one, that at equal compute.

    Where these are of the direction alone, though at the claim's own track, its own setting follows: it was not run. A
    claim that holds at equal epochs and not at equal compute says so.

    What was trained or tested on a user's own pictures says nothing about a paper's claim, and is left out.

    claims: of all families as a whole, as their claims share an error rate.
    """
    suite = known.suite
    here: dict[str, list[Arm]] = {}
    for kind in {tested_on(claim, suite) for claim in claims}:
        ours = (arm for arm in known.of(kind) if arm.trust == OURS and arm.setting.track == track)
        here[kind] = [arm for arm in ours if not arm.setting.of_own_pictures(suite.own)]

    def prepared(found: Sequence[Claim], basis: str) -> _Found:
        return {
            claim.id: _prepare(claim, here[tested_on(claim, suite)], suite, track, basis if two_bases(claim) else "")
            for claim in found
        }

    families = members(claims, suite, track)
    tested = prepared(claims, EPOCHS)
    takes = _thresholds(families, tested)
    found = {
        claim.id: [_decided(tested[claim.id], takes, families, suite, EPOCHS if two_bases(claim) else "")]
        for claim in claims
    }
    comparing = [claim for claim in claims if two_bases(claim)]
    again = prepared(comparing, COMPUTE)
    settled = {name for name, (first,) in found.items() if first.evidence and first.evidence.shown}
    asked = {name: item for name, item in again.items() if name in settled or isinstance(item, Verdict)}
    takes = _thresholds(families, asked)
    for claim in comparing:
        (first,) = found[claim.id]
        second = again[claim.id]
        compute = _decided(second, takes, families, suite, COMPUTE) if claim.id in asked else _later(second, COMPUTE)
        compute = replace(compute, same_runs=bool(compute.arms) and compute.arms == first.arms)
        if NOT_RUN != first.outcome != UNTESTABLE or compute.outcome not in (NOT_RUN, UNTESTABLE):
            found[claim.id] = [_qualified(first, compute), compute]
    for name, (first, *others) in found.items():
        if first.lacks:
            why = unreachable(first.claim, suite)
            own_setting = Verdict(
                first.claim, track, UNTESTABLE if why else NOT_RUN, own=True, reasons=(why,) if why else first.lacks
            )
            found[name] = [first, *others, own_setting]
    return found


def _qualified(epochs: Verdict, compute: Verdict) -> Verdict:
    taken_back = (OPPOSITE, OPPOSITE + SMALLER, NO_DIFFERENCE, UNDECIDED, BELOW)
    if epochs.outcome in (HOLDS, HOLDS + SMALLER, REPRODUCED, ABOVE) and compute.outcome in taken_back:
        return replace(epochs, at_equal_compute=compute.outcome)
    return epochs


# ---------------------------------------------------------------------------------------------------------- the numbers


def _prepare(claim: Claim, arms: Sequence[Arm], suite: Suite, track: str, basis: str) -> _Tested | Verdict:
    """The evidence on this claim on this track, or the verdict where there is none to weigh."""
    if track == NO_VERDICTS:
        return Verdict(claim, track, NONE, basis, reasons=(NoVerdicts(),))
    why = hindrance(claim, suite, track)
    if why:
        elsewhere = isinstance(why, OtherTracks)
        outcome, at_home = INCOMPARABLE if elsewhere else UNTESTABLE, track not in claim.proxies and not elsewhere
        return Verdict(claim, track, outcome, basis, own=at_home, reasons=(why,))
    try:
        found = sample(claim, arms, suite, track, basis)
    except NoTest as nothing:
        return Verdict(claim, track, nothing.outcome, basis, reasons=nothing.reasons)
    margin = claim.margin if found.own else claim.proxies[track]
    margin = math.log1p(margin) if claim.evaluation == COST else margin
    target = 0.0 if claim.value is None else math.log(claim.value) if claim.kind == "cost_ratio" else claim.value
    if counted(claim):
        return _counted(claim, found, track, margin, target, suite)
    by_test = _evidence(found.values, margin, target, _asked(claim, found))
    return _Tested(claim, found, margin, target, by_test, _usable(claim, found.tuning, by_test))


def _asked(claim: Claim, found: Sample) -> tuple[str, ...]:
    """The tests of this kind of claim."""
    if claim.kind in ("direction", INTERACTION, MECHANISM) or (claim.kind == "gain" and not found.own):
        return (UP, DOWN, NULL)
    return (UP, DOWN, SAME, OVER, UNDER) if claim.kind == "gain" else (SAME, OVER, UNDER)


def _evidence(values: Sequence[float], margin: float, target: float, asked: Sequence[str]) -> dict[str, float]:
    made = {
        UP: lambda: evalues.above(values),
        DOWN: lambda: evalues.below(values),
        NULL: lambda: evalues.within(values, -margin, margin),
        SAME: lambda: evalues.within(values, target - margin, target + margin),
        OVER: lambda: evalues.above(values, target + margin),
        UNDER: lambda: evalues.below(values, target - margin),
    }
    return {test: made[test]() for test in asked}


def _usable(claim: Claim, apart: TuningApart | None, asked: Mapping[str, float]) -> frozenset[str]:
    """The tests whose result would not be the doing of unequal tuning: who had fewer trials may be the better one."""
    if apart is None:
        return frozenset(asked)
    if claim.kind == INTERACTION:
        return frozenset()
    if fewer(apart.ours, apart.theirs):
        return frozenset({UP, OVER} & asked.keys())
    return frozenset({DOWN, UNDER} & asked.keys()) if fewer(apart.theirs, apart.ours) else frozenset()


def _about(claim: Claim, found: Sample, track: str, basis: str, outcome: str, suite: Suite) -> Verdict:
    """A verdict with all that a sample tells of it, but for the test."""
    return Verdict(
        claim=claim,
        track=track,
        outcome=outcome,
        basis=basis,
        own=found.own,
        gap=shown(claim, sum(found.values) / len(found.values)) if found.values else None,
        lacks=found.lacks if track == claim.track else (),
        departs=tuple(departures(claim, found.arms[0], suite)),
        arms=found.arms,
        series=found.series,
        rests_on=found.rests_on if found.values else (),
        tuning=found.tuning,
        older_recipe=counted(claim) and any(of_older_recipe(arm, suite) for arm in found.arms),
    )


def _counted(claim: Claim, found: Sample, track: str, margin: float, target: float, suite: Suite) -> Verdict:
    """The verdict on a cost without chance: what is there is compared as it is."""
    if not found.values:
        return _about(claim, found, track, "", NOT_RUN, suite)
    apart = found.values[0] - (0.0 if claim.kind == "direction" else target)
    names = (HOLDS, OPPOSITE, NO_DIFFERENCE) if claim.kind == "direction" else (ABOVE, BELOW, REPRODUCED)
    outcome = names[2] if abs(apart) <= margin else names[0] if apart > 0 else names[1]
    return _about(claim, found, track, "", outcome, suite)


# --------------------------------------------------------------------------------------------------------- the decision


def _thresholds(families: Mapping[str, Sequence[Claim]], found: _Found) -> _Takes:
    """What each test takes by Holm's procedure, which runs over each family and question."""
    takes: _Takes = {}
    for claims in families.values():
        items = [found.get(claim.id) for claim in claims]
        for question in QUESTIONS:
            best = [item.best(question) if isinstance(item, _Tested) else 1.0 for item in items]
            for claim, (_, needed) in zip(claims, evalues.holm(best), strict=True):
                takes.setdefault(claim.id, {}).update(dict.fromkeys(question, needed))
    return takes


def _decided(
    item: _Tested | Verdict, takes: _Takes, families: Mapping[str, Sequence[Claim]], suite: Suite, basis: str
) -> Verdict:
    """The verdict that the evidence gives."""
    if isinstance(item, Verdict):
        return item
    claim, values, needed = item.claim, item.sample.values, takes[item.claim.id]
    reached = [test for test, found in item.by_test.items() if found >= needed[test]]
    shown = tuple(test for test in reached if test in item.usable)
    outcome = _outcome(item, shown)
    track = item.sample.arms[0].setting.track
    about = _about(claim, item.sample, track, basis, outcome, suite)
    if reached and not shown and item.sample.tuning:
        about = replace(about, outcome=INCOMPARABLE, reasons=(item.sample.tuning,))
    if not values:
        return about
    weighed = {test: found for test, found in item.by_test.items() if test in item.usable} or item.by_test
    return replace(
        about,
        evidence=Evidence(
            by_test=weighed,
            takes={test: needed[test] for test in weighed},
            shown=shown,
            signs_apart=tuple(test for test in shown if _signs(item, test) > evalues.ALPHA),
            values=tuple(values),
            mean=own(values),
            margin=item.margin,
            target=item.target,
            family=len(families[claim.family]),
            collapsed={
                name: lost
                for name, arm in zip(item.sample.called, item.sample.arms, strict=True)
                if (lost := collapsed(arm, item.sample.series.seeds))
            },
            by_checks={test: found for test, found in _at_checks(item, shown).items() if found < needed[test]},
        ),
    )


def _at_checks(item: _Tested, shown: Sequence[str]) -> dict[str, float]:
    """The evidence of these tests without what lies between two checks of a training; {} but of claims on speed."""
    values = item.sample.at_checks
    return _evidence(values, item.margin, item.target, shown) if values else {}


def _outcome(item: _Tested, shown: Sequence[str]) -> str:
    """What is shown; of above and below, which no data but odd ones show both, what has more evidence."""
    first = [test for test in (UP, DOWN) if test in shown]
    better = max(first, key=lambda test: item.by_test[test], default="")
    if NULL in item.by_test:
        if better:
            return (HOLDS if better == UP else OPPOSITE) + (SMALLER if NULL in shown else "")
        return NO_DIFFERENCE if NULL in shown else UNDECIDED
    if SAME in shown:
        return REPRODUCED
    if better == DOWN:
        return OPPOSITE
    beyond = max((test for test in (OVER, UNDER) if test in shown), key=lambda test: item.by_test[test], default="")
    if beyond:
        return ABOVE if beyond == OVER else BELOW
    return HOLDS if better else UNDECIDED


def _signs(item: _Tested, test: str) -> float:
    """p-value of the sign test for what a test shows."""
    values, negative = item.sample.values, [-value for value in item.sample.values]
    low, high = item.target - item.margin, item.target + item.margin
    if test == UP:
        return evalues.sign_test(values)
    if test == DOWN:
        return evalues.sign_test(negative)
    if test == OVER:
        return evalues.sign_test(values, high)
    if test == UNDER:
        return evalues.sign_test(negative, -low)
    if test == NULL:
        low, high = -item.margin, item.margin
    return max(evalues.sign_test(values, low), evalues.sign_test(negative, -high))


def _later(item: _Tested | Verdict, basis: str) -> Verdict:
    """Equal compute before equal epochs is decided: nothing is asked yet."""
    if isinstance(item, Verdict):
        return item
    return Verdict(
        item.claim,
        item.sample.arms[0].setting.track,
        UNDECIDED,
        basis,
        reasons=(EpochsFirst(),),
        gap=shown(item.claim, sum(item.sample.values) / len(item.sample.values)) if item.sample.values else None,
        arms=item.sample.arms,
        series=item.sample.series,
        rests_on=item.sample.rests_on,
    )
