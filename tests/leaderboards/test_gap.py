"""The steps of a shortfall and their differences, against sums by hand; what a test of a claim still lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from untuned import suite

from leaderboards import claim_files, claims, gap
from leaderboards.arms import Arm, Arms
from leaderboards.deviations import deviations
from leaderboards.missing_runs import Missing, in_vain, missing
from leaderboards.reason_words import reason
from leaderboards.verdicts import judge

Record = dict[str, Any]
Make = Callable[..., list[Record]]

R50 = {"arch": "resnet", "depth": 50, "width": 64}
OWN = {"track": "imagenet", "data": "imagenet", "network": R50, "epochs": 200, "batch": 256}
NUMBER = next(claim for claim in claim_files.load(suite()) if claim.id == "glnet-imagenet-r50")
GAIN = next(claim for claim in claim_files.load(suite()) if claim.id == "glnet-imagenet-gain")
WEIGHTS = {"network": R50}
PROTOCOLS = suite().protocols["linear"]


def imported(make: Make, method: str, top1: float, protocol: str = "glnet", **more: Any) -> list[Record]:
    """The weights of a file, and one evaluation of them."""
    setting = {"protocol": protocol, "protocol_hash": PROTOCOLS[protocol]["hash"], **OWN, **more}
    given, judged = make(method, "linear", {"top1": top1}, variant="imported", **setting)
    return [{**given, "kind": "import", "details": {"file": "theirs.pth", "recipe": WEIGHTS}}, judged]


def trained(make: Make, method: str, values: dict[int, float], protocol: str, **more: Any) -> list[Record]:
    given = {"protocol": protocol, "protocol_hash": PROTOCOLS[protocol]["hash"], **OWN, **more}
    made = [make(method, "linear", {"top1": value}, seed=seed, **given) for seed, value in values.items()]
    return [record for pair in made for record in pair]


def steps(claim: claims.Claim, records: list[Record], own: str) -> list[gap.Step]:
    return gap.steps(claim, Arms(records, suite()), own)


def lacks(claim: claims.Claim, records: list[Record], track: str, own: bool) -> list[Missing]:
    return missing(claim, Arms(records, suite()), track, own)


def apart(claim: claims.Claim, arm: Arm) -> list[str]:
    return list(map(reason, deviations(claim, arm, suite())))


def test_adjacent_legs_are_subtracted_and_add_up(make: Make) -> None:
    records = imported(make, "glnet", 70.1)
    records += trained(make, "glnet", {0: 69.0, 1: 69.4}, "glnet") + trained(make, "glnet", {0: 68.0, 1: 68.6}, "fast")
    found = steps(NUMBER, records, "fast")
    assert [(step.key, step.apart, sorted(step.values)) for step in found] == [
        ("a", (), [0]),
        ("b", (), [0, 1]),
        ("c", (), [0, 1]),
    ]
    made = gap.shortfalls(NUMBER, found, "fast")
    assert [(s.start, s.end, s.due) for s in made] == [
        ("claimed", "a", ("evaluation",)),
        ("a", "b", ("pre-training",)),
        ("b", "c", ("protocol",)),
    ]
    assert [s.points for s in made] == pytest.approx([70.5 - 70.1, 70.1 - 69.2, 69.2 - 68.3])


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("bc", [("claimed", "b", ("evaluation", "pre-training"), 1.3), ("b", "c", ("protocol",), 0.9)]),
        ("ac", [("claimed", "a", ("evaluation",), 0.4), ("a", "c", ("pre-training", "protocol"), 1.8)]),
        ("c", [("claimed", "c", ("evaluation", "pre-training", "protocol"), 2.2)]),
        ("", []),
    ],
)
def test_what_lies_on_both_sides_of_a_missing_leg_is_not_told_apart(make: Make, there: str, expected: Any) -> None:
    parts = {
        "a": imported(make, "glnet", 70.1),
        "b": trained(make, "glnet", {0: 69.2}, "glnet"),
        "c": trained(make, "glnet", {0: 68.3}, "fast"),
    }
    records = [record for key in there for record in parts[key]]
    made = gap.shortfalls(NUMBER, steps(NUMBER, records, "fast"), "fast")
    assert [(s.start, s.end, s.due, pytest.approx(s.points)) for s in made] == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"track": "mini"}, "track mini, the claim's is imagenet"),
        ({"data": "imagenet100"}, "data imagenet100, the claim's is imagenet"),
        ({"network": {**R50, "depth": 18}}, "network ResNet-18, the claim's is ResNet-50"),
        ({"epochs": 100}, "epochs 100, the claim's is 200"),
    ],
)
def test_another_setting_is_shown_and_never_subtracted(make: Make, change: dict[str, Any], says: str) -> None:
    found = steps(NUMBER, trained(make, "glnet", {0: 69.0}, "glnet", **change), "fast")
    assert [says in map(reason, step.apart) for step in found] == [True]
    assert gap.shortfalls(NUMBER, found, "fast") == [] and gap.taken(found) == {}


def test_self_reported_numbers_and_other_methods_are_no_step(make: Make) -> None:
    foreign = trained(make, "glnet", {0: 69.0}, "glnet")
    for record in foreign:
        record["provenance"]["trust"] = "self-reported"
    others = trained(make, "byol", {0: 60.0}, "glnet") + imported(make, "byol", 1.0)
    assert steps(NUMBER, foreign + others, "fast") == []


def test_legs_of_a_gain_are_differences_on_shared_seeds(make: Make) -> None:
    records = trained(make, "glnet", {0: 69.0, 1: 69.4, 2: 99.0}, "glnet")
    records += trained(make, "moco_v3", {0: 67.0, 1: 68.4}, "glnet", variant="resnet")
    records += imported(make, "glnet", 70.1) + imported(make, "moco_v3_resnet", 68.0)
    a, b = steps(GAIN, records, "fast")
    assert (a.key, dict(a.values), len(a.arms)) == ("a", {0: pytest.approx(2.1)}, 2)
    assert dict(b.values) == {0: pytest.approx(2.0), 1: pytest.approx(1.0)}
    assert [s.points for s in gap.shortfalls(GAIN, [a, b], "fast")] == pytest.approx([2.4 - 2.1, 2.1 - 1.5])


def test_legs_where_the_papers_protocol_is_ours_or_not_known(make: Make) -> None:
    assert list(gap.expected(NUMBER, "glnet")) == ["a", "b"]
    hidden = replace(NUMBER, protocol="", unknown=("protocol",))
    assert gap.expected(hidden, "fast") == {"a": ("evaluation", "protocol"), "c": ("pre-training",)}
    found = steps(hidden, imported(make, "glnet", 70.1, "fast") + trained(make, "glnet", {0: 69.0}, "fast"), "fast")
    assert [step.key for step in found] == ["a", "c"]


def test_best_on_test_is_the_papers_choice_only(make: Make) -> None:
    best = replace(NUMBER, metric="top1_best_on_test")
    records = [
        record
        for protocol in ("glnet", "fast")
        for record in make(
            "glnet",
            "linear",
            {"top1": 69.0, "top1_best_on_test": 69.5},
            protocol=protocol,
            protocol_hash=PROTOCOLS[protocol]["hash"],
            **OWN,
        )
    ]
    assert [(step.key, step.mean) for step in steps(best, records, "fast")] == [("b", 69.5), ("c", 69.0)]


def test_what_has_no_gap() -> None:
    reasons = {claim.kind: gap.reason(claim) for claim in claim_files.load(suite())}
    assert reasons["number"] == reasons["gain"] == "" and "about cost" in reasons["cost_ratio"]


# -------------------------------------------------------------------------------------------------- what a test lacks


def test_missing_seeds_are_those_of_each_arm(make: Make) -> None:
    records = trained(make, "glnet", {0: 1.0, 1: 2.0, 5: 3.0}, "glnet")
    records += trained(make, "moco_v3", {5: 1.0}, "glnet", variant="resnet")
    found = lacks(GAIN, records, "imagenet", own=True)
    assert [(lack.arm, lack.seeds) for lack in found] == [("glnet", (2, 3, 4)), ("moco_v3:resnet", (0, 1, 2, 3, 4))]
    assert found[1].like is not None and sorted(found[1].like.records) == [5]  # five pairs decide at least, from seed 0
    more = trained(make, "glnet", dict.fromkeys((2, 3, 4), 1.0), "glnet")
    more += trained(make, "moco_v3", dict.fromkeys(range(5), 1.0), "glnet", variant="resnet", salt=1)
    assert lacks(GAIN, records + more, "imagenet", own=True) == []
    for own, track in ((True, "imagenet"), (False, "mini")):
        nothing = lacks(GAIN, [], track, own)
        assert [(m.arm, m.seeds, m.like, m.beside) for m in nothing] == [
            ("glnet", (0, 1, 2, 3, 4), None, None),
            ("moco_v3:resnet", (0, 1, 2, 3, 4), None, None),
        ]


def test_a_verdict_says_which_pairs_come_next(make: Make) -> None:
    """Five at least, one more where these decide nothing, none where it is decided; of a cost one run is enough."""
    mini: dict[str, Any] = {"track": "mini", "data": "cifar10-jpeg", "network": None, "batch": 128, "epochs": 4}
    claim = replace(GAIN, value=None, kind="direction")

    def next_pairs(differences: list[float]) -> list[tuple[str, tuple[int, ...]]]:
        gains = dict(enumerate(differences))
        records = trained(make, "glnet", {seed: 40 + gain for seed, gain in gains.items()}, "mini", **mini)
        records += trained(make, "moco_v3", dict.fromkeys(gains, 40.0), "mini", variant="resnet", **mini)
        known = Arms(records, suite())
        (found, *_) = judge([claim], known, "mini")[claim.id]
        return [(lack.arm, lack.seeds) for lack in missing(claim, known, "mini", False, found)]

    names = ("glnet", "moco_v3:resnet")
    assert next_pairs([3.0, 3.1]) == [(name, (2, 3, 4)) for name in names]
    assert next_pairs([3.0, -2.0, 1.0, 0.0, -1.0, 1.5]) == [(name, (6,)) for name in names]
    assert next_pairs([3.0, 3.1, 2.9, 3.0, 3.2]) == []
    cost = replace(claim, evaluation="cost", metric="flops", protocol="")
    assert [lack.seeds for lack in lacks(cost, [], "mini", own=False)] == [(0,), (0,)]


def test_unequal_tuning_stands_in_the_way_only_where_it_explains_what_is_shown(make: Make) -> None:
    mini: dict[str, Any] = {"track": "mini", "data": "cifar10-jpeg", "network": None, "batch": 128}
    claim = replace(GAIN, value=None, kind="direction")

    def hindered(theirs: float, epochs: int, trials: int | None) -> bool:
        records = trained(make, "glnet", dict.fromkeys(range(5), 40.0), "mini", **mini, epochs=4, trials=3)
        records += trained(
            make, "moco_v3", dict.fromkeys(range(5), theirs), "mini", variant="resnet", **mini, epochs=epochs, trials=7
        )
        for record in records if trials is None else ():
            del record["provenance"]["trials"]
        (found, *_) = judge([claim], Arms(records, suite()), "mini")[claim.id]
        return in_vain(found) is not None

    assert not hindered(40.0 - 3, 6, 7)  # of other epochs: the baseline at these may yet be beaten
    assert not hindered(40.0 - 3, 4, 7) and hindered(40.0 + 3, 4, 7)
    assert hindered(40.0 - 3, 4, None)


def test_a_direction_is_completed_where_there_is_most(make: Make) -> None:
    mini: dict[str, Any] = {"track": "mini", "data": "cifar10-jpeg", "network": None, "batch": 128}
    records = trained(make, "glnet", {0: 1.0, 1: 2.0, 2: 3.0}, "mini", **mini | {"epochs": 8})
    records += trained(make, "glnet", {0: 1.0}, "mini", **mini | {"epochs": 9})
    more, lack = lacks(GAIN, records, "mini", own=False)
    assert (more.arm, more.seeds) == ("glnet", (3, 4)) and more.like is not None and len(more.like.records) == 3
    assert (lack.arm, lack.seeds, lack.like) == ("moco_v3:resnet", (0, 1, 2, 3, 4), None)
    assert lack.beside is not None and lack.beside.setting.epochs == 8


def test_changes_and_data_of_pretraining_are_part_of_the_setting(make: Make) -> None:
    stands = PROTOCOLS["glnet"]
    own = {"protocol": "glnet", "protocol_hash": stands["hash"], **OWN}
    trained_here, judged = make("glnet", "linear", {"top1": 69.0}, **own)
    judged["protocol"]["values"] = stands["values"]
    (arm,) = Arms([trained_here, judged], suite()).of("linear")
    assert apart(NUMBER, arm) == []
    enlarged = replace(NUMBER, changes={"linear": {"size": [224, 224]}, "pretrain": {"epochs": 200}})
    assert apart(enlarged, arm) == ["linear.size [], the claim's is [224, 224]"]
    judged["protocol"] |= {"values": {**stands["values"], "size": [224, 224]}, "hash": "0123456789ab"}
    (large,) = Arms([trained_here, judged], suite()).of("linear")
    assert apart(enlarged, large) == []
    assert apart(NUMBER, large) == ["protocol glnet with other values (01234567; changed: size 224 224)"]
    viewed = replace(NUMBER, changes={"method": {"view_size": 224}})
    assert apart(viewed, arm) == ["method.view_size not recorded, the claim's is 224"]
    elsewhere = replace(NUMBER, pretrain_data="sysu30k")
    assert apart(elsewhere, arm) == ["data of pre-training imagenet, the claim's is sysu30k"]
