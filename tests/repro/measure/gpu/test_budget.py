"""The time of `repro gpu` is kept, whatever the parts do."""

from __future__ import annotations

import pytest

from repro.measure.gpu.budget import Budget
from repro.measure.gpu.parts import PARTS


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def through(minutes: float, taken: dict[str, float], slow_start: float = 0.0) -> tuple[dict[str, float], float]:
    """What the parts plan with, where each takes so many times that, but no more than its limit; seconds in all."""
    clock = Clock()
    budget = Budget(60 * minutes, clock)
    clock.time += slow_start
    aims, weights = {}, {name: part.weight for name, part in PARTS.items()}
    for name in list(weights):
        weight = weights.pop(name)
        aim, limit = (tell(weight, sum(weights.values())) for tell in (budget.aim, budget.limit))
        aims[name] = aim
        clock.time += min(limit, aim * taken.get(name, 1 / 0.85))
    return aims, clock.time - 100


def test_parts_on_time_get_their_weights() -> None:
    aims, total = through(8, {})
    for name, part in PARTS.items():
        assert aims[name] == pytest.approx(0.85 * part.weight, rel=0.02), name
    assert total == pytest.approx(480, abs=4)


def test_a_slow_part_costs_the_later_ones_and_not_the_time() -> None:
    usual, _ = through(8, {})
    aims, total = through(8, {"agreement": 10.0})
    assert aims["stages"] == usual["stages"]
    later = list(PARTS)[2:]
    lost = [aims[name] / usual[name] for name in later]
    assert lost == pytest.approx([lost[0]] * len(later)) and 0.8 < lost[0] < 0.95  # half of 80 of 320 seconds
    assert total <= 480


def test_a_quick_part_leaves_its_time_to_the_later_ones() -> None:
    usual, _ = through(8, {})
    aims, total = through(8, {"stages": 0.0})
    assert aims["training"] > usual["training"] + 20 and total == pytest.approx(480, abs=4)


def test_a_part_plans_with_less_than_it_is_ended_after() -> None:
    budget = Budget(480, Clock())
    for weight, later in ((80, 400), (130, 0)):  # the last part has all that is left
        assert budget.aim(weight, later) <= 0.86 * budget.limit(weight, later)


@pytest.mark.parametrize("minutes", [0.1, 2, 8])
def test_the_time_is_kept_if_every_part_hangs(minutes: float) -> None:
    aims, total = through(minutes, dict.fromkeys(PARTS, 1e9), slow_start=5.0)
    assert total <= max(60 * minutes, 5.0) and all(aim >= 0 for aim in aims.values())


def test_a_start_that_takes_all_the_time_leaves_none() -> None:
    aims, _ = through(1, {}, slow_start=200.0)
    assert set(aims.values()) == {0.0}
