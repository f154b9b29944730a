"""Learning-rate schedules as functions of where a run stands, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SHAPES = ("cosine", "constant")
CLOCKS = ("epoch", "update", "epoch_after_warmup")
STARTS = ("zero", "zero_product", "after_warmup", "counted_from_one")


def factor(recipe: Mapping[str, Any], epoch: int, fraction: float, step: float = 0.0) -> float:
    """What the base learning rate is multiplied by.

    recipe: the table [pretrain] with
        epochs, warmup_epochs   lengths; warm-up is linear
        warmup_start, final     factors where warm-up starts and where the cosine ends
        warmup_end_included     the last update of the warm-up has the full rate (numpy.linspace; EffSSL)
        schedule                "cosine" | "constant"
        schedule_clock          "epoch": one value an epoch, warm-up (e + 1) / W;  "update": moves with every update;
                                "epoch_after_warmup": warm-up moves with updates, cosine with epochs (OpenSelfSup)
        cosine_start            "zero": the cosine counts from the first epoch and warm-up caps it (APS);
                                "zero_product": it counts from the first epoch, times the warm-up (OpenSelfSup);
                                "after_warmup": it starts where warm-up ends (MoCo-v3);
                                "counted_from_one": likewise, with updates counted from 1, at least two of them warm-up,
                                so that the last one's rate is `final` (Fast-MoCo, whose code MNCL builds on)
    epoch: epochs done; fraction: of the running epoch, in [0, 1); step: what one update is of an epoch.
    """
    warmup, epochs, clock = recipe["warmup_epochs"], recipe["epochs"], recipe["schedule_clock"]
    exact = epoch + fraction
    by_epoch = clock == "epoch"
    now = exact if clock == "update" else float(epoch)
    rise = 1.0
    if warmup > 0:
        length = warmup - step if recipe["warmup_end_included"] and not by_epoch else warmup
        rise = min(1.0, (epoch + 1 if by_epoch else exact) / length) if length > 0 else 1.0
        rise = recipe["warmup_start"] + (1 - recipe["warmup_start"]) * rise
    if recipe["schedule"] == "constant":
        return rise

    def cosine(share: float) -> float:
        return recipe["final"] + (1 - recipe["final"]) * 0.5 * (1 + math.cos(math.pi * share))

    if recipe["cosine_start"] == "zero":
        return min(rise, cosine(now / epochs))
    if recipe["cosine_start"] == "zero_product":
        return rise * cosine(now / epochs)
    if recipe["cosine_start"] == "counted_from_one" and step:
        update, risen, last = round(exact / step) + 1, max(2, round(warmup / step)), round(epochs / step)
        return rise if update <= risen else cosine((update - risen) / (last - risen))
    if exact < warmup or epochs <= warmup:
        return rise
    return cosine((now - warmup) / (epochs - warmup))
