"""The table that ends a run: its rows, what they are held against, and the commands that make what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from untuned import suite

from leaderboards import boards, claim_files
from leaderboards.answers import answers, by_title
from leaderboards.arms import Arms
from leaderboards.claims import Claim
from leaderboards.controls import Controls
from leaderboards.summary import Summary, summarise
from leaderboards.verdict_table import verdict_table
from repro.cli.commands import request_of
from repro.cli.grammar import build_parser
from repro.plan import recipes, registry
from repro.results.control_commands import commands

Record = dict[str, Any]
Make = Callable[..., list[Record]]

DIGITS: dict[str, Any] = {"track": "embedded", "protocol": "embedded", "data": "digits"}


def network(method: str, track: str = "embedded") -> dict[str, Any]:
    return recipes.resolve(*registry.find(method), track, {})["network"]


def told(
    mine: Sequence[Record],
    here: Sequence[Record] = (),
    published: Sequence[Record] = (),
    claims: Sequence[Claim] = (),
) -> Summary:
    known = suite()
    return summarise(mine, claims, known, Controls([*mine, *here], published, known, claims))


def cells(said: Summary, job: str, method: str) -> list[str]:
    """The words of a row from its result on."""
    line = next(line for line in said.table.splitlines() if line.startswith(f"{job} ") and f" {method} " in line)
    return line.split(method, 1)[1].split()[1:]


def test_every_evaluation_has_a_row_and_the_table_fits_a_terminal(make: Make) -> None:
    records = make("aps", "knn", {"top1": 91.5}, **DIGITS) + make("aps", "reid", {"rank1": 60.0, "mAP": 50.0}, **DIGITS)
    records += make("aps", "detection", {"bbox_AP": 12.0, "segm_AP": 11.0}, **DIGITS)
    records += make("aps", "linear", {"top1": 95.0, "top1_10_per_class": 81.2}, **DIGITS)
    said = told(records, claims=claim_files.load(suite()))
    lines = said.table.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [
        "pretrain",
        "knn",
        "linear",
        "-",
        "detection",
        "segmentation",
        "reid",
    ]
    assert "paper's number" in lines[0] and cells(said, "knn", "aps")[:5] == ["top1", "91.5", "-", "-", "-"]
    assert cells(said, "- 10 labels", "aps")[:2] == ["top1", "81.2"] and "as above" in lines[5]
    for words in ("rank1 60.0, mAP 50.0", "bbox_AP 12.0", "segm_AP 11.0", "2.2 min", "900 MB"):  # 130 s of training
        assert words in said.table
    assert max(map(len, lines)) <= 120
    assert not any("paper" in line for line in said.lines), "no paper reports digits, which the run's last line says"


def test_a_result_stands_beside_the_same_network_untrained_and_raw_pixels(make: Make) -> None:
    vit = network("aps")
    mine = make("aps", "knn", {"top1": 46.0}, network=vit, **DIGITS)
    untrained = make("random", "knn", {"top1": 38.5}, variant="vit", network=vit, epochs=0, **DIGITS)
    other = make("random", "knn", {"top1": 66.0}, network=network("simclr"), epochs=0, **DIGITS)
    pixels = make("random", "knn", {"top1": 94.0}, variant="pixels", network=network("random:pixels"), **DIGITS)
    said = told(mine, [*untrained, *other, *pixels])
    assert cells(said, "knn", "aps")[:6] == ["top1", "46.0", "38.5", "(+7.5)", "94.0", "(-48.0)"]
    assert said.lacking == [] and not any("published" in line for line in said.lines)
    # the controls themselves are held against pixels alone
    assert cells(told([*mine, *untrained, *pixels]), "knn", "random:vit")[:5] == [
        "top1",
        "38.5",
        "-",
        "94.0",
        "(-55.5)",
    ]


def test_few_labels_are_held_against_few_labels(make: Make) -> None:
    vit = network("aps")
    mine = make("aps", "linear", {"top1": 62.0, "top1_10_per_class": 36.0}, network=vit, **DIGITS)
    metrics = {"top1": 63.5, "top1_10_per_class": 29.5}
    untrained = make("random", "linear", metrics, variant="vit", network=vit, **DIGITS)
    said = told(mine, untrained)
    assert cells(said, "linear", "aps")[:4] == ["top1", "62.0", "63.5", "(-1.5)"]
    assert cells(said, "- 10 labels", "aps")[:4] == ["top1", "36.0", "29.5", "(+6.5)"]


def test_a_published_control_counts_where_the_workspace_has_none_and_is_marked(make: Make) -> None:
    resnet = network("simclr")
    mine = make("simclr", "knn", {"top1": 80.0}, network=resnet, code="today", **DIGITS)
    old = make("random", "knn", {"top1": 66.0}, network=resnet, code="older", **DIGITS)
    new = make("random", "knn", {"top1": 67.0}, network=resnet, code="today", salt=1, **DIGITS)
    said = told(mine, published=old)
    assert cells(said, "knn", "simclr")[2:4] == ["66.0*", "(+14.0)"]
    assert any(line.startswith("* from the published records") for line in said.lines)
    assert cells(told(mine, new, old), "knn", "simclr")[2:4] == ["67.0", "(+13.0)"]


@pytest.mark.parametrize(
    "apart",
    [
        {"track": "mini"},
        {"data": "digit-like"},
        {"protocol_hash": "ffffffffffff"},
        {"network": {**network("simclr"), "width": 16}},
    ],
    ids=lambda apart: next(iter(apart)),
)
def test_a_control_of_other_pictures_protocol_or_network_does_not_count(make: Make, apart: dict[str, Any]) -> None:
    mine = make("simclr", "knn", {"top1": 80.0}, network=network("simclr"), **DIGITS)
    other = make("random", "knn", {"top1": 66.0}, **{**DIGITS, "network": network("simclr"), **apart})
    said = told(mine, other)
    assert cells(said, "knn", "simclr")[2] == "-" and [item.pixels for item in said.lacking] == [False, True]


def test_a_control_on_another_number_of_pictures_does_not_count(make: Make) -> None:
    resnet = network("simclr")
    mine, other = (make(method, "knn", {"top1": 70.0}, network=resnet, **DIGITS) for method in ("simclr", "random"))
    mine[1]["details"], other[1]["details"] = {"n_train": 4000}, {"n_train": 500}
    assert cells(told(mine, other), "knn", "simclr")[2] == "-"
    other[1]["details"] = {"n_train": 4000}
    assert cells(told(mine, other), "knn", "simclr")[2] == "70.0"


def test_keys_that_a_kind_of_network_does_not_have_set_nothing_apart(make: Make) -> None:
    """GLNet's recipe has a pool, which a ResNet has not; MoCo-v3 freezes patches, which shows in training alone."""
    for method, control in (("glnet", "random"), ("moco_v3", "random:vit")):
        name, _, variant = control.partition(":")
        mine = make(method, "knn", {"top1": 70.0}, network=network(method), **DIGITS)
        other = make(name, "knn", {"top1": 60.0}, variant=variant, network=network(control), **DIGITS)
        assert network(method) != network(control)
        assert cells(told(mine, other), "knn", method)[2:4] == ["60.0", "(+10.0)"]


