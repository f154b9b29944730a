"""The first screen: one line a claim, in words and shapes that can be told apart without colour."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest
from untuned import suite

from leaderboards import boards, claim_files, forests, front_page, pictures, readme_tables, report_rows, verdicts
from leaderboards.answers import MARKS, NOT_TESTED, Answer, answers, at_a_glance, by_title, scale
from leaderboards.arms import Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.claims import arm_name
from leaderboards.outcomes import outcomes
from leaderboards.verdict_table import beside_words, verdict_table

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
    assert (
        answer.tested
        == "mini: linear probe on CIFAR-10, against moco_v3:resnet; only whether it is better, not by how much"
    )
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


def test_equal_compute_of_other_runs_is_drawn_below_with_a_square(make: Make) -> None:
    """The baseline at twice the epochs has as many operations: there the method is behind, left of 0."""
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3]):
        for method, variant, top1, epochs in (
            ("glnet", "", 40.0 + difference, 4),
            ("moco_v3", "resnet", 40.0, 4),
            ("moco_v3", "resnet", 42.0 + 2 * difference, 8),
        ):
            flops = 2e13 if method == "glnet" else 5e12 * epochs / 2
            of: dict[str, Any] = {"variant": variant, "epochs": epochs, "cost": {"flops": flops}}
            records += make(method, "linear", {"top1": top1}, seed=seed, network=RESNET, **of)
    answer = alone(records)
    assert answer.epochs is not None and answer.compute is not None and not answer.compute.same_runs
    assert answer.drawn == [answer.epochs, answer.compute]
    drawn = forests.forest(answer, 7.0)
    assert drawn is not None and drawn.body.count("<circle") == drawn.body.count("<polygon") == 1
    assert re.search(r"^\+3\.4 points, interval .*; the paper states \+2\.4; equal compute: -5\.4 points, ", drawn.said)
    axis = ElementTree.fromstring(forests.axis(7.0).svg())
    ends = {text.text: float(text.get("x", "nan")) for text in axis.iter() if text.tag.endswith("text")}
    (corners,) = re.findall(r'<polygon[^>]*points="([^"]+)"', drawn.body)
    across = [float(corner.split(",")[0]) for corner in corners.split()]
    share = (sum(across) / 4 - ends["0"]) / (ends["+7"] - ends["0"])
    assert abs(share + (2.0 + 20.6 / 6) / 7) < 0.01


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
    assert answer.beside[0].words.startswith("on cifar: opposite, -3.4 points, 6 pairs") and not answer.own
    counted = outcomes([answer])
    assert counted.words == ["holds"]
    assert counted.rows == [("accuracy, equal epochs", 1, [1]), ("accuracy, equal compute", 1, [1])]
    assert "None of them was tested in the paper's own setting." in counted.about
    assert " 1 of them was tested in the paper's own setting." in outcomes([replace(answer, own=True)]).about


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
    assert outcomes | {NOT_TESTED} == set(MARKS)  # above and below a stated number are neither yes nor no


def test_no_two_looks_share_a_shape_unless_they_mean_the_same() -> None:
    by_look: dict[str, set[str]] = {}
    for look, shape in MARKS.values():
        by_look.setdefault(look, set()).add(shape)
    shapes = [shape for found in by_look.values() for shape in found]
    assert len(shapes) == len(set(shapes))


def made(make: Make, *sides: tuple[str, str, list[float]]) -> list[Record]:
    """Records of linear probes: method, variant and the accuracy by seed."""
    return [
        record
        for method, variant, values in sides
        for seed, top1 in enumerate(values)
        for record in make(method, "linear", {"top1": top1}, variant=variant, seed=seed, network=RESNET)
    ]


def page(records: list[Record]) -> str:
    return front_page.front(records, claim_files.load(suite()), suite(), "claims.md", "mini")


def test_the_front_pages_table_has_a_row_for_each_claim_that_was_tested(make: Make) -> None:
    text = page(made(make, ("glnet", "", [43.0, 44.0, 47.0]), ("moco_v3", "resnet", [40.0, 41.0, 44.5])))
    counted, about, drawn, said = text.split("\n\n")
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in counted.splitlines()[2:]] == [
        ["accuracy, equal epochs", "25", "1", "24"],
        ["accuracy, equal compute", "24", "1", "23"],  # the same runs
        ["cost", "7", "-", "7"],
    ]
    assert "None of them was tested in the paper's own setting." in about
    (head, _, row), (rest, learnt) = drawn.splitlines(), said.splitlines()
    assert learnt == (
        "* Accuracy of a linear probe on mini (3 seeds, each method at its recipe's length). ResNet-18: methods 44.7."
    )
    assert head.startswith("| paper ") and "| what was tested (on mini) " in head
    assert row.startswith("| GLNet ") and "| [better than MoCo-v3](claims.md#glnet-imagenet-gain), linear probe " in row
    assert re.search(r"\| \*\*not decided yet\*\* \+2\.8 \(.* to .*\), 3 pairs \| ", row)
    assert rest.startswith("* Not in the table: 31 not run, claims that state a number, and claims that cannot be ")
    assert page([]) == "No comparison was tested yet."


def test_the_front_page_says_how_far_networks_get_untrained_and_with_labels(make: Make) -> None:
    pixels = make("random", "linear", {"top1": 36.0}, variant="pixels", network={"arch": "pixels"})
    text = page(
        [
            *made(make, ("random", "", [33.0, 34.0]), ("supervised", "", [57.0]), ("simclr", "", [44.0])),
            *made(make, ("byol", "", [42.0])),
            *pixels,
        ]
    )
    assert "Accuracy of a linear probe on mini (1 to 2 seeds, each method at its recipe's length). " in text
    assert " ResNet-18: untrained 33.5, methods 42.0 to 44.0, with labels 57.0; raw pixels 36.0." in text


def titled(records: list[Record]) -> dict[str, Sequence[Answer]]:
    """The answers by what the papers call their methods."""
    papers = boards.compose(Arms(records, suite()), claim_files.load(suite()), lambda record: "x").papers
    return by_title(answers(papers))


def table(records: list[Record]) -> tuple[str, str]:
    """That of the index, with what stands below it."""
    return verdict_table(titled(records), "claims.md")


def test_a_single_pair_has_no_row_in_the_index_but_is_counted(make: Make) -> None:
    assert table([]) == ("", "")
    drawn, rest = table(made(make, ("glnet", "", [43.0]), ("moco_v3", "resnet", [40.0])))
    assert drawn == "" and rest.startswith("Not in the table: 1 not decided yet, 31 not run, claims ")


def test_the_front_page_shows_what_is_decided_and_of_each_paper_one_row(make: Make) -> None:
    """Over BYOL it is decided, over SimSiam it is not: only the index has both. GLNet has nothing else."""
    rise = [3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.5, 3.1, 3.6]
    records = made(
        make,
        ("multi_network", "", [43.0 + more for more in rise]),
        ("byol", "", [40.0] * 10),
        ("simsiam", "", [39.0, 48.0]),
        ("glnet", "", [43.0, 42.0]),
        ("moco_v3", "resnet", [40.0, 41.0]),
    )
    text = page(records)
    assert "(claims.md#multi_network-cifar10-byol)†, linear probe" in text and "glnet-imagenet-gain" in text
    assert "multi_network-cifar10-simsiam" not in text and "Not in the table: 1 not decided yet, 29 not run, " in text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_page, "MOST", 1)
        assert page(records).count("), linear probe") == 1
    drawn, _ = table(records)
    assert all(f"#{name})" in drawn for name in ("multi_network-cifar10-simsiam", "glnet-imagenet-gain"))


def test_equal_compute_before_equal_epochs_is_decided_is_not_tested(make: Make) -> None:
    """Its pairs are there: they are shown without a verdict, and not drawn, as they have no interval."""
    records: list[Record] = []
    for seed, difference in enumerate([1.0, -1.0, 0.5]):
        for method, variant, ahead, epochs, flops in (
            ("glnet", "", difference, 4, 2e13),
            ("moco_v3", "resnet", 0.0, 4, 1e13),
            ("moco_v3", "resnet", 0.5, 8, 2e13),
        ):
            of: dict[str, Any] = {"variant": variant, "epochs": epochs, "cost": {"flops": flops}}
            records += make(method, "linear", {"top1": 40.0 + ahead}, seed=seed, network=RESNET, **of)
    answer = alone(records)
    assert answer.compute is not None and answer.compute.word == NOT_TESTED and answer.compute.pairs == "3 pairs"
    assert answer.drawn == [answer.epochs]
    drawn = forests.forest(answer, 5.0)
    assert drawn is not None and "one pair" not in drawn.body
    assert "**waits for equal epochs** -0.3, 3 pairs" in page(records)


def test_sides_that_cannot_be_compared_at_equal_compute_say_why(make: Make) -> None:
    """The longer baseline had fewer trials, which may be why it is worse: the reason stands in place of a number."""
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.2]):
        for method, variant, top1, epochs, flops, trials in (
            ("glnet", "", 40.0 + difference, 4, 2e13, 4),
            ("moco_v3", "resnet", 40.0, 4, 1e13, 4),
            ("moco_v3", "resnet", 41.0, 8, 2e13, 1),
        ):
            of: dict[str, Any] = {"variant": variant, "epochs": epochs, "trials": trials, "cost": {"flops": flops}}
            records += make(method, "linear", {"top1": top1}, seed=seed, network=RESNET, **of)
    answer = alone(records)
    assert answer.epochs is not None and answer.epochs.word == "holds" and answer.compute is not None
    assert (answer.compute.word, answer.compute.look, answer.compute.mean) == ("incomparable", "none", None)
    assert "tuning trials" in answer.compute.n and answer.drawn == [answer.epochs]
    (row,) = (line for line in page(records).splitlines() if line.startswith("| GLNet"))
    assert "**incomparable**" in row and "tuning trials" in row


def test_a_glance_groups_a_papers_answers_by_outcome(make: Make) -> None:
    """What is decided stands in words, with equal compute where that differs; the rest is counted."""
    rise = [3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.5]
    records = made(
        make,
        ("multi_network", "", [43.0 + more for more in rise]),
        ("byol", "", [40.0] * 8),
        ("simsiam", "", [39.0, 39.5]),
    )
    for seed, more in enumerate(rise):  # half the epochs, but as many operations: there the method is behind
        of: dict[str, Any] = {"epochs": 8, "network": RESNET, "seed": seed, "cost": {"flops": 2e13}}
        records += make("byol", "linear", {"top1": 50.0 + more / 10}, **of)
    for record in records:
        if record["kind"] == "pretrain" and record["method"] == "multi_network":
            record["cost"]["flops"] = 2e13
    (holds, words), (still, some), (idle, rest) = at_a_glance(titled(records)["Multi-network"])
    assert (holds.word, still.word, idle.word) == ("holds", "not decided yet", "not run")
    assert re.fullmatch(r"better than BYOL \(\+6\.4; at equal compute opposite, -3\.\d\)", words)
    assert some == "1" and int(rest) > 3


def test_an_answer_gives_the_commands_that_run_its_sides_again(make: Make) -> None:
    """Of the first seed, by --set where the epochs are not those of the recipe."""
    usual = suite().recipe("moco_v3:resnet", "mini")["pretrain"]["epochs"]
    records: list[Record] = []
    for seed in range(2):
        for method, variant in (("glnet", ""), ("moco_v3", "resnet")):
            network = suite().recipe(arm_name(method, variant), "mini")["network"]
            records += make(method, "linear", {"top1": 40.0}, variant=variant, seed=seed, network=network)
    assert usual != 16  # the epochs of made-up records
    assert report_rows.again(alone(records), suite()) == [
        (name, f"python -m repro run --method {name} --track mini --seed 0 --eval linear --set pretrain.epochs=16")
        for name in ("glnet", "moco_v3:resnet")
    ]
    assert report_rows.again(alone([]), suite()) == []
    old = made(make, ("glnet", "", [43.0]), ("moco_v3", "resnet", [40.0]))  # of another network than today's recipes
    assert report_rows.again(alone(old), suite()) == []


def test_a_row_says_once_that_the_runs_are_the_same_and_what_they_cost(make: Make) -> None:
    """About equal operations at equal epochs: the column of equal compute repeats no number."""
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.2]):
        for method, variant, top1, flops in (
            ("glnet", "", 40.0 + difference, 1.05e13),
            ("moco_v3", "resnet", 40.0, 1e13),
        ):
            of: dict[str, Any] = {"variant": variant, "seed": seed, "network": RESNET, "cost": {"flops": flops}}
            records += make(method, "linear", {"top1": top1}, **of)
    (row,) = (line for line in page(records).splitlines() if line.startswith("| GLNet"))
    assert re.search(
        r"\| \*\*holds\*\* \+3\.4 \(\+3\.1 to \+3\.7\), 8 pairs +\| \*\*holds\*\*, the same runs +\| 1\.05 +\|$", row
    )


def test_a_claim_on_cost_has_its_verdict_in_the_column_of_costs(make: Make) -> None:
    records = [
        record
        for method, flops in (("aps", 8e12), ("moco_v3", 1e13))
        for record in make(method, "pretrain", {}, cost={"flops": flops, "flops_per_image": flops / 1e3})
    ]
    (row,) = (line for line in page(records).splitlines() if "(claims.md#aps-compute)" in line)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2].startswith("**holds** 0.80 times") and cells[3] == ""
    assert cells[1] == "[fewer operations than MoCo-v3 (baseline: our choice)](claims.md#aps-compute)"


def test_the_front_page_says_what_the_papers_own_form_reaches(make: Make) -> None:
    rise = [3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.5]
    records = made(
        make,
        ("multi_network", "", [43.0 + more for more in rise]),
        ("multi_network", "t1", [40.0 - more for more in rise]),
        ("byol", "", [40.0] * 8),
        ("simsiam", "", [39.0, 39.5]),
    )
    own = "1 comparison of accuracy holds with a recipe unlike the paper's (†); with the paper's, it does not."
    assert own in page(records)
    (line,) = beside_words(titled(records))
    assert line.startswith("† Multi-network, the paper's temperature (t1) in place of our recipe's: ")
    assert "**opposite**: better than BYOL (-3.4, 8 pairs)" in line
    assert re.search(r"\*\*not decided yet\*\*: better than SimSiam \(-2\.\d, 2 pairs\)", line)


def test_another_track_is_named_with_its_paper_and_is_no_form_of_the_paper(make: Make) -> None:
    own = {"arch": "resnet", "depth": 50, "width": 64}
    records: list[Record] = []
    for seed, difference in enumerate([3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.2]):
        for method, variant, ahead in (("glnet", "", difference), ("moco_v3", "resnet", 0.0)):
            of: dict[str, Any] = {"variant": variant, "seed": seed}
            records += make(method, "linear", {"top1": 40.0 + ahead}, network=RESNET, **of)
            records += make(method, "linear", {"top1": 40.0 - ahead}, network=own, track="cifar", epochs=200, **of)
    (line,) = beside_words(titled(records))
    assert line.startswith("GLNet, on cifar: **opposite**: better than MoCo-v3 (-3.4, 8 pairs)")
    drawn = forests.verdicts(titled(records))
    assert drawn is not None and "<polygon" not in drawn.body and " on mini, " in drawn.body


def test_a_page_says_what_parts_add_where_that_is_decided(make: Make) -> None:
    rise = [3.0, 3.5, 4.0, 3.2, 3.6, 3.3, 3.4, 3.5]
    records = made(
        make,
        ("glnet", "", [43.0 + more for more in rise]),
        ("glnet", "no_location", [40.0] * 8),
        ("glnet", "random_labels", [40.0, 50.0]),
    )
    said = readme_tables.parts_verdicts(records, claim_files.load(suite()), suite(), "mini")
    (row,) = said.splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["GLNet", "the location loss", "`glnet` against `glnet:no_location`"]
    assert cells[3] == "**holds** +6.4 (+6.2 to +6.7), 8 pairs"


def test_every_claim_of_the_front_page_has_a_short_title() -> None:
    papers: dict[str, list[Assessment]] = {}
    for item in assess(claim_files.load(suite()), Arms([], suite())):
        papers.setdefault(item.claim.paper, []).append(item)
    for answer in (answer for found in answers(papers).values() for answer in found):
        assert 0 < len(answer.claim.short) <= 50, answer.claim.id


def test_the_picture_of_verdicts_has_a_line_for_each_basis_and_for_the_papers_own_form(make: Make) -> None:
    """Multi-network over BYOL: equal epochs and the paper's temperature; the single pair over SimSiam is not drawn."""
    rise = [3.0, 3.5, 4.0]
    records = made(
        make,
        ("multi_network", "", [43.0 + more for more in rise]),
        ("multi_network", "t1", [40.0 - more for more in rise]),
        ("byol", "", [40.0] * 3),
        ("simsiam", "", [39.0]),
    )
    content = boards.compose(Arms(records, suite()), claim_files.load(suite()), lambda record: "x")
    drawn = forests.verdicts(by_title(answers(content.papers)))
    assert drawn is not None and drawn.said.startswith("1 comparison:")
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", drawn.body)
    assert "Multi-network" in texts and "better than BYOL, linear probe" in texts
    assert "not decided yet +6.5, the same runs at equal compute" in texts
    assert any("temperature: not decided yet -3.5" in text for text in texts)
    assert not any("SimSiam" in text for text in texts)
    marks = re.findall(r'<(circle|polygon) class="mark k(\d)"', drawn.body)
    assert marks == [("circle", "0"), ("polygon", "2")]  # a triangle
    left, right = (
        float(x) for x in re.findall(r'<path class="line thick k2" d="M([\d.]+) [\d.]+H([\d.]+)"', drawn.body)[0]
    )
    assert left < right < 330 / 2  # below 0, in the middle of the axis
    assert forests.verdicts({}) is None and "two pairs yet." in pictures.verdicts(replace(content, papers={}))


def test_the_picture_of_verdicts_names_the_papers_own_form_once(make: Make) -> None:
    """Its line at equal compute says `same` only below its line at equal epochs."""
    records = made(
        make, ("multi_network", "", [43.0, 43.5]), ("multi_network", "t1", [40.0, 39.0]), ("byol", "", [40.0] * 2)
    )
    answer, *_ = titled(records)["Multi-network"]
    for beside, head in ((answer.beside, "same"), ((), "paper's temperature")):
        drawn = forests.verdicts({"Multi-network": [replace(answer, beside=beside, beside_compute=answer.beside)]})
        assert drawn is not None and f">{head}, equal compute: not decided yet -" in unescape(drawn.body)
