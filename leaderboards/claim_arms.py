"""Which arms a claim is tested on, and on which of their values.

Only arms that may decide something are paired: of our own training, without a flag. At equal epochs two arms share
their setting; at equal compute they share all of it but epochs and batch, and took as many operations. Arms that were
tuned alike come before all that there may be more of; where there are none, the one that had fewer trials may still be
shown to be the better one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from leaderboards.arms import Arm
from leaderboards.claims import (
    COST,
    INTERACTION,
    TRAINING,
    Claim,
    counted,
    lasts,
    of_learning,
    tested_on,
    tuning_matters,
)
from leaderboards.deviations import deviations
from leaderboards.learning import costs_to_accuracy, usable_curves
from leaderboards.paired_arms import ALIKE, Pair, pairs_alike, preferred
from leaderboards.reasons import (
    Departure,
    Deviation,
    Flagged,
    MachinesApart,
    NoRecord,
    NoValue,
    OlderSetup,
    OperationsApart,
    Reason,
    SettingsApart,
    SmallTestSet,
    Training,
    TuningApart,
)
from leaderboards.record_fields import Record, entry
from leaderboards.series import Series, series
from leaderboards.suite import Suite
from leaderboards.tuning import tuned_alike

EPOCHS, COMPUTE = "equal epochs", "equal compute"
SAME_ANYWHERE = ("flops", "flops_per_image", "updates", "image_passes", "epochs_to_accuracy", "flops_to_accuracy")
"""Costs that no machine changes."""
SAME_COMPUTE = 0.1  # operations of two trainings that count as equal differ by no more than this fraction

Read = Callable[[Arm], dict[int, float]]  # values by seed


@dataclass(frozen=True)
class Used:
    """The records of one arm that a verdict was computed from, by seed."""

    arm: str  # registry name
    records: Mapping[int, Record]


@dataclass(frozen=True)
class Sample:
    """What there is to test a claim on."""

    arms: tuple[Arm, ...]  # the method's, then the baseline's; of an interaction both of either length
    lacks: tuple[Departure, ...]  # what the claim's own setting has otherwise; none at that setting
    series: Series  # of a cost without chance: all seeds, none waits
    values: tuple[float, ...]  # in the order of the seeds: differences in favour of the claim, values, logs of ratios
    tuning: TuningApart | None = None  # where the two were not tuned alike
    at_checks: tuple[float, ...] = ()  # of claims on speed the values without what lies between two checks

    @property
    def own(self) -> bool:
        """Whether it is of the claim's own setting."""
        return not self.lacks

    @property
    def rests_on(self) -> tuple[Used, ...]:
        """The records that it was computed from."""
        return tuple(
            Used(name, {seed: arm.records[seed] for seed in self.series.seeds if seed in arm.records})
            for name, arm in zip(self.called, self.arms, strict=True)
        )

    @property
    def called(self) -> list[str]:
        """The arms' names; where one stands there twice, with its epochs."""
        names = [arm.name for arm in self.arms]
        return [
            f"{name} ({arm.setting.epochs} epochs)" if names.count(name) > 1 else name
            for name, arm in zip(names, self.arms, strict=True)
        ]


class NoTest(Exception):
    """There is nothing to test: the outcome, and why."""

    def __init__(self, outcome: str, *reasons: Reason) -> None:
        super().__init__(outcome, *reasons)
        self.outcome = outcome
        self.reasons = reasons


def sample(claim: Claim, arms: Sequence[Arm], suite: Suite, track: str, basis: str) -> Sample:
    """The values to test a claim on at one track.

    arms: ours, of the kind of record that tests this claim, on this track, which can test it (`testable.py`).

    Raises:
        NoTest: nothing fits the claim.
    """
    if claim.kind == INTERACTION:
        return _interaction(claim, arms, suite, track)
    arms = _of_own_subsets(claim, _large_enough(claim, arms), basis)
    ours = _unflagged(claim, claim.arm, arms, suite)
    if claim.kind == "number":
        return _values(claim, ours, suite)
    theirs = _unflagged(claim, claim.baseline_arm, arms, suite)
    if of_learning(claim) or claim.evaluation == TRAINING:
        ours, theirs = _having(claim, ours), _having(claim, theirs)
    try:
        pair, lacks = _pair(claim, ours, theirs, suite, track, basis)
    except NoTest as nothing:
        flagged = None
        if any(isinstance(why, SettingsApart) for why in nothing.reasons):
            flagged = _flagged_pair(claim, arms)
        raise flagged or nothing from None
    left, right = _sides(claim, pair, own=not lacks)
    if counted(claim):
        seeds = tuple(sorted(left.keys() | right.keys()))
        apart = (fmean(left.values()) - fmean(right.values()),) if left and right else ()
        return Sample(pair, lacks, Series(seeds), apart)
    found = series(pair, (left, right))
    values = tuple(left[seed] - right[seed] for seed in found.seeds)
    tuning = _tuning_apart([pair]) if tuning_matters(claim) else None
    if not of_learning(claim):
        return Sample(pair, lacks, found, values, tuning)
    left, right = _speeds(claim, pair, between=False)
    return Sample(pair, lacks, found, values, tuning, tuple(left[seed] - right[seed] for seed in found.seeds))


