"""What would decide a claim on a larger track: pairs and hours by hand, from made-up records and prices."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from untuned import suite

from leaderboards import boards, claim_files, markdown, needs, power, report
from leaderboards.answers import answers
from leaderboards.arms import Arms
from leaderboards.assessments import assess
from leaderboards.boards import Content
from leaderboards.needs import Need
from leaderboards.suite import Price

Record = dict[str, Any]
Make = Callable[..., list[Record]]
GAIN, TIME, NUMBER = "glnet-imagenet-gain", "glnet-imagenet100-time", "glnet-imagenet-r50"
RESNET = {"arch": "resnet", "depth": 18, "width": 16}
PAIR = Price({"ours": 60.0, "theirs": 40.0}, gpu=True, sources=("constants",), card="a card")
DIFFERENCES = (3.0, 4.5, 2.0, 5.5, 3.5, 4.0)


def only(*names: str) -> Callable[[Any, str, bool], Price | None]:
    return lambda claim, track, own: PAIR if claim.id in names and track != "mini" else None


def pairs(make: Make, differences: Sequence[float], track: str = "mini") -> list[Record]:
    records: list[Record] = []
    for seed, difference in enumerate(differences):
        for method, variant, top1 in (("glnet", "", 40.0 + difference), ("moco_v3", "resnet", 40.0)):
            records += make(
                method, "linear", {"top1": top1}, variant=variant, seed=seed, network=RESNET, track=track, trials=1
            )
    return records


def content(records: Sequence[Record], price: Callable[[Any, str, bool], Price | None]) -> Content:
    told = replace(suite(), price=price)
    return boards.compose(Arms(records, told), claim_files.load(told), lambda record: "x")


def by_place(found: Sequence[Need]) -> Mapping[tuple[str, str, bool], Need]:
    return {(need.claim.id, need.track, need.own): need for need in found}


def test_pairs_are_those_of_the_papers_difference_over_the_claims_own_spread(make: Make) -> None:
    found = by_place(content(pairs(make, DIFFERENCES), only(GAIN)).needs)
    assert set(found) == {(GAIN, "cifar", False), (GAIN, "imagenet", True)}
    need, spread = found[GAIN, "imagenet", True], statistics.stdev(DIFFERENCES)
    assert need.spread == needs.Spread(pytest.approx(spread), "mini", pairs=6)
    assert need.takes == 40  # alone in its family there: what else GLNet's paper compares cannot be tested on imagenet
    assert need.pairs == tuple(power.pairs_for_difference(2.4 / (share * spread), 40.0) for share in (1, 0.5, 0.25))
    assert need.hours == tuple(100.0 * n for n in need.pairs if n)
    kin = [claim for claim in claim_files.load(suite()) if claim.family == "glnet" and "cifar" in claim.proxies]
    assert found[GAIN, "cifar", False].takes == 40 * len(kin) > 40


def test_a_claim_with_few_pairs_takes_the_median_of_the_others(make: Make) -> None:
    claims = {claim.id: claim for claim in claim_files.load(suite())}
    seen = [
        needs.Seen(claims[name], "mini", n, spread)
        for name, n, spread in (
            (GAIN, 3, 9.0),
            ("rotation_aux-byol-few-epochs", 3, 1.0),
            ("rotation_aux-simsiam-few-epochs", 5, 2.0),
            ("rotation_aux-byol-few-epochs-knn", 6, 7.0),  # by another evaluation
        )
    ]
    need = needs.need(claims[GAIN], "imagenet", True, PAIR, 1, seen)
    assert need.spread == needs.Spread(2.0, "mini", claims=3)
    here = needs.need(claims["rotation_aux-simsiam-few-epochs"], "cifar", False, PAIR, 3, seen)
    assert here.spread == needs.Spread(2.0, "mini", pairs=5)
    assert here.apart == 1.0  # nothing stated: twice the margin of 0.5
    alone = needs.need(claims[GAIN], "imagenet", True, PAIR, 1, seen[:1])  # three pairs of its own, and none of others
    assert needs.rows([alone])[0]["spread"].text == "9.00 (mini, 3 pairs)"
    number = needs.need(claims[NUMBER], "imagenet", True, PAIR, 1, seen)
    assert number.spread is not None and number.spread.value == pytest.approx(2 / math.sqrt(2))
    assert number.pairs[2] == power.pairs_for_band(0.5 / (0.25 * 2 / math.sqrt(2)), 40.0)
    nothing = needs.need(claims["triplet-coco-detection"], "mini", False, PAIR, 1, seen)
    assert nothing.spread == needs.Spread(1.0) and "not measured" in needs.rows([nothing])[0]["spread"].text


def test_a_cost_without_chance_takes_one_run_and_a_ratio_its_own_band() -> None:
    claims = {claim.id: claim for claim in claim_files.load(suite())}
    (row,) = needs.rows([needs.need(claims["aps-compute"], "cifar", False, PAIR, 0, [])])
    assert (row["pairs"].text, row["GPU-hours"].text, row["spread"].text) == ("1", "100", "-")
    ratio = needs.need(claims[TIME], "cifar", False, PAIR, 2, [])
    assert ratio.pairs[0] == power.pairs_for_band(math.log(1.1) / math.log(1.05), 80.0)
    assert needs.rows([ratio])[0]["assumed"].text == "0.75 ± 10 %"


def test_what_is_decided_or_has_no_price_is_not_asked(make: Make) -> None:
    clear = [4.0, 4.1, 3.9, 4.05, 3.95, 4.0] * 2
    found = by_place(content(pairs(make, clear, track="cifar"), only(GAIN)).needs)
    assert set(found) == {(GAIN, "imagenet", True)}  # its direction holds on cifar
    assert content(pairs(make, clear), lambda claim, track, own: None).needs == []


@pytest.mark.seconds
def test_the_pages_say_hours_and_what_they_assume(make: Make) -> None:
    made = content(pairs(make, DIFFERENCES), only(GAIN))
    shown = {answer.claim.id: answer for claims in answers(made.papers, made.needs).values() for answer in claims}
    need = by_place(made.needs)[GAIN, "imagenet", True]
    most, least = need.hours[0], need.hours[-1]
    assert most and least
    said = f"the paper's setting (imagenet) takes about {least:,.0f} to {most:,.0f} GPU-hours"
    assert shown[GAIN].missing.startswith(f"{said}; next test: whether it is better on cifar, about ")
    assert (
        "the paper's setting is unknown, so we cannot rerun it" in shown[TIME].missing
    )  # of its batch no source tells
    text = markdown.markdown(made)["claims.md"]
    assert f"{need.pairs[0]} / {need.pairs[1]} / {need.pairs[2]}" in text and "All rows: card a card." in text
    page = html.unescape(report.page(made))
    assert said in page and 'id="needs"' in page
    bare = replace(made, needs=[])
    assert 'id="needs"' not in report.page(bare) and "a bigger machine" not in markdown.markdown(bare)["claims.md"]


def test_more_pairs_than_are_looked_at_are_said_to_be_more() -> None:
    claims = {claim.id: claim for claim in claim_files.load(suite())}
    wide = [needs.Seen(claims["rotation_aux-simsiam-few-epochs"], "mini", 5, 2.0)]
    need = needs.need(claims["rotation_aux-simsiam-few-epochs"], "cifar", False, PAIR, 3, wide)
    assert need.pairs[0] is None and need.hours[0] is None and need.pairs[2] is not None
    assert f"about {100 * need.pairs[2]:,} to over 10,000 GPU-hours" in needs.budget(need)
    assert needs.rows([need])[0]["pairs"].text.startswith(">100 / ")


def test_claims_that_no_run_can_test_are_not_on_the_first_screen_but_listed_with_the_reason() -> None:
    made = content([], only())
    shown = {answer.claim.id for claims in answers(made.papers).values() for answer in claims}
    lost = [item for item in assess(claim_files.load(suite()), Arms([], suite())) if item.untestable]
    text = markdown.markdown(made)["claims.md"]
    assert lost and not shown & {item.claim.id for item in lost}
    listed = {line.split("**")[1]: line for line in text.splitlines() if line.startswith("- **")}
    assert "cannot be tested: no track runs tiny_imagenet." in listed["multi_network-tiny-top5"]
    assert all("cannot be tested" in listed[item.claim.id] for item in lost)


@pytest.mark.parametrize(("hours", "said"), [(1894.0, "1,900"), (46.26, "46"), (9.96, "10"), (0.0823, "0.082")])
def test_hours_have_two_digits(hours: float, said: str) -> None:
    assert needs.about(hours) == said
