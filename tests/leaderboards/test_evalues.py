"""E-values against other forms of the same ratio, and their error rates when one looks after every pair."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, optimize, stats

from leaderboards import evalues, reading

Floats = npt.NDArray[np.float64]
RUNS, LOOKS = 3000, np.arange(3, 21)  # looked at after every pair from the third to the twentieth


def density_ratio(t: float, n: int) -> float:
    """The e-value as it is defined: the ratio of the non-central to the central t density, by scipy."""
    return math.exp(stats.nct.logpdf(t, n - 1, 1.2 * math.sqrt(n)) - stats.t.logpdf(t, n - 1))


def scale_free_ratio(values: list[float]) -> float:
    """Likelihood of a mean of 1.2 standard deviations over that of 0, the unknown scale sigma integrated out.

    With u = 1 / sigma: the integral of u^(n - 1) exp(-sum (u x - 1.2)^2 / 2) over the same without 1.2.
    """
    n, s, q = len(values), sum(values), sum(value * value for value in values)
    top = math.sqrt((n - 1) / q)  # where the second integrand is largest

    def inner(u: float, delta: float) -> float:
        return (u / top) ** (n - 1) * math.exp((-q * u * u + 2 * delta * u * s - n * delta**2 + n - 1) / 2)

    sizes = [integrate.quad(inner, 0, 12 * top, args=(delta,), epsabs=0, limit=200)[0] for delta in (1.2, 0.0)]
    return sizes[0] / sizes[1]


@cache
def critical_t(takes: float) -> Floats:
    """float64 [18]: the t at which evidence reaches `takes`, by n; infinite where none does. It rises in t."""
    found = []
    for n in LOOKS:
        reach = 1e3 if density_ratio(1e3, n) > takes else 0.0
        found.append(optimize.brentq(lambda t, n=n: density_ratio(t, n) - takes, 0, reach) if reach else math.inf)
    return np.array(found)


def reached(values: Floats, takes: float) -> npt.NDArray[np.bool_]:
    """[..., looks]: whether the evidence of a positive mean is as large as that.  values: [..., 20 or less]."""
    n = np.arange(1, values.shape[-1] + 1)
    mean = values.cumsum(-1) / n
    variance = (np.square(values).cumsum(-1) / n - mean**2) * n / np.maximum(n - 1, 1)
    t = (mean * np.sqrt(n) / np.sqrt(np.maximum(variance, 1e-300)))[..., LOOKS[0] - 1 :]
    found: npt.NDArray[np.bool_] = t >= critical_t(takes)[: t.shape[-1]]
    return found


def level(values: Floats, m: int) -> npt.NDArray[np.int64]:
    """How many of the thresholds 40, 80 .. 40 m the evidence of a positive mean ever reaches."""
    return np.max([k * reached(values, 40.0 * k).any(-1) for k in range(1, m + 1)], axis=0)


def step_down(best: npt.NDArray[np.int64], m: int) -> npt.NDArray[np.int64]:
    """[runs, m]: the levels at which a claim is decided, or m + 1 for one that is not."""
    order = np.argsort(-best, axis=1, kind="stable")
    needed = m - np.arange(m)  # of 40 each
    passed = np.logical_and.accumulate(np.take_along_axis(best, order, 1) >= needed, axis=1)
    found = np.empty_like(best)
    np.put_along_axis(found, order, np.where(passed, needed, m + 1), 1)
    return found


def no_difference(rng: np.random.Generator, how: str, m: int) -> Floats:
    """[runs, m, 20]: differences of a method and m baselines that are as good, with a standard deviation of about 1."""
    shape = (RUNS, m, 20)
    if how == "t with 4 degrees of freedom":
        return rng.standard_t(4, shape) / math.sqrt(2)
    ours = rng.normal(0, 1, (RUNS, 1 if how == "shared seed effects" else m, 20))  # one method against all of them
    size = 3.0 if how == "one arm three times noisier" else 1.0
    return (size * ours - rng.normal(0, 1, shape)) / math.hypot(size, 1)


# ---------------------------------------------------------------------------------------------------------- the e-value


@pytest.mark.parametrize("n", [2, 3, 5, 12, 40])
def test_it_is_the_ratio_of_the_densities_of_t(n: int) -> None:
    t = np.array([-40.0, -6.0, -1.0, 0.0, 0.3, 2.0, 5.0, 25.0])
    ours = evalues.log_ratio(t, np.array(float(n)))
    np.testing.assert_allclose(ours, [math.log(density_ratio(value, n)) for value in t], rtol=1e-8, atol=1e-9)


def test_it_is_a_likelihood_ratio_without_a_scale() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 7, 15):
        values = rng.normal(0.8, 1.0, n).tolist()
        t = evalues.t_statistics(np.array(values))[-1]
        assert t == pytest.approx(stats.ttest_1samp(values, 0).statistic, rel=1e-9)
        assert math.exp(evalues.log_ratio(t, np.array(float(n)))) == pytest.approx(scale_free_ratio(values), rel=1e-6)


def test_the_evidence_is_the_largest_so_far() -> None:
    values = [1.0, 1.2, 0.9, 1.1, 1.0, 1.1, -6.0, -5.0]
    each = [density_ratio(float(stats.ttest_1samp(values[:n], 0).statistic), n) for n in range(2, 9)]
    assert evalues.above(values) == pytest.approx(max(each), rel=1e-6) and max(each) > 50 * each[-1]
    assert evalues.below([-value for value in values]) == evalues.above(values)
    shifted = [value + 3.0 for value in values]
    assert evalues.above(shifted, 3.0) == pytest.approx(evalues.above(values), rel=1e-9)
    assert evalues.within(values, -3.0, 4.0) == min(evalues.above(values, -3.0), evalues.below(values, 4.0))
    assert evalues.within(values, 1.1, 4.0) < 20 < evalues.within(values[:6], -3.0, 4.0)


def test_no_values_whatever_give_no_number() -> None:
    """Without spread, of one or two values, of differences that are rounding, of huge ones."""
    assert evalues.above([]) == evalues.above([5.0]) == evalues.above([0.0] * 9) == 1.0
    assert evalues.above([0.1 + 0.2 - 0.3, 0.0, 0.3 - 0.1 - 0.2], 0.0) < 3
    assert evalues.within([0.0] * 6, -1.0, 1.0) == evalues.above([7.0] * 6) == pytest.approx(162.1, abs=0.1)
    assert evalues.above([0.1 * 3, 0.3, 0.3, 0.3]) == evalues.above([1.0] * 4) == pytest.approx(26.35, abs=0.01)
    assert evalues.above([1.0, 1.0]) == pytest.approx(4.30, abs=0.01)
    for values in ([1e300] * 3, [1e-300] * 3, [1e8, 1e8 + 1, 1e8 + 2], [1.0] * 2000, [-1.0] * 2000, [-1e9, 1e9] * 500):
        assert 1.0 <= evalues.above(values) < math.inf
    huge = evalues.log_ratio(np.array([math.inf, -math.inf, 1e300, -1e300, 0.0]), np.array([[2.0], [5.0], [5000.0]]))
    assert np.isfinite(huge).all() and (np.diff(huge[:, [1, 4, 0]]) > 0).all()


def test_how_many_values_it_takes_at_least() -> None:
    assert [evalues.least(40.0 * m) for m in (1, 2, 3, 4, 6, 7)] == [5, 6, 6, 6, 7, 7]
    for takes in (40.0, 280.0):
        n = evalues.least(takes)
        assert evalues.above([1.0] * n) >= takes > evalues.above([1.0] * (n - 1))


def test_holm_by_hand() -> None:
    # 160 of four, 120 of the three that are left, 80 of two: the last one of 70 stops it
    assert evalues.holm([70.0, 500.0, 125.0, 3.0]) == [(False, 80.0), (True, 160.0), (True, 120.0), (False, 80.0)]
    assert evalues.holm([159.0, 159.0, 50.0, 50.0]) == [(False, 160.0)] * 4
    assert evalues.holm([40.0]) == [(True, 40.0)] and evalues.holm([39.9]) == [(False, 40.0)]
    assert evalues.holm([90.0, 90.0]) == [(True, 80.0), (True, 40.0)]
    assert evalues.holm([]) == []


def test_the_sign_test_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 5, 8, 13):
        values = rng.normal(0.4, 1, n)
        theirs = stats.binomtest(int((values > 0.2).sum()), n, alternative="greater").pvalue
        assert evalues.sign_test(values.tolist(), 0.2) == pytest.approx(theirs, rel=1e-12)
    assert evalues.sign_test([0.0, 0.0]) == 1.0 and evalues.sign_test([0.0, 1.0]) == 0.5


@pytest.mark.processes
def test_no_library_of_statistics_is_imported() -> None:
    """They take longer to import than the boards of a thousand records take."""
    code = (
        "import sys; from leaderboards import evalues, statistics;"
        "evalues.within([1.0, 2.0, 1.5], -1.0, 9.0); evalues.least(40.0); statistics.own([1.0, 2.0]).interval;"
        "heavy = {'statsmodels', 'pandas', 'scipy.stats', 'torch'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------------------------- error rates


def decided(values: Floats, margin: float) -> list[set[str]]:
    """What the program shows of a family.  values: [m, 20]."""
    rows = values.tolist()
    tests = [
        {"up": evalues.above(row), "down": evalues.below(row), "same": evalues.within(row, -margin, margin)}
        for row in rows
    ]
    found: list[set[str]] = [set() for _ in rows]
    for question in (("up", "down"), ("same",)):
        for name, test, (passed, takes) in zip(
            found, tests, evalues.holm([max(test[one] for one in question) for test in tests]), strict=True
        ):
            name |= {one for one in question if passed and test[one] >= takes}
    return found


@pytest.mark.seconds
@pytest.mark.parametrize("m", [1, 4, 7])
@pytest.mark.parametrize(
    "how", ["equal spreads", "one arm three times noisier", "shared seed effects", "t with 4 degrees of freedom"]
)
def test_whoever_looks_after_every_pair_errs_in_one_family_of_twenty_at_most(how: str, m: int) -> None:
    """True nulls: no difference for `holds` and `opposite`, one of exactly the margin (1.5 sd) for `no difference`."""
    x = no_difference(np.random.default_rng(10 * m + len(how)), how, m)
    up, down = level(x, m), level(-x, m)
    at = step_down(np.maximum(up, down), m)
    assert ((up >= at) | (down >= at)).any(1).mean() <= 0.05
    edge = x + 1.5  # the true difference is the margin
    same = np.minimum(level(edge + 1.5, m), level(1.5 - edge, m))
    assert (same >= step_down(same, m)).any(1).mean() <= 0.05
    # the program decides as this code does
    same = np.minimum(level(x + 1.5, m), level(1.5 - x, m))
    tests = {"up": (up, at), "down": (down, at), "same": (same, step_down(same, m))}
    wrong = np.flatnonzero(((up >= at) | (down >= at)).any(1))[:10]
    for run in {*range(10), *wrong.tolist()}:
        ours = [{name for name, (has, need) in tests.items() if has[run, k] >= need[run, k]} for k in range(m)]
        assert decided(x[run], 1.5) == ours


@pytest.mark.seconds
def test_power() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (RUNS, 1, 12))
    assert (level(x + 1.5, 1) > 0).mean() >= 0.95


@pytest.mark.seconds
@pytest.mark.parametrize("stated", evalues.MEASURED, ids=lambda stated: f"loss of {stated.loss:g}")
def test_the_errors_that_the_page_states_are_measured(stated: evalues.Measured) -> None:
    """The mean is 0: of the exponential distribution, or as the seeds that do not collapse win what the others lose."""
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (RUNS, 1, 20)) + np.where(rng.random((RUNS, 1, 20)) < 0.05, -0.95, 0.05) * stated.loss
    x = x if stated.loss else rng.exponential(1, (RUNS, 1, 20)) - 1
    up, down = reached(x[:, 0], 40), reached(-x[:, 0], 40)
    fragile = []
    for run in np.flatnonzero((up | down).any(1)):
        first = int(np.argmax(up[run] | down[run]))  # at which nobody looks further
        sign = 1 if up[run, first] else -1
        fragile.append(evalues.sign_test((sign * x[run, 0, : LOOKS[first]]).tolist()) > 0.05)
    assert 100 * len(fragile) / RUNS == pytest.approx(stated.wrong, abs=2)
    assert 100 * np.mean(fragile) == pytest.approx(stated.fragile, abs=5)


def test_the_page_states_the_fewest_pairs_that_can_decide() -> None:
    """Pairs that all say the same have the largest evidence that so many can have."""
    (said,) = re.findall(r"a verdict needs at least (5 pairs .*?)\. A family", " ".join(reading.evidence()))
    stated = re.findall(r"(\d+)(?: pairs)? at (?:evidence )?(\d+)(?: to (\d+))?", said)
    assert [int(n) for n, *_ in stated] == [5, 6, 7]
    for n, first, last in stated:
        for takes in {float(first), float(last or first)}:
            assert evalues.above([1.0] * (int(n) - 1)) < takes <= evalues.above([1.0] * int(n))