def _interaction(claim: Claim, arms: Sequence[Arm], suite: Suite, track: str) -> Sample:
    """Seed by seed, how much larger the difference in favour of the method is after the fewer epochs."""
    halves = [sample(claim.at_length(epochs), arms, suite, track, EPOCHS) for epochs in sorted(claim.lengths[track])]
    four = tuple(arm for half in halves for arm in half.arms)
    sides = [side for half in halves for side in _sides(claim, half.arms, own=False)]
    found = series(four, sides)
    signs = (1, -1, -1, 1)
    values = [sum(sign * side[seed] for sign, side in zip(signs, sides, strict=True)) for seed in found.seeds]
    tuning = next((half.tuning for half in halves if half.tuning), None)
    return Sample(four, halves[0].lacks, found, tuple(values), tuning)


def _sides(claim: Claim, pair: Sequence[Arm], own: bool) -> tuple[dict[int, float], dict[int, float]]:
    """What is compared of either arm, by seed, on the scale of the test."""
    if of_learning(claim):
        return _speeds(claim, pair)
    left, right = (_scaled(claim, reader(claim, own)(arm)) for arm in pair)
    return left, right


def _speeds(claim: Claim, pair: Sequence[Arm], between: bool = True) -> tuple[dict[int, float], dict[int, float]]:
    """The same of a claim on the speed of learning.  between: see `costs_to_accuracy`."""
    left, right = costs_to_accuracy(usable_curves(pair[0]), usable_curves(pair[1]), claim.metric, between)
    return _scaled(claim, left), _scaled(claim, right)


def _scaled(claim: Claim, side: Mapping[int, float]) -> dict[int, float]:
    return {seed: _scale(claim, value) for seed, value in side.items()}


def _values(claim: Claim, ours: Sequence[Arm], suite: Suite) -> Sample:
    """The values of a number that a claim states, from arms of its own setting."""
    apart = [tuple(deviations(claim, arm, suite)) for arm in ours]
    fitting = [arm for arm, departures in zip(ours, apart, strict=True) if not departures]
    if not fitting:
        raise NoTest("not run", *min(apart, key=len))
    arm = max(fitting, key=lambda a: (len(a.values(claim.metric)), a.label))
    values = arm.values(claim.metric)
    found = series((arm,), (values,))
    return Sample((arm,), (), found, tuple(values[seed] for seed in found.seeds))


def _large_enough(claim: Claim, arms: Sequence[Arm]) -> list[Arm]:
    """The arms that were judged on enough pictures; raises NoTest where the method has only others."""
    kept = [arm for arm in arms if not arm.setting.too_small]
    mine = [arm for arm in arms if arm.name == claim.arm]
    if mine and not any(arm in kept for arm in mine):
        raise NoTest("not run", SmallTestSet(claim.arm, tuple(sorted({arm.setting.data for arm in mine}))))
    return kept


def _of_own_subsets(claim: Claim, arms: Sequence[Arm], basis: str) -> list[Arm]:
    """Without the arms of one subset for all seeds; raises NoTest where the only pairs are of those.

    A cost without chance does not depend on the subset: there they leave when a pair of which each seed drew its own
    has come.
    """
    kept = [arm for arm in arms if arm.setting.drawn is not None]
    if len(kept) == len(arms) or _shared(claim, kept, basis):
        return kept
    if counted(claim):
        return list(arms)
    if pairs := _shared(claim, [arm for arm in arms if arm.setting.drawn is None], basis):
        raise NoTest("not run", OlderSetup(pairs))
    if {claim.arm, claim.baseline_arm} & ({arm.name for arm in arms} - {arm.name for arm in kept}):
        raise NoTest("not run", OlderSetup(0))  # of one side only, or of two sides that are no pair
    return kept


