"""Claims as data: the schema, what must be there, and the numbers against the reference table."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboards import claim_files, claims
from leaderboards.references import Reference, read, references
from leaderboards.suite import Evaluation, Suite
from leaderboards.unknown_names import UnknownName
from repro.results.suite import suite

GOOD = {
    "id": '"x-gain"',
    "statement": '"X is better."',
    "kind": '"gain"',
    "method": '"x"',
    "baseline": '"y"',
    "evaluation": '"linear"',
    "metric": '"top1"',
    "data": '"cifar10"',
    "value": "2.0",
    "unit": '"points"',
    "source": '"abstract"',
    "verified": '"abstract"',
    "track": '"cifar"',
    "margin": "0.5",
    "family": '"x"',
    "unknown": '["protocol", "backbone", "epochs", "batch"]',
}


def write(folder: Path, *tables: dict[str, str], name: str = "x.toml") -> Path:
    text = 'citation = "X"\n'
    for table in tables:
        text += "[[claim]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
    (folder / name).write_text(text)
    return folder


NAMED = ("triplet-over_clustering", "triplet-under_clustering", "aps-selective")


def test_the_claims_of_the_abstracts_are_there() -> None:
    found = {claim.id: claim for claim in claim_files.load(suite())}

    gain = found["glnet-imagenet-gain"]
    assert (gain.kind, gain.value, gain.baseline, gain.data) == ("gain", 2.4, "moco_v3", "imagenet")
    assert found["glnet-imagenet100-gain"].value == 2.0
    time = found["glnet-imagenet100-time"]
    assert (time.kind, time.value, time.data) == ("cost_ratio", 0.75, "imagenet100")

    against = {(c.data, c.baseline) for c in found.values() if c.method == "multi_network" and c.kind == "direction"}
    baselines = ("byol", "simsiam", "moco_v2", "simclr", "nnclr", "fast_moco")
    assert against == {(data, b) for data in ("cifar10", "cifar100", "tiny_imagenet") for b in baselines}

    of_papers = [claim for claim in found.values() if claim.kind != claims.MECHANISM]
    assert {c.baseline for c in of_papers if c.method == "rotation_aux"} == {"byol", "simsiam", "swav"}
    assert found["rotation_aux-byol-fewer-epochs"].lengths["mini"] == (8, 24)
    assert {c.baseline_arm for c in of_papers if c.method == "glnet"} >= {"glnet:no_location", "byol", "simsiam"}
    over, under, selective = (found[name].baseline_arm for name in NAMED)
    assert (over, under) == ("truncated_triplet:hardest", "truncated_triplet:few_negatives")
    assert selective == "aps:uniform"
    speeds = {(c.paper, c.metric) for c in of_papers if claims.of_learning(c)}
    assert {paper for paper, _ in speeds} == {"glnet", "multi_network", "rotation_aux", "truncated_triplet"}

    assert found["triplet-imagenet-r50-long"].value == 75.9
    assert found["triplet-sysu30k-rank1"].value == 14.8
    assert {found[f"triplet-coco-{name}"].metric for name in ("detection", "segmentation")} == {"bbox_AP", "segm_AP"}

    finetune = found["aps-cifar100-finetune-gain"]
    assert (finetune.value, finetune.evaluation, finetune.data) == (2.5, "finetune", "cifar100")
    assert {found[f"aps-coco-{name}"].evaluation for name in ("detection", "segmentation")} == {
        "detection",
        "segmentation",
    }
    assert all(found[name].better == "lower" for name in ("aps-memory", "aps-compute"))
    assert all(
        found[name].verified == "abstract"
        for name in ("glnet-imagenet-gain", "glnet-imagenet100-time", "aps-memory", "aps-cifar100-finetune-gain")
    )


def test_every_number_of_the_five_papers_is_a_claim() -> None:
    """Rows of references.csv that are no baseline's, but for those with a reason."""
    left_out = {
        "r017": "attributed to the method by inference only",
        "r002": "a gain",
        "r003": "a ratio",
        "r004": "a gain",
        "r033": "a gain",
    }
    own = {
        row.id
        for row in references()
        if not row.baseline and row.method in ("glnet", "multi_network", "truncated_triplet", "aps")
    }
    claimed = {row for claim in claim_files.load(suite()) if claim.kind == "number" for row in claim.references}
    assert own - set(left_out) == claimed
    gains = {row for claim in claim_files.load(suite()) if claim.kind != "number" for row in claim.references}
    assert {"r002", "r003", "r004", "r033"} <= gains


