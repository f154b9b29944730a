"""The first screen: one line a claim, in words and shapes that can be told apart without colour."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from untuned import suite

from leaderboards import boards, claim_files, forests, readme_tables, verdicts
from leaderboards.answers import MARKS, Answer, answers, scale, summary
from leaderboards.arms import Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.readme_tables import front

Record = dict[str, Any]
Make = Callable[..., list[Record]]
CLAIM = "glnet-imagenet-gain"  # above MoCo-v3 on a ResNet in linear evaluation, 2.4 points stated
RESNET = {"arch": "resnet", "depth": 18, "width": 16}


def found(make: Make, differences: list[float]) -> Answer:
    """The answer on the claim where the seeds differ by that much."""
    records: list[Record] = []
    for seed, difference in enumerate(differences):
        for method, variant, top1 in (("glnet", "", 40.0 + difference), ("moco_v3", "resnet", 40.0)):
            records += make(method, "linear", {"top1": top1}, variant=variant, seed=seed, network=RESNET)
    return alone(records)


def alone(records: list[Record]) -> Answer:
    """The answer on the claim by these records, where no other one shares its error rate."""
    known, claims = Arms(records, suite()), [claim for claim in claim_files.load(suite()) if claim.id == CLAIM]
    papers = boards.compose(known, claims, lambda record: "x").papers
    (answer,) = (answer for claims in answers(papers).values() for answer in claims if answer.claim.id == CLAIM)
    return answer


def test_a_clear_difference_holds_and_is_drawn_on_its_side(make: Make) -> None:
    answer = found(make, [3.0, 3.5, 4.0, 3.2, 3.6, 3.3])
    assert answer.epochs is not None and (answer.epochs.word, answer.epochs.look) == ("holds", "yes")
    assert answer.epochs.difference == "+3.4 points" and answer.epochs.n.startswith("6 pairs")
    assert answer.where == "mini" and "imagenet" in answer.missing and answer.claimed == 2.4
    low, high = answer.interval or (0.0, 0.0)
    assert low < 3.433 < high and abs((answer.mean or 0.0) - 20.6 / 6) < 1e-9
    assert answer.epochs.about == "43.4 against 40.0; 95 % interval +3.1 to +3.8; 6 pairs"
    assert answer.tested == "mini: linear probe on CIFAR-10, against moco_v3:resnet; the size is not tested"
    limit = scale([answer])
    assert limit == 5
    drawn = forests.forest(answer, limit)
    assert drawn is not None and "interval +3.1 to +3.8; the paper states +2.4" in drawn.said
    axis = ElementTree.fromstring(forests.axis(limit).svg())
    ends = {text.text: float(text.get("x", "nan")) for text in axis.iter() if text.tag.endswith("text")}
    (dot,) = re.findall(r'<circle[^>]*cx="([\d.]+)"', drawn.body)
    share = (float(dot) - ends["0"]) / (ends["+5"] - ends["0"])
    assert abs(share - 20.6 / 6 / 5) < 0.01  # where the axis says


def test_few_pairs_are_not_decided_and_say_their_evidence(make: Make) -> None:
    answer = found(make, [1.0, -1.0, 0.5])
    assert answer.epochs is not None and answer.epochs.word == "not decided yet" and answer.epochs.look == "open"
    assert answer.epochs.n.startswith("3 pairs, evidence ") and " of 40" in answer.epochs.n
    single = found(make, [1.0])
    drawn = forests.forest(single, 5.0)
    assert single.interval is None and drawn is not None and "hollow" in drawn.body and "thick" not in drawn.body


def test_an_interval_wider_than_the_axis_ends_in_an_arrow(make: Make) -> None:
    wide = found(make, [4.0, -3.0])  # mean 0.5, interval of two values: far beyond
    assert wide.interval and wide.interval[1] > 20 and scale([wide]) == 5
    drawn = forests.forest(wide, 5.0)
    assert drawn is not None and drawn.body.count('class="line thick') == 3  # the line, and an arrow at each end
    narrow = forests.forest(found(make, [1.0, 1.1, 1.2]), 5.0)
    assert narrow is not None and narrow.body.count('class="line thick') == 1


def test_equal_compute_is_of_the_same_track_as_equal_epochs(make: Make) -> None:
    """Where only a larger track has it, nothing stands in that column, as the row is of the smaller one."""
    answer = found(make, [1.0, 2.0, 3.0])
    assert answer.where == "mini" and answer.compute is not None
    records: list[Record] = []
    for method, variant, epochs in (("glnet", "", 4), ("moco_v3", "resnet", 8)):
        for track, flops in (("mini", 1e13 * epochs), ("cifar", 1e13)):
            of = {"track": track, "epochs": 4 if track == "mini" else epochs, "cost": {"flops": flops}}
            records += make(method, "linear", {"top1": 40.0}, variant=variant, seed=0, network=RESNET, **of)
    assert alone(records).where == "mini" and alone(records).compute is None
    cifar = alone([record for record in records if record["track"] == "cifar"])
    assert cifar.where == "cifar" and cifar.compute is not None


def test_what_holds_at_equal_epochs_alone_says_what_the_method_costs(make: Make) -> None:
    """Twice the operations: where no run has equal ones, that is said in the column of equal compute."""
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3]):
        for method, variant, ahead, flops in (("glnet", "", difference, 2e13), ("moco_v3", "resnet", 0.0, 1e13)):
            of: dict[str, Any] = {"variant": variant, "seed": seed, "network": RESNET, "cost": {"flops": flops}}
            records += make(method, "linear", {"top1": 40.0 + ahead}, **of)
    answer = alone(records)
    assert answer.epochs is not None and answer.epochs.word == "holds" and answer.compute is not None
    assert (answer.compute.word, answer.compute.look) == ("not run", "none")
    assert answer.compute.n == "the method took 2.00 times the operations"


def test_a_claim_tested_at_two_tracks_shows_the_smallest_and_names_the_other(make: Make) -> None:
    """At mini it holds, in the paper's own setting the opposite is shown: neither may hide the other."""
    own = {"arch": "resnet", "depth": 50, "width": 64}
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3]):
        for method, variant, ahead in (("glnet", "", difference), ("moco_v3", "resnet", 0.0)):
            of: dict[str, Any] = {"variant": variant, "seed": seed}
            records += make(method, "linear", {"top1": 40.0 + ahead}, network=RESNET, **of)
            records += make(method, "linear", {"top1": 40.0 - ahead}, network=own, track="cifar", epochs=200, **of)
    answer = alone(records)
    assert answer.epochs is not None and (answer.epochs.word, answer.where) == ("holds", "mini")
    assert answer.beside[0].startswith("on cifar: opposite, -3.4 points, 6 pairs") and not answer.own
    assert summary([answer]) == (
        "From the abstracts and the authors' code pages we derived 1 comparison that can be tested."
        " At equal epochs 1 hold. At equal compute 1 hold."
        " None of the comparisons was tested in the paper's own setting."
        " `Holds` means better in our test, not that the paper's number is right."
    )
    assert (
        summary([replace(answer, own=True)]).count(" 1 of the comparisons was tested in the paper's own setting.") == 1
    )


