"""Learning-rate schedules as functions of where a run stands, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SHAPES = ("cosine", "constant")
CLOCKS = ("epoch", "update")
STARTS = ("zero", "after_warmup")


def factor(recipe: Mapping[str, Any], epoch: int, fraction: float) -> float:
    """What the base learning rate is multiplied by.

    recipe: the table [pretrain] with
        epochs, warmup_epochs   lengths; warm-up is linear
        schedule                "cosine" | "constant"
        schedule_clock          "epoch": one value an epoch, warm-up (e + 1) / W;  "update": moves with every update
        cosine_start            "zero": the cosine counts from the first epoch and warm-up caps it (APS);
                                "after_warmup": it starts where warm-up ends (MoCo-v3)
    epoch: epochs done; fraction: of the running epoch, in [0, 1).
    """
    warmup, epochs = recipe["warmup_epochs"], recipe["epochs"]
    by_epoch = recipe["schedule_clock"] == "epoch"
    now = float(epoch) if by_epoch else epoch + fraction
    rise = 1.0
    if warmup > 0:
        rise = min(1.0, (now + 1 if by_epoch else now) / warmup)
    if recipe["schedule"] == "constant":
        return rise
    if recipe["cosine_start"] == "zero":
        return min(rise, 0.5 * (1 + math.cos(math.pi * now / epochs)))
    if rise < 1.0 or epochs <= warmup:
        return rise
    return 0.5 * (1 + math.cos(math.pi * (now - warmup) / (epochs - warmup)))