def test_numbers_are_those_of_the_reference_table() -> None:
    rows = {row.id: row for row in references()}
    for claim in claim_files.load(suite()):
        named = [rows[row] for row in claim.references]
        if claim.kind == "number":
            (row,) = named
            assert row.value == claim.value, claim.id
            assert (row.method, row.evaluation, row.data) == (claim.method, claim.evaluation, claim.data), claim.id
            assert row.metric == claim.metric.removesuffix("_best_on_test"), claim.id
            assert row.backbone == claim.backbone, claim.id
            assert row.verified == claim.verified, claim.id
            if row.epochs and claim.epochs:
                assert row.epochs == "-".join(map(str, dict.fromkeys(claim.epochs))), claim.id
        elif claim.value is not None and len(named) >= 2:
            ours, theirs = named[-2:]  # a gain is the difference of the last two rows
            assert (ours.method, theirs.method) == (claim.method, claim.baseline), claim.id
            assert ours.value - theirs.value == pytest.approx(claim.value, abs=1e-9), claim.id


def test_reference_table_is_merged_and_marks_conflicts() -> None:
    rows = references()
    by_id = {row.id: row for row in rows}
    assert len(by_id) == len(rows) > 600
    place = ("method", "setting", "backbone", "pretrain_data", "epochs", "batch", "evaluation", "data", "metric")
    seen = Counter(tuple(getattr(row, key) for key in (*place, "value")) for row in rows)
    assert [key for key, count in seen.items() if count > 1] == []
    for row in rows:
        for other in row.conflicts:
            assert by_id[other].value != row.value
            assert row.id in by_id[other].conflicts
            assert (by_id[other].method, by_id[other].metric, by_id[other].data) == (row.method, row.metric, row.data)
    byol = [row for row in rows if (row.method, row.backbone, row.epochs) == ("byol", "ResNet-50", "200")]
    linear = {row.value: row.conflicts for row in byol if row.evaluation == "linear"}
    for value in (71.5, 71.8, 70.6):  # three sources, three values
        assert len(linear[value]) == 2
    assert linear[71.61] == ()  # another protocol: features of a middle layer
    assert {row.verified for row in rows} == {"read", "recalled"}


# ------------------------------------------------------------------------------- against the tables that were collected

Row = dict[str, str]

