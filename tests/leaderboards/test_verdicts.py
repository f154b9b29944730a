"""Verdicts against closed forms (two degrees of freedom have one) and against simulated nulls."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from operator import methodcaller
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from leaderboards import verdicts
from leaderboards.arms import Arms
from leaderboards.claim_arms import COMPUTE, most_alike
from leaderboards.claims import Claim
from leaderboards.paired_arms import fairest
from leaderboards.recipe_differences import unlike
from leaderboards.statistics import Mean, block_model, holm, own, paired, power
from leaderboards.verdicts import Evidence, Verdict
from leaderboards.wording import brief, outcome, place, sentence
from repro.results.suite import suite

Make = Callable[..., list[dict[str, Any]]]
PROTOCOLS = suite().protocols

DIRECTION = Claim(
    id="d",
    paper="p",
    citation="A paper",
    statement="APS is better.",
    kind="direction",
    method="aps",
    baseline="moco_v3",
    evaluation="linear",
    metric="top1",
    data="cifar10",
    source="abstract",
    verified="abstract",
    track="cifar",
    margin=0.5,
    n=3,
    family="f",
    protocol="aps",
    backbone="ViT 128x6/4",
    epochs=(1600, 1600),
    batch=128,
    proxies={"mini": 1.5},
)
NUMBER = replace(DIRECTION, id="n", kind="number", baseline="", proxies={}, value=83.4, unit="%")


def verdict(claim: Claim, records: list[dict[str, Any]], track: str) -> Verdict:
    return verdicts.judge([claim], Arms(records, suite()), track)[0]


def judge(claims: list[Claim], records: list[dict[str, Any]], track: str) -> list[Verdict]:
    return verdicts.judge(claims, Arms(records, suite()), track)


def both(claims: list[Claim], records: list[dict[str, Any]], track: str) -> dict[str, list[Verdict]]:
    return verdicts.both(claims, Arms(records, suite()), track)


def evidence(found: Verdict) -> Evidence:
    assert found.evidence is not None
    return found.evidence


def p_two(t: float) -> float:
    """Upper tail of Student's t with 2 degrees of freedom."""
    return 0.5 - t / (2 * math.sqrt(2 + t * t))


def quantile_two(q: float) -> float:
    """Quantile of Student's t with 2 degrees of freedom."""
    a = 2 * q - 1
    return a * math.sqrt(2 / (1 - a * a))


def pairs(make: Make, differences: list[float], base: float = 40.0, **more: Any) -> list[dict[str, Any]]:
    records = []
    for seed, difference in enumerate(differences):
        shift = base + 0.1 * seed  # what pairing takes out
        records += make("aps", "linear", {"top1": shift + difference}, seed=seed, **more)
        records += make("moco_v3", "linear", {"top1": shift}, seed=seed, **more)
    return records


# ------------------------------------------------------------------------------------------------------------ the tests


def test_t_test_and_tost_agree_with_the_closed_form() -> None:
    mean = own([2.0, 3.0, 4.0])  # mean 3, sd 1
    assert mean.above(0.0) == pytest.approx(p_two(3 * math.sqrt(3)), rel=1e-9)
    assert mean.below(0.0) == pytest.approx(1 - p_two(3 * math.sqrt(3)), rel=1e-9)
    # within 2 of 2.5: t of the two sides is (3 - 0.5) and (4.5 - 3), times sqrt(3)
    assert mean.within(2.5, 2.0) == pytest.approx(p_two(1.5 * math.sqrt(3)), rel=1e-9)
    low, high = mean.next_value()
    assert high - low == pytest.approx(2 * quantile_two(0.975) * math.sqrt(4 / 3), rel=1e-9)


def test_values_without_spread_decide_for_themselves() -> None:
    same = own([0.7, 0.7, 0.7])
    assert (same.above(0.5), same.above(0.7), same.above(0.9)) == (0.0, 1.0, 1.0)
    assert (same.within(0.5, 0.3), same.within(0.5, 0.1)) == (0.0, 1.0)


def columns(values: npt.NDArray[np.float64]) -> list[dict[int, float]]:
    """One arm a row, one seed a column."""
    return [dict(enumerate(row.tolist())) for row in values]


def test_the_block_model_is_the_two_way_table() -> None:
    y = np.random.default_rng(0).normal(40, 2, (5, 3))
    residuals, variance, df = block_model(columns(y))
    centred = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    assert df == 8
    assert variance == pytest.approx((centred**2).sum() / 8, rel=1e-9)
    np.testing.assert_allclose(np.array(residuals), centred, atol=1e-9)


