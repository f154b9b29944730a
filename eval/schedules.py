"""Learning rates of whole trainings, update by update."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eval.protocols.base import Schedule


def rates(
    schedule: Schedule,
    peak: float,
    epochs: int,
    updates: int,
    *,
    warmup_epochs: float = 0.0,
    warmup_lr: float = 0.0,
    min_lr: float = 0.0,
    milestones: Sequence[int] = (),
) -> list[float]:
    """The rate of every update, `updates` an epoch: a line from warmup_lr up to the peak, then half a cosine to min_lr.

    "update": the clock runs by updates, the cosine begins where the warm-up ends.
    "epoch": the clock runs by whole epochs and the cosine's includes the warm-up, whose line, drawn update by update,
    leads to the cosine's own rate of the epoch (mmcv's CosineAnnealing with warm-up by epoch).
    "epoch_late": by whole epochs and one late (epoch e, from 0, has the rate meant for e - 1), the cosine's clock
    includes the warm-up, so that the rate steps down where it begins.
    "steps": no cosine; the rate is divided by ten at each of the milestones (epochs).
    """

    def cosine(clock: float, begin: float = 0.0) -> float:
        turn = math.cos(math.pi * (clock - begin) / (epochs - begin))
        return min_lr + (peak - min_lr) * 0.5 * (1 + turn)

    def at(update: int) -> float:
        clock, epoch = update / updates, update // updates
        top = peak
        match schedule:
            case "epoch":
                top = rate = cosine(epoch)
            case "epoch_late":
                clock = max(epoch - 1, 0)
                rate = cosine(clock)
            case "steps":
                rate = peak * 0.1 ** sum(epoch >= milestone for milestone in milestones)
            case _:
                rate = cosine(clock, warmup_epochs) if clock >= warmup_epochs else peak
        if clock < warmup_epochs:
            return warmup_lr + (top - warmup_lr) * clock / warmup_epochs
        return rate

    return [at(update) for update in range(epochs * updates)]
