"""Verdicts: what records show, against e-values by scipy, and what a verdict may not depend on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from operator import methodcaller
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sentences import sentence
from untuned import suite

from leaderboards import verdicts
from leaderboards.answers import answers
from leaderboards.arms import Arms
from leaderboards.assessments import assess
from leaderboards.claim_arms import COMPUTE, most_alike
from leaderboards.claims import Claim
from leaderboards.missing_runs import missing
from leaderboards.paired_arms import fairest
from leaderboards.recipe_differences import tuned as tuned_on_page
from leaderboards.recipe_differences import unlike
from leaderboards.statistics import Mean, own, paired
from leaderboards.verdicts import Evidence, Verdict
from leaderboards.wording import brief, outcome, place

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
    family="f",
    protocol="aps",
    backbone="ViT 128x6/4",
    epochs=(1600, 1600),
    batch=128,
    proxies={"mini": 1.5},
)
NUMBER = replace(DIRECTION, id="n", kind="number", baseline="", proxies={}, value=83.4, unit="%")


def both(claims: list[Claim], records: list[dict[str, Any]], track: str) -> dict[str, list[Verdict]]:
    return verdicts.judge(claims, Arms(records, suite()), track)


def judge(claims: list[Claim], records: list[dict[str, Any]], track: str) -> list[Verdict]:
    """At equal epochs."""
    found = both(claims, records, track)
    return [found[claim.id][0] for claim in claims]


def verdict(claim: Claim, records: list[dict[str, Any]], track: str) -> Verdict:
    return judge([claim], records, track)[0]


def evidence(found: Verdict) -> Evidence:
    assert found.evidence is not None
    return found.evidence


def largest(values: list[float]) -> float:
    """The largest e-value so far that the mean is above 0, by scipy."""
    found = [1.0]
    for n in range(2, len(values) + 1):
        t = stats.ttest_1samp(values[:n], 0).statistic
        found.append(math.exp(stats.nct.logpdf(t, n - 1, 1.2 * math.sqrt(n)) - stats.t.logpdf(t, n - 1)))
    return max(found)


def pairs(
    make: Make, differences: list[float], base: float = 40.0, first: int = 0, **more: Any
) -> list[dict[str, Any]]:
    records = []
    for seed, difference in enumerate(differences, first):
        shift = base + 0.1 * seed  # what pairing takes out
        records += make("aps", "linear", {"top1": shift + difference}, seed=seed, **more)
        records += make("moco_v3", "linear", {"top1": shift}, seed=seed, **more)
    return records


BETTER = [2.0, 3.0, 4.0, 3.0, 2.5, 3.5]
SAME = [-0.1, 0.0, 0.1, 0.05, -0.05, 0.02]


# ------------------------------------------------------------------------------------------------------------ intervals


def test_intervals_are_those_of_the_paired_t_test() -> None:
    a, b = np.random.default_rng(1).normal(0, 1, (2, 4))
    mean = paired(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())))
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert mean.interval == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert own([2.0, 3.0, 4.0]) == Mean(3.0, 1.0, 3)
    assert own([5.0]) == Mean(5.0, math.inf, 1)


# --------------------------------------------------------------------------------------------------------- the outcomes


def test_embedded_gives_no_verdict_whatever_the_numbers(make: Make) -> None:
    found = verdict(DIRECTION, pairs(make, BETTER, track="embedded"), "embedded")
    assert found.outcome == "no verdict"
    assert "no verdicts on embedded: it shows whether a method learns" in sentence(found)


def test_direction_holds_with_its_numbers(make: Make) -> None:
    found = verdict(DIRECTION, pairs(make, BETTER), "mini")
    assert (found.outcome, found.n) == ("holds", 6)
    assert found.gap == pytest.approx(3.0)
    by_test = evidence(found).by_test
    assert by_test["up"] == pytest.approx(largest(BETTER), rel=1e-6) and by_test["up"] > 40
    assert by_test["down"] == 1.0
    assert by_test["null"] == min(largest([x + 1.5 for x in BETTER]), largest([1.5 - x for x in BETTER])) == 1.0
    assert set(evidence(found).takes.values()) == {40.0}
    words = sentence(found)
    assert words.startswith(
        "holds on mini (n = 6 pairs): aps 3.00 points above moco_v3 (43.2 against 40.2) in linear top1 on CIFAR-10; "
    )
    assert (
        f"evidence (e-values): {by_test['up']:.0f} of 40 that it is better; 1.0 of 40 that it is worse;"
        " 1.0 of 40 that there is no difference of more than 1.5 points;" in words
    )
    low, high = stats.t(5, 3.0, np.std(BETTER, ddof=1) / math.sqrt(6)).interval(0.95)
    assert f"95 % interval (fixed n): {low:.2f} to {high:.2f}" in words
    assert "CIFAR-10 (JPEG copy), ViT 128x6/4, 16 epochs, protocol mini" in words
    assert "fragile" not in words


def test_own_pictures_say_nothing_about_a_papers_claim(make: Make) -> None:
    assert verdict(DIRECTION, pairs(make, BETTER, data=f"{suite().own}/pictures"), "mini").outcome == "not run"
    mixed = pairs(make, [-x for x in BETTER], data=f"{suite().own}/pictures") + pairs(make, BETTER)
    assert (verdict(DIRECTION, mixed, "mini").outcome, verdict(DIRECTION, mixed, "mini").n) == ("holds", 6)
    asked = missing(DIRECTION, Arms(pairs(make, BETTER, data=f"{suite().own}/pictures"), suite()), "mini", False, None)
    assert [(item.arm, item.seeds, item.like) for item in asked] == [
        (arm, (0, 1, 2, 3, 4), None) for arm in ("aps", "moco_v3")
    ]


def test_the_other_outcomes_of_a_direction(make: Make) -> None:
    def of(differences: list[float]) -> Verdict:
        return verdict(DIRECTION, pairs(make, differences), "mini")

    assert of([-value for value in BETTER]).outcome == "opposite"
    same = of(SAME)
    assert same.outcome == "no difference"
    within = min(largest([value + 1.5 for value in SAME]), largest([1.5 - value for value in SAME]))
    assert evidence(same).by_test["null"] == pytest.approx(within, rel=1e-6)
    wide = of([-3.0, 1.0, 4.0, 2.0, -1.0, 3.0])
    assert wide.outcome == "not decided yet"
    assert sentence(wide).startswith("not decided yet on mini (6 pairs, evidence ")
    best = max(evidence(wide).by_test.values())
    assert (
        f"evidence {best:.1f} of 40 that there is no difference of more than 1.5 points)" in sentence(wide)
        and 1 < best < 40
    )
    assert outcome(wide).endswith("of 40 that there is no difference of more than 1.5 points)")
    # shown to be above zero, but by less than what counts: both are said
    small = of([0.30, 0.31, 0.32, 0.30, 0.31])
    assert small.outcome == "holds, smaller than the margin"
    assert of([-0.30, -0.31, -0.32, -0.30, -0.31]).outcome == "opposite, smaller than the margin"


@pytest.mark.parametrize(
    ("differences", "side"),
    [
        ([2.0, 3.0, 4.0], "that it is better"),
        ([-2.0, -3.0, -4.0], "that it is worse"),
        ([-0.1, 0.2, 0.1], "that there is no difference of more than 1.5 points"),
    ],
)
def test_evidence_names_its_side(make: Make, differences: list[float], side: str) -> None:
    found = verdict(DIRECTION, pairs(make, differences), "mini")
    assert found.outcome == "not decided yet" and f" of 40 {side})" in sentence(found)


def test_no_three_pairs_decide_however_clear(make: Make) -> None:
    for n in range(1, 5):
        found = verdict(DIRECTION, pairs(make, [5.0] * n), "mini")
        assert (found.outcome, found.n) == ("not decided yet", n)
    assert verdict(DIRECTION, pairs(make, [5.0] * 5), "mini").outcome == "holds"
    one = verdict(DIRECTION, pairs(make, [5.0]), "mini")
    assert sentence(one).startswith("not decided yet on mini (1 pair, too few to test): aps 5.00 points")


def test_what_was_shown_once_stays_shown(make: Make) -> None:
    """Whoever looked at six pairs and stopped is not contradicted by whoever looks at eight."""
    found = verdict(DIRECTION, pairs(make, [*BETTER, -9.0, -8.0]), "mini")
    assert found.outcome == "holds" and evidence(found).by_test["up"] == pytest.approx(largest(BETTER), rel=1e-6)
    assert found.n == 8 and evidence(found).signs_apart == ("up",)
    assert "(n = 8 pairs, fragile)" in brief(found)
    assert "fragile: a sign test of the same pairs does not show that it is better" in sentence(found)


def test_fragile_is_what_a_sign_test_of_the_same_pairs_does_not_show(make: Make) -> None:
    for differences, fragile in (([3.0, 3.1, 2.9, 3.0, 3.2], False), ([3.0, 3.1, 2.9, 3.0, 3.2, 3.0, -0.1], True)):
        found = verdict(DIRECTION, pairs(make, differences), "mini")
        p = stats.binomtest(sum(value > 0 for value in differences), len(differences), alternative="greater").pvalue
        assert found.outcome == "holds" and evidence(found).fragile is fragile is bool(p > 0.05)


def test_pairs_enter_in_the_order_of_their_seeds_without_gaps(make: Make) -> None:
    whole = pairs(make, BETTER)
    shuffled = sorted(whole, key=lambda record: record["fingerprint"])
    assert evidence(verdict(DIRECTION, shuffled, "mini")).by_test == evidence(verdict(DIRECTION, whole, "mini")).by_test
    gap = [record for record in whole if (record["method"], record["seed"]) != ("moco_v3", 3)]
    found = verdict(DIRECTION, gap, "mini")
    assert (found.n, found.series.seeds, found.series.waiting) == (3, (0, 1, 2), (4, 5))
    assert evidence(found).by_test["up"] == pytest.approx(largest(BETTER[:3]), rel=1e-6)
    assert "without seeds 4, 5: an earlier seed is missing" in sentence(found)
    # nobody drops the first seed of one arm either
    cut = [record for record in whole if (record["method"], record["seed"]) != ("aps", 0)]
    assert verdict(DIRECTION, cut, "mini").n == 0
    assert sentence(verdict(DIRECTION, cut, "mini")).startswith("not decided yet on mini (n = 0 pairs); without seeds")


def test_pairs_of_different_training_code_never_share_a_verdict(make: Make) -> None:
    records = pairs(make, BETTER[:3]) + pairs(make, BETTER, first=3, code="changed")
    found = verdict(DIRECTION, records, "mini")
    assert (found.series.seeds, found.series.other_code) == (tuple(range(3, 9)), (0, 1, 2))
    assert evidence(found).by_test["up"] == pytest.approx(largest(BETTER), rel=1e-6)
    assert "without seeds 0, 1, 2: other training code" in sentence(found)
    # the hash of the training code alone counts where a record has it: other trees may train alike
    for record in records:
        record["provenance"]["training_code"] = "the same"
    assert verdict(DIRECTION, records, "mini").n == 9
    for record in records:
        if record["method"] == "aps" and record["seed"] >= 4:
            record["provenance"]["training_code"] = "another"
    assert verdict(DIRECTION, records, "mini").series.seeds == (4, 5, 6, 7, 8)


def test_a_collapsed_seed_counts_and_is_named(make: Make) -> None:
    records = pairs(make, [*BETTER, -25.0])
    records[-4]["details"]["collapsed_at_update"] = 40  # the pre-training of aps, seed 6
    found = verdict(DIRECTION, records, "mini")
    assert (found.n, dict(evidence(found).collapsed)) == (7, {"aps": (6,)})
    assert evidence(found).mean.value == pytest.approx(np.mean([*BETTER, -25.0]))
    assert "collapsed: aps seed 6, still counted" in sentence(found)


def test_a_verdict_depends_on_its_own_pair_alone(make: Make) -> None:
    """Other arms of the table, quiet, noisy or collapsed, of other methods or recipes, move nothing."""
    records = pairs(make, BETTER)
    alone = verdict(DIRECTION, records, "mini")
    for spread in (0.0, 0.01, 30.0):
        rng = np.random.default_rng(0)
        more = [
            record
            for arm in range(6)
            for seed in range(6)
            for record in make(f"other{arm}", "linear", {"top1": 40 + spread * rng.normal()}, seed=seed)
        ]
        beside = verdict(DIRECTION, records + more, "mini")
        assert (beside.outcome, beside.evidence) == (alone.outcome, alone.evidence)
        assert sentence(beside) == sentence(alone)


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


def tuned(make: Make, differences: list[float], ours: int, theirs: int) -> list[dict[str, Any]]:
    records = []
    for seed, difference in enumerate(differences):
        records += make("aps", "linear", {"top1": 40.0 + difference}, seed=seed, trials=ours)
        records += make("moco_v3", "linear", {"top1": 40.0}, seed=seed, trials=theirs)
    return records


def test_who_had_fewer_trials_may_be_shown_to_be_better_and_nothing_else(make: Make) -> None:
    worse = [-value for value in BETTER]
    for ours, theirs, differences, shown in (
        (1, 4, BETTER, "holds"),
        (1, 4, worse, "incomparable"),
        (1, 4, SAME, "incomparable"),
        (4, 1, BETTER, "incomparable"),
        (4, 1, worse, "opposite"),
        (4, 1, SAME, "incomparable"),
        (1, 4, [3.0, -2.0, 1.0, 0.5, -1.0], "not decided yet"),
    ):
        assert verdict(DIRECTION, tuned(make, differences, ours, theirs), "mini").outcome == shown
    held = sentence(verdict(DIRECTION, tuned(make, BETTER, 1, 4), "mini"))
    assert "tuning trials differ, 1 against 4: so only aps, which had fewer trials, can be shown to be better" in held
    lost = sentence(verdict(DIRECTION, tuned(make, BETTER, 4, 1), "mini"))
    assert "tuning trials differ, 4 against 1, so only the method with fewer trials could be shown to be better" in lost
    records = tuned(make, BETTER, 0, 0)
    for record in records:
        del record["provenance"]["trials"]
    assert sentence(verdict(DIRECTION, records, "mini")) == "incomparable on mini: tuning trials not recorded"


def by(records: list[dict[str, Any]], method: str, procedure: str) -> list[dict[str, Any]]:
    """The records, of which those pre-trainings were tuned by that procedure."""
    for record in records:
        if record["method"] == method and record["kind"] == "pretrain":
            record["provenance"]["tuned"] = procedure
    return records


@pytest.mark.parametrize(
    ("ours", "theirs", "trials", "differences", "shown", "said"),
    [
        ("P1-aa", "P1-aa", (7, 1), BETTER, "holds", "for these recipes, both tuned alike (procedure P1-aa)"),
        ("", "", (3, 3), BETTER, "holds", "for these recipes, both tuned alike (3 trials by hand)"),
        ("", "P1-aa", (1, 7), BETTER, "holds", "1 trial by hand against procedure P1-aa: so only aps, which had fewer"),
        (
            "",
            "P1-aa",
            (7, 7),
            BETTER,
            "holds",
            "7 trials by hand against procedure P1-aa: so only aps, which had fewer",
        ),
        ("", "P1-aa", (1, 7), SAME, "incomparable", "1 trial by hand against procedure P1-aa"),
        ("", "P1-aa", (8, 7), BETTER, "incomparable", "8 trials by hand against procedure P1-aa"),
        ("P1-aa", "", (0, 7), BETTER, "incomparable", "procedure P1-aa against 7 trials by hand"),
        ("P1-aa", "P1-bb", (0, 0), BETTER, "incomparable", "procedure P1-aa against procedure P1-bb"),
    ],
)
def test_one_procedure_makes_two_arms_tuned_alike(
    make: Make,
    ours: str,
    theirs: str,
    trials: tuple[int, int],
    differences: list[float],
    shown: str,
    said: str,
) -> None:
    """Whatever was tried by hand before: unlike arms of which one has a procedure, or another one."""
    records = by(by(tuned(make, differences, *trials), "aps", ours), "moco_v3", theirs)
    found = verdict(DIRECTION, records, "mini")
    assert found.outcome == shown and said in sentence(found)


def test_a_procedure_is_that_of_all_records_with_the_values_of_the_recipe(make: Make) -> None:
    """Also of those from before it chose them; not of those with another rate, whatever their length."""
    records = make("aps", "linear", {"top1": 50.0}, trials=1)
    records += make("aps", "linear", {"top1": 50.0}, trials=1, epochs=5)
    other = make("aps", "linear", {"top1": 50.0}, trials=1, batch=64)
    recipe = {"pretrain": {"epochs": 16, "batch": 128, "lr": 0.5, "tuning_trials": 3}}
    said: dict[str, Any] = {"recipe": recipe, "tuned": "P1-aa", "chosen": "rate x 2"}
    told = replace(suite(), **{name: lambda arm, track, value=value: value for name, value in said.items()})
    assert {arm.tuned for arm in Arms(records, told).of("linear")} == {"P1-aa"}
    (line,) = tuned_on_page(Arms(records, told).of("linear"))
    assert line.startswith("mini: one procedure, `P1-aa`, tuned every method") and line.endswith(" rate x 2 for aps.")
    assert {arm.tuned for arm in Arms(other, told).of("linear")} == {"1"}
    assert {arm.tuned for arm in Arms(by(other, "aps", "P0-bb"), told).of("linear")} == {"P0-bb"}


def test_the_trials_that_stand_in_the_way_are_named_with_the_epochs(make: Make) -> None:
    records = [r for s in range(3) for r in make("aps", "linear", {"top1": 50.0 + s}, seed=s, epochs=4, trials=3)]
    for epochs in (15, 6, 11):
        records += make("moco_v3", "linear", {"top1": 40.0}, epochs=epochs, trials=7, cost={"flops": 9e13})
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert sentence(epochs).endswith("epochs 4 against 6, 11, 15; tuning trials differ, 3 against 7")
    assert compute.outcome == "not run" and sentence(compute).endswith("; tuning trials differ, 3 against 7")


def test_an_arm_whose_seeds_ran_twice_decides_nothing(make: Make) -> None:
    records = pairs(make, BETTER)
    records += make("aps", "linear", {"top1": 60.0}, seed=0, code="changed")
    found = verdict(DIRECTION, records, "mini")
    assert sentence(found) == (
        "incomparable on mini: aps: seed 0 has several runs; we do not choose one, so there is no verdict"
    )


def test_an_arm_that_decides_nothing_is_named_though_another_one_is_left(make: Make) -> None:
    """The other arm of APS shares no setting with the baseline, which is not why there is no verdict."""
    records = pairs(make, BETTER)
    records += make("aps", "linear", {"top1": 60.0}, seed=0, code="changed")
    records += make("aps", "linear", {"top1": 60.0}, seed=0, epochs=3)
    found = verdict(DIRECTION, records, "mini")
    assert "aps: seed 0 has several runs" in sentence(found) and "share no setting" not in sentence(found)


def test_what_sets_two_arms_apart_is_told_of_those_that_share_the_rest(make: Make) -> None:
    """Of the baseline there is a longer run on another network, which has nothing to do with it."""
    records = make("aps", "linear", {"top1": 60.0}, epochs=4)
    records += make("moco_v3", "linear", {"top1": 40.0}, epochs=6)
    other = {"arch": "resnet", "depth": 18, "width": 16}
    records += make("moco_v3", "linear", {"top1": 40.0}, epochs=15, network=other)
    assert sentence(verdict(DIRECTION, records, "mini")).endswith("share no setting: epochs 4 against 6")


def test_of_several_recipes_those_tuned_alike_are_compared(make: Make) -> None:
    records = []
    for seed in range(6):
        records += make("aps", "linear", {"top1": 60.0 + seed}, seed=seed, trials=1, salt="earlier")
        records += make("aps", "linear", {"top1": 50.0 + seed}, seed=seed, trials=4)
        records += make("moco_v3", "linear", {"top1": 40.0 + 1.1 * seed}, seed=seed, trials=4)
    found = verdict(DIRECTION, records, "mini")
    assert (found.outcome, found.n) == ("holds", 6)
    assert found.gap == pytest.approx(9.75)


def test_not_run_until_both_arms_are_there(make: Make) -> None:
    assert sentence(verdict(DIRECTION, [], "mini")) == "not run on mini: no linear record of aps"
    ours = make("aps", "linear", {"top1": 50.0})
    assert sentence(verdict(DIRECTION, ours, "mini")) == "not run on mini: no linear record of the baseline moco_v3"
    assert verdict(DIRECTION, ours, "imagenet").outcome == "incomparable"  # no track of this claim


def test_what_no_run_can_test_is_said_to_be_so_and_is_in_no_family(make: Make) -> None:
    unknown = replace(DIRECTION, id="u", proxies={}, batch=None, unknown=("batch",))
    nowhere = replace(DIRECTION, id="w", proxies={}, track="none", data="tiny_imagenet")
    keyless = replace(DIRECTION, id="k", proxies={}, changes={"method": {"view_size": 224}})
    records = pairs(make, BETTER)
    for claim, track, words in (
        (
            unknown,
            "cifar",
            "cannot be tested on cifar: the paper's setting is unknown, so we cannot rerun it (not known: batch)",
        ),
        (nowhere, "cifar", "cannot be tested on cifar, the paper's setting: no track runs tiny_imagenet"),
        (
            keyless,
            "cifar",
            "cannot be tested on cifar, the paper's setting:"
            " the recipe of aps lacks method.view_size, which this setting changes",
        ),
    ):
        found = judge([claim, DIRECTION], records, track)
        assert sentence(found[0]) == words
    found = judge([unknown, nowhere, keyless, DIRECTION], records, "mini")
    assert found[-1].outcome == "holds" and evidence(found[-1]).family == 1


def test_test_sets_that_are_too_small_decide_nothing_beside_larger_ones(make: Make) -> None:
    reid = replace(DIRECTION, id="r", evaluation="reid", metric="rank1")
    small, large = list[dict[str, Any]](), list[dict[str, Any]]()
    for seed in range(6):
        for found, data, ahead in ((small, "vehicle-reid-market", -30.0), (large, "cifar10-jpeg-cameras", 30.0)):
            found += make("aps", "reid", {"rank1": 50.0 + ahead + seed / 10}, seed=seed, data=data)
            found += make("moco_v3", "reid", {"rank1": 50.0}, seed=seed, data=data)
    said = "not run on mini: aps was run only on vehicle-reid-market, whose test set is too small for a verdict"
    assert sentence(verdict(reid, small, "mini")) == said
    assert verdict(reid, small + large, "mini").outcome == "holds"


def test_a_claim_on_short_trainings_is_not_tested_on_long_ones(make: Make) -> None:
    short = replace(DIRECTION, proxy_epochs={"mini": 10})
    assert verdict(short, pairs(make, BETTER, epochs=8), "mini").outcome == "holds"
    long = verdict(short, pairs(make, BETTER, epochs=16), "mini")
    assert sentence(long) == "not run on mini: epochs 16, the claim's is 10 at most"


def test_a_verdict_names_in_what_the_method_departs_from_the_papers_recipe(make: Make) -> None:
    """Of the form of the method in its sentence: the recipe of the claim's own track says what the paper has."""
    claim = replace(DIRECTION, method="truncated_triplet", baseline="byol", track="imagenet", data="imagenet")
    records = []
    for seed, difference in enumerate(BETTER):
        for method, top1 in (("truncated_triplet", 40 + difference), ("byol", 40.0)):
            made = make(
                method, "linear", {"top1": top1}, seed=seed, network={"arch": "resnet", "depth": 18, "width": 16}
            )
            made[0]["details"]["recipe"]["method"] = {"ranks": "scaled", "gamma": 2.0, "head_dim": 128}
            records += made
    (found, *_) = both([claim], records, "mini")["d"]
    assert {departure.what for departure in found.departs} >= {"method.ranks", "network.width", "method.head_dim"}
    words = sentence(found)
    begins = "main differences from the recipe of imagenet: data CIFAR-10 instead of ImageNet, ranks scaled instead of"
    assert begins in words and words.endswith("; all differences below")
    assert "epochs 16 instead of 1000" in words and "depth 18 instead of 50" in words
    assert "width 16 instead of 64" in words and "head_dim" not in words and "gamma" not in words


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

    values = [83.40, 83.45, 83.50, 83.42, 83.47]
    same = of(values)
    assert (same.outcome, same.n) == ("reproduced", 5)
    # by hand: the band is 83.4 +- 0.5
    within = min(largest([value - 82.9 for value in values]), largest([83.9 - value for value in values]))
    assert evidence(same).by_test["same"] == pytest.approx(within, rel=1e-6)
    assert of([80.0, 80.1, 80.2, 80.0, 80.1]).outcome == "below"
    assert of([86.0, 86.1, 86.2, 86.0, 86.1]).outcome == "above"
    assert of([81.0, 83.0, 85.5, 83.0, 84.0]).outcome == "not decided yet"
    assert "1.0 of 40 that it is above 83.4 ± 0.5 points" in sentence(same) and "(n = 5 pre-trainings)" in sentence(
        same
    )
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
        assert found.outcome == "cannot be tested" and f"not known: {key}" in sentence(found)


