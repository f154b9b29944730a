"""Which arms a claim is tested on, and on which of their values.

Only arms that may decide something are paired: of our own training, without a flag, tuned as often. At equal epochs two
arms share their setting; at equal compute they share all of it but epochs and batch, and took as many operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from leaderboards import statistics
from leaderboards.arms import Arm
from leaderboards.claims import COST, NO_TRACK, Claim, tracks_of
from leaderboards.deviations import deviations
from leaderboards.paired_arms import ALIKE, Pair, pairs_alike, preferred
from leaderboards.reasons import (
    Departure,
    Flagged,
    MachinesApart,
    NoRecord,
    NoTrack,
    OperationsApart,
    OtherTracks,
    Reason,
    SettingsApart,
    Training,
    TrialsApart,
)
from leaderboards.record_fields import Record, entry
from leaderboards.setting import Setting
from leaderboards.statistics import Mean
from leaderboards.suite import Suite

EPOCHS, COMPUTE = "equal epochs", "equal compute"
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

    setting: Setting  # of the method's arm
    lacks: tuple[Departure, ...]  # what the claim's own setting has otherwise; none at that setting
    seeds: int  # that are there; the first ones, as many as the claim froze, are used
    mean: Mean | None  # of differences in favour of the claim, of values, or of logs of cost ratios
    rests_on: tuple[Used, ...]  # the method's records, then the baseline's

    @property
    def own(self) -> bool:
        """Whether it is of the claim's own setting."""
        return not self.lacks


class NoTest(Exception):
    """There is nothing to test: the outcome, and why."""

    def __init__(self, outcome: str, *reasons: Reason) -> None:
        super().__init__(outcome, *reasons)
        self.outcome = outcome
        self.reasons = reasons


def sample(claim: Claim, arms: Sequence[Arm], suite: Suite, track: str, basis: str) -> Sample:
    """The values to test a claim on at one track.

    arms: ours, of the kind of record that tests this claim, at this track.

    Raises:
        NoTest: nothing fits the claim.
    """
    if claim.track == NO_TRACK and not claim.proxies:
        raise NoTest("not run", NoTrack(claim.data))
    if track not in tracks_of(claim):
        raise NoTest("incomparable", OtherTracks(tracks_of(claim)))
    ours = _unflagged(claim.arm, arms, baseline=False)
    if claim.kind == "number":
        return _values(claim, ours, suite)
    theirs = _unflagged(claim.baseline_arm, arms, baseline=True)
    arm, other, lacks = _pair(claim, ours, theirs, suite, track, basis)
    read = reader(claim, own=not lacks)
    left, right = read(arm), read(other)
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return Sample(arm.setting, lacks, 0, None, ())
    peers = [a for a in arms if a.setting.scope == arm.setting.scope and a not in (arm, other) and not a.flag]
    table = [read(a) for a in peers] if claim.evaluation != COST else []
    frozen = seeds[: claim.n]
    scaled = [
        {seed: _scale(claim, value) for seed, value in values.items() if seed in frozen}
        for values in (left, right, *table)
    ]
    mean = statistics.paired(scaled[0], scaled[1], scaled[2:])
    return Sample(arm.setting, lacks, len(seeds), mean, (_used(arm, frozen), _used(other, frozen)))


def _values(claim: Claim, ours: Sequence[Arm], suite: Suite) -> Sample:
    """The values of a number that a claim states, from arms of its own setting."""
    apart = [tuple(deviations(claim, arm, suite)) for arm in ours]
    fitting = [arm for arm, departures in zip(ours, apart, strict=True) if not departures]
    if not fitting:
        raise NoTest("not run", *min(apart, key=len))
    arm = max(fitting, key=lambda a: (len(a.values(claim.metric)), a.label))
    values = arm.values(claim.metric)
    frozen = sorted(values)[: claim.n]
    mean = statistics.own([values[seed] for seed in frozen]) if frozen else None
    return Sample(arm.setting, (), len(values), mean, (_used(arm, frozen),))