def test_the_block_model_is_that_of_statsmodels_where_arms_lack_seeds_too() -> None:
    from statsmodels.api import OLS

    rng = np.random.default_rng(7)
    for size in (3, 5, 40):
        seen = [rng.permutation(6)[: rng.integers(2, 7)].tolist() for _ in range(size)]
        table = [{seed: float(rng.normal(40, 2)) for seed in each} for each in seen]
        rows = [(arm, seed, value) for arm, found in enumerate(table) for seed, value in sorted(found.items())]
        arms = np.array([[arm == one for one in range(size)] for arm, *_ in rows], dtype=float)
        seeds = np.array([[seed == one for one in range(1, 6)] for _, seed, _ in rows], dtype=float)
        fit = OLS([value for *_, value in rows], np.hstack([arms, seeds])).fit()
        residuals, variance, df = block_model(table)
        np.testing.assert_allclose([value for part in residuals for value in part], fit.resid, rtol=0, atol=1e-12)
        assert [len(part) for part in residuals] == [len(found) for found in table]
        assert df == fit.df_resid and (df == 0 or variance == pytest.approx(fit.mse_resid, rel=1e-12))


def test_tests_and_intervals_are_those_of_scipy_stats() -> None:
    from statsmodels.stats.power import TTestPower

    for mean in (Mean(1.3, 0.7, 3, 2, ""), Mean(-0.2, 2.5, 4, 24, ""), Mean(0.9, 1e-3, 10, 9, "")):
        t = stats.t(mean.df, loc=mean.value, scale=mean.error)
        assert mean.above(0.5) == pytest.approx(stats.t.sf((mean.value - 0.5) / mean.error, mean.df), rel=1e-12)
        assert mean.interval == pytest.approx(t.interval(0.95), rel=1e-12)
        assert mean.resolvable(0.01) == pytest.approx(stats.t.ppf(0.99, mean.df) * mean.error, rel=1e-12)
    for size, n, df in ((1.3, 3, 2), (0.4, 30, 29), (2.0, 4, 36)):
        theirs = TTestPower().power(size, n, 0.01, df=df, alternative="larger")
        assert power(size, n, 0.01, df) == pytest.approx(theirs, rel=1e-9)


def test_two_arms_alone_are_scipy_s_paired_t_test() -> None:
    a, b = np.random.default_rng(1).normal(0, 1, (2, 4))
    mean = paired(*columns(np.stack([a, b])))
    assert mean.above(0.0) == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue, rel=1e-9)
    # the same from the model itself, whose residuals are half the differences
    _, variance, df = block_model(columns(np.stack([a, b])))
    assert (math.sqrt(2 * variance), df) == (pytest.approx(mean.sd, rel=1e-9), mean.df)


def test_the_spread_of_three_pairs_is_pooled_over_the_table() -> None:
    y = np.random.default_rng(3).normal(0, 1, (13, 3)) + np.arange(13)[:, None] + np.array([0.0, 5.0, -5.0])
    arms = columns(y)
    mean = paired(arms[1], arms[0], arms[2:])
    assert mean.value == pytest.approx((y[1] - y[0]).mean())
    assert (mean.df, mean.how) == (24, "variance pooled over 13 arms, 24 degrees of freedom")
    assert mean.sd == pytest.approx(math.sqrt(2 * block_model(arms)[1]))
    # an arm that lacks a seed takes its degree of freedom along, one with a single seed says nothing of the spread
    ragged = [{0: 1.0, 1: 6.1}, {2: 3.0}]
    assert paired(arms[1], arms[0], [*arms[2:], *ragged]).df == 25
    # five pairs speak for themselves
    more = columns(np.random.default_rng(3).normal(0, 1, (4, 5)))
    assert paired(more[0], more[1], more[2:]).how == "paired t"


def test_a_pair_of_another_spread_is_not_pooled() -> None:
    """The edges of the F test by hand: where the pair's variance is such that one tail has 10 %."""
    y = np.random.default_rng(4).normal(0, 1.0, (10, 4))
    rest = columns(y[2:])
    _, variance, df = block_model(rest)
    shape = np.array([1.0, -1.0, 1.0, -1.0]) * math.sqrt(3 / 4)  # variance 1
    for tail, factor, pooled in ((0.9, 0.99, True), (0.9, 1.01, False), (0.1, 1.01, True), (0.1, 0.99, False)):
        spread = math.sqrt(2 * variance * stats.f.ppf(tail, 3, df) * factor)
        mean = paired(*columns(np.stack([7.0 + shape * spread, np.zeros(4)])), rest)
        assert mean.how.startswith("variance pooled over 10 arms") is pooled
        assert (mean.df == 3) is not pooled
    assert mean.how == "paired t, as the spread of this pair is not that of the other arms"
    # what was not trained has no spread, and says nothing of that of trainings
    assert paired(rest[0], rest[1], [*rest[2:], dict.fromkeys(range(4), 30.0)]) == paired(rest[0], rest[1], rest[2:])
    # a pair that agrees by rounding does not decide with certainty
    assert paired(*columns(np.array([[2.0] * 4, [1.0] * 4])), rest).above(0.0) > 0.001


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("noise", [1.0, 2.0, 3.0])
@pytest.mark.seconds
def test_a_noisier_pair_keeps_the_nominal_rate(n: int, noise: float) -> None:
    """500 tables of 21 arms in which the two compared differ in nothing, but stray more than the others."""
    rng = np.random.default_rng(int(10 * noise) + n)
    sizes = np.array([noise, noise, *[1.0] * 19])[:, None]
    wrong = 0
    for _ in range(500):
        arms = columns(rng.normal(0.0, 1.0, n) + sizes * rng.normal(0.0, 1.0, (21, n)))
        wrong += paired(arms[0], arms[1], arms[2:]).above(0.0) < 0.05
    assert wrong / 500 < 0.067 + 3 * math.sqrt(0.067 * 0.933 / 500)  # pooled blindly: 0.17 and 0.23