def test_a_gain_is_tested_for_its_size_at_home_and_for_its_sign_elsewhere(make: Make) -> None:
    gain = replace(DIRECTION, kind="gain", value=2.5, unit="points", margin=0.5)
    near = [-0.05, 0.0, 0.05, 0.02, -0.02]

    def around(value: float, claim: Claim = gain, **more: Any) -> Verdict:
        return verdict(claim, pairs(make, [value + off for off in near], **{**OWN, **more}), "cifar")

    assert around(2.5).outcome == "reproduced"
    assert around(1.0).outcome == "below"
    assert around(5.0).outcome == "above"
    assert around(-1.0).outcome == "opposite"
    wide = verdict(gain, pairs(make, [2.0, 3.0, 4.2, 1.4, 2.6, 2.0], **OWN), "cifar")
    assert wide.outcome == "holds"  # the size is not resolved
    assert verdict(gain, pairs(make, [1.0 + off for off in near]), "mini").outcome == "holds, smaller than the margin"
    # at its own track under another protocol only what `proxies` allows
    other = {**OWN, "protocol": "fast"}
    assert around(2.5, protocol="fast").outcome == "not run"
    allowed = replace(gain, proxies={"cifar": 1.0})
    there, own_setting = both([allowed], pairs(make, [2.5 + off for off in near], **other), "cifar")["d"][::2]
    assert sentence(there).startswith("holds on cifar, direction only (n = 5 pairs): aps 2.50 points")
    assert sentence(own_setting) == "not run on cifar, the paper's setting: protocol fast, the claim's is aps"
    assert (place(there), place(own_setting)) == ("cifar, direction only", "cifar")
    assert around(2.5, allowed, epochs=2).outcome == "holds"
    assert not around(2.5).lacks