def _unflagged(name: str, arms: Sequence[Arm], *, baseline: bool) -> list[Arm]:
    """The arms of this name that may decide something; raises NoTest where there is none."""
    found = [arm for arm in arms if arm.name == name]
    kept = [arm for arm in found if not arm.flag]
    if not found:
        raise NoTest("not run", NoRecord(name, baseline))
    if not kept:
        raise NoTest("incomparable", Flagged(name, found[0].flag))
    return kept


def _used(arm: Arm, seeds: Sequence[int]) -> Used:
    return Used(arm.name, {seed: arm.records[seed] for seed in seeds})


def reader(claim: Claim, own: bool) -> Read:
    """How this claim's metric is read from an arm, by seed.

    own: whether in the claim's own setting. Choosing an epoch on the test set is part of some papers' own settings; it
        is no part of ours.
    """
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
) -> tuple[Arm, Arm, tuple[Departure, ...]]:
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
    read = reader(claim, own=bool(exact))
    arm, other = most_alike(exact or pairs, read)
    if why := _trials_apart([(arm, other)]):
        raise NoTest("incomparable", *why)
    if claim.evaluation == COST:
        machines = {_machine(a.records[seed]) for a in (arm, other) for seed in read(a)}
        if len(machines) > 1:
            raise NoTest("incomparable", MachinesApart(tuple(sorted(machines))))
    return arm, other, () if exact else departures((arm, other))


def _equal(claim: Claim, ours: Sequence[Arm], theirs: Sequence[Arm], basis: str) -> list[Pair]:
    """All pairs that may be compared on this basis; raises NoTest where there is none."""
    if basis == COMPUTE:
        alike = _but_length(ours, theirs)
        pairs = [pair for pair in alike if _log_ratio(*pair) <= math.log1p(SAME_COMPUTE)]
        if not pairs:
            first, second = min(alike or [(ours[0], theirs[0])], key=lambda pair: _log_ratio(*pair))
            nearest = _training(first), _training(second)
            raise NoTest("not run", OperationsApart(nearest, SAME_COMPUTE), *_trials_apart(alike))
    else:
        pairs = pairs_alike(ours, theirs, lambda arm: arm.setting)
        if not pairs:
            apart = _settings_apart(claim, ours, theirs)
            raise NoTest("incomparable", apart, *_trials_apart(_but_length(ours, theirs)))
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


def _trials_apart(pairs: Sequence[Pair]) -> tuple[TrialsApart, ...]:
    """That of none of these pairs both arms are known to be tuned alike; or nothing."""
    if not pairs or any(_tuned_alike(*pair) for pair in pairs):
        return ()
    ours, theirs = (tuple(sorted({count for arm in side for count in arm.trials})) for side in zip(*pairs, strict=True))
    return (TrialsApart(ours, theirs),)


def _tuned_alike(a: Arm, b: Arm) -> bool:
    return bool(a.trials) and a.trials == b.trials


def _settings_apart(claim: Claim, ours: Iterable[Arm], theirs: Iterable[Arm]) -> SettingsApart:
    """The first thing in which two arms differ that no record shares."""
    for key in ("data", "manifest", "protocol", "protocol_hash", "network", "epochs", "batch", "trained_on"):
        left, right = (frozenset(getattr(arm.setting, key) for arm in side) for side in (ours, theirs))
        if not left & right:
            return SettingsApart(claim.arm, claim.baseline_arm, key, left, right)
    return SettingsApart(claim.arm, claim.baseline_arm, "")


def _training(arm: Arm) -> Training:
    return Training(arm.name, arm.operations, arm.setting.epochs)


def _log_ratio(a: Arm, b: Arm) -> float:
    """How far apart two arms' operations of training are, as |log| of their ratio; infinite where not recorded."""
    left, right = a.operations, b.operations
    return math.inf if left is None or right is None else abs(math.log(left / right))


def _machine(record: Record) -> str:
    return f"{entry(record, 'provenance', 'device') or '-'}, {entry(record, 'provenance', 'threads') or '-'} threads"