MINI: dict[str, Any] = {"network": network("moco_v3", "mini"), "epochs": 13}


def test_a_result_stands_beside_its_baseline_and_the_line_below_names_it(make: Make) -> None:
    mine = make("aps", "linear", {"top1": 46.0, "top1_10_per_class": 20.0}, **MINI)
    theirs = make("moco_v3", "linear", {"top1": 44.5, "top1_10_per_class": 21.0}, **MINI)
    claims = claim_files.load(suite())
    said = told(mine, theirs, claims=claims)
    assert "baseline" in said.table.splitlines()[0] and max(map(len, said.table.splitlines())) <= 120
    assert cells(said, "linear", "aps")[2:6] == ["-", "-", "44.5", "(+1.5)"]
    assert cells(said, "- 10 labels", "aps")[2:6] == ["-", "-", "21.0", "(-1.0)"]
    assert "baseline of aps: moco_v3" in said.lines and said.lines[0].endswith("and the baseline")
    assert "baseline" not in told(mine, claims=claims).table  # no record of it: no column
    assert "baseline" not in told(mine, theirs).table  # no claim names one


def test_a_published_baseline_is_marked_and_what_it_has_otherwise_is_said(make: Make) -> None:
    claims = claim_files.load(suite())
    mine = make("aps", "linear", {"top1": 46.0}, **MINI)
    longer = make("moco_v3", "linear", {"top1": 48.0}, trials=2, **{**MINI, "epochs": 26})
    said = told(mine, published=longer, claims=claims)
    assert cells(said, "linear", "aps")[4:6] == ["48.0*", "(unequal)"]
    assert (
        "baseline of aps: moco_v3, unequal, so no fair comparison:"
        " aps 13 epochs and 0 tuning trials, moco_v3 26 epochs and 2 tuning trials" in said.lines
    )
    alike = make("moco_v3", "linear", {"top1": 44.0}, **MINI)
    both = told(mine, published=[*longer, *alike], claims=claims)
    assert cells(both, "linear", "aps")[4:6] == ["44.0*", "(+2.0)"]  # the one that was trained alike