def test_choosing_on_the_test_set_counts_only_in_the_paper_s_own_setting(make: Make) -> None:
    claim = replace(DIRECTION, metric="top1_best_on_test")
    records = []
    for seed, difference in enumerate(BETTER):
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
    ratios = [0.74, 0.75, 0.76, 0.75, 0.74]
    found = verdict(ratio, costly(make, ratios, "device_s"), "mini")
    assert found.outcome == "reproduced"
    assert found.gap == pytest.approx(math.prod(ratios) ** (1 / 5))
    logs = np.log(np.array(ratios) / 0.75)
    within = min(largest((logs + math.log(1.1)).tolist()), largest((math.log(1.1) - logs).tolist()))
    assert evidence(found).by_test["same"] == pytest.approx(within, rel=1e-6)
    assert "95 % interval (fixed n): 0.7" in sentence(found)
    assert verdict(ratio, costly(make, [0.99, 1.0, 1.01, 1.0, 1.0], "device_s"), "mini").outcome == "above"
    assert verdict(ratio, costly(make, [0.49, 0.50, 0.51, 0.5, 0.5], "device_s"), "mini").outcome == "below"
    assert verdict(ratio, costly(make, [0.5, 0.8, 1.2, 0.7, 0.9], "device_s"), "mini").outcome == "not decided yet"
    faster = replace(ratio, kind="direction", value=None)
    assert verdict(faster, costly(make, [0.7, 0.75, 0.71, 0.72, 0.7], "device_s"), "mini").outcome == "holds"
    near = verdict(faster, costly(make, [0.97, 0.96, 0.97, 0.96, 0.97], "device_s"), "mini")
    assert near.outcome == "holds, smaller than the margin" and "that it takes less; " in sentence(near)