def _shared(claim: Claim, arms: Sequence[Arm], basis: str) -> int:
    """The largest number of seeds that a pair of these arms shares; 0 without a pair.  Of a number: of seeds."""
    ours = [arm for arm in arms if arm.name == claim.arm]
    if not claim.baseline:
        return max((len(arm.records) for arm in ours), default=0)
    theirs = [arm for arm in arms if arm.name == claim.baseline_arm]
    pairs = _but_length(ours, theirs) if basis == COMPUTE else pairs_alike(ours, theirs, lambda arm: arm.setting)
    return max((len(arm.records.keys() & other.records.keys()) for arm, other in pairs), default=0)


def _unflagged(claim: Claim, name: str, arms: Sequence[Arm], suite: Suite) -> list[Arm]:
    """The arms of this name that may decide something; raises NoTest where there is none."""
    found = [arm for arm in arms if arm.name == name]
    kept = [arm for arm in found if not arm.flag]
    if not found:
        raise NoTest("not run", NoRecord(name, name == claim.baseline_arm, tested_on(claim, suite)))
    if not kept:
        raise NoTest("incomparable", Flagged(name, found[0].flag))
    return kept


def _flagged_pair(claim: Claim, arms: Sequence[Arm]) -> NoTest | None:
    """Why there is no test, where two arms share a setting and one of them may decide nothing; else None."""
    ours, theirs = ([arm for arm in arms if arm.name == name] for name in (claim.arm, claim.baseline_arm))
    pairs = pairs_alike(ours, theirs, lambda arm: arm.setting)
    flagged = next((arm for pair in pairs for arm in pair if arm.flag), None)
    return NoTest("incomparable", Flagged(flagged.name, flagged.flag)) if flagged else None


def _having(claim: Claim, arms: Sequence[Arm]) -> list[Arm]:
    """The arms whose pre-trainings have what the claim is of; raises NoTest where there is none."""
    kept = [arm for arm in arms if reader(claim, own=False)(arm)]
    if not kept:
        raise NoTest("not run", NoValue(arms[0].name, "learning curve" if of_learning(claim) else claim.metric))
    return kept


def reader(claim: Claim, own: bool) -> Read:
    """How this claim's metric is read from an arm, by seed.

    own: whether in the claim's own setting. Choosing an epoch on the test set is part of some papers' own settings; it
        is no part of ours.
    """
    if of_learning(claim):
        return lambda arm: {seed: curve[-1].top1 for seed, curve in usable_curves(arm).items()}
    if claim.evaluation == COST:
        return lambda arm: {seed: cost for seed, cost in arm.costs(claim.metric).items() if cost > 0}
    metric = claim.metric_read(own)
    return lambda arm: arm.values(metric)


def _scale(claim: Claim, value: float) -> float:
    """A value on the scale of which differences are tested; larger speaks for the claim, but for a stated ratio."""
    sign = 1 if claim.better == "higher" or claim.kind == "cost_ratio" else -1
    return sign * (math.log(value) if claim.evaluation == COST else value)


# ------------------------------------------------------------------------------------------------------------- two arms


def _pair(
    claim: Claim, ours: Sequence[Arm], theirs: Sequence[Arm], suite: Suite, track: str, basis: str
) -> tuple[Pair, tuple[Departure, ...]]:
    """The two arms to compare, and what the claim's own setting has otherwise: nothing where they are of it.

    They are of the claim's own setting if any are, else of the fullest one.
    """
    pairs = _equal(claim, ours, theirs, basis)
    but = ("epochs", "batch") if basis == COMPUTE else ()  # at equal compute the baseline takes its own time
    left = {arm: deviations(claim, arm, suite) for arm in {arm: None for arm, _ in pairs}}
    right = {arm: deviations(claim, arm, suite, but) for arm in {arm: None for _, arm in pairs}}

    def departures(pair: Pair) -> tuple[Departure, ...]:
        """In what either arm differs from the claim's own setting."""
        found = left[pair[0]]
        return (*found, *(departure for departure in right[pair[1]] if departure not in found))

    fitting = {arm for arm, found in left.items() if not found}, {arm for arm, found in right.items() if not found}
    exact = [(arm, other) for arm, other in pairs if arm in fitting[0] and other in fitting[1]] if all(fitting) else []
    if not exact and track not in claim.proxies:
        raise NoTest("not run", *min(map(departures, pairs), key=len))
    right_long = exact or [pair for pair in pairs if lasts(claim, track, pair[0].setting.epochs)]
    if not right_long:
        epochs = min(pair[0].setting.epochs or 0 for pair in pairs)
        stated = claim.lengths.get(track) or (f"{claim.proxy_epochs[track]} at most",)
        raise NoTest("not run", Deviation("epochs", epochs, stated[0]))
    read = reader(claim, own=bool(exact))
    pair = most_alike(right_long, read)
    apart = _tuning_apart([pair]) if tuning_matters(claim) else None
    if apart and not (apart.ours and apart.theirs):
        raise NoTest("incomparable", apart)
    if claim.evaluation == COST and claim.metric not in SAME_ANYWHERE:
        machines = {_machine(arm.records[seed]) for arm in pair for seed in read(arm)}
        if len(machines) > 1:
            raise NoTest("incomparable", MachinesApart(tuple(sorted(machines))))
    return pair, () if exact else departures(pair)


