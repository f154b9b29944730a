"""Schedules against the sheets' formulas, written out."""

from __future__ import annotations

import math

import pytest

from repro.stages.schedules import factor

BASE = {"warmup_start": 0.0, "warmup_end_included": False, "final": 0.0, "schedule": "cosine"}
APS = {**BASE, "epochs": 100, "warmup_epochs": 20, "schedule_clock": "epoch", "cosine_start": "zero"}
MOCO = {**APS, "schedule_clock": "update", "cosine_start": "after_warmup"}


@pytest.mark.parametrize("epoch", [0, 1, 19, 20, 50, 99])
@pytest.mark.parametrize("fraction", [0.0, 0.7])
def test_aps_as_released(epoch: int, fraction: float) -> None:
    expected = min((epoch + 1) / 20, 0.5 * (1 + math.cos(math.pi * epoch / 100)))
    assert factor(APS, epoch, fraction) == pytest.approx(expected)


def test_moco_v3_rises_from_zero_and_then_falls_to_zero() -> None:
    assert factor(MOCO, 0, 0.0) == 0.0
    assert factor(MOCO, 10, 0.0) == pytest.approx(0.5)
    assert factor(MOCO, 20, 0.0) == pytest.approx(1.0)
    assert factor(MOCO, 60, 0.0) == pytest.approx(0.5)
    assert factor(MOCO, 99, 0.999) == pytest.approx(0.0, abs=1e-6)


def test_constant_and_no_warmup() -> None:
    assert factor({**APS, "schedule": "constant"}, 50, 0.5) == 1.0
    assert factor({**MOCO, "warmup_epochs": 0}, 0, 0.0) == 1.0


def test_a_run_shorter_than_its_warmup_only_rises() -> None:
    assert factor({**MOCO, "epochs": 2}, 1, 0.5) == pytest.approx(1.5 / 20)


def test_openselfsup_warms_up_by_update_and_falls_by_epoch() -> None:
    """mmcv: the epoch's cosine, times 1 - (1 - i / W) (1 - ratio) in the warm-up (truncated triplet's recipe)."""
    recipe = {
        **BASE,
        "epochs": 200,
        "warmup_epochs": 10,
        "warmup_start": 1e-4,
        "schedule_clock": "epoch_after_warmup",
        "cosine_start": "zero_product",
    }
    for epoch, fraction in ((0, 0.0), (3, 0.25), (9, 0.5), (10, 0.5), (150, 0.9)):
        share = min(1.0, (epoch + fraction) / 10)
        expected = (1 - (1 - share) * (1 - 1e-4)) * 0.5 * (1 + math.cos(math.pi * epoch / 200))
        assert factor(recipe, epoch, fraction) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 1])
def test_fast_moco_counts_updates_from_one_and_ends_at_zero(warmup: int) -> None:
    """Its warm-up is at least two updates long, which without a warm-up have the full rate."""
    per_epoch, epochs = 9, 5
    recipe = {
        **BASE,
        "epochs": epochs,
        "warmup_epochs": warmup,
        "warmup_start": 0.25,
        "warmup_end_included": True,
        "schedule_clock": "update",
        "cosine_start": "counted_from_one",
    }
    steps, total = max(2, warmup * per_epoch), epochs * per_epoch
    for i in range(1, total + 1):
        if i <= steps:
            expected = 0.25 + 0.75 * (i - 1) / (steps - 1) if warmup else 1.0
        else:
            expected = 0.5 * (1 + math.cos(math.pi * (i - steps) / (total - steps)))
        epoch, load = divmod(i - 1, per_epoch)
        assert factor(recipe, epoch, load / per_epoch, 1 / per_epoch) == pytest.approx(expected, abs=1e-12)


def test_effssl_reaches_the_full_rate_within_its_warmup_and_ends_above_zero() -> None:
    """numpy.linspace(0.3, 1.2, W) and then a cosine from 1.2 to 0.0012, over all updates of 50 epochs."""
    per_epoch, epochs, warmup = 7, 50, 10
    recipe = {
        **BASE,
        "epochs": epochs,
        "warmup_epochs": warmup,
        "warmup_start": 0.25,
        "warmup_end_included": True,
        "final": 0.001,
        "schedule_clock": "update",
        "cosine_start": "after_warmup",
    }
    rates = [
        1.2 * factor(recipe, update // per_epoch, update % per_epoch / per_epoch, 1 / per_epoch)
        for update in range(epochs * per_epoch)
    ]
    n = warmup * per_epoch
    expected = [0.3 + (1.2 - 0.3) * i / (n - 1) for i in range(n)]
    rest = (epochs - warmup) * per_epoch
    expected += [0.0012 + 0.5 * (1.2 - 0.0012) * (1 + math.cos(math.pi * t / rest)) for t in range(rest)]
    assert rates == pytest.approx(expected)
    assert rates[n - 1] == pytest.approx(1.2) and rates[n] == pytest.approx(1.2)