_DATA = {
    **{"": "", "ImageNet-1k": "imagenet", "ImageNet-100": "imagenet100", "Imagenette": "imagenette"},
    **{"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "Tiny-ImageNet": "tiny_imagenet", "Oxford Pets": "pets"},
    **{"COCO 2017": "coco2017", "COCO val2017": "coco2017", "VOC 07+12": "voc0712", "VOC07 test": "voc0712"},
    **{"VOC 2012+aug": "voc2012aug", "SYSU-30k": "sysu30k", "SYSU-30k test": "sysu30k", "Market-1501": "market1501"},
    "Flowers-102": "flowers102",
}
_METHODS = {
    **{"mnclglf": "multi_network", "random_init": "random", "rotnet": "rotation_pred", "instloc": "insloc"},
    **{"barlowtwins": "barlow_twins", "moco_v2+": "moco_v2plus", "simsiam_base": "simsiam"},
    **{"simsiam_optimal": "simsiam", "supervised_torchvision": "supervised"},
}
FIVE = ("glnet", "multi_network", "rotation_aux", "truncated_triplet", "aps")


@pytest.fixture(scope="module")
def collected() -> list[Row]:
    """The rows of the collected tables, which are no part of the repository."""
    folder = Path(os.environ.get("REPRO_REFERENCES", Path(__file__).parents[3] / "shared" / "papers"))
    paths = sorted(folder.glob("reference_values_part*.csv"))
    if not paths:
        pytest.skip(f"no reference_values_part*.csv in {folder}; REPRO_REFERENCES may name their folder")
    return [row for path in paths for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def place_of(row: Row) -> tuple[str, ...]:
    """Method, evaluation, data, metric, network and data of pre-training, in the words of references.csv."""
    told_by_paper = row["method"] in FIVE  # then the variant holds the method
    name = row["variant"] if told_by_paper else row["method"]
    if row["method"] == "truncated_triplet" and (name == "MoCo" or name.startswith("MoCo r50_v1")):
        name = "moco_v1"
    name = re.sub(r"( base method| r50|\(|,| \+ | single| multi).*", "", name).strip().lower()
    name = name.replace(" ", "_").replace("-", "_")
    if re.match("truncated|median|unnamed", name):
        name = "truncated_triplet"
    name = "aps" if name.startswith("aps") else _METHODS.get(name, name)
    kind, metric = row["eval"], row["metric"]
    if "mask" in metric.lower():
        kind, metric = "segmentation", f"segm_{re.findall('AP[0-9]*', metric)[0]}"
    elif "R-CNN" in kind or kind == "detection":
        kind, metric = "detection", f"bbox_{re.findall('AP[0-9]*', metric)[0]}"
    elif kind.startswith("FCN"):
        kind = "semantic_segmentation"
    kind = {"person re-id retrieval": "reid", "training time": "cost"}.get(kind, kind.split()[0])
    metric = {"delta_top1": "top1_gain", "top1 gain": "top1_gain"}.get(metric, metric.replace("Rank-", "rank"))
    network = re.sub("ViT-(T|S|B)(iny|mall|ase)", r"ViT-\1", row["backbone"])
    return name, kind, _DATA[row["eval_dataset"]], metric, network, _DATA[row["pretrain_dataset"]]


def sources_of(text: str) -> set[str]:
    """Repositories, arXiv numbers and whether it is from memory: what tells one source from another."""
    text = text.replace("docs.lightly.ai", "lightly-ai/lightly ").replace("recalled from", "from memory")
    return set(re.findall(r"[\w-]+/[\w-]+(?= )|\d{4}\.\d{5}|10\.1109|from memory", text + " "))


def rows_of(row: Row, table: list[Reference]) -> list[Reference]:
    """The rows of references.csv in which a collected row is found again: same place, value, schedule and source."""
    exact = 1e-9 if row["variant"] == "approximate" else 0.05 + 1e-9  # sources round, and duplicates are merged
    found = []
    for one in table:
        place = (one.method, one.evaluation, one.data, one.metric, one.backbone, one.pretrain_data)
        schedule = ((one.epochs, row["pretrain_epochs"]), (one.batch, row["batch_size"]))
        if (
            place == place_of(row)
            and abs(one.value - float(row["value"])) <= exact
            and all(mine == theirs or not (mine and theirs) for mine, theirs in schedule)
            and sources_of(one.source) & sources_of(row["source"])
            and one.baseline == (row["is_baseline"] == "1")
            # a recalled number may have been merged with one that was read, never the other way round
            and (one.verified == "read" or row["verified"] == "no")
            and (one.verified == "recalled" or row["verified"] == "yes" or len(sources_of(one.source)) > 1)
        ):
            found.append(one)
    return found


@pytest.mark.seconds
def test_reference_table_holds_every_collected_row_and_no_other(collected: list[Row]) -> None:
    table = references()
    found = [rows_of(row, table) for row in collected]
    assert len(collected) > 700
    assert [row for row, rows in zip(collected, found, strict=True) if not rows] == []
    assert {one.id for one in table} == {one.id for rows in found for one in rows}


def test_every_collected_number_of_the_five_papers_is_claimed(collected: list[Row]) -> None:
    table = references()
    claimed = {row for claim in claim_files.load(suite()) for row in claim.references}
    own = [row for row in collected if row["is_baseline"] == "0" and place_of(row)[0] in FIVE]
    left = [row for row in own if not claimed & {one.id for one in rows_of(row, table)}]
    assert len(own) > 30
    assert ["unnamed" in row["variant"] for row in left] == [True]  # attributed to the triplet by inference only
    assert not [row for row in own if place_of(row)[0] == "rotation_aux"]  # no number of that paper could be read


@pytest.mark.processes
def test_first_import_is_light() -> None:
    code = (
        "import sys; from leaderboards import arms, boards, claim_files, plots, published, summary, verdicts;"
        "from repro.results.suite import suite; claim_files.load(suite());"
        "heavy = {'torch', 'pandas', 'scipy', 'numpy', 'matplotlib', 'tabulate', 'statsmodels'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_good_claim_loads(tmp_path: Path) -> None:
    more = {"epochs": "[7, 9]", "unknown": '["protocol", "backbone", "batch"]', "changes": "{ linear = { lr = 0.1 } }"}
    write(tmp_path, {**GOOD, **more, "proxies": "{ mini = 1.0 }", "references": '["r001"]'})
    (claim,) = claim_files.load(suite(), tmp_path)
    assert claim.changes == {"linear": {"lr": 0.1}} and claim.unknown == ("protocol", "backbone", "batch")
    assert claim.epochs == (7, 9)
    assert claim.proxies == {"mini": 1.0}
    assert claim.stated == "+2 points over y"
    assert claims.tracks_of(claim) == ("mini", "cifar")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metrik": '"top1"'}, "unknown key 'metrik'; did you mean 'metric'?"),
        ({"kind": '"gian"'}, "unknown kind 'gian'; did you mean 'gain'?"),
        ({"evaluation": '"liner"'}, "unknown evaluation 'liner'; did you mean 'linear'?"),
        ({"track": '"cifra"'}, "unknown track 'cifra'; did you mean 'cifar'?"),
        ({"verified": '"red"'}, "unknown verified 'red'; did you mean 'read'?"),
        ({"value": '"2.0"'}, "value = '2.0' must be a finite number"),
        ({"n": "3"}, "unknown key 'n'"),
        ({"proxies": "{ mini = 0.5 }", "proxy_epochs": "{ mini = 0 }"}, "proxy_epochs.mini = 0 must be a whole number"),
        ({"proxies": "{ mini = 0.5 }", "proxy_epochs": "{ mini = 2.0 }"}, "= 2.0 must be a whole number from 1"),
        ({"proxy_epochs": "{ mini = 9 }"}, "proxy_epochs: unknown track of its proxies 'mini'"),
        ({"margin": "1.5"}, "margin 1.5 on cifar is more than half of the claimed 2"),
        ({"margin": "0"}, "margin = 0 must be a finite number above 0"),
        ({"proxies": "{ mini = 0 }"}, "proxies.mini = 0 must be a finite number above 0"),
        ({"baseline": '"x"'}, "it compares x with itself"),
        ({"margin": "inf"}, "margin = inf must be a finite number above 0"),
        ({"value": "nan"}, "value = nan must be a finite number"),
        ({"epochs": "-1"}, "epochs = [-1, -1] must be a whole number from 1"),
        ({"batch": "-1"}, "batch = -1 must be a whole number from 1"),
        ({"method": '"a b"'}, "method = 'a b' must be of letters, digits, _, . and -"),
        ({"proxies": "{ mini = true }"}, "proxies.mini = True must be a finite number above 0"),
        ({"proxies": "{ mini = 1.5 }"}, "margin 1.5 on mini is more than half of the claimed 2"),
        ({"proxies": "{ mnii = 0.5 }"}, "unknown track 'mnii'; did you mean 'mini'?"),
        ({"epochs": "[9, 7]"}, "epochs = [9, 7] must be a whole number from 1, or [first, last]"),
        ({"references": '["r999999"]'}, "unknown row 'r999999'"),
        ({"references": "[1]"}, "references = [1] must be a list of names"),
        ({"kind": '"number"'}, "a number stands alone"),
        ({"kind": '"cost_ratio"'}, "needs evaluation = 'cost'"),
        ({"baseline": '""'}, "key 'baseline' is missing"),
        ({"unknown": '["protocol", "backbone", "epochs"]'}, "key 'batch' is missing; give it, or name it in 'unknown'"),
        ({"batch": "256"}, "batch is given and said to be unknown"),
        ({"unknown": '["protocoll"]'}, "unknown key of a setting 'protocoll'; did you mean 'protocol'?"),
        ({"kind": '"cost_ratio"', "evaluation": '"cost"'}, "has no protocol"),
        ({"spread": "0.1"}, "'spread' and 'spread_n' go together"),
        ({"changes": "{ linear = 0.1 }"}, "changes.linear = 0.1 must be a table"),
    ],
)
def test_a_fault_is_one_line_that_names_file_claim_and_key(tmp_path: Path, change: dict[str, str], says: str) -> None:
    write(tmp_path, {**GOOD, **change}, name="paper_x.toml")
    with pytest.raises(ValueError, match=r"paper_x\.toml: claim 'x-gain': ") as caught:
        claim_files.load(suite(), tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_suite_says_which_evaluations_there_are(tmp_path: Path) -> None:
    """A claim of an evaluation that this program does not have, once it has it."""
    write(tmp_path, {**GOOD, "evaluation": '"depth"'})
    with pytest.raises(ValueError, match="unknown evaluation 'depth'"):
        claim_files.load(suite(), tmp_path)
    depth = Evaluation("depth", "depth", "Depth", ("top1",), "percent")
    (claim,) = claim_files.load(Suite({"depth": depth}), tmp_path)
    assert claims.tested_on(claim, Suite({"depth": depth})) == "depth"


def test_an_unknown_name_keeps_its_parts() -> None:
    near = UnknownName("claim", "aps-memry", ["aps-memory", "aps-compute"])
    assert (near.name, near.nearest, near.valid) == ("aps-memry", "aps-memory", ["aps-memory", "aps-compute"])
    assert near.brief == str(near) == "unknown claim 'aps-memry'; did you mean 'aps-memory'?"
    far = UnknownName("claim", "zzz", ["aps-memory", "aps-compute"])
    assert (far.nearest, far.brief) == ("", "unknown claim 'zzz'")
    assert str(far) == "unknown claim 'zzz'; choose from aps-memory, aps-compute"


def test_missing_keys_double_ids_and_broken_files_are_named(tmp_path: Path) -> None:
    lacking = {key: value for key, value in GOOD.items() if key != "family"}
    with pytest.raises(ValueError, match=r"x\.toml: claim 'x-gain': key 'family' is missing"):
        claim_files.load(suite(), write(tmp_path, lacking))
    with pytest.raises(ValueError, match=r"x\.toml: claim 'x-gain': the id is used twice"):
        claim_files.load(suite(), write(tmp_path, GOOD, GOOD))
    (tmp_path / "x.toml").write_text("citation = [")
    with pytest.raises(ValueError, match=r"x\.toml: not valid TOML"):
        claim_files.load(suite(), tmp_path)
    (tmp_path / "x.toml").write_bytes(b'citation = "\xff"')
    with pytest.raises(ValueError, match=rf"^{tmp_path}/x\.toml: not valid TOML \('utf-8' codec"):
        claim_files.load(suite(), tmp_path)
    for line, says in (("defaults = 1", "defaults = 1 must be a table"), ("claim = [1]", r"write \[\[claim\]\] above")):
        (tmp_path / "x.toml").write_text(f'citation = "X"\n{line}')
        with pytest.raises(ValueError, match=rf"x\.toml: .*{says}"):
            claim_files.load(suite(), tmp_path)
    (tmp_path / "x.toml").write_text('citatoin = "X"')
    with pytest.raises(ValueError, match=r"x\.toml: unknown key 'citatoin'; did you mean 'citation'\?"):
        claim_files.load(suite(), tmp_path)
    (tmp_path / "a.toml").mkdir()
    with pytest.raises(ValueError, match=r"a\.toml: cannot be read \(Is a directory\)"):
        claim_files.load(suite(), tmp_path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:99] + b"\xff" + text[99:], "'utf-8' codec can't decode"),
        (
            lambda text: text.replace(b",70.5,", b",seventy,", 1),
            r"line 2: could not convert string to float: 'seventy'",
        ),
        (lambda text: text + b"r999,aps\n", r"line 616: 2 columns, not 16"),
        (lambda text: text.replace(b"metric,", b"metrics,", 1), "its columns must be backbone, baseline, batch"),
        (lambda text: b"", "its columns must be"),
        (lambda text: text + b'"', "unexpected end of data"),
    ],
)
def test_damaged_references_are_one_line(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    ours = Path(claim_files.__file__).with_name("references.csv").read_bytes()
    path = tmp_path / "references.csv"
    path.write_bytes(ours)
    assert read(path) == references()
    path.write_bytes(damage(ours))
    with pytest.raises(ValueError, match=rf"^{path}: .*{says}.*; fix it, or restore it with git$"):
        read(path)


def test_select_filters_by_field_and_suggests_names() -> None:
    every = claim_files.load(suite())
    found = claims.select(every, method="aps", evaluation="finetune", data="cifar10")
    assert len(found) == 6
    assert {c.baseline for c in claims.select(every, method="byol")} == {"byol"}
    assert {c.arm for c in claims.select(every, method="aps:small")} == {"aps:small"}
    assert {c.track for c in claims.select(every, track="mini")} > {"imagenet"}
    time = "glnet-imagenet100-time"
    assert [c.id for c in claims.select(every, text="WHOLE TRAINING", paper="glnet")] == [time, f"{time}-to-accuracy"]
    with pytest.raises(ValueError, match="unknown filter of claims 'evalution'; did you mean 'evaluation'"):
        claims.select(every, evalution="knn")
    with pytest.raises(ValueError, match="unknown evaluation 'kn'; did you mean 'knn'"):
        claims.select(every, evaluation="kn")


def test_a_ratio_of_costs_that_no_number_holds_is_infinite() -> None:
    cost = next(claim for claim in claim_files.load(suite()) if claim.evaluation == "cost" and claim.better == "lower")
    assert claims.shown(cost, -800.0) == float("inf") and claims.shown(cost, 800.0) == 0.0
    assert claims.shown(cost, -1.0) == pytest.approx(2.718281828)