def test_a_method_without_a_part_is_no_baseline(make: Make) -> None:
    same = {"network": network("aps"), "track": "embedded", "epochs": 13}
    mine = make("aps", "linear", {"top1": 73.0}, **same)
    part = make("aps", "linear", {"top1": 72.0}, variant="uniform", **same)
    other = make("moco_v3", "linear", {"top1": 70.0}, **{**same, "epochs": 26})  # the other one is trained alike
    said = told([*mine, *part, *other], claims=claim_files.load(suite()))
    start = "baseline of aps: moco_v3, unequal, so no fair comparison: aps 13 epochs"
    assert any(line.startswith(start) for line in said.lines)


def test_of_several_baselines_the_first_that_was_trained_alike_is_shown(make: Make) -> None:
    claims = claim_files.load(suite())
    resnet = {"network": network("multi_network", "mini"), "epochs": 4}
    mine = make("multi_network", "linear", {"top1": 50.0}, **resnet)
    byol = make("byol", "linear", {"top1": 47.0}, **{**resnet, "epochs": 8})
    simsiam = make("simsiam", "linear", {"top1": 41.0}, **resnet)
    assert cells(told(mine, byol, claims=claims), "linear", "multi_network")[4:6] == ["47.0", "(unequal)"]
    assert cells(told(mine, [*byol, *simsiam], claims=claims), "linear", "multi_network")[4:6] == ["41.0", "(+9.0)"]


@pytest.mark.parametrize(
    "apart",
    [
        {"track": "cifar"},
        {"data": "digit-like"},
        {"protocol_hash": "ffffffffffff"},
        {"network": {"arch": "vit", "dim": 64}},
    ],
    ids=lambda apart: next(iter(apart)),
)
def test_a_baseline_of_other_pictures_protocol_or_network_does_not_count(make: Make, apart: dict[str, Any]) -> None:
    mine = make("aps", "linear", {"top1": 46.0}, **MINI)
    other = make("moco_v3", "linear", {"top1": 44.0}, **{**MINI, **apart})
    assert "baseline" not in told(mine, other, claims=claim_files.load(suite())).table


def test_the_gain_is_over_the_seeds_of_the_result_where_the_control_has_them_else_over_all(make: Make) -> None:
    resnet = network("simclr")

    def of(method: str, *values: float) -> list[Record]:
        made = [make(method, "knn", {"top1": v}, seed=s, network=resnet, **DIGITS) for s, v in enumerate(values)]
        return [record for pair in made for record in pair]

    two, three = of("random", 60.0, 64.0), of("random", 60.0, 64.0, 80.0)
    assert "62.0 (+9.0)" in told(of("simclr", 70.0, 72.0), three).table  # of 71, over seeds 0 and 1
    assert "62.0 (+10.0)" in told(of("simclr", 70.0, 72.0, 74.0), two).table  # of 72, over what there is


def test_missing_controls_come_with_the_command_that_makes_them(make: Make) -> None:

    mine = [
        *make("aps", "knn", {"top1": 46.0}, seed=1, network=network("aps"), **DIGITS),
        *make("aps", "finetune", {"top1": 9.0}, seed=1, network=network("aps"), **DIGITS),
        *make("mae", "knn", {"top1": 46.0}, network=network("mae"), **DIGITS),
        *make("simclr", "knn", {"top1": 46.0}, network=network("simclr") | {"width": 4}, **DIGITS),
    ]
    found = commands(told(mine).lacking)
    assert [line for line in found if "pixels" in line and "finetune" in line] == []
    requests = [request_of(build_parser().parse_args(shlex.split(line)[3:])) for line in found]
    asked = {(request.methods, request.evaluations, request.seeds, request.overrides) for request in requests}
    assert asked == {
        (("random:vit",), ("knn", "finetune"), (1,), ()),
        (("random:pixels", "random:vit_mean"), ("knn",), (0, 1), ()),
        (("random",), ("knn",), (0,), ("network.width=4",)),
    }
    weights = {**mine[0], "kind": "import", "details": {**mine[0]["details"], "file": "theirs.pth"}}
    assert commands(told([weights, mine[1]]).lacking) == []  # nobody knows what they began from


def test_own_pictures_are_given_by_their_folder(make: Make) -> None:
    where = {"track": "mini", "protocol": "mini", "data": "folder:/home/me/my images"}
    mine = make("simclr", "knn", {"top1": 46.0}, network=network("simclr", "mini"), **where)
    (line,) = commands(told(mine).lacking)
    assert shlex.split(line)[4:] == [
        *("--method", "random", "random:pixels", "--track", "mini", "--eval", "knn"),
        *("--data", "/home/me/my images"),
    ]