def test_costs_without_chance_are_compared_as_they_are(make: Make) -> None:
    fewer = replace(
        DIRECTION, evaluation="cost", metric="flops", better="lower", margin=0.1, proxies={"mini": 0.1}, id="c"
    )
    less = verdict(fewer, costly(make, [0.4], "flops"), "mini")  # one run is enough
    assert (less.outcome, less.n, less.evidence) == ("holds", 0, None)
    assert less.gap == pytest.approx(0.4)
    words = sentence(less)
    assert words.startswith(
        "holds on mini: aps takes 0.40 times the operations of moco_v3; this cost does not vary by chance"
    )
    assert "n =" not in words and outcome(less) == "holds on mini"
    assert verdict(fewer, costly(make, [1.4], "flops"), "mini").outcome == "opposite"
    for near in (1.05, 0.95, 0.92):  # within 10 %: the inverse of 1.1 is 0.909
        assert verdict(fewer, costly(make, [near], "flops"), "mini").outcome == "no difference"
    assert verdict(fewer, costly(make, [0.90], "flops"), "mini").outcome == "holds"
    # seeds of one arm only, other counts of trials, other machines: nothing of that matters
    apart = make("aps", "pretrain", {}, seed=3, cost={"flops": 40.0}, trials=9, device="A")
    apart += make("moco_v3", "pretrain", {}, seed=0, cost={"flops": 100.0}, device="B")
    assert verdict(fewer, apart, "mini").outcome == "holds"
    # nor does it weigh on the family of the others
    records = costly(make, [0.4], "flops") + pairs(make, BETTER)
    assert [evidence(v).family for v in judge([fewer, DIRECTION], records, "mini")[1:]] == [1]
    ratio = replace(fewer, kind="cost_ratio", value=0.5)
    for cost, shown in ((0.5, "reproduced"), (0.45, "below"), (0.7, "above")):
        assert verdict(ratio, costly(make, [cost], "flops"), "mini").outcome == shown


