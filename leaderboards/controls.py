"""What a result is held against to see whether the method learnt, and how well.

These are the same network untrained, raw pixels, and the baseline that the method's claims name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from leaderboards.arms import PIXELS, UNTRAINED, Arm, Arms
from leaderboards.claims import Claim, with_another
from leaderboards.paired_arms import apart, unequal
from leaderboards.record_fields import OURS, Record, entry
from leaderboards.suite import Suite


@dataclass(frozen=True)
class Control:
    """What a control reaches in one metric, and how far a result is above it.

    value: over the seeds of the result where the control has them all, else over those that it has.
    """

    value: float
    gain: float
    published: bool


@dataclass(frozen=True)
class Baseline:
    """What a baseline reaches, its name, in what it was not trained or tuned like the result, and what is flagged."""

    control: Control
    name: str
    unequal: Mapping[str, tuple[str, str]]  # as the result has it, and as the baseline does
    flag: str


class Controls:
    """The control arms of a workspace, and the published ones for what it lacks.

    An untrained network of older code counts too, where data, protocol, number of pictures and network are the same.

    claims: that name baselines, which are other methods; () where none are asked for.
    """

    def __init__(
        self, here: Iterable[Record], published: Iterable[Record], suite: Suite, claims: Sequence[Claim] = ()
    ) -> None:
        self._suite = suite
        self._baselines: dict[str, list[str]] = {}
        across = with_another(claims)
        for claim in across:
            if claim.baseline_arm not in self._baselines.setdefault(claim.arm, []):
                self._baselines[claim.arm].append(claim.baseline_arm)
        wanted = {UNTRAINED, *(claim.baseline for claim in across)}
        self._places = [
            (Arms((record for record in records if record["method"] in wanted), suite), i > 0)
            for i, records in enumerate((here, published))
        ]

    def untrained(self, arm: Arm, metric: str) -> Control | None:
        """The network of this arm before training; None where there is no record, or it is itself untrained."""
        fits = self._same_network(arm)
        return self._beside(arm, metric, fits) if fits else None

    def untrained_by_seed(self, arm: Arm, metric: str) -> Mapping[int, float]:
        """What the network of this arm reaches before training, by seed; {} where `untrained` is None."""
        fits = self._same_network(arm)
        best = self._best(arm, metric, fits) if fits else None
        return best[0].values(metric) if best else {}

    def _same_network(self, arm: Arm) -> Callable[[Arm], bool] | None:
        network = network_of(arm, self._suite)
        if arm.method == UNTRAINED or not network:
            return None
        return lambda other: other.method == UNTRAINED and network_of(other, self._suite) == network

    def pixels(self, arm: Arm, metric: str) -> Control | None:
        """The pixels themselves."""
        return self._beside(arm, metric, is_pixels) if not is_pixels(arm) else None

    def baseline(self, arm: Arm, metric: str) -> Baseline | None:
        """The first baseline of the arm's claims with a record of the same network; before others, one trained alike.

        None where there is no such record.
        """
        network = network_of(arm, self._suite)
        found = []
        for name in self._baselines.get(arm.name, ()) if network else ():

            def fits(other: Arm, name: str = name) -> bool:
                return other.name == name and network_of(other, self._suite) == network

            if best := self._best(arm, metric, fits, lambda other: -len(apart(arm, other))):
                found.append(Baseline(_control(arm, metric, *best), name, unequal(arm, best[0]), best[0].flag))
        return next((item for item in found if not (item.unequal or item.flag)), found[0] if found else None)

    def _beside(self, arm: Arm, metric: str, fits: Callable[[Arm], bool]) -> Control | None:
        found = self._best(arm, metric, fits)
        if found is None:
            return None
        return _control(arm, metric, *found)

    def _best(
        self, arm: Arm, metric: str, fits: Callable[[Arm], bool], first: Callable[[Arm], Any] = lambda other: 0
    ) -> tuple[Arm, bool] | None:
        """The control to hold an arm against, and whether it is a published one. first: what to choose it by first."""
        wanted = judged_on(arm)
        ours = arm.values(metric)
        for known, published in self._places if ours and all(wanted) else ():
            found = [
                other
                for other in known.of(arm.kind)
                if other.trust == OURS and judged_on(other) == wanted and other.values(metric) and fits(other)
            ]
            if found:

                def rank(other: Arm) -> tuple[Any, ...]:
                    return first(other), not other.flag, ours.keys() <= other.values(metric).keys(), other.newest

                return max(found, key=rank), published
        return None


def _control(arm: Arm, metric: str, best: Arm, published: bool) -> Control:
    ours, theirs = arm.values(metric), best.values(metric)
    shared = ours if ours.keys() <= theirs.keys() else theirs
    value = fmean(theirs[seed] for seed in shared)
    return Control(value, fmean(ours.values()) - value, published)


def above(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float | None:
    """Mean difference over the seeds that both have; None where they share none."""
    shared = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return fmean(shared) if shared else None


def network_of(arm: Arm, suite: Suite) -> dict[str, object]:
    """What makes the network of an arm before training, by key of its recipe; {} where not all of it is at hand."""
    keys = suite.networks.get(str(arm.options.get("network.arch")), ())
    found = {key: arm.options.get(f"network.{key}") for key in keys}
    return found if None not in found.values() else {}


def is_pixels(arm: Arm) -> bool:
    """Whether it is raw pixels without a network."""
    return arm.options.get("network.arch") == PIXELS


def judged_on(arm: Arm) -> tuple[str, ...]:
    """What two results must share to stand side by side, beside the network; a part is "" where it is not known.

    Track, content of the pictures judged on and of those that the encoder saw, protocol, how many were used, and
    whether each seed drew its own.
    """
    setting = arm.setting
    seen = {str(entry(origin, "provenance", "data", "manifest") or "") for origin in arm.origins.values()}
    used = {str(entry(record, "details", "n_train") or "all") for record in arm.records.values()}
    seen_used = " ".join(sorted(seen)), " ".join(sorted(used)) + f" {setting.pictures}"
    parts = (setting.track, setting.manifest, setting.protocol_hash, *seen_used)
    return tuple("" if part == "-" else part for part in parts)
