"""Which seeds of an arm, or of two, enter a test: in their order, without gaps, of one training code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from leaderboards.arms import Arm
from leaderboards.record_fields import entry


@dataclass(frozen=True)
class Series:
    """Seeds that are there of all the arms, sorted by what becomes of them."""

    seeds: tuple[int, ...] = ()  # that enter, in this order
    waiting: tuple[int, ...] = ()  # after a seed that one of the arms lacks
    other_code: tuple[int, ...] = ()  # trained by other code than those that enter


def series(arms: Sequence[Arm], values: Sequence[Mapping[int, float]]) -> Series:
    """The seeds that enter.

    It begins with the smallest seed that any of the arms has, and ends before the first that one of them lacks: whoever
    could leave out a seed could choose the result. Where the training code changed in between, the longest stretch of
    one code enters, of several the last. Nothing here depends on a value.

    values: what is tested, by seed, of each of the arms.
    """
    shared = set.intersection(*(set(found) for found in values))
    if not shared:
        return Series()
    seed = min(seed for found in values for seed in found)
    there = []
    while seed in shared:
        there.append(seed)
        seed += 1
    waiting = tuple(sorted(shared - set(there)))
    by_code = groupby(there, lambda seed: tuple(training_code(arm, seed) for arm in arms))
    stretches = [tuple(part) for _, part in by_code]
    longest: tuple[int, ...] = max(reversed(stretches), key=len, default=())
    return Series(longest, waiting, tuple(seed for seed in there if seed not in longest))


def training_code(arm: Arm, seed: int) -> str:
    """The hash of the code that trained a seed of an arm.

    Records from before this hash was kept say which tree of sources they are of; that stands in for it.
    """
    origin = arm.origins.get(seed, arm.records[seed])
    return str(entry(origin, "provenance", "training_code") or entry(origin, "provenance", "source_hash") or "-")


def collapsed(arm: Arm, seeds: Sequence[int]) -> tuple[int, ...]:
    """Those of the seeds whose training collapsed."""
    return tuple(
        seed for seed in seeds if entry(arm.origins.get(seed, {}), "details", "collapsed_at_update") is not None
    )