def test_no_difference_says_its_margin(make: Make) -> None:
    answer = found(make, [0.1, -0.1, 0.05, 0.0, -0.05, 0.1, -0.1])
    assert answer.epochs is not None and answer.epochs.word == "no difference"
    assert answer.epochs.notes == ("within the margin of 1.2 points",)


def test_a_mean_beyond_the_axis_is_one_arrow_with_its_numbers(make: Make) -> None:
    drawn = forests.forest(found(make, [9.0, 9.1, 9.2]), 5.0)
    assert drawn is not None and "<circle" not in drawn.body and drawn.body.count("l5 4l-5 4") == 1
    assert "<title>+9.10 points, 95 % interval" in drawn.body


def test_what_was_not_run_says_where_it_would_be(make: Make) -> None:
    answer = found(make, [])
    assert answer.epochs is None and answer.compute is None
    assert answer.missing.startswith(
        "no run yet; whether it is better can be tested on mini, cifar; the paper's setting"
    )
    assert answer.idle == "can be tested on mini, cifar" and found(make, [1.0, 1.1]).idle == ""
    assert answer.ahead == "" and answer.mean is None and forests.forest(answer, 5.0) is None
    older = [
        record
        for method, variant in (("glnet", ""), ("moco_v3", "resnet"))
        for record in make(method, "linear", {"top1": 40.0}, variant=variant, network=RESNET, drawn=None)
    ]
    assert alone(older).idle == "1 older pair does not count, as all seeds shared one training subset"
    assert alone(older).missing.startswith(f"{alone(older).idle}; ")


