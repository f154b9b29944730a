"""Two arms side by side: which of several may be held against each other, and how far they differ on paired seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from leaderboards.arms import MAIN_METRICS, OURS, Arm, Record, arms, kind_of, unlike
from leaderboards.claims import TRACKS, Claim
from leaderboards.statistics import Mean, paired


@dataclass(frozen=True)
class Difference:
    """ours - theirs in one metric."""

    evaluation: str
    metric: str
    ours: Arm
    theirs: Arm
    mean: Mean | None  # None with a single pair, whose spread is unknown

    @property
    def seeds(self) -> list[int]:
        """The seeds that both arms have."""
        return sorted(self.ours.values(self.metric).keys() & self.theirs.values(self.metric).keys())

    @property
    def by_seed(self) -> dict[int, float]:
        left, right = self.ours.values(self.metric), self.theirs.values(self.metric)
        return {seed: left[seed] - right[seed] for seed in self.seeds}

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of the mean; only where there is a mean."""
        assert self.mean
        return self.mean.interval[0]

    @property
    def high(self) -> float:
        """Upper end of it."""
        assert self.mean
        return self.mean.interval[1]

    @property
    def name(self) -> str:
        return f"{self.ours.name} − {self.theirs.name}, {self.evaluation} {self.metric}"

    @property
    def interval(self) -> str:
        """`+0.12 to +3.40; variance pooled over 13 arms, 24 degrees of freedom`, or "" without a mean."""
        return f"{self.low:+.2f} to {self.high:+.2f}; {self.mean.how}" if self.mean else ""

    @property
    def words(self) -> str:
        """`+2.10 points, 95 % interval +0.12 to +3.40; ...`."""
        if not self.mean:
            return f"{next(iter(self.by_seed.values())):+.2f} points, n = 1: no interval"
        return f"{self.mean.value:+.2f} points, 95 % interval {self.interval}"


def named(claims: Sequence[Claim]) -> list[tuple[str, str]]:
    """(method, baseline) of every comparison that claims make, by the names of arms."""
    return sorted({(claim.arm, claim.baseline_arm) for claim in claims if claim.baseline})


def fullest(
    ours: Iterable[Arm], theirs: Iterable[Arm], read: Callable[[Arm], Mapping[int, Any]]
) -> tuple[Arm, Arm] | None:
    """The two arms of one table with the most seeds in common.

    Of equals those of equal epochs, then those of the likest recipes, then the newest.

    read: what is to be compared of an arm, by seed.
    """
    others = list(theirs)
    pairs = [(a, b) for a in ours for b in others if a.setting.scope == b.setting.scope]

    def shared(pair: tuple[Arm, Arm]) -> tuple[int, bool, int, str, str]:
        a, b = pair
        seeds = read(a).keys() & read(b).keys()
        alike = a.setting == b.setting, -unlike(a, b)
        return len(seeds), *alike, min(a.newest, b.newest), f"{a.label}{b.label}"

    best = max(pairs, key=shared, default=None)
    return best if best and shared(best)[0] else None


def difference(evaluation: str, metric: str, pair: tuple[Arm, Arm], every: Iterable[Arm]) -> Difference | None:
    """How far the arms of a pair differ; None where they share no seed in this metric.

    every: the arms of that evaluation, of which those of the same scope lend their spread (`statistics.paired`).
    """
    a, b = pair
    left, right = a.values(metric), b.values(metric)
    seeds = left.keys() & right.keys()
    if not seeds:
        return None
    peers = [
        arm.values(metric)
        for arm in every
        if arm.setting.scope == a.setting.scope and arm not in pair and not arm.flag and arm.trust == OURS
    ]
    return Difference(evaluation, metric, a, b, paired(left, right, peers) if len(seeds) > 1 else None)


def claimed(claims: Sequence[Claim], records: Sequence[Record]) -> dict[str, list[Difference]]:
    """By track, every method against the baselines that its claims name, in every evaluation that both have.

    Only records of our own count.
    """
    found: dict[str, list[Difference]] = {}
    for track in TRACKS:
        here = [record for record in records if record["track"] == track]
        known = {
            evaluation: [arm for arm in arms(here, kind_of(evaluation)) if arm.trust == OURS]
            for evaluation in MAIN_METRICS
        }
        for ours, theirs in named(claims):
            for evaluation, metrics in MAIN_METRICS.items():
                every = known[evaluation]
                left, right = ([arm for arm in every if arm.name == name] for name in (ours, theirs))
                pair = fullest(left, right, methodcaller("values", metrics[0]))
                shown = [difference(evaluation, metric, pair, every) for metric in metrics] if pair else []
                found.setdefault(track, []).extend(item for item in shown if item)
    return {track: items for track, items in found.items() if items}
