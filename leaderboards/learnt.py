"""What pre-training changed for a claim's two arms: does its evaluation tell trained networks from untrained?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from leaderboards.assessments import Assessment
from leaderboards.cells import signed
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import of_training
from leaderboards.controls import Controls, above

_MARGINS = 2  # that training should gain, for an evaluation to tell trained networks from untrained ones


@dataclass(frozen=True)
class Learnt:
    """What pre-training changed for the two arms of a claim at one track."""

    track: str
    gains: tuple[tuple[str, float], ...]  # by arm: points above the same network untrained
    seeds: tuple[int, int]  # of the verdict's, so many have an untrained network beside them
    little: bool  # whether that is hardly more than what counts as no difference

    @property
    def words(self) -> str:
        """`points above the same network untrained on mini: aps +4.8, moco_v3 +4.1`."""
        said = ", ".join(f"{name} {signed(gain, 1).text}" for name, gain in self.gains)
        warning = "; this evaluation hardly tells trained networks from untrained ones here" if self.little else ""
        some, every = self.seeds
        of = "" if some == every else f" ({some} of {every} seeds)"
        return f"points above the same network untrained on {self.track}{of}: {said}{warning}"

    @property
    def warning(self) -> str:
        """`weak test: pre-training adds only 1.7 points`, or ""."""
        most = max(gain for _, gain in self.gains)
        adds = f"only {most:.1f} points" if most > 0 else "nothing"
        return f"weak test: pre-training adds {adds}" if self.little else ""


def learnt(item: Assessment, controls: Controls) -> list[Learnt]:
    """How far above the same network untrained a claim's two arms are, for each track.

    Little is less than _MARGINS margins: what pre-training changes is then hardly more than what counts as nothing.
    """
    found = []
    for one in item.answered:
        if one.basis == COMPUTE or one.form or not one.arms or not item.claim.baseline or of_training(item.claim):
            continue
        metric = item.claim.metric_read(one.own)
        seeds = one.series.seeds
        values = [{seed: arm.values(metric)[seed] for seed in seeds} for arm in one.arms[:2]]
        beside = [controls.untrained_by_seed(arm, metric) for arm in one.arms[:2]]
        gains = [above(*sides) for sides in zip(values, beside, strict=True)]
        known = [gain for gain in gains if gain is not None]
        if len(known) < 2:
            continue
        by_name = tuple((arm.name, gain) for arm, gain in zip(one.arms, known, strict=False))
        little = max(known) < _MARGINS * item.claim.proxies.get(one.track, item.claim.margin)
        there = sum(all(seed in side for side in beside) for seed in seeds)
        found.append(Learnt(one.track, by_name, (there, len(seeds)), little))
    return found


def warnings(found: Iterable[Assessment], controls: Controls) -> dict[str, str]:
    """By id of a claim, why its test on its smallest track is weak; only of those that are."""
    said = {item.claim.id: next(iter(learnt(item, controls)), None) for item in found}
    return {name: one.warning for name, one in said.items() if one and one.warning}
