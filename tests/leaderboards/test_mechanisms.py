"""Our own claims on why, and interactions: how they are written down, tested, and put into a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from sentences import sentence
from untuned import suite

from leaderboards import claim_files, readme_tables
from leaderboards.arms import Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.claims import NO_TRACK, Claim
from leaderboards.missing_runs import missing
from leaderboards.testable import members
from leaderboards.verdicts import Verdict, judge
from leaderboards.wording import outcome

Record = dict[str, Any]
Make = Callable[..., list[Record]]

PARENT = """
citation = "X"
[[claim]]
id = "gain"
statement = "It is better."
kind = "direction"
method = "glnet"
baseline = "byol"
evaluation = "linear"
metric = "top1"
data = "cifar10"
source = "abstract"
verified = "abstract"
track = "cifar"
margin = 0.5
proxies = { mini = 1.5 }
family = "glnet"
unknown = ["protocol", "backbone", "epochs", "batch"]
"""
PART = """
[[mechanism]]
id = "why-a"
parent = "gain"
part = "the loss A"
statement = "A helps."
baseline = "glnet"
baseline_variant = "no_location"
"""
MORE = """
[[claim]]
id = "more"
statement = "It gains more with fewer epochs."
kind = "interaction"
method = "glnet"
baseline = "byol"
evaluation = "linear"
metric = "top1"
data = "cifar10"
source = "abstract"
verified = "abstract"
track = "cifar"
margin = 0.5
proxies = { mini = 1.5 }
lengths = { mini = [8, 24] }
family = "glnet"
unknown = ["protocol", "backbone", "epochs", "batch"]
"""


def load(folder: Path, text: str) -> list[Claim]:
    (folder / "glnet.toml").write_text(text)
    return claim_files.load(suite(), folder)


def arm(make: Make, name: str, tops: list[float], epochs: int = 4, **more: Any) -> list[Record]:
    method, _, variant = name.partition(":")
    records: list[Record] = []
    for seed, top1 in enumerate(tops):
        records += make(method, "linear", {"top1": top1}, variant=variant, seed=seed, epochs=epochs, **more)
    return records


# ----------------------------------------------------------------------------------------------------------- mechanisms


def test_a_mechanism_has_from_its_parent_what_it_does_not_state(tmp_path: Path) -> None:
    gain, why = load(tmp_path, PARENT + PART)
    assert (why.kind, why.arm, why.baseline_arm) == ("mechanism", "glnet", "glnet:no_location")
    assert (why.evaluation, why.metric, why.data) == (gain.evaluation, gain.metric, gain.data)
    assert dict(why.proxies) == {"mini": 1.5} and why.track == NO_TRACK and why.verified == "ours"


def test_mechanisms_do_not_make_the_papers_claims_harder(tmp_path: Path) -> None:
    every = load(tmp_path, PARENT + PART + PART.replace("why-a", "why-b"))
    found = members(every, suite(), "mini")
    assert {name: [claim.id for claim in family] for name, family in found.items()} == {
        "glnet": ["gain"],
        "glnet mechanisms": ["why-a", "why-b"],
    }
    for paper in ("glnet", "rotation_aux", "multi_network", "truncated_triplet", "aps"):
        own = members(claim_files.load(suite()), suite(), "mini")
        assert not {claim.kind for claim in own[paper]} & {"mechanism"}
        assert {claim.kind for claim in own[f"{paper} mechanisms"]} == {"mechanism"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            PARENT + PART.replace('"gain"', '"gian"'),
            "mechanism 'why-a': parent: unknown claim 'gian'; did you mean 'gain'",
        ),
        (PARENT + PART.replace('parent = "gain"', 'parent = ["gain"]'), "parent: unknown claim '['gain']'"),
        (PARENT + PART.replace('part = "the loss A"\n', ""), "'parent' and 'part' go together"),
        (PARENT.replace("proxies = { mini = 1.5 }", "") + PART, "key 'proxies' is missing"),
        (PARENT + 'parent = "nothing"\npart = "x"\n', "claim 'gain': parent: unknown claim 'nothing'"),
        (PARENT + "lengths = { cifar = [8] }\n", "lengths: unknown track of its proxies 'cifar'"),
        (PARENT + "lengths = { mini = [8, 24] }\n", "lengths.mini = [8, 24] must hold 1"),
        (
            "citation = 'X'\n" + MORE.replace("[8, 24]", "[8, 8]"),
            "lengths.mini = [8, 8] must hold 2, each from 1 and once",
        ),
        ("citation = 'X'\n" + MORE.replace("lengths = { mini = [8, 24] }", ""), "an interaction needs 'proxies'"),
        (
            "citation = 'X'\n" + MORE.replace(', "epochs", "batch"]', ', "batch"]\nepochs = 9'),
            "name 'epochs' in 'unknown'",
        ),
        (
            PARENT.replace('unknown = ["protocol", "backbone", "epochs", "batch"]', 'assumption = "x"'),
            "needs 'unknown'",
        ),
    ],
)
def test_a_fault_is_one_line_that_names_the_claim_and_the_fix(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"glnet\.toml: ") as caught:
        load(tmp_path, text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_what_nobody_tells_says_what_one_would_have_to_assume(tmp_path: Path) -> None:
    (claim,) = load(tmp_path, PARENT + 'assumption = "a batch of 6272"\n')
    (found,) = assess([replace(claim, proxies={})], Arms([], suite()))
    assert found.open[0].endswith("(not known: protocol, backbone, epochs, batch), unless one assumes a batch of 6272")


BASE = [40.0, 41.0, 40.5, 42.0, 41.5, 40.2, 41.8, 40.9]


def plus(tops: list[float], by: float, wiggle: float = 0.2) -> list[float]:
    return [top1 + by + wiggle * (-1) ** seed for seed, top1 in enumerate(tops)]


def explained(make: Make, tmp_path: Path, gain: float, part: float) -> tuple[Assessment, Assessment]:
    every = load(tmp_path, PARENT + PART)
    glnet = plus(BASE, gain)
    records = arm(make, "glnet", glnet) + arm(make, "byol", BASE) + arm(make, "glnet:no_location", plus(glnet, -part))
    first, second = assess(every, Arms(records, suite()))
    return first, second


def test_a_claim_is_explained_by_its_parts(make: Make, tmp_path: Path) -> None:
    gain, why = explained(make, tmp_path, 4.0, 3.0)
    assert gain.why == [
        "on mini, what glnet gains over byol comes at least in part from the loss A (3.0 points, n = 8)"
    ]
    assert why.outcomes.startswith("holds on mini (n = 8)") and why.why == []
    assert why.source == "our own claim, from no source; it helps to explain gain"


def test_a_part_that_costs_more_says_what_and_what_equal_compute_found(make: Make, tmp_path: Path) -> None:
    """Twice the operations; a baseline that trains twice as long gets there, too, and a bit further."""
    every, glnet = load(tmp_path, PARENT + PART), plus(BASE, 4.0)
    cost = [{"flops": flops} for flops in (2e13, 1e13, 2e13)]
    records = arm(make, "glnet", glnet, cost=cost[0]) + arm(make, "byol", BASE, cost=cost[0])
    records += arm(make, "glnet:no_location", plus(glnet, -3.0), cost=cost[1])
    costs = "2.00 times the operations; equal compute: "
    for more, says in (
        ([], "not run"),
        (arm(make, "glnet:no_location", plus(glnet, 2.0, 0.4), epochs=8, cost=cost[2]), "opposite -2.0"),
    ):
        gain, _ = assess(every, Arms(records + more, suite()))
        assert gain.why[0].endswith(f"comes at least in part from the loss A (3.0 points, n = 8, {costs}{says})")
        *_, row = readme_tables.parts_verdicts(records + more, every, suite(), "mini").splitlines()
        assert "| the loss A | `glnet` against `glnet:no_location` | **holds** +3.0 (" in re.sub(r" +", " ", row)
        assert re.search(rf"\| (?:\*\*)?{says.replace(' -', r'[*]* -')} .*\| 2\.00 +\|$", row)


@pytest.mark.parametrize(
    ("gain", "part", "says"),
    [
        (4.0, 0.0, "on mini, the loss A: nothing (no difference, n = 8)"),
        (4.0, -3.0, "on mini, the loss A: -3.0 points (opposite, n = 8)"),
        (0.0, 3.0, "on mini, the loss A: +3.0 points (holds, n = 8)"),
    ],
)
def test_what_adds_nothing_or_costs_says_so(make: Make, tmp_path: Path, gain: float, part: float, says: str) -> None:
    assert explained(make, tmp_path, gain, part)[0].why == [says]


def test_what_is_not_decided_says_how_far_it_is(make: Make, tmp_path: Path) -> None:
    every = load(tmp_path, PARENT + PART)
    records = arm(make, "glnet", [42.0, 43.0, 42.4]) + arm(make, "glnet:no_location", [41.0, 43.5, 41.0])
    first, _ = assess(every, Arms(records, suite()))
    (said,) = first.why
    assert said.startswith("on mini, the loss A: not decided yet (3 pairs, evidence ") and said.endswith(
        " of 40 that there is no difference of more than 1.5 points)"
    )


def test_a_mechanism_that_was_not_run_says_so_and_not_that_no_track_could(tmp_path: Path) -> None:
    _, why = assess(load(tmp_path, PARENT + PART), Arms([], suite()))
    assert why.open == ["not run on mini: no linear record of glnet"] and not why.untestable


# --------------------------------------------------------------------------------------------------------- interactions


def both_lengths(make: Make, short: float, long: float) -> list[Record]:
    return [
        *arm(make, "glnet", plus(BASE, short), 8),
        *arm(make, "byol", BASE, 8),
        *arm(make, "glnet", plus([top1 + 5 for top1 in BASE], long, 0.5), 24),
        *arm(make, "byol", [top1 + 5 for top1 in BASE], 24),
    ]


def interaction(tmp_path: Path, records: list[Record]) -> Verdict:
    (claim,) = load(tmp_path, "citation = 'X'\n" + MORE)
    known = suite()
    return judge([claim], Arms(records, known), "mini")[claim.id][0]


def test_an_interaction_tests_the_difference_of_differences(make: Make, tmp_path: Path) -> None:
    found = interaction(tmp_path, both_lengths(make, 4.0, 1.0))
    x = [3.0 + (0.2 - 0.5) * (-1) ** seed for seed in range(8)]
    assert found.evidence is not None and found.evidence.values == pytest.approx(x)
    largest = 1.0
    for n in range(2, 9):
        t = stats.ttest_1samp(x[:n], 0).statistic
        largest = max(largest, math.exp(stats.nct.logpdf(t, n - 1, 1.2 * math.sqrt(n)) - stats.t.logpdf(t, n - 1)))
    assert found.evidence.by_test["up"] == pytest.approx(largest, rel=1e-6)
    assert (found.outcome, found.n, found.basis) == ("holds", 8, "")
    assert "glnet 3.00 points further above byol in linear top1 on CIFAR-10 after 8 epochs than after 24" in sentence(
        found
    )
    assert "ResNet" in sentence(found) or "ViT" in sentence(found)
    assert "8 and 24 epochs" in sentence(found) and outcome(found) == "holds on mini (n = 8)"
    assert {used.arm for used in found.rests_on} == {
        f"{name} ({e} epochs)" for name in ("glnet", "byol") for e in (8, 24)
    }


def test_an_interaction_may_be_the_opposite_or_none(make: Make, tmp_path: Path) -> None:
    assert interaction(tmp_path, both_lengths(make, 1.0, 4.0)).outcome == "opposite"
    assert interaction(tmp_path, both_lengths(make, 3.0, 3.0)).outcome == "no difference"


def test_a_seed_that_one_length_lacks_ends_an_interaction(make: Make, tmp_path: Path) -> None:
    records = [
        record for record in both_lengths(make, 4.0, 1.0) if not (record["seed"] == 5 and record["method"] == "byol")
    ]
    found = interaction(tmp_path, records)
    assert found.series.seeds == (0, 1, 2, 3, 4) and found.series.waiting == (6, 7)


def test_unequal_tuning_decides_no_interaction(make: Make, tmp_path: Path) -> None:
    records = [
        *arm(make, "glnet", plus(BASE, 4.0), 8),
        *arm(make, "byol", BASE, 8, trials=3),
        *arm(make, "glnet", plus(BASE, 1.0), 24),
        *arm(make, "byol", BASE, 24, trials=3),
    ]
    assert interaction(tmp_path, records).outcome == "incomparable"


def test_an_interaction_lacks_both_arms_at_both_lengths(make: Make, tmp_path: Path) -> None:
    (claim,) = load(tmp_path, "citation = 'X'\n" + MORE)
    known = Arms(arm(make, "byol", BASE[:3], 8), suite())
    found = [(item.arm, item.claim.lengths["mini"], item.seeds) for item in missing(claim, known, "mini", False)]
    assert found == [
        ("glnet", (8,), (0, 1, 2, 3, 4)),
        ("byol", (8,), (3, 4)),
        ("glnet", (24,), (0, 1, 2, 3, 4)),
        ("byol", (24,), (0, 1, 2, 3, 4)),
    ]
