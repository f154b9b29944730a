"""What a result is held against to see whether the method learnt: the same network untrained, and raw pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from leaderboards.arms import PIXELS, UNTRAINED, Arm, Arms
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


class Controls:
    """The control arms of a workspace, and the published ones for what it lacks.

    An untrained network of older code counts too, where data, protocol, number of pictures and network are the same.
    """

    def __init__(self, here: Iterable[Record], published: Iterable[Record], suite: Suite) -> None:
        self._suite = suite
        self._places = [
            (Arms(filter(_of_control, records), suite), i > 0) for i, records in enumerate((here, published))
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
        return lambda other: network_of(other, self._suite) == network

    def pixels(self, arm: Arm, metric: str) -> Control | None:
        """The pixels themselves."""
        return self._beside(arm, metric, _is_pixels) if not _is_pixels(arm) else None

    def _beside(self, arm: Arm, metric: str, fits: Callable[[Arm], bool]) -> Control | None:
        found = self._best(arm, metric, fits)
        if found is None:
            return None
        best, published = found
        ours, theirs = arm.values(metric), best.values(metric)
        shared = ours if ours.keys() <= theirs.keys() else theirs
        value = fmean(theirs[seed] for seed in shared)
        return Control(value, fmean(ours.values()) - value, published)

    def _best(self, arm: Arm, metric: str, fits: Callable[[Arm], bool]) -> tuple[Arm, bool] | None:
        """The control to hold an arm against, and whether it is a published one."""
        wanted = judged_on(arm)
        ours = arm.values(metric)
        for known, published in self._places if ours and all(wanted) else ():
            found = [
                other
                for other in known.of(arm.kind)
                if other.trust == OURS and judged_on(other) == wanted and other.values(metric) and fits(other)
            ]
            if found:
                best = max(
                    found, key=lambda other: (not other.flag, ours.keys() <= other.values(metric).keys(), other.newest)
                )
                return best, published
        return None


def above(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float | None:
    """Mean difference over the seeds that both have; None where they share none."""
    shared = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return fmean(shared) if shared else None


def network_of(arm: Arm, suite: Suite) -> dict[str, object]:
    """What makes the network of an arm before training, by key of its recipe; {} where not all of it is at hand."""
    keys = suite.networks.get(str(arm.options.get("network.arch")), ())
    found = {key: arm.options.get(f"network.{key}") for key in keys}
    return found if None not in found.values() else {}


def _of_control(record: Record) -> bool:
    return record["method"] == UNTRAINED


def _is_pixels(arm: Arm) -> bool:
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