def test_a_cost_of_nothing_is_no_measurement(make: Make) -> None:
    claim = replace(DIRECTION, evaluation="cost", metric="flops", better="lower", proxies={"mini": 0.1})
    assert verdict(claim, costly(make, [0.0, 0.5, 0.0], "flops"), "mini").gap == pytest.approx(0.5)


def test_costs_of_different_machines_are_not_compared(make: Make) -> None:
    claim = replace(DIRECTION, evaluation="cost", metric="device_s", better="lower", proxies={"mini": 0.1})
    records = []
    for seed in range(3):
        records += make("aps", "pretrain", {}, seed=seed, device="A")
        records += make("moco_v3", "pretrain", {}, seed=seed, device="B")
    found = verdict(claim, records, "mini")
    assert found.outcome == "incomparable"
    assert "measured on A, 1 threads and B, 1 threads" in sentence(found)


def against(make: Make, base: str, differences: list[float]) -> list[dict[str, Any]]:
    """A further baseline of the six seeds of aps that `pairs` made."""
    records = []
    for seed, (gap, difference) in enumerate(zip(BETTER, differences, strict=True)):
        records += make(base, "linear", {"top1": 40 + 0.1 * seed + gap - difference}, seed=seed)
    return records


def test_a_family_shares_one_error_rate(make: Make) -> None:
    """Evidence of 105 stands alone, but not as the only one of four that could be tested."""
    records = pairs(make, BETTER)
    alone = evidence(verdict(DIRECTION, records, "mini")).by_test["up"]
    family = [DIRECTION, *(replace(DIRECTION, id=f"d{i}", baseline=f"base{i}") for i in range(3))]
    assert 40 < 80 < alone < 160
    short = judge(family, records, "mini")[0]
    assert (short.outcome, evidence(short).takes["up"]) == ("not decided yet", 160.0)
    assert f"evidence {alone:.0f} of 160 that it is better" in sentence(short)
    assert "1.0 of 160 that it is worse; " in sentence(short)
    assert " (Holm correction over 4 claims: f)" in sentence(short)
    # as others are shown, it takes less
    clear = [10.0, 10.1, 10.2, 10.0, 10.1, 10.15]
    two = judge(family, records + against(make, "base0", clear) + against(make, "base1", clear), "mini")
    assert [found.outcome for found in two] == ["holds", "holds", "holds", "not run"]
    assert [evidence(found).takes["up"] for found in two[:3]] == [80.0, 160.0, 120.0]
    strangers = [DIRECTION, *(replace(claim, family="other") for claim in family[1:])]
    assert judge(strangers, records, "mini")[0].outcome == "holds"


