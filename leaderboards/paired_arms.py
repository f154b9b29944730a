"""Two arms side by side: which of several may be held against each other, and how far they differ on paired seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from leaderboards.arms import Arm, Arms
from leaderboards.claims import TRACKS, Claim, place_of, with_another
from leaderboards.recipe_differences import unlike
from leaderboards.record_fields import OURS
from leaderboards.statistics import Mean, paired

Pair = tuple[Arm, Arm]

SAME_LOAD = 0.1  # CPU shares of trainings whose times may be compared differ by no more


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
    def apart(self) -> list[str]:
        """What makes the two arms unlike, so that the difference is not the methods' alone."""
        return apart(self.ours, self.theirs)

    @property
    def interval(self) -> str:
        """`+0.12 to +3.40`, or "" without a mean."""
        return f"{self.low:+.2f} to {self.high:+.2f}" if self.mean else ""

    @property
    def words(self) -> str:
        """`+2.10 points, 95 % interval +0.12 to +3.40`."""
        if not self.mean:
            return f"{next(iter(self.by_seed.values())):+.2f} points, n = 1: no interval"
        return f"{self.mean.value:+.2f} points, 95 % interval {self.interval}"


def comparisons(claims: Sequence[Claim]) -> list[tuple[str, str]]:
    """(method, baseline) of every comparison of two methods that claims make, by the names of arms."""
    return sorted({(claim.arm, claim.baseline_arm) for claim in with_another(claims)})


def unequal(a: Arm, b: Arm) -> dict[str, tuple[str, str]]:
    """In what two arms of one table are unlike that a fair comparison has alike, as each has it: `epochs` -> 4, 8."""

    def words(arm: Arm) -> dict[str, str]:
        found = {key: getattr(arm.setting, key) for key in ("network", "epochs", "batch")}
        return {key: "-" if value is None else str(value) for key, value in found.items()} | {"trials": arm.tuned}

    left, right = words(a), words(b)
    found = {key: (left[key], right[key]) for key in left if left[key] != right[key]}
    pictures = a.setting.trained_on, b.setting.trained_on
    return found | ({"trained on": pictures} if pictures[0] != pictures[1] and "-" not in pictures else {})


def apart(a: Arm, b: Arm) -> list[str]:
    """`unequal` in words, `epochs 4 against 8`, and what is flagged of either; nothing where a comparison is fair."""
    found = [f"{key} {ours} against {theirs}" for key, (ours, theirs) in unequal(a, b).items()]
    return found + [f"{arm.name}: {arm.flag}" for arm in (a, b) if arm.flag]


def no_ratio(a: Arm, b: Arm, seeds: Collection[int]) -> str:
    """Why times of pre-trainings of these seeds may not be divided by each other, or "": other devices or other loads.

    Where one of them on a CPU had less of it, its times are longer for that. Their CPU times compare all the same.
    """
    if a.on_cpu != b.on_cpu or a.devices != b.devices:
        return f"trained on {a.devices} and {b.devices}"
    left, right = ([share for seed, share in arm.cpu_shares.items() if seed in seeds] for arm in (a, b))
    if bool(left) == bool(right) and (not left or _alike([*left, *right])):
        return ""
    return f"CPU share {_shares(left)} against {_shares(right)}"


def _alike(shares: Sequence[float]) -> bool:
    return max(shares) - min(shares) <= SAME_LOAD


def _shares(shares: Sequence[float]) -> str:
    """`95 %`, `7 to 98 %`, `unknown`."""
    ends = dict.fromkeys(f"{100 * share:.0f}" for share in (min(shares), max(shares))) if shares else ()
    return f"{' to '.join(ends)} %" if ends else "unknown"


def pairs_alike(ours: Iterable[Arm], theirs: Iterable[Arm], key: Callable[[Arm], Any]) -> list[Pair]:
    """Each of ours with each of theirs that has the same key, in their order; a key is asked once of each arm."""
    found: dict[Any, list[Arm]] = defaultdict(list)
    for arm in theirs:
        found[key(arm)].append(arm)
    return [(a, b) for a in ours for b in found.get(key(a), ())]