def test_the_command_that_goes_on_is_given_until_the_claim_is_decided(make: Make) -> None:
    def item(differences: list[float]) -> Assessment:
        records: list[Record] = []
        for seed, difference in enumerate(differences):
            for method, variant, top1 in (("glnet", "", 40.0 + difference), ("moco_v3", "resnet", 40.0)):
                records += make(method, "linear", {"top1": top1}, variant=variant, seed=seed, network=RESNET)
        every = assess(claim_files.load(suite()), Arms(records, suite()))
        return next(one for one in every if one.claim.id == CLAIM)

    command = f"python -m repro settle {CLAIM} --track mini --budget 3h"
    assert item([]).command == item([3.0, -3.0]).command == command
    decided = item([3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.1, 3.5, 3.2])
    assert decided.result == "holds" and decided.command == ""  # at equal compute, too: the same operations


def test_every_outcome_of_a_verdict_has_a_mark() -> None:
    outcomes = {
        *(verdicts.HOLDS, verdicts.OPPOSITE, verdicts.NO_DIFFERENCE, verdicts.UNDECIDED, verdicts.REPRODUCED),
        *(verdicts.ABOVE, verdicts.BELOW, verdicts.NOT_RUN, verdicts.INCOMPARABLE, verdicts.UNTESTABLE, verdicts.NONE),
    }
    assert outcomes == set(MARKS)  # above and below a stated number are neither yes nor no


def test_no_two_looks_share_a_shape_unless_they_mean_the_same() -> None:
    by_look: dict[str, set[str]] = {}
    for look, shape in MARKS.values():
        by_look.setdefault(look, set()).add(shape)
    shapes = [shape for found in by_look.values() for shape in found]
    assert len(shapes) == len(set(shapes))


def test_the_front_pages_table_has_a_row_for_each_claim_that_was_tested(make: Make) -> None:
    records: list[Record] = []
    for seed in range(3):
        for method, variant, top1 in (("glnet", "", 43.0), ("moco_v3", "resnet", 40.0)):
            records += make(method, "linear", {"top1": top1 + seed**2}, variant=variant, seed=seed, network=RESNET)
    text = front(records, claim_files.load(suite()), suite(), "claims.md")
    row, *rest = text.splitlines()[4:]
    assert row.startswith("| GLNet") and "](claims.md#glnet-imagenet-gain)" in row
    assert "| mini: linear probe on CIFAR-10, against moco_v3:resnet; " in row
    assert re.search(r"\*\*not decided yet\*\*: \+3\.0 points \(", row)
    assert rest[0] == "" and re.match(r"Not shown: \d+ not run\. The other claims state numbers", rest[1])
    assert re.match(r"From the abstracts .* derived \d+ comparisons .* epochs 1 not decided yet, \d+ not run\. ", text)
    assert "None of the comparisons was tested in the paper's own setting." in text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readme_tables, "MOST", 0)
        short = front(records, claim_files.load(suite()), suite(), "claims.md")
    assert "| GLNet" not in short and re.search(r"Not shown: 1 not decided yet, \d+ not run\. ", short)
    assert "None was tested yet." in front([], claim_files.load(suite()), suite(), "claims.md")


def test_a_short_table_on_the_front_page_leaves_no_paper_out(make: Make) -> None:
    """Two claims of one paper have three pairs, one of another two: each paper has a row before any has a second."""
    records: list[Record] = []
    for seed in range(3):
        for method, top1 in (("multi_network", 43.0), ("byol", 40.0), ("simsiam", 39.0)):
            records += make(method, "linear", {"top1": top1 + seed**2}, seed=seed, network=RESNET)
        for method, variant, top1 in (("glnet", "", 43.0), ("moco_v3", "resnet", 40.0)):
            if seed < 2:
                records += make(method, "linear", {"top1": top1 + seed}, variant=variant, seed=seed, network=RESNET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readme_tables, "MOST", 2)
        short = front(records, claim_files.load(suite()), suite(), "claims.md")
    assert [short.count(f"| {paper} ") for paper in ("Multi-network", "GLNet")] == [1, 1], short


def test_the_front_pages_table_says_once_that_the_runs_are_the_same(make: Make) -> None:
    """Equal operations at equal epochs: the second column repeats no number."""
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3]):
        for method, variant, top1 in (("glnet", "", 40.0 + difference), ("moco_v3", "resnet", 40.0)):
            records += make(method, "linear", {"top1": top1}, variant=variant, seed=seed, network=RESNET)
    row = front(records, claim_files.load(suite()), suite(), "claims.md").splitlines()[4]
    assert "**: +3.4 points (+3.1 to +3.8), 43.4 against 40.0, 6 pairs |" in row and "**: the same runs |" in row