def test_few_test_pictures_come_with_what_chance_may_do(make: Make) -> None:
    mine = make("simclr", "knn", {"top1": 50.0}, network=network("simclr"), **DIGITS)
    mine[1]["details"] = {"n_test": 40, "standard_error": 7.9}
    says = "knn: 40 test images (standard error 7.9 points); differences below 23.7 points may be chance"
    assert says in told(mine).lines
    mine[1]["details"] = {"n_test": 1000, "standard_error": 1.6}
    assert not any("standard error" in line for line in told(mine).lines)


def test_a_run_is_held_against_the_number_of_its_own_setting(make: Make) -> None:
    own: dict[str, Any] = {
        "track": "cifar",
        "data": "cifar100",
        "protocol": "aps",
        "protocol_hash": suite().protocols["finetune"]["aps"]["hash"],
        "epochs": 1600,
        "batch": 512,
        "network": {"arch": "vit", "dim": 192, "depth": 12, "heads": 3, "patch": 2},
    }
    known = claim_files.load(suite())

    def said(records: list[Record]) -> tuple[str, str]:
        found = told(records, claims=known)
        return " ".join(found.table.split()), "\n".join(found.lines)

    assert "83.4 %" in said(make("aps", "finetune", {"top1": 83.0}, **own))[0]
    # no number without its setting, but the direction may be tested there
    table, below = said(make("aps", "finetune", {"top1": 70.0}, **{**own, "epochs": 20}))
    assert "83.4" not in table
    assert "paper's numbers, aps: finetune: none, but the direction is tested on cifar" in below
    assert "paper" not in said(make("aps", "knn", {"top1": 70.0}, **own))[1]  # no claim, nothing to say
    assert "a baseline of" in said(make("moco_v3", "finetune", {"top1": 70.0}, **own))[1]


def test_claims_of_kind_number_on_no_track_are_never_held_against_anything(make: Make) -> None:
    claim = next(c for c in claim_files.load(suite()) if c.id == "triplet-voc-ap")
    claim = replace(claim, data="cifar10-jpeg", backbone="")
    said = told(make("truncated_triplet", "detection", {"bbox_AP": 50.0}), claims=[claim])
    assert "56.9" not in said.table


def test_the_keys_of_networks_are_those_that_the_networks_are_built_of() -> None:
    from methods.parts.encoders import RESNET_KEYS, VIT_KEYS

    assert set(suite().networks["resnet"]) == {"arch", *RESNET_KEYS}
    assert set(suite().networks["vit"]) == {"arch", *VIT_KEYS} - {"freeze_patches"}


def test_few_pictures_of_a_detector_are_rough_and_queries_are_named(make: Make) -> None:
    mine = make("aps", "detection", {"bbox_AP": 12.0, "segm_AP": 11.0}, **DIGITS)
    mine[1]["details"] = {"val": {"pictures": 40, "instances": 144}}
    reid = make("aps", "reid", {"rank1": 60.0, "mAP": 50.0}, **DIGITS)
    reid[1]["details"] = {"n_query": 300, "standard_error": 1.5}
    lines = told([*mine, *reid]).lines
    assert "detection and segmentation: 40 test images; treat the numbers as rough" in lines
    assert "reid: 300 queries (standard error 1.5 points); differences below 4.5 points may be chance" in lines


def test_a_claim_says_where_its_evaluation_hardly_tells_trained_from_untrained(make: Make) -> None:
    """The margin is 1.2 on mini, so gains of 2.4 points are asked for."""
    vit = network("aps", "mini")
    same: dict[str, Any] = {"network": vit, "track": "mini", "epochs": 13}
    claims = claim_files.load(suite())
    for gain, other, little in ((1.5, 2.0, True), (9.0, 2.0, False), (1.5, 10.0, False)):
        records = []
        for seed in (0, 1):
            records += make("random", "finetune", {"top1": 34.0}, variant="vit", seed=seed, **{**same, "epochs": 0})
            records += make("aps", "finetune", {"top1": 34.0 + gain}, seed=seed, **same)
            records += make("moco_v3", "finetune", {"top1": 34.0 + other}, seed=seed, **same)
        content = boards.compose(Arms(records, suite()), claims, lambda record: "x")
        (item,) = (one for one in content.assessments if one.claim.id == "aps-cifar100-finetune-gain")
        (found,) = content.learnt(item)
        line = found.words
        assert line.startswith(
            f"points above the same network untrained on mini: aps +{gain:.1f}, moco_v3 +{other:.1f}"
        )
        assert ("hardly tells trained networks from untrained ones" in line) is little
        table, _ = verdict_table(by_title(answers(content.papers)), "claims.md", content.warnings())
        assert ("weak test: pre-training adds only 2.0 points" in table) is little
