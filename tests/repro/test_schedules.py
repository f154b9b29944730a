"""Schedules against the sheets' formulas, written out."""

from __future__ import annotations

import math

import pytest

from repro.schedules import factor

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