def test_claims_shown_to_be_equal_do_not_make_a_difference_easier(make: Make) -> None:
    """Each question has its own steps: of four, three shown to be the same leave the fourth one of four."""
    family = [DIRECTION, *(replace(DIRECTION, id=f"d{i}", baseline=f"base{i}") for i in range(3))]
    records = pairs(make, BETTER)
    for i in range(3):
        records += against(make, f"base{i}", [0.01, 0.0, 0.02, -0.01, 0.0, -0.02])
    found = judge(family, records, "mini")
    assert [v.outcome for v in found] == ["not decided yet", "no difference", "no difference", "no difference"]
    assert evidence(found[0]).takes == {"up": 160.0, "down": 160.0, "null": 40.0}


@pytest.mark.seconds
def test_families_are_judged_as_by_scipy_and_steps_by_hand(make: Make) -> None:
    """Random families of four: better, worse, the same and unclear, decided one after the other."""
    family = [replace(DIRECTION, id=f"d{i}", baseline=f"base{i}") for i in range(4)]
    rng, seen = np.random.default_rng(5), set()
    for _ in range(12):
        gains = rng.choice([0.0, 2.5, -2.5, 0.7], 4)[:, None] + rng.normal(0, rng.choice([0.3, 0.8]), (4, 7))
        records = []
        for seed in range(7):
            records += make("aps", "linear", {"top1": 40.0}, seed=seed)
            for i in range(4):
                records += make(f"base{i}", "linear", {"top1": 40.0 - gains[i, seed]}, seed=seed)
        up, down = ([largest((sign * row).tolist()) for row in gains] for sign in (1, -1))
        same = [min(largest((1.5 + row).tolist()), largest((1.5 - row).tolist())) for row in gains]

        def shown(best: list[float]) -> dict[int, float]:
            """By claim, what it took: the largest first, until one does not reach 40 a claim that is left."""
            passed: dict[int, float] = {}
            for k, i in enumerate(sorted(range(4), key=lambda i: -best[i])):
                if best[i] < 40 * (4 - k):
                    break
                passed[i] = 40 * (4 - k)
            return passed

        apart, alike = shown(list(map(max, up, down))), shown(same)
        for i, found in enumerate(judge(family, records, "mini")):
            expected = ("holds" if up[i] > down[i] else "opposite") if i in apart else ""
            if i in alike:
                expected = f"{expected}, smaller than the margin" if expected else "no difference"
            assert found.outcome == (expected or "not decided yet")
            seen.add(found.outcome)
    assert seen >= {"holds", "opposite", "no difference", "not decided yet"}