def preferred(pairs: Sequence[Pair], *keys: Callable[[Pair], Any]) -> Pair:
    """The pair that is largest in the first key; among equals in the second, and so on.

    A key is asked only where those before it leave several: to hold two recipes against each other takes long.
    """
    left = list(pairs)
    for key in keys:
        if len(left) == 1:
            break
        found = [key(pair) for pair in left]
        most = max(found)
        left = [pair for pair, value in zip(left, found, strict=True) if value == most]
    return left[0]


ALIKE: tuple[Callable[[Pair], Any], ...] = (
    lambda pair: -unlike(*pair),
    lambda pair: pair[0].setting.epochs or 0,
    lambda pair: min(pair[0].newest, pair[1].newest),
)
"""Keys for `preferred`: the likest recipes, the longest schedule, the newest records; never the values."""


def fairest(ours: Iterable[Arm], theirs: Iterable[Arm], read: Callable[[Arm], Mapping[int, Any]]) -> Pair | None:
    """The two arms of one table that may best be held against each other, chosen as for a verdict.

    Those of large test sets before those of too small ones; of these, those of which each seed drew its own pictures
    before those of one subset for all seeds; of these, those of one setting, tuned as often and without a flag, before
    all that there may be more of; then the most seeds in common, the likest recipes, the longest schedule, the newest
    records: never by the values. What then still sets them apart, `apart` says. None where no two of them share a seed.

    read: what is to be compared of an arm, by seed.
    """
    ours, theirs = list(ours), list(theirs)
    seeds = {arm: read(arm).keys() for arm in (*ours, *theirs)}

    found = pairs_alike(ours, theirs, lambda arm: arm.setting.scope)
    pairs = [(a, b) for a, b in found if a is not b and not seeds[a].isdisjoint(seeds[b])]
    if not pairs:
        return None
    return preferred(
        pairs,
        lambda pair: not pair[0].setting.too_small,
        lambda pair: pair[0].setting.drawn is not None,
        lambda pair: pair[0].setting == pair[1].setting,
        lambda pair: pair[0].tuned == pair[1].tuned,
        lambda pair: not (pair[0].flag or pair[1].flag),
        lambda pair: len(seeds[pair[0]] & seeds[pair[1]]),
        *ALIKE,
        lambda pair: f"{pair[0].label}{pair[1].label}",
    )


def difference(evaluation: str, metric: str, pair: Pair) -> Difference | None:
    """How far the arms of a pair differ; None where they share no seed in this metric."""
    a, b = pair
    left, right = a.values(metric), b.values(metric)
    seeds = left.keys() & right.keys()
    if not seeds:
        return None
    return Difference(evaluation, metric, a, b, paired(left, right) if len(seeds) > 1 else None)


def baseline_differences(claims: Sequence[Claim], known: Arms) -> dict[str, list[Difference]]:
    """By track, every method against the baselines that its claims name, in every evaluation that both have.

    Only records of our own count; those of an older recipe too, as for verdicts: they may be what makes a pair fair.
    Arms of one subset for all seeds are left out, and test sets that are too small. A pair may be unlike: `apart`.
    """
    found: dict[str, list[Difference]] = {}
    for track in sorted(TRACKS, key=place_of):
        by_name: dict[tuple[str, str], list[Arm]] = defaultdict(list)  # of an evaluation and an arm
        for evaluation in known.suite.evaluations.values():
            for arm in known.of(evaluation.kind):
                counts = arm.setting.drawn is not None and not arm.setting.too_small
                if arm.trust == OURS and arm.setting.track == track and counts:
                    by_name[evaluation.name, arm.name].append(arm)
        for ours, theirs in comparisons(claims):
            for name, evaluation in known.suite.evaluations.items():
                sides = by_name.get((name, ours), ()), by_name.get((name, theirs), ())
                pair = fairest(*sides, methodcaller("values", evaluation.metrics[0]))
                shown = [difference(name, metric, pair) for metric in evaluation.metrics] if pair else []
                found.setdefault(track, []).extend(item for item in shown if item)
    return {track: items for track, items in found.items() if items}
