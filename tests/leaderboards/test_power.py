"""How many pairs decide a claim, against scipy's t and against claims that are simulated and judged one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from leaderboards import evalues, power


def shown(values: list[float], takes: float, margin: float = 0.0) -> int | None:
    """After how many values the program itself says so; None for never."""
    for n in range(2, len(values) + 1):
        found = evalues.within(values[:n], -margin, margin) if margin else evalues.above(values[:n])
        if found >= takes:
            return n
    return None


@pytest.mark.parametrize("takes", [40.0, 320.0])
def test_the_critical_t_is_where_scipys_densities_have_that_ratio(takes: float) -> None:
    found = power.critical(takes)
    for n in (6, 8, 12, 30):
        if math.isinf(found[n - 2]):
            continue
        ratio = stats.nct.logpdf(found[n - 2], n - 1, 1.2 * math.sqrt(n)) - stats.t.logpdf(found[n - 2], n - 1)
        assert ratio == pytest.approx(math.log(takes), abs=1e-4)
    first = int(np.argmax(np.isfinite(found))) + 2
    assert first == evalues.least(takes)


@pytest.mark.seconds
@pytest.mark.parametrize(("mean", "takes"), [(1.5, 40.0), (1.0, 40.0), (2.0, 320.0)])
def test_claims_judged_one_by_one_are_decided_as_often_as_promised(mean: float, takes: float) -> None:
    pairs = power.pairs_for_difference(mean, takes)
    assert pairs is not None
    rng = np.random.default_rng(17)
    first = [shown((rng.normal(size=pairs) + mean).tolist(), takes) for _ in range(300)]
    share = sum(n is not None for n in first) / len(first)
    earlier = sum(n is not None and n < pairs for n in first) / len(first)
    error = 3 * math.sqrt(0.8 * 0.2 / len(first))
    assert 0.8 - error < share and earlier < 0.8 + error


@pytest.mark.seconds
def test_sameness_is_shown_as_often_as_promised() -> None:
    pairs = power.pairs_for_band(1.5, 40.0)
    assert pairs is not None
    rng = np.random.default_rng(18)
    found = [shown(rng.normal(size=pairs).tolist(), 40.0, 1.5) for _ in range(200)]
    assert sum(n is not None for n in found) / len(found) > 0.8 - 3 * math.sqrt(0.8 * 0.2 / 200)


def test_more_is_needed_of_smaller_differences_and_of_larger_families() -> None:
    found = [power.pairs_for_difference(mean, 40.0) for mean in (9.0, 1.5, 0.8)]
    assert None not in found and found == sorted(found, key=lambda n: n or 0) and found[0] == evalues.least(40.0)
    one, seven = (power.pairs_for_difference(1.5, takes) for takes in (40.0, 280.0))
    assert one is not None and seven is not None and one < seven
    assert power.pairs_for_difference(0.05, 40.0) is None and power.pairs_for_band(0.05, 40.0) is None
