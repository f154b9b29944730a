"""Pairs of which each seed drew its own training pictures never meet the older ones, which all share one subset."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sentences import sentence
from untuned import suite

from leaderboards import boards
from leaderboards.answers import answers, by_title
from leaderboards.arms import Arms
from leaderboards.assessments import assess, counts
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim
from leaderboards.controls import Controls
from leaderboards.markdown import markdown
from leaderboards.missing_runs import missing
from leaderboards.paired_arms import baseline_differences, fairest
from leaderboards.reasons import OlderSetup
from leaderboards.verdict_table import verdict_table
from leaderboards.verdicts import Verdict, judge
from repro.plan import recipes, registry

Record = dict[str, Any]
Make = Callable[..., list[Record]]
RECIPE = recipes.resolve(*registry.find("aps"), "mini", {})
NETWORK, EPOCHS = RECIPE["network"], RECIPE["pretrain"]["epochs"]

CLAIM = Claim(
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


def seeds(make: Make, method: str, values: list[float], drawn: int | None, first: int = 0) -> list[Record]:
    return [
        record
        for seed, value in enumerate(values, first)
        for record in make(
            method, "linear", {"top1": value}, seed=seed, drawn=drawn, salt=drawn, network=NETWORK, epochs=EPOCHS
        )
    ]


@pytest.fixture
def older(make: Make) -> list[Record]:
    """Six pairs in which APS is five points better."""
    better = [45.0, 45.1, 44.9, 45.2, 45.0, 44.8]
    return [*seeds(make, "aps", better, None), *seeds(make, "moco_v3", [40.0] * 6, None)]


def at_mini(records: list[Record]) -> Verdict:
    return judge([CLAIM], Arms(records, suite()), "mini")[CLAIM.id][0]


def test_older_pairs_do_not_count_and_are_said_to_be_there(make: Make, older: list[Record]) -> None:
    before = at_mini(older)
    assert (before.outcome, before.n, before.gap, before.rests_on) == ("not run", 0, None, ())
    assert before.reasons == (OlderSetup(6),)
    assert sentence(before) == "not run on mini: 6 older pairs do not count, as all seeds shared one training subset"
    assert sentence(before) in assess([CLAIM], Arms(older, suite()))[0].open
    one_side = [*older, *seeds(make, "aps", [30.0, 30.0], 5000)]
    assert at_mini(one_side) == before


def test_new_arms_without_a_common_seed_wait_for_one(make: Make, older: list[Record]) -> None:
    apart = [*seeds(make, "aps", [30.0, 30.0], 5000), *seeds(make, "moco_v3", [40.0], 5000, first=7)]
    found = at_mini([*older, *apart])
    assert found.n == 0 and found.reasons == (OlderSetup(6),)


def test_pairs_on_all_pictures_count_though_there_are_older_ones(make: Make, older: list[Record]) -> None:
    whole = [*seeds(make, "aps", [43.0, 43.5, 43.2, 43.4, 43.1, 43.3], 0), *seeds(make, "moco_v3", [40.0] * 6, 0)]
    assert at_mini([*older, *whole]).outcome == at_mini(whole).outcome == "holds"


def test_older_runs_of_one_side_are_said_to_be_there(make: Make, older: list[Record]) -> None:
    found = at_mini([*seeds(make, "aps", [43.0], 5000), *(r for r in older if r["method"] == "moco_v3")])
    assert sentence(found) == "not run on mini: older runs do not count, as all seeds shared one training subset"


def test_a_new_pair_of_equal_compute_is_not_hidden_by_older_ones(make: Make, older: list[Record]) -> None:
    """It is of other epochs, so that there is no pair of equal epochs."""
    new = make("aps", "linear", {"top1": 44.0}, drawn=5000, network=NETWORK, epochs=EPOCHS, cost={"flops": 2e12})
    new += make("moco_v3", "linear", {"top1": 40.0}, drawn=5000, network=NETWORK, epochs=16, cost={"flops": 2e12})
    found = judge([CLAIM], Arms([*older, *new], suite()), "mini")[CLAIM.id]
    compute = next(one for one in found if one.basis == COMPUTE)
    assert compute.n == 1 and not any(isinstance(why, OlderSetup) for why in compute.reasons)


def test_differences_to_baselines_are_of_no_older_setup(make: Make, older: list[Record]) -> None:
    assert baseline_differences([CLAIM], Arms(older, suite())) == {}
    new = [*seeds(make, "aps", [38.0, 37.0], 5000), *seeds(make, "moco_v3", [40.0, 40.5], 5000)]
    (found,) = baseline_differences([CLAIM], Arms([*older, *new], suite()))["mini"]
    assert found.ours.setting.drawn == found.theirs.setting.drawn == 5000


def test_a_new_pair_takes_over_alone(make: Make, older: list[Record]) -> None:
    new = [*seeds(make, "aps", [38.0, 37.0], 5000), *seeds(make, "moco_v3", [40.0, 40.5], 5000)]
    found = at_mini([*older, *new])
    alone = at_mini(new)
    assert found.n == 2 and found.gap == alone.gap == pytest.approx(-2.75)
    assert found.evidence == alone.evidence and found.outcome == "not decided yet"
    ids = {record["fingerprint"] for record in new}
    assert {record["fingerprint"] for used in found.rests_on for record in used.records.values()} <= ids
    said = sentence(found)
    assert "5,000 training images drawn for each seed, the test set is the same for all" in said
    assert "older" not in said


def test_seeds_of_one_subset_never_continue_a_new_series(make: Make, older: list[Record]) -> None:
    """The new pairs are seeds 0 and 1; the older ones have seeds 2 to 5, which would follow without a gap."""
    later = [record for record in older if record["seed"] > 1]
    new = [*seeds(make, "aps", [38.0, 37.0], 5000), *seeds(make, "moco_v3", [40.0, 40.5], 5000)]
    found = at_mini([*later, *new])
    assert found.series.seeds == (0, 1) and not found.series.waiting


def test_other_numbers_of_pictures_are_no_pair(make: Make) -> None:
    records = [*seeds(make, "aps", [38.0], 1000), *seeds(make, "moco_v3", [40.0], 5000)]
    found = at_mini(records)
    assert found.outcome == "incomparable"
    assert "1,000 training images drawn for each seed against 5,000" in sentence(found)


def test_one_new_pair_replaces_older_ones_of_another_protocol_too(make: Make, older: list[Record]) -> None:
    for record in older:
        if record["kind"] == "linear":
            record["protocol"] = {**record["protocol"], "hash": "older"}
    assert at_mini(older).reasons == (OlderSetup(6),)
    new = [*seeds(make, "aps", [38.0], 5000), *seeds(make, "moco_v3", [40.0], 5000)]
    assert at_mini([*older, *new]).n == 1


def test_a_superseded_claim_is_asked_for_from_the_start(make: Make, older: list[Record]) -> None:
    known = Arms(older, suite())
    wanted = missing(CLAIM, known, "mini", False, judge([CLAIM], known, "mini")[CLAIM.id][0])
    assert [(item.arm, item.seeds, item.like, item.beside) for item in wanted] == [
        ("aps", (0, 1, 2, 3, 4), None, None),
        ("moco_v3", (0, 1, 2, 3, 4), None, None),
    ]
    both = [*older, *seeds(make, "aps", [38.0], 5000)]
    more = missing(CLAIM, Arms(both, suite()), "mini", False, at_mini(both))
    assert [(item.arm, item.seeds) for item in more] == [("aps", (1, 2, 3, 4)), ("moco_v3", (0, 1, 2, 3, 4))]


def test_a_superseded_cost_is_open_again(make: Make) -> None:
    claim = replace(CLAIM, evaluation="cost", metric="flops", better="lower", protocol="", proxies={"mini": 0.1})
    for drawn in (None, 5000):
        records = [
            record
            for method, flops in (("aps", 1e9), ("moco_v3", 2e9))
            for record in make(
                method, "linear", {}, seed=0, drawn=drawn, network=NETWORK, epochs=EPOCHS, cost={"flops": flops}
            )
        ]
        known = Arms(records, suite())
        (first, *_) = judge([claim], known, "mini")[claim.id]
        assert first.outcome == "holds" and first.decided is (drawn is not None)
        assert bool(missing(claim, known, "mini", False, first)) is (drawn is None)


def test_older_arms_are_in_no_table_and_the_board_says_so(make: Make, older: list[Record]) -> None:
    records = [*older, *seeds(make, "aps", [38.0], 5000)]
    known = Arms(records, suite())
    assert [(arm.name, arm.setting.drawn) for arm in known.current("linear")] == [("aps", 5000)]
    assert [(arm.name, arm.setting.drawn) for arm in known.superseded("linear")] == [("aps", None), ("moco_v3", None)]
    page = markdown(boards.compose(known, [CLAIM], lambda record: "x"))["linear.md"]
    assert "| moco_v3" not in page
    _, _, left = page.partition("## Not in the tables\n")
    assert "mini, older setup: 2 rows. In that setup all seeds shared one training subset." in left
    (shown,) = re.findall(r"`python -m repro explain (\w+)`", left)
    assert sum(record["fingerprint"].startswith(shown) for record in older if record["kind"] == "linear") == 1
    arms = known.of("linear")
    theirs = [arm for arm in arms if arm.name == "moco_v3"]
    pair = fairest([arm for arm in arms if arm.name == "aps"], theirs, lambda arm: arm.values("top1"))
    assert pair is not None and pair[0].setting.drawn is None is pair[1].setting.drawn


def test_a_control_of_the_older_subset_stands_beside_no_new_result(make: Make) -> None:
    published = [*seeds(make, "random", [25.0], None), *seeds(make, "moco_v3", [40.0], None)]
    new = Arms(seeds(make, "aps", [38.0], 5000), suite()).of("linear")[0]
    assert Controls((), published, suite()).untrained(new, "top1") is None
    again = Controls((), seeds(make, "random", [25.0], 5000), suite()).untrained(new, "top1")
    assert again is not None and again.gain == 13.0


def test_own_pictures_and_whole_data_sets_are_no_older_subset(make: Make) -> None:
    for more in ({"data": "folder:/pictures"}, {"data": "digits", "track": "embedded"}, {"drawn": 0}):
        given = {"drawn": None, **more}
        (arm,) = Arms(make("aps", "linear", {"top1": 40.0}, **given), suite()).of("linear")
        assert arm.setting.drawn == 0 and "pictures" not in arm.setting.place.partition("protocol")[2]


def test_a_number_of_pictures_that_makes_no_sense_stops_nothing(make: Make) -> None:
    for limit in ("many", "5000", -3, {"pictures": "many"}, {"pictures": -3}, {"pictures": 1e300}, [5000], {}):
        records = make("aps", "linear", {"top1": 40.0})
        for record in records:
            record["provenance"]["data"]["limit"] = limit
        (arm,) = Arms(records, suite()).of("linear")
        assert arm.setting.drawn is None  # such runs decide nothing


def test_older_pairs_are_in_no_table_of_verdicts(make: Make, older: list[Record]) -> None:
    new = [*seeds(make, "aps", [38.0, 37.0], 5000), *seeds(make, "moco_v3", [40.0, 40.5], 5000)]
    before, after = (
        boards.compose(Arms(records, suite()), [CLAIM], lambda record: "x").papers for records in (older, new)
    )
    assert "**" not in verdict_table(by_title(answers(before)), "claims.md")[0]
    assert "**not decided yet**" in verdict_table(by_title(answers(after)), "claims.md")[0]
    for papers, outcome in ((before, "not run"), (after, "not decided yet")):
        (found,) = papers.values()
        assert counts(found) == [{"claims": "of the papers, that compare methods", "number": "1", outcome: "1"}]


def test_a_cost_without_chance_does_not_depend_on_the_subset(make: Make) -> None:
    """It is open again only where a recipe has changed since."""
    claim = replace(CLAIM, evaluation="cost", metric="flops", better="lower", margin=0.1, proxies={"mini": 0.1})
    records = [
        record
        for method, flops in (("aps", 40.0), ("moco_v3", 100.0))
        for record in make(method, "pretrain", {}, drawn=None, cost={"flops": flops}, epochs=16)
    ]
    batch = records[0]["details"]["recipe"]["pretrain"]["batch"]
    for now, older in (({"epochs": 8}, False), ({"batch": 2 * batch}, True)):  # such a cost is counted at any length
        now = {"pretrain": now}
        told = replace(suite(), recipe=lambda arm, track, now=now: now if track == "mini" else {})
        found = judge([claim], Arms(records, told), "mini")[claim.id][0]
        assert (found.outcome, found.open_again, found.decided) == ("holds", older, not older)
        assert ("measured with an older recipe" in sentence(found)) is older


def test_of_two_data_sets_the_large_one_is_compared_though_its_pair_is_unlike(make: Make) -> None:
    """The small test set of an older setup has the pair of one length; no verdict and no difference counts it."""
    records: list[Record] = []
    for method, ahead in (("aps", 5.0), ("moco_v3", 0.0)):
        epochs = 16 if method == "aps" else 8
        small: dict[str, Any] = {"data": "vehicle-reid-market", "drawn": None, "salt": "small"}
        records += make(method, "reid", {"rank1": 20.0 - ahead}, **small)
        records += make(method, "reid", {"rank1": 20.0 + ahead}, data="cifar10-jpeg-cameras", epochs=epochs)
    arms = Arms(records, suite())
    sides = [[arm for arm in arms.of("reid") if arm.name == name] for name in ("aps", "moco_v3")]
    pair = fairest(*sides, lambda arm: arm.values("rank1"))
    assert pair and {arm.setting.data for arm in pair} == {"cifar10-jpeg-cameras"}
    alone = Arms([r for r in records if r["provenance"]["data"]["name"] != "cifar10-jpeg-cameras"], suite())
    assert baseline_differences([CLAIM], alone) == {}
    sides = [[arm for arm in alone.of("reid") if arm.name == name] for name in ("aps", "moco_v3")]
    assert fairest(*sides, lambda arm: arm.values("rank1")) is not None


def test_seeds_of_one_data_set_are_one_arm_whatever_its_title(make: Make) -> None:
    """A title in words may be reworded; the name and the manifest tell which images they are."""
    older = make("aps", "linear", {"top1": 40.0}, source="CIFAR-10 (a copy)")
    found = Arms([*older, *make("aps", "linear", {"top1": 42.0}, seed=1)], suite()).current("linear")
    assert [(arm.name, sorted(arm.records)) for arm in found] == [("aps", [0, 1])]