def _equal(claim: Claim, ours: Sequence[Arm], theirs: Sequence[Arm], basis: str) -> list[Pair]:
    """All pairs that may be compared on this basis; raises NoTest where there is none."""
    if basis == COMPUTE:
        alike = _but_length(ours, theirs)
        pairs = [pair for pair in alike if same_operations(*pair)]
        if not pairs:
            first, second = min(alike or [(ours[0], theirs[0])], key=lambda pair: _log_ratio(*pair))
            nearest = _training(first), _training(second)
            raise NoTest("not run", OperationsApart(nearest, SAME_COMPUTE), *_told(_tuning_apart(alike)))
    else:
        pairs = pairs_alike(ours, theirs, lambda arm: arm.setting)
        if not pairs:
            apart = _settings_apart(claim, ours, theirs)
            raise NoTest("incomparable", apart, *_told(_tuning_apart(_but_length(ours, theirs))))
    return pairs


def _but_length(ours: Sequence[Arm], theirs: Sequence[Arm]) -> list[Pair]:
    """The pairs that share all of their setting but epochs and batch."""
    return pairs_alike(ours, theirs, lambda arm: replace(arm.setting, epochs=None, batch=None))


def most_alike(pairs: Sequence[Pair], read: Read) -> Pair:
    """Equal tuning, then most seeds, likest recipes, longest schedule, newest records: never by the values."""
    seeds = {arm: read(arm).keys() for arm in {arm: None for pair in pairs for arm in pair}}
    return preferred(
        pairs,
        lambda pair: _tuned_alike(*pair),
        lambda pair: len(seeds[pair[0]] & seeds[pair[1]]),
        *ALIKE,
        lambda pair: f"{pair[0].setting}{pair[0].label}{pair[1].label}",
    )


def _tuning_apart(pairs: Sequence[Pair]) -> TuningApart | None:
    """That of none of these pairs both arms are known to be tuned alike; None where one is, or without a pair."""
    if not pairs or any(_tuned_alike(*pair) for pair in pairs):
        return None
    ours, theirs = (tuple(sorted({how for arm in side for how in arm.tuning})) for side in zip(*pairs, strict=True))
    return TuningApart(ours, theirs)


def _told(apart: TuningApart | None) -> tuple[TuningApart, ...]:
    return (apart,) if apart else ()


def _tuned_alike(a: Arm, b: Arm) -> bool:
    return tuned_alike(a.tuning, b.tuning)


def _settings_apart(claim: Claim, ours: Iterable[Arm], theirs: Iterable[Arm]) -> SettingsApart:
    """The first thing that no two arms share, of those that share what comes before it."""
    sides = [list(ours), list(theirs)]
    of_data = ("data", "manifest", "protocol", "protocol_hash")
    for key in (*of_data, "network", "trained_on", "pictures", "epochs", "batch"):
        left, right = (frozenset(getattr(arm.setting, key) for arm in side) for side in sides)
        if not left & right:
            return SettingsApart(claim.arm, claim.baseline_arm, key, left, right)
        sides = [[arm for arm in side if getattr(arm.setting, key) in left & right] for side in sides]
    return SettingsApart(claim.arm, claim.baseline_arm, "")


def _training(arm: Arm) -> Training:
    return Training(arm.name, arm.operations, arm.setting.epochs)


def times_operations(a: Arm, b: Arm) -> float | None:
    """How many times the operations of the second one's training the first one's took; None where not recorded."""
    return a.operations / b.operations if a.operations and b.operations else None


def same_operations(a: Arm, b: Arm) -> bool:
    """Whether two trainings took as many operations as count as equal compute."""
    return _log_ratio(a, b) <= math.log1p(SAME_COMPUTE)


def _log_ratio(a: Arm, b: Arm) -> float:
    """How far apart two arms' operations of training are, as |log| of their ratio; infinite where not recorded."""
    left, right = a.operations, b.operations  # their logs, as a ratio may be too small for a number
    return math.inf if left is None or right is None else abs(math.log(left) - math.log(right))


def _machine(record: Record) -> str:
    return f"{entry(record, 'provenance', 'device') or '-'}, {entry(record, 'provenance', 'threads') or '-'} threads"
