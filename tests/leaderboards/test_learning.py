"""How fast two arms learn: costs to an accuracy that both reach, by hand and under noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sentences import sentence
from untuned import suite

from leaderboards import evalues
from leaderboards.answers import answers
from leaderboards.arms import Arms
from leaderboards.assessments import assess
from leaderboards.claims import Claim
from leaderboards.curves import Look, reaching
from leaderboards.learning import costs_to_accuracy, usable
from leaderboards.statistics import own
from leaderboards.verdicts import Verdict, judge

Record = dict[str, Any]
Make = Callable[..., list[Record]]

FASTER = Claim(
    id="faster",
    paper="p",
    citation="A paper",
    statement="GLNet learns faster.",
    kind="direction",
    method="glnet",
    baseline="byol",
    evaluation="cost",
    metric="epochs_to_accuracy",
    better="lower",
    data="cifar10",
    source="abstract",
    verified="abstract",
    track="cifar",
    margin=0.1,
    family="f",
    unknown=("backbone", "epochs", "batch"),
    proxies={"mini": 0.1},
)


def curve(tops: list[float], flops: float = 1e12) -> list[Look]:
    """Looks after 0, 1, 2, ... epochs of so many operations each."""
    return [Look(float(epoch), 10.0 * epoch, flops * epoch, top1) for epoch, top1 in enumerate(tops)]


def ratio(ours: list[float], theirs: list[float], metric: str = "epochs_to_accuracy", flops: float = 1e12) -> float:
    """Ours to theirs of one seed; ours takes `flops` an epoch, theirs 1e12."""
    left, right = costs_to_accuracy({3: curve(ours, flops)}, {3: curve(theirs)}, metric)
    return left[3] / right[3]


def test_the_costs_are_those_up_to_the_lower_of_the_two_ends() -> None:
    slow = [20.0, 22.0, 24.0, 26.0, 28.0]
    assert ratio([20.0, 24.0, 28.0, 32.0, 36.0], slow) == pytest.approx(2 / 4)  # 28 after 2 epochs of 4
    assert ratio([20.0, 24.0, 28.0, 32.0, 36.0], slow, "flops_to_accuracy", 3e12) == pytest.approx(6 / 4)
    # Ours ends at 25 and never gets as far as theirs: what counts is how long either needed for 25.
    assert ratio([20.0, 21.0, 22.0, 23.0, 25.0], slow) == pytest.approx(4 / 2.5)
    # Ours rises early and stays low: it is the faster one as far as it gets.
    assert ratio([20.0, 26.0, 26.0, 26.0, 26.0], [20.0, 22.0, 24.0, 26.0, 28.0]) == pytest.approx(1 / 3)
    # Theirs was as good as its end before: that is when it got there.
    assert ratio([20.0, 21.0, 22.0, 23.0, 24.0], [20.0, 22.0, 24.0, 26.0, 24.0]) == pytest.approx(4 / 2)


def test_an_arm_that_learns_nothing_counts_for_neither() -> None:
    assert ratio([20.0, 24.0, 28.0, 30.0, 31.0], [20.0, 19.0, 20.0, 19.0, 20.0]) == 1
    assert ratio([20.0, 24.0], [20.0, 15.0], "flops_to_accuracy", 2e12) == 2  # after an epoch that takes twice as much


def test_exchanging_the_arms_inverts_the_ratio() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b = ([20.0, *rng.normal(25, 3, 5)] for _ in range(2))
        assert ratio(a, b) * ratio(b, a) == pytest.approx(1)


def test_only_curves_with_looks_and_costs_are_usable() -> None:
    assert usable(curve([20.0, 21.0, 22.0]))
    assert not usable(curve([20.0, 21.0])) and not usable(curve([20.0, 21.0, 22.0], flops=0.0)) and not usable([])


@pytest.mark.seconds
def test_arms_that_are_the_same_are_seldom_told_apart_but_by_the_whole_cost() -> None:
    """Noisy curves of one shape, looked at after every pair from 3 to 15, at the 40 that one claim takes.

    The share of the baseline's whole cost, which is what one would think of first, tells them apart far too often.
    """
    rng = np.random.default_rng(2)
    shape = 20 + 15 * (1 - np.exp(-np.arange(7) / 2))
    ours, naive, runs = 0, 0, 200
    for _ in range(runs):
        tops = shape + rng.normal(0, 1.4, (2, 15, 7))  # 1,000 pictures have about that
        sides = [{seed: curve(side[seed].tolist()) for seed in range(15)} for side in tops]
        left, right = costs_to_accuracy(sides[0], sides[1], "epochs_to_accuracy")
        fair = [math.log(left[seed] / right[seed]) for seed in range(15)]
        ours += max(evalues.above(fair), evalues.below(fair)) >= 40
        there = [reaching(sides[0][seed], sides[1][seed][-1].top1) for seed in range(15)]
        naive += evalues.below([math.log((look.epochs if look else 6) / 6) for look in there]) >= 40
    assert ours / runs <= 0.05 and naive / runs > 0.2


def trained(make: Make, method: str, seed: int, tops: list[float] | None, **more: Any) -> list[Record]:
    records = make(method, "pretrain", {}, seed=seed, epochs=4, **more)
    rows = curve(tops or [])
    if tops:
        records[0]["details"]["knn_curve"] = [[look.epochs, 0, look.device_s, look.flops, look.top1] for look in rows]
    return records


def verdict(records: list[Record], claim: Claim = FASTER) -> Verdict:
    known = suite()
    return judge([claim], Arms(records, known), "mini")[claim.id][0]


def pairs(make: Make, seeds: int, **more: Any) -> list[Record]:
    records: list[Record] = []
    for seed in range(seeds):
        wiggle = 0.1 * seed
        records += trained(make, "glnet", seed, [20.0, 24.0 + wiggle, 28.0, 32.0, 36.0], **more)
        records += trained(make, "byol", seed, [20.0, 22.0, 24.0, 26.0, 28.0 - wiggle])
    return records


def test_a_verdict_on_speed_says_how_much_less(make: Make) -> None:
    found = verdict(pairs(make, 6))
    shares = [(1 + (4 - 0.2 * seed) / (4 - 0.1 * seed)) / 4 for seed in range(6)]  # of byol's whole cost
    assert found.outcome == "holds" and found.gap == pytest.approx(math.prod(shares) ** (1 / 6))
    assert found.evidence and found.evidence.by_test["up"] >= 40
    assert "glnet needs 0.4" in sentence(
        found
    ) and "times as many epochs as byol to reach the same accuracy" in sentence(found)
    assert verdict(pairs(make, 6), replace(FASTER, better="higher")).outcome == "opposite"


def test_what_the_checks_alone_do_not_show_is_fragile(make: Make) -> None:
    """Half an epoch faster by straight lines; of the seeds every second one reaches it at the same check."""
    records: list[Record] = []
    for seed in range(8):
        late = seed % 2  # then ours comes to 28 after its third check, as theirs
        records += trained(make, "glnet", seed, [20.0, 22.0, 27.5 if late else 28.5, 32.0, 36.0])
        records += trained(make, "byol", seed, [20.0, 21.0, 23.0, 28.1 + 0.1 * seed, 28.0])
    found = verdict(records)
    assert found.outcome == "holds" and found.evidence and found.evidence.fragile
    steps = [math.log(3 / (3 if seed % 2 else 2)) for seed in range(8)]
    assert found.evidence.by_checks == {"up": pytest.approx(evalues.above(steps))}
    assert "fragile: the checks during the trainings, without" in sentence(found)
    clear = verdict(pairs(make, 6)).evidence
    assert clear is not None and not clear.fragile


def test_fewer_epochs_say_what_they_take_in_operations(make: Make) -> None:
    """An epoch of the method takes twice the operations, so the share of these is twice that of the epochs."""
    records = pairs(make, 6)
    for record in records:
        if record["method"] == "glnet" and "knn_curve" in record["details"]:
            record["details"]["knn_curve"] = [[*row[:3], 2 * row[3], row[4]] for row in record["details"]["knn_curve"]]
    (found,) = answers({"p": assess([FASTER], Arms(records, suite()))})["p"]
    assert found.epochs is not None and found.verdict is not None and found.verdict.evidence is not None
    shares = [math.exp(-value) for value in found.verdict.evidence.values]  # of the epochs; above 0 is fewer
    low, high = own([math.log(2 * share) for share in shares]).interval
    mean = 2 * math.prod(shares) ** (1 / 6)
    assert found.epochs.notes[0] == f"{mean:.2f} times the operations ({math.exp(low):.2f} to {math.exp(high):.2f})"


def test_unequal_tuning_may_explain_speed_so_that_it_counts(make: Make) -> None:
    """The method had five trials, the baseline none: that it learns faster might be their doing."""
    found = verdict(pairs(make, 6, trials=5))
    assert found.outcome == "incomparable" and found.tuning is not None


def test_without_a_curve_there_is_nothing_to_compare(make: Make) -> None:
    records = [*trained(make, "glnet", 0, [20.0, 24.0, 28.0]), *trained(make, "byol", 0, None)]
    found = verdict(records)
    assert found.outcome == "not run" and "the records of byol have no learning curve" in sentence(found)