def test_the_papers_own_form_is_tested_beside_the_claim(make: Make) -> None:
    """In a family of its own: it takes nothing from the claims."""
    claim = replace(DIRECTION, form="flip_aware", proxies={"mini": 1.5})
    records = pairs(make, BETTER)
    (alone,) = assess([claim], Arms(records, suite()))
    assert [v.form for v in alone.verdicts] == ["", "", ""]  # not run, so not said
    for seed in range(6):
        records += make("aps", "linear", {"top1": 30.0 + seed % 2}, seed=seed, variant="flip_aware")
    (item,) = assess([claim], Arms(records, suite()))
    assert {(v.form, v.outcome) for v in item.answered} == {("", "holds"), ("flip_aware", "opposite")}
    assert {evidence(v).family for v in item.answered} == {1}
    said = [
        found.headline
        for found in item.findings
        if found.headline.startswith("opposite on mini, the paper's form (flip_aware)")
    ]
    assert said and "aps:flip_aware" in said[0] and "points below moco_v3" in said[0]
    (shown,) = answers({"aps": [item]})["aps"]
    assert [one.words.rpartition(", -")[0] for one in shown.beside] == ["the paper's form (flip_aware): opposite"]
    assert shown.beside[0].words.endswith(" points, 6 pairs")
    (second,) = shown.beside_compute
    assert second.words == "the paper's form (flip_aware): opposite, the same runs"


# ----------------------------------------------------------------------------------------------------- equal compute


def trained(make: Make, method: str, values: list[float], epochs: int, flops: float) -> list[dict[str, Any]]:
    cost = {"flops": flops, "wall_s": 100.0, "device_s": 100.0}
    return [
        r
        for seed, value in enumerate(values)
        for r in make(method, "linear", {"top1": value}, seed=seed, epochs=epochs, cost=cost)
    ]


BASE = [40.0, 40.5, 41.2, 40.2, 40.7, 41.0]