def test_how_many_pairs_an_effect_needs() -> None:
    """The shared table of effects that a one-sided paired t-test shows four times in five."""
    one = Mean(0.0, 1.0, 3, 2, "")
    assert [one.needed(effect) for effect in (2.35, 1.37, 0.86)] == [3, 5, 10]
    assert one.needed(0.0) is None and one.needed(-1.0) is None
    assert own([1.0]).needed(1.0) is None
    # a stricter level, and a spread with more degrees of freedom, against simulated tests
    rng, alpha = np.random.default_rng(5), 0.05 / 6
    for mean, effect, dfs in ((one, 1.5, lambda n: n - 1), (Mean(0.0, 1.0, 3, 24, ""), 2.2, lambda n: 12 * (n - 1))):
        n = mean.needed(effect, alpha)
        assert n is not None
        power = []
        for size in (n - 1, n):
            spread = np.sqrt(rng.chisquare(dfs(size), 40_000) / dfs(size))
            t = (effect + rng.normal(0, 1 / math.sqrt(size), 40_000)) * math.sqrt(size) / spread
            power.append(np.mean(t > stats.t.isf(alpha, dfs(size))))
        assert power[0] < 0.8 < power[1]
    assert Mean(0.0, 0.0, 3, 2, "").needed(1.0) is None