def test_a_comparison_says_the_operations_and_updates_of_its_pairs(make: Make) -> None:
    """Four updates a batch against one: equal epochs are not equal updates."""
    records = []
    for method, ahead, flops, updates in (("aps", 3.0, 0.84e13, 1248), ("moco_v3", 0.0, 1e13, 312)):
        for seed, value in enumerate(BASE):
            cost = {"flops": flops, "updates": updates}
            records += make(method, "linear", {"top1": value + ahead}, seed=seed, epochs=16, cost=cost)
    epochs = both([DIRECTION], records, "mini")["d"][0]
    assert "aps took 0.84 times the operations and 4.00 times the updates of moco_v3" in sentence(epochs)
    for record in records:
        if record["kind"] == "pretrain":
            record["cost"]["cpu_s"] = 99.0 if record["method"] == "aps" else 100.0
            record["provenance"]["device"] = "CPU (x86_64, 2 cores)"
    epochs = both([DIRECTION], records, "mini")["d"][0]
    assert "operations, 4.00 times the updates and 0.99 times the CPU time of moco_v3" in sentence(epochs)
    for record in records:  # CPU time of a GPU's run says little
        record["provenance"]["device"] = "NVIDIA H200"
    assert "CPU time" not in sentence(both([DIRECTION], records, "mini")["d"][0])


def test_a_claim_that_holds_only_at_equal_epochs_says_so(make: Make) -> None:
    """16 epochs of the method cost what 28 of the baseline do: given those, the baseline is level."""
    ours = [43.0, 43.6, 44.1, 43.3, 43.5, 44.1]
    records = trained(make, "aps", ours, 16, 1.75e13)
    records += trained(make, "moco_v3", BASE, 16, 1.0e13)
    alone = both([DIRECTION], records, "mini")["d"]
    assert [v.outcome for v in alone] == ["holds", "not run"]
    assert "no two trainings of this network with equal operations (within 10%)" in sentence(alone[1])
    assert "aps 1.75e+13 in 16 epochs and moco_v3 1e+13 in 16 epochs" in sentence(alone[1])
    assert "only at equal epochs" not in sentence(alone[0])

    records += trained(make, "moco_v3", [43.1, 43.5, 44.1, 43.2, 43.6, 44.0], 28, 1.75e13)
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert not compute.same_runs and "the same runs" not in sentence(compute)
    assert epochs.at_equal_compute == "no difference" and not compute.at_equal_compute
    assert brief(epochs) == (
        "holds on mini (n = 6 pairs): aps 3.00 points above moco_v3 (43.6 against 40.6) in linear top1 on CIFAR-10;"
        " only at equal epochs: at equal compute no difference"
    )
    assert outcome(compute) == "no difference on mini, equal compute (n = 6)"
    assert (epochs.outcome, epochs.basis) == ("holds", "equal epochs")
    assert (compute.outcome, compute.basis) == ("no difference", COMPUTE)
    assert "; only at equal epochs: at equal compute no difference; " in sentence(epochs)
    assert sentence(compute).startswith("no difference on mini, equal compute (n = 6 pairs): aps")
    assert compute.gap == pytest.approx(1 / 60)


def test_equal_compute_is_asked_once_equal_epochs_is_decided(make: Make) -> None:
    """Clear as it is at equal compute, nothing is said of it before; then it takes as much."""
    unclear = [value + gap for value, gap in zip(BASE, [3.0, -2.0, 1.0, 0.5, -1.0, 1.0], strict=True)]
    records = trained(make, "aps", unclear, 16, 1.75e13) + trained(make, "moco_v3", BASE, 16, 1.0e13)
    records += trained(make, "moco_v3", [value - 9.0 for value in unclear], 28, 1.75e13)
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert (epochs.outcome, compute.outcome, compute.evidence) == ("not decided yet", "not decided yet", None)
    assert sentence(compute) == (
        "equal compute on mini: aps 9.00 points above moco_v3 (41.0 against 32.0) in linear top1 on CIFAR-10,"
        " in 6 pairs; it is tested when equal epochs is decided"
    )
    clear = [value + gap for value, gap in zip(BASE, BETTER, strict=True)]
    records = trained(make, "aps", clear, 16, 1.75e13) + trained(make, "moco_v3", BASE, 16, 1.0e13)
    records += trained(make, "moco_v3", [value - 9.0 for value in clear], 28, 1.75e13)
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert (epochs.outcome, compute.outcome) == ("holds", "holds") and not epochs.at_equal_compute
    assert evidence(compute).takes == evidence(epochs).takes


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


def test_equal_epochs_and_equal_compute_may_be_the_same_runs(make: Make) -> None:
    """Operations that are 5 % apart are equal: the second number is the first one again, and is said to be."""
    ours = [value + 3.0 for value in BASE]
    records = trained(make, "aps", ours, 16, 1.05e13) + trained(make, "moco_v3", BASE, 16, 1.0e13)
    epochs, compute = both([DIRECTION], records, "mini")["d"]
    assert compute.same_runs and epochs.gap == compute.gap
    same = "the same runs as at equal epochs, as their operations differ by less than 10 %"
    assert sentence(compute).startswith(f"holds on mini, equal compute (n = 6 pairs): {same}; evidence ")
    assert "; aps took 1.05 times the operations" in sentence(epochs)
    few = [record for record in records if record["seed"] < 3]
    _, waiting = both([DIRECTION], few, "mini")["d"]
    assert sentence(waiting) == (f"equal compute on mini: {same}; it is tested when equal epochs is decided")