@pytest.mark.processes
def test_no_library_of_statistics_is_imported_whole() -> None:
    """They take longer to import than the boards of a thousand records take."""
    code = (
        "import sys; from leaderboards.statistics import Mean, block_model, holm, paired;"
        "arms = [{0: 1.0, 1: 2.5}, {0: 2.0, 1: 3.0}, {0: 0.0, 1: 4.0}, {0: 0.5, 1: 0.7}];"
        "mean = paired(arms[0], arms[1], arms[2:]); mean.interval, mean.within(0.0, 1.0), mean.next_value();"
        "Mean(0.0, 1.0, 3, 2, '').needed(1.0); holm([0.001, 0.2]); block_model(arms);"
        "heavy = {'statsmodels', 'pandas', 'scipy.stats'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_holm_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from statsmodels.stats.multitest import multipletests

    monkeypatch.setattr("gc.collect", lambda *_: 0)  # statsmodels asks for it each time: minutes with torch imported
    # 0.01 < 0.05/4; 0.015 < 0.05/3; 0.03 > 0.05/2 stops; 0.04 stays although it is below 0.05
    assert holm([0.04, 0.01, 0.03, 0.015]) == [False, True, False, True]
    assert holm([0.04]) == [True]
    assert holm([]) == []
    rng = np.random.default_rng(6)
    for _ in range(200):
        p = (rng.uniform(0, 1, rng.integers(1, 9)) ** 4).tolist()
        assert holm(p) == multipletests(p, alpha=0.05, method="holm")[0].tolist()


@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_verdicts_stay_at_their_nominal_rate(n: int) -> None:
    """600 tables of 8 arms: of no difference for the t-test, of a difference exactly at the margin for TOST."""
    rng = np.random.default_rng(n)
    levels = np.array([0.0, 0.0, *rng.normal(0.0, 3.0, 6)])[:, None]  # the first two arms are the same
    means = []
    for _ in range(600):
        arms = columns(levels + rng.normal(0.0, 1.0, n) + rng.normal(0.0, 0.6, (8, n)))
        means.append(paired(arms[0], arms[1], arms[2:]))
    ceiling = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    assert np.mean([mean.above(0.0) < 0.05 for mean in means]) < ceiling
    assert np.mean([mean.below(0.0) < 0.05 for mean in means]) < ceiling
    assert np.mean([replace(mean, value=mean.value + 1.5).within(0.0, 1.5) < 0.05 for mean in means]) < ceiling
    # And where there is something to see, it is seen four times in five: pooling shows with three pairs what takes 2.3
    # standard deviations of the differences without it. Power grows with the effect.
    effects = np.array([0.0, {3: 1.5, 5: 1.36, 10: 0.85}[n], 3.0]) * 0.6 * math.sqrt(2)
    power = [np.mean([replace(mean, value=mean.value + e).above(0.0) < 0.05 for mean in means]) for e in effects]
    assert power[0] < ceiling and 0.7 < power[1] < 0.86 and power[2] > 0.95


def test_a_family_of_nulls_has_one_false_verdict_in_twenty_at_most(make: Make) -> None:
    family = [replace(DIRECTION, id=f"d{i}", baseline=f"base{i}") for i in range(4)]
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(150):
        records = [r for seed in range(3) for r in make("aps", "linear", {"top1": 40 + rng.normal()}, seed=seed)]
        for i in range(4):
            for seed in range(3):
                records += make(f"base{i}", "linear", {"top1": 40 + rng.normal()}, seed=seed)
        wrong += any(v.outcome == "holds" for v in judge(family, records, "mini"))
    assert wrong / 150 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


# --------------------------------------------------------------------------------------------------------- the outcomes


def test_embedded_gives_no_verdict_whatever_the_numbers(make: Make) -> None:
    found = verdict(DIRECTION, pairs(make, [9.0, 9.1, 9.2], track="embedded"), "embedded")
    assert found.outcome == "no verdict"
    assert "no verdicts at embedded: it shows whether a method learns" in sentence(found)


def test_direction_holds_with_its_numbers(make: Make) -> None:
    found = verdict(DIRECTION, pairs(make, [2.0, 3.0, 4.0]), "mini")
    assert found.outcome == "holds"
    assert found.n == 3
    assert found.gap == pytest.approx(3.0)
    assert evidence(found).p == pytest.approx(p_two(3 * math.sqrt(3)), rel=1e-6)
    assert evidence(found).resolvable == pytest.approx(quantile_two(0.95) / math.sqrt(3), rel=1e-6)
    assert sentence(found).startswith(
        "holds at mini (n = 3 pairs, no headline): aps 3.00 points above moco_v3 in linear top1; "
    )
    assert "1.69 points could be resolved" in sentence(found)
    assert "CIFAR-10 (JPEG copy), ViT 128x6/4, 16 epochs, protocol mini" in sentence(found)


def test_the_other_outcomes_of_a_direction(make: Make) -> None:
    def outcome(differences: list[float]) -> str:
        return verdict(DIRECTION, pairs(make, differences), "mini").outcome

    assert outcome([-2.0, -3.0, -4.0]) == "opposite"
    assert outcome([-0.1, 0.0, 0.1]) == "no difference"
    same = verdict(DIRECTION, pairs(make, [-0.1, 0.0, 0.1]), "mini")
    assert f"TOST within 1.5 points, p = {p_two(15 * math.sqrt(3)):.2g}" in sentence(same)
    wide = verdict(DIRECTION, pairs(make, [-3.0, 1.0, 4.0]), "mini")
    t = (2 / 3) / (np.std([-3, 1, 4], ddof=1) / math.sqrt(3))
    assert wide.outcome == "underpowered" and f"one-sided t, p = {p_two(t):.2g}, and TOST within" in sentence(wide)
    assert "headline" not in sentence(wide)
    # shown to be above zero, but by less than what counts: both are said
    small = verdict(DIRECTION, pairs(make, [0.30, 0.31, 0.32]), "mini")
    assert small.outcome == "holds"
    assert "less than the 1.5 points that count as a difference" in sentence(small)


def test_too_few_seeds_are_no_verdict(make: Make) -> None:
    one = verdict(DIRECTION, pairs(make, [5.0]), "mini")
    assert (one.outcome, one.n) == ("no verdict", 1)
    assert sentence(one).startswith("n = 1, no verdict at mini: aps 5.00 points above moco_v3")
    two = verdict(DIRECTION, pairs(make, [5.0, 6.0]), "mini")
    assert (two.outcome, two.n) == ("no verdict", 2)
    assert "n = 2 of the 3 pairs that this claim froze" in sentence(two)


def test_seeds_beyond_the_frozen_n_change_nothing(make: Make) -> None:
    three = verdict(DIRECTION, pairs(make, [2.0, 3.0, 4.0]), "mini")
    five = verdict(DIRECTION, pairs(make, [2.0, 3.0, 4.0, -9.0, -9.0]), "mini")
    assert (five.outcome, five.n, five.gap) == (three.outcome, three.n, three.gap)
    assert evidence(five).p == evidence(three).p
    assert "2 further seeds not used" in sentence(five)


def test_only_pairs_of_the_same_setting_count(make: Make) -> None:
    ours = [r for seed in range(3) for r in make("aps", "linear", {"top1": 50.0 + seed}, seed=seed)]
    for change, word in (
        ({"epochs": 4}, "epochs 16 against 4"),
        ({"protocol_hash": "other"}, "protocol_hash"),
        ({"data": "cifar100"}, "data cifar10-jpeg against cifar100"),
        ({"network": {"arch": "resnet", "depth": 18, "width": 16}}, "network ViT 128x6/4 against ResNet-18 w16"),
    ):
        theirs = [r for seed in range(3) for r in make("moco_v3", "linear", {"top1": 40.0}, seed=seed, **change)]
        found = verdict(DIRECTION, ours + theirs, "mini")
        assert found.outcome == "incomparable"
        assert word in sentence(found)
    apart = [r for seed in range(3, 6) for r in make("moco_v3", "linear", {"top1": 40.0}, seed=seed)]
    assert verdict(DIRECTION, ours + apart, "mini").n == 0  # no seed in common


def test_unequal_tuning_is_incomparable(make: Make) -> None:
    records = [r for s in range(3) for r in make("aps", "linear", {"top1": 50.0 + s}, seed=s, trials=4)]
    records += [r for s in range(3) for r in make("moco_v3", "linear", {"top1": 40.0 + s}, seed=s, trials=1)]
    found = verdict(DIRECTION, records, "mini")
    assert found.outcome == "incomparable"
    assert "tuning trials differ, 4 against 1" in sentence(found)
    for record in records:
        del record["provenance"]["trials"]
    unknown = verdict(DIRECTION, records, "mini")
    assert sentence(unknown) == "incomparable at mini: tuning trials not recorded"


def test_the_trials_that_stand_in_the_way_are_named_with_the_epochs(make: Make) -> None:
    records = [r for s in range(3) for r in make("aps", "linear", {"top1": 50.0 + s}, seed=s, epochs=4, trials=3)]
    for epochs in (15, 6, 11):
        records += make("moco_v3", "linear", {"top1": 40.0}, epochs=epochs, trials=7, cost={"flops": 9e13})
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert sentence(epochs).endswith("epochs 4 against 6, 11, 15; tuning trials differ, 3 against 7")
    assert compute.outcome == "not run" and sentence(compute).endswith("; tuning trials differ, 3 against 7")


def test_an_arm_whose_seeds_ran_twice_decides_nothing(make: Make) -> None:
    records = pairs(make, [2.0, 3.0, 4.0])
    records += make("aps", "linear", {"top1": 60.0}, seed=0, code="changed")
    found = verdict(DIRECTION, records, "mini")
    assert sentence(found) == "incomparable at mini: aps: seed 0 run more than once: not averaged"


def test_of_several_recipes_those_tuned_alike_are_compared(make: Make) -> None:
    records = []
    for seed in range(3):
        records += make("aps", "linear", {"top1": 60.0 + seed}, seed=seed, trials=1, salt="earlier")
        records += make("aps", "linear", {"top1": 50.0 + seed}, seed=seed, trials=4)
        records += make("moco_v3", "linear", {"top1": 40.0 + 1.1 * seed}, seed=seed, trials=4)
    found = verdict(DIRECTION, records, "mini")
    assert (found.outcome, found.n) == ("holds", 3)
    assert found.gap == pytest.approx(9.9)


def test_not_run_until_both_arms_are_there(make: Make) -> None:
    assert sentence(verdict(DIRECTION, [], "mini")) == "not run at mini: no record of aps"
    ours = make("aps", "linear", {"top1": 50.0})
    assert sentence(verdict(DIRECTION, ours, "mini")) == "not run at mini: no record of the baseline moco_v3"
    assert verdict(DIRECTION, ours, "imagenet").outcome == "incomparable"  # no track of this claim
    assert verdict(replace(DIRECTION, track="none", proxies={}), ours, "mini").outcome == "not run"


def test_test_sets_that_are_too_small_never_decide(make: Make) -> None:
    claim = replace(DIRECTION, evaluation="reid", metric="rank1")
    records = []
    for seed in range(3):
        records += make("aps", "reid", {"rank1": 60.0 + seed}, seed=seed)
        records += make("moco_v3", "reid", {"rank1": 30.0}, seed=seed)
    found = verdict(claim, records, "mini")
    assert (found.outcome, found.n) == ("underpowered", 3)
    assert sentence(found).startswith("underpowered at mini (n = 3 pairs): no test, as its test set is too small")


OWN: dict[str, Any] = {
    "track": "cifar",
    "data": "cifar10",
    "source": "CIFAR-10",
    "protocol": "aps",
    "protocol_hash": PROTOCOLS["linear"]["aps"]["hash"],
    "epochs": 1600,
}


def test_a_number_is_reproduced_below_or_above_only_in_its_own_setting(make: Make) -> None:
    def of(values: list[float], **change: Any) -> Any:
        records = [
            r for s, v in enumerate(values) for r in make("aps", "linear", {"top1": v}, seed=s, **{**OWN, **change})
        ]
        return verdict(NUMBER, records, "cifar")

    same = of([83.40, 83.45, 83.50])
    assert (same.outcome, same.n) == ("reproduced", 3)
    # TOST by hand: mean 83.45, sd 0.05; the nearer edge of 83.4 +- 0.5 is 83.9
    assert evidence(same).p == pytest.approx(p_two((83.9 - 83.45) * math.sqrt(3) / 0.05), rel=1e-6)
    assert of([80.0, 80.1, 80.2]).outcome == "below"
    assert of([86.0, 86.1, 86.2]).outcome == "above"
    assert of([81.0, 83.0, 85.5]).outcome == "underpowered"
    for change, word in (
        ({"epochs": 20}, "epochs 20, the claim's is 1600"),
        ({"batch": 64}, "batch 64, the claim's is 128"),
        ({"protocol": "fast"}, "protocol fast, the claim's is aps"),
        ({"protocol_hash": "0123456789ab"}, "protocol aps with other values (01234567)"),
        ({"data": "cifar10-jpeg"}, "data cifar10-jpeg, the claim's is cifar10"),
    ):
        other = of([83.40, 83.45, 83.50], **change)
        assert other.outcome == "not run"
        assert word in sentence(other)
    for key in ("backbone", "epochs", "batch"):  # what no source tells cannot be shown to be the same
        hidden = replace(NUMBER, **{key: "" if key == "backbone" else None}, unknown=(key,))
        records = [r for s in range(3) for r in make("aps", "linear", {"top1": 83.4 + 0.05 * s}, seed=s, **OWN)]
        found = verdict(hidden, records, "cifar")
        assert found.outcome == "not run" and "the claim's is not known" in sentence(found)


def test_a_gain_is_tested_for_its_size_at_home_and_for_its_sign_elsewhere(make: Make) -> None:
    gain = replace(DIRECTION, kind="gain", value=2.5, unit="points", margin=0.5)
    assert verdict(gain, pairs(make, [2.45, 2.50, 2.55], **OWN), "cifar").outcome == "reproduced"
    assert verdict(gain, pairs(make, [0.95, 1.00, 1.05], **OWN), "cifar").outcome == "below"
    assert verdict(gain, pairs(make, [4.95, 5.00, 5.05], **OWN), "cifar").outcome == "above"
    assert verdict(gain, pairs(make, [-1.0, -1.1, -1.2], **OWN), "cifar").outcome == "opposite"
    assert verdict(gain, pairs(make, [2.0, 3.0, 4.2], **OWN), "cifar").outcome == "holds"  # the size is not resolved
    assert verdict(gain, pairs(make, [0.95, 1.00, 1.05]), "mini").outcome == "holds"
    # at its own track under another protocol only what `proxies` allows
    other = {**OWN, "protocol": "fast"}
    assert verdict(gain, pairs(make, [2.45, 2.50, 2.55], **other), "cifar").outcome == "not run"
    allowed = replace(gain, proxies={"cifar": 1.0})
    there, own = both([allowed], pairs(make, [2.45, 2.50, 2.55], **other), "cifar")["d"][::2]
    assert sentence(there).startswith("holds for the direction at cifar (n = 3 pairs, no headline): aps 2.50 points")
    assert sentence(own) == "not run at cifar, own setting: protocol fast, the claim's is aps"
    assert (place(there), place(own)) == ("direction at cifar", "cifar")
    short = {**OWN, "epochs": 2}
    assert verdict(allowed, pairs(make, [2.45, 2.50, 2.55], **short), "cifar").outcome == "holds"
    assert not verdict(gain, pairs(make, [2.45, 2.50, 2.55], **OWN), "cifar").lacks


def test_choosing_on_the_test_set_counts_only_in_the_paper_s_own_setting(make: Make) -> None:
    claim = replace(DIRECTION, metric="top1_best_on_test")
    records = []
    for seed, difference in enumerate([2.0, 3.0, 4.0]):
        found = {"top1": 40.0 + difference, "top1_best_on_test": 60.0}
        records += make("aps", "linear", found, seed=seed)
        records += make("moco_v3", "linear", {"top1": 40.0, "top1_best_on_test": 60.0}, seed=seed)
    assert verdict(claim, records, "mini").gap == pytest.approx(3.0)


def costly(make: Make, ratios: list[float], key: str, **more: Any) -> list[dict[str, Any]]:
    records = []
    for seed, ratio in enumerate(ratios):
        records += make("aps", "pretrain", {}, seed=seed, cost={key: 100.0 * ratio}, **more)
        records += make("moco_v3", "pretrain", {}, seed=seed, cost={key: 100.0}, **more)
    return records


def test_costs_are_compared_as_ratios(make: Make) -> None:
    ratio = replace(
        DIRECTION, kind="cost_ratio", evaluation="cost", metric="device_s", better="lower", value=0.75, margin=0.1,
        proxies={"mini": 0.1},
    )  # fmt: skip
    found = verdict(ratio, costly(make, [0.74, 0.75, 0.76], "device_s"), "mini")
    assert found.outcome == "reproduced"
    assert found.gap == pytest.approx((0.74 * 0.75 * 0.76) ** (1 / 3))
    logs = np.log([0.74, 0.75, 0.76])
    t = (math.log(1.1) - abs(logs.mean() - math.log(0.75))) / (logs.std(ddof=1) / math.sqrt(3))
    assert evidence(found).p == pytest.approx(p_two(t), rel=1e-6)
    assert verdict(ratio, costly(make, [0.99, 1.0, 1.01], "device_s"), "mini").outcome == "above"
    assert verdict(ratio, costly(make, [0.49, 0.50, 0.51], "device_s"), "mini").outcome == "below"
    assert verdict(ratio, costly(make, [0.5, 0.8, 1.2], "device_s"), "mini").outcome == "underpowered"

    fewer = replace(ratio, kind="direction", value=None, metric="flops")
    less = verdict(fewer, costly(make, [0.4, 0.4, 0.4], "flops"), "mini")  # operations have no spread
    assert less.outcome == "holds"
    assert less.gap == pytest.approx(0.4)
    assert "aps takes 0.40 times the flops of moco_v3" in sentence(less)
    assert verdict(fewer, costly(make, [1.4, 1.4, 1.4], "flops"), "mini").outcome == "opposite"
    assert verdict(fewer, costly(make, [1.05, 0.95, 1.0], "flops"), "mini").outcome == "no difference"
    trifle = verdict(fewer, costly(make, [0.99, 0.99, 0.99], "flops"), "mini")
    assert trifle.outcome == "no difference" and "TOST within 10 %: the seeds do not differ" in sentence(trifle)
    # 0.93 on average, but not shown to lie within 10 %: the inverse of 1.1 is 0.909
    near = verdict(fewer, costly(make, [0.90, 0.93, 0.96], "flops"), "mini")
    assert near.outcome == "holds" and "but less than the 10 % that count as a difference" in sentence(near)


def test_a_cost_of_nothing_is_no_measurement(make: Make) -> None:
    claim = replace(DIRECTION, evaluation="cost", metric="flops", better="lower", proxies={"mini": 0.1})
    assert verdict(claim, costly(make, [0.0, 0.5, 0.0], "flops"), "mini").n == 1


def test_costs_of_different_machines_are_not_compared(make: Make) -> None:
    claim = replace(DIRECTION, evaluation="cost", metric="device_s", better="lower", proxies={"mini": 0.1})
    records = []
    for seed in range(3):
        records += make("aps", "pretrain", {}, seed=seed, device="A")
        records += make("moco_v3", "pretrain", {}, seed=seed, device="B")
    found = verdict(claim, records, "mini")
    assert found.outcome == "incomparable"
    assert "measured on A, 1 threads and B, 1 threads" in sentence(found)


def test_a_family_shares_one_error_rate(make: Make) -> None:
    """p = 0.0176 stands alone, but not as one of four that could be tested."""
    records = pairs(make, [2.0, 3.0, 4.0])
    assert verdict(DIRECTION, records, "mini").outcome == "holds"
    family = [DIRECTION, *(replace(DIRECTION, id=f"d{i}", baseline=f"base{i}") for i in range(3))]
    short = judge(family, records, "mini")[0]
    assert short.outcome == "underpowered"
    assert evidence(short).resolvable == pytest.approx(quantile_two(1 - 0.05 / 4) / math.sqrt(3), rel=1e-6)
    assert evidence(short).resolvable > 3.0 and "3.58 points could be resolved after Holm over 4 claims" in sentence(
        short
    )
    assert re.search(r"one-sided t, p = 0\.\d+ where 0\.013 is asked for, and TOST", sentence(short)), "0.05 / 4"
    # one of which another has been shown leaves three open
    family[1] = replace(family[1], baseline="base0")
    shown = records + [r for s in range(3) for r in make("base0", "linear", {"top1": 10.0 + 0.1 * s}, seed=s)]
    rest = judge(family, shown, "mini")
    assert [v.outcome for v in rest[:2]] == ["underpowered", "holds"]
    assert evidence(rest[0]).resolvable == pytest.approx(quantile_two(1 - 0.05 / 3) / math.sqrt(3), rel=1e-6)
    assert " where 0.017 is asked for, " in sentence(rest[0])
    strangers = [DIRECTION, *(replace(c, family="other") for c in family[1:])]
    assert judge(strangers, records, "mini")[0].outcome == "holds"


def test_the_pairs_that_are_needed_are_for_the_claimed_effect(make: Make) -> None:
    claim = replace(DIRECTION, value=6.0)
    found = verdict(claim, pairs(make, [-3.0, 1.0, 4.0]), "mini")
    assert evidence(found).needed == Mean(0.0, float(np.std([-3, 1, 4], ddof=1)), 3, 2, "").needed(6.0)
    assert f"{evidence(found).needed} pairs show the claimed 6 points four times in five" in sentence(found)
    assert evidence(found).needed < (evidence(verdict(DIRECTION, pairs(make, [-3.0, 1.0, 4.0]), "mini")).needed or 0)


# ----------------------------------------------------------------------------------------------------- equal compute


def trained(make: Make, method: str, values: list[float], epochs: int, flops: float) -> list[dict[str, Any]]:
    cost = {"flops": flops, "wall_s": 100.0, "device_s": 100.0}
    return [
        r
        for seed, value in enumerate(values)
        for r in make(method, "linear", {"top1": value}, seed=seed, epochs=epochs, cost=cost)
    ]


def test_a_claim_that_holds_only_at_equal_epochs_says_so(make: Make) -> None:
    """16 epochs of the method cost what 28 of the baseline do: given those, the baseline is level."""
    records = trained(make, "aps", [43.0, 43.6, 44.1], 16, 1.75e13)
    records += trained(make, "moco_v3", [40.0, 40.5, 41.2], 16, 1.0e13)
    alone = both([DIRECTION], records, "mini")["d"]
    assert [v.outcome for v in alone] == ["holds", "not run"]
    assert "no two trainings of as many operations within 10%" in sentence(alone[1])
    assert "aps 1.75e+13 in 16 epochs and moco_v3 1e+13 in 16 epochs" in sentence(alone[1])
    assert "only at equal epochs" not in sentence(alone[0])

    records += trained(make, "moco_v3", [43.1, 43.5, 44.1], 28, 1.75e13)
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert epochs.at_equal_compute == "no difference" and not compute.at_equal_compute
    assert brief(epochs) == (
        "holds at mini (n = 3 pairs, no headline): aps 3.00 points above moco_v3 in linear top1;"
        " only at equal epochs: at equal compute no difference"
    )
    assert outcome(compute) == "no difference at mini, equal compute (n = 3)"
    assert (epochs.outcome, epochs.basis) == ("holds", "equal epochs")
    assert (compute.outcome, compute.basis) == ("no difference", COMPUTE)
    assert sentence(epochs).endswith("; only at equal epochs: at equal compute no difference")
    assert sentence(compute).startswith("no difference at mini, equal compute (n = 3 pairs, no headline): aps")
    assert compute.gap == pytest.approx(0.0)


def test_a_cost_has_one_basis(make: Make) -> None:
    claim = replace(DIRECTION, evaluation="cost", metric="flops", better="lower", proxies={"mini": 0.1})
    assert len(both([claim], costly(make, [0.4, 0.4, 0.4], "flops"), "mini")["d"]) == 1


def test_of_several_recipes_those_are_compared_that_share_most_and_then_the_newest(make: Make) -> None:
    """Rotation stands 10 points above byol with the same crops, and 20 above it with others."""
    records = []
    for seed in range(5):
        for crops, day, base in (([0.2, 1.0], "01", 30.0), ([0.08, 1.0], "02", 40.0)):
            for method, top1 in (("byol", base), ("rotation_aux", base + 10 + base / 10)):
                made = make(method, "linear", {"top1": top1 + seed % 2}, seed=seed, salt=day)
                made[0]["details"]["recipe"]["method"] = {"crop_scale": crops}
                for record in made:
                    record["provenance"]["date"] = f"2026-12-{day}T00:00:00+00:00"
                records += made
    found = Arms(records, suite()).of("linear")
    assert len(found) == 4
    assert sorted(unlike(a, b) for a in found for b in found if a.name < b.name) == [0, 0, 1, 1]
    read = methodcaller("values", "top1")
    pairs = [(a, b) for a in found for b in found if (a.name, b.name) == ("rotation_aux", "byol")]
    for ordered in (pairs, pairs[::-1]):
        a, b = most_alike(ordered, read)
        assert (read(a)[0], read(b)[0]) == (54.0, 40.0)
    best = fairest([a for a in found if a.name == "rotation_aux"], [a for a in found if a.name == "byol"], read)
    assert best and (read(best[0])[0], read(best[1])[0]) == (54.0, 40.0)
