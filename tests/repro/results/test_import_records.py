"""Records from elsewhere: what they are, and what they never touch."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.protocols.base import collapse_metrics
from leaderboards import claim_files, published, verdicts
from leaderboards.arms import Arms
from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.fingerprints import code_of
from repro.plan.request import Request
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records

Record = dict[str, Any]

REPORTED: Record = {
    "kind": "linear",
    "method": "glnet",
    "track": "cifar",
    "seed": 0,
    "metrics": {"top1": 91.0, "top5": 99.0},
    "provenance": {"data": {"name": "cifar10"}},
}


def bring_in(given: object, trust: str = "self-reported") -> int:
    Path("given.json").write_text(json.dumps(given))
    return main(["records", "import", "given.json", "--trust", trust])


def test_who_made_them_must_be_said(refused: Callable[[str], str]) -> None:
    Path("given.json").write_text(json.dumps(REPORTED))
    assert "who made these records? --trust peer or author or self-reported" in refused("records import given.json")
    assert "unknown trust 'ours'" in refused("records import given.json --trust ours")


def imported() -> list[Record]:
    found, faults = records.read_all(Path("repro-work/records"))
    assert not faults
    return found


def test_a_number_by_hand_is_a_record_that_boards_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bring_in(REPORTED) == 0
    (record,) = imported()
    assert record["metrics"] == REPORTED["metrics"] and record["provenance"]["trust"] == "self-reported"
    assert "1 record imported as self-reported, 0 were there" in capsys.readouterr().out
    assert bring_in([REPORTED]) == 0
    assert "0 records imported as self-reported, 1 was there" in capsys.readouterr().out
    assert main(["report"]) == 0
    short, _, board = Path("repro-work/boards/linear.md").read_text().partition("# All columns")
    assert "glnet (self-reported)" in short and "91.0" in short
    (head,) = [line for line in board.splitlines() if line.startswith("| method")]
    (row,) = [line for line in board.splitlines() if line.startswith("| glnet")]
    cells = dict(zip((c.strip() for c in head.split("|")), (c.strip() for c in row.split("|")), strict=True))
    assert cells["trust"] == "self-reported" and cells["top1"] == "91.00"
    assert "self-reported" in Path("repro-work/boards/report.html").read_text()
    assert main(["explain", record["fingerprint"][:12]]) == 0
    assert "no verdict rests on it" in capsys.readouterr().out
    monkeypatch.setattr(published, "drift", lambda *_: [])  # of no board here
    assert main(["verify"]) == 0


def test_every_export_says_whose_weights_they_are() -> None:
    import pandas as pd
    import yaml

    network = {"arch": "resnet", "depth": 50, "width": 64}
    weights = {**REPORTED, "kind": "import", "fingerprint": "w", "metrics": {}}
    weights["details"] = {"file": "theirs.pth", "recipe": {"network": network}}
    assert bring_in([weights, {**REPORTED, "fingerprint": "l", "parents": ["w"]}], "author") == 0
    for to in ("csv", "latex", "model-index"):
        assert main(["records", "--to", to, "--out", to]) == 0
    frame = pd.read_csv("csv")
    assert set(frame.trust) == {"author"} and set(frame.network) == {"ResNet-50"}
    (row,) = [line for line in Path("latex").read_text().splitlines() if line.strip().startswith("glnet")]
    assert "author" in row and "91.00" in row
    (model,) = yaml.safe_load(Path("model-index").read_text())["Models"]
    assert model["Metadata"] == {"Seeds": [0], "Trust": "author"} and "Config" not in model
    assert model["Results"][0]["Metrics"] == {"Top 1 Accuracy": 91.0, "Top 5 Accuracy": 99.0}


@pytest.fixture
def ours(every: list[Record]) -> list[Record]:
    """The records of three runs of glnet."""
    return [r for r in every if (r["method"], r["variant"], r["track"]) == ("glnet", "", "mini")]


@pytest.fixture
def given(ours: list[Record]) -> list[Record]:
    """Those of one of them, as somebody else would send them."""
    found = copy.deepcopy([r for r in ours if r["seed"] == 1])
    assert {record["kind"] for record in found} == {"pretrain", "features", "knn", "linear"}
    return found


def test_imported_records_stand_in_for_no_job(given: list[Record]) -> None:
    assert bring_in(given, "author") == 0
    found = imported()
    assert not {r["fingerprint"] for r in found} & {r["fingerprint"] for r in given}
    known = {r["fingerprint"] for r in found}
    assert all(parent in known for r in found for parent in r["parents"])
    (arm,) = Arms(found, suite()).of("knn")
    assert arm.trust == "author" and arm.setting.epochs == 4 and arm.setting.network == "ResNet-18 w16"

    request = Request(("glnet",), "embedded", ("knn",), (0,))
    job = make(request, Settings()).jobs[0]
    mine = {**REPORTED, "kind": "pretrain", "fingerprint": job.fingerprint, "track": "embedded"}
    assert bring_in(mine) == 0
    assert not any(other.cached for other in make(request, Settings()).jobs)


def test_ours_and_foreign_seeds_are_never_one_arm(ours: list[Record], given: list[Record]) -> None:
    for record in given:
        record["seed"] = 7
    assert bring_in(given) == 0
    found = Arms([*ours, *imported()], suite()).of("knn")
    assert sorted((arm.trust, sorted(arm.records)) for arm in found) == [("ours", [0, 1, 2]), ("self-reported", [7])]


def test_verdicts_rest_on_ours_alone() -> None:
    """A claim that our records settle stays settled as it was, whatever is imported; and imports settle nothing."""
    claim = next(
        c for c in claim_files.load(suite()) if c.baseline and c.evaluation == "linear" and "mini" in c.proxies
    )
    found = []
    for seed in range(5):
        for method, variant, top1 in (
            (claim.method, claim.variant, 45.0 + seed % 2),
            (claim.baseline, claim.baseline_variant, 40.0 + 0.1 * seed),
        ):
            plain = {"track": "mini", "seed": seed, "method": method, "variant": variant}
            about = {
                "data": {"name": "cifar10-jpeg", "limit": {"pictures": 5000, "seed": seed}},
                "device": "CPU",
                "trials": 0,
            }
            recipe = {"network": {"arch": "resnet", "depth": 18}, "pretrain": {"epochs": 4, "batch": 128}}
            name = f"{method}{variant}{seed}"
            found.append(
                {**plain, "fingerprint": name, "kind": "pretrain", "metrics": {}, "provenance": about}
                | {"details": {"recipe": recipe}}
            )
            found.append(
                {**plain, "fingerprint": name + "l", "kind": "linear", "parents": [name], "provenance": about}
                | {"metrics": {"top1": top1}}
            )
    full = [{"schema": 1, "parents": [], "cost": {}, "protocol": {"name": "mini", "hash": "x"}, **r} for r in found]
    assert verdicts.judge([claim], Arms(full, suite()), "mini")[claim.id][0].outcome == "holds"

    Path("given.json").write_text(json.dumps(full))
    assert bring_in(full, "author") == 0
    foreign = imported()
    assert len(foreign) == len(full)
    assert verdicts.judge([claim], Arms(foreign, suite()), "mini")[claim.id][0].outcome == "not run"

    worse = [{**r, "metrics": {"top1": 1.0}} if r["kind"] == "linear" else r for r in full]
    shutil.rmtree("repro-work")
    assert bring_in(worse) == 0
    both, alone = (Arms(found, suite()) for found in ([*full, *imported()], full))
    assert verdicts.judge([claim], both, "mini") == verdicts.judge([claim], alone, "mini")
    # an evaluation of ours that rests on foreign weights is foreign as well
    mixed = [
        {**r, "provenance": {**r["provenance"], "trust": "author"}} if r["kind"] == "pretrain" else r for r in full
    ]
    assert verdicts.judge([claim], Arms(mixed, suite()), "mini")[claim.id][0].outcome == "not run"
    assert {arm.trust for arm in Arms(mixed, suite()).of("linear")} == {"author"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"kind": "lineal"}, "did you mean 'linear'"),
        ({"track": "mnii"}, "did you mean 'mini'"),
        ({"method": "../../up"}, "small letters"),
        ({"variant": "a/b"}, "small letters"),
        ({"seed": True}, "seed = True must be int"),
        ({"seed": -1}, "below 0"),
        ({"seed": "0"}, "must be int"),
        ({"metrics": {"top1": "91"}}, "not a finite number"),
        ({"metrics": {"top1": math.nan}}, "no finite number"),
        ({"metrics": {"top1": 99.0, "top5": 91.0}}, "top5"),
        ({"metrics": None}, "must be dict"),
        ({"metrics": {}}, "record 2: metrics holds no metric"),
        (
            {"provenance": {"data": {"name": "cifar10"}, "date": "yesterday"}},
            "record 2: date 'yesterday' is not a date",
        ),
        ({"details": {"n_test": 8, "correct": "abc"}}, "record 2: its right answers, details.correct, are not base64"),
        ({"details": {"low_shot": {"1pct": []}}}, "record 2: details.low_shot.1pct holds no draws"),
        ({"details": {"low_shot": {"1pct": 3}}}, "record 2: its selection cannot be checked, an entry is of another"),
        ({"details": {"low_shot": {"1pct": [{"top5": 1.0}]}}}, "an entry is of another form, or lacks 'top1'; fix"),
        ({"details": {"n_test": 8, "correct": "/w=="}}, "record 2: top1 is 91, but its right answers count 100"),
        ({"provenance": {}}, "provenance.data.name is missing"),
        ({"schema": 99}, "schema 99"),
        ({"artefacts": {}}, "did you mean 'artifacts'"),
    ],
)
def test_damaged_imports_are_refused_whole(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    assert bring_in([{**REPORTED, "seed": 3}, {**REPORTED, **change}]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and "given.json" in err
    assert not Path("repro-work/records").exists()


def test_ancestors_that_go_in_a_ring_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = {**REPORTED, "fingerprint": "a", "parents": ["b"]}, {**REPORTED, "fingerprint": "b", "parents": ["a"]}
    assert bring_in([a, b]) == 2
    assert "its own ancestor" in capsys.readouterr().err
    assert bring_in([a, a]) == 2
    assert "used twice" in capsys.readouterr().err


LINE = json.dumps(REPORTED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LINE.replace("91.0", "1e999").encode(), "1e999 is no finite number"),
        (LINE.replace("91.0", "9" * 30).encode(), "beyond whole numbers of 64 bits"),
        (LINE.replace('"seed": 0', '"seed": 0, "seed": 1').encode(), "'seed' is there twice"),
        (LINE.replace("cifar10", r"\u001b[31m").encode(), "provenance.data.name holds '\\x1b'"),
        (LINE.replace("cifar10", "c\xfcfar").encode("latin-1"), "is not UTF-8"),
        (LINE.encode("utf-16"), "is not UTF-8"),
        (b"\x1f\x8b" + LINE.encode(), "gunzip"),
        (b"[" * 100_000, "more than 50 levels of tables"),
        (b"[]", "no record"),
        (b"[3]", "record 1: no record, but int"),
        (b'{"seed": 0}', "key 'kind' is missing"),
        (json.dumps({**REPORTED, "cost": {"wall_s": -1}}).encode(), "cost 'wall_s' is -1, not a number from 0 on"),
        (json.dumps({**REPORTED, "fingerprint": 3}).encode(), "fingerprint = 3 must be str"),
        (json.dumps({**REPORTED, "parents": [[1]]}).encode(), "'parents' holds [1], which is no fingerprint"),
        (json.dumps({**REPORTED, "method": "a" * 300}).encode(), "too long for the name of a file"),
    ],
)
def test_texts_that_are_no_records(capsys: pytest.CaptureFixture[str], text: bytes, words: str) -> None:
    Path("given.json").write_bytes(text)
    assert main(["records", "import", "given.json", "--trust", "author"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and err.startswith("repro: given.json: ")
    assert not Path("repro-work/records").exists()


def test_a_byte_order_mark_and_ends_of_lines_of_windows() -> None:
    Path("given.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(REPORTED, indent=1).replace("\n", "\r\n").encode())
    assert main(["records", "import", "given.json", "--trust", "author"]) == 0
    assert imported()[0]["metrics"] == REPORTED["metrics"]


def test_one_record_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({**REPORTED, "seed": seed}) for seed in range(3)]
    Path("given.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["records", "import", "given.jsonl", "--trust", "author"]) == 0
    assert sorted(record["seed"] for record in imported()) == [0, 1, 2]
    Path("bad.jsonl").write_text("\n".join([*lines, "", json.dumps({**REPORTED, "seed": -1})]))
    assert main(["records", "import", "bad.jsonl", "--trust", "author"]) == 2
    assert "bad.jsonl:5: seed -1 is below 0" in capsys.readouterr().err


def test_a_fault_is_said_of_the_record_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    child = {**REPORTED, "fingerprint": "a", "parents": ["b"]}
    assert bring_in([child, {**REPORTED, "fingerprint": "b", "metrics": {"top1": 101.0}}]) == 2
    assert "given.json: record 2: top1 = 101" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    write = records.write

    def full(folder: Path, record: Record) -> tuple[Path, bool]:
        if record["seed"] == 2:
            raise OSError(28, "No space left on device", "x")
        return write(folder, record)

    monkeypatch.setattr(records, "write", full)
    assert bring_in([{**REPORTED, "seed": seed} for seed in range(3)]) == 2
    assert list(Path("repro-work/records").iterdir()) == []


def test_more_generations_than_there_are_stop_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    long = [{**REPORTED, "fingerprint": f"f{i}", "parents": [f"f{i + 1}"]} for i in range(3000)]
    assert bring_in(long) == 2
    assert "generations" in capsys.readouterr().err


def test_a_ring_of_records_in_a_workspace_ends_no_command_badly(capsys: pytest.CaptureFixture[str]) -> None:
    full = {"schema": 1, "variant": "", "cost": {}, "protocol": {}, "details": {}, "artifacts": {}}
    for name, parent in (("a" * 64, "b" * 64), ("b" * 64, "a" * 64)):
        record = {**full, **REPORTED, "track": "embedded", "fingerprint": name, "parents": [parent]}
        records.write(Path("repro-work/records"), record)
    assert main(["explain", "aaaaaaaaaaaa"]) == 0
    assert main(["plan", "--method", "aps", "--eval", "knn"]) == 0
    assert main(["report"]) == 0
    assert main(["verify"]) in (0, 1)


def test_html_in_a_record_is_text_on_every_board() -> None:
    name = "<script>alert(1)</script>"
    assert bring_in({**REPORTED, "provenance": {"data": {"name": "cifar10", "source": name}, "device": name}}) == 0
    assert main(["report"]) == 0
    boards = list(Path("repro-work/boards").iterdir())
    assert len(boards) > 5
    assert not [path.name for path in boards if "<script>alert" in path.read_text()]
    assert "&lt;script>alert" in Path("repro-work/boards/linear.md").read_text()


def of_a_plan(settings: Settings, *seeds: int) -> list[Record]:
    """The records that runs of this checkout would leave, of k-NN on digits."""
    found: list[Record] = []
    for job in make(Request(("simclr",), evaluations=("knn",), seeds=seeds), settings).jobs:
        recipe = {"recipe": job.spec["recipe"]} if job.kind == "pretrain" else {}
        about = {"trials": job.spec["recipe"]["pretrain"]["tuning_trials"]} if recipe else {}
        if recipe:
            about["training_code"] = code_of(job)[:16]
        data = {"name": "digits", "source": "digits", "manifest": job.spec["data"]["manifest"]} if recipe else {}
        values = {"metrics": SPECTRUM | ({"top1": 90.0} if job.kind == "knn" else {})}
        found.append(
            {key: getattr(job, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")}
            | {"parents": list(job.parents), "protocol": records.protocol_of(job.kind, **job.protocol), "cost": {}}
            | {"provenance": {**about, "data": data or {"name": "digits", "source": "digits", "manifest": "d"}}}
            | {"details": recipe, **values}
        )
    return found


SPECTRUM = dict.fromkeys(collapse_metrics("train", "test"), 1.0)


def test_records_of_a_peer_count_with_ours_where_a_run_here_would_make_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = of_a_plan(Settings(), 0, 1)
    pretrain, knn = (next(r for r in theirs if r["kind"] == kind and r["seed"] == 1) for kind in ("pretrain", "knn"))
    other = copy.deepcopy(knn) | {"fingerprint": "0" * 64, "seed": 2}  # as another code or recipe would leave it
    Path("given.json").write_text(json.dumps([*theirs, other]))
    line = ["records", "import", "given.json", "--trust", "peer"]
    assert main(line) == 2 and main(["records", "import", "given.json", "--trust", "author", "--lab", "kyoto"]) == 2
    assert capsys.readouterr().err.count("--lab goes with --trust peer") == 2
    for odd in (" ", "kyoto ", "a\nb", "x" * 81):
        assert main([*line, "--lab", odd]) == 2
    assert main([*line, "--lab", "kyoto"]) == 0
    said = capsys.readouterr().out
    assert f"{len(theirs)} records imported as peer" in said and "1 other was left out" in said
    assert {r["fingerprint"] for r in imported()} == {r["fingerprint"] for r in theirs}
    assert {r["provenance"]["lab"] for r in imported()} == {"kyoto"}
    (arm,) = Arms([r for r in imported() if r["seed"] == 1 or r["kind"] != "knn"], suite()).of("knn")
    assert arm.trust == "ours" and arm.labs == ["kyoto"] and not arm.flag
    mine = [r for r in of_a_plan(Settings(), 0) if r["kind"] != "pretrain"]
    (both,) = Arms([*imported(), *mine], suite()).of("knn")
    assert sorted(both.records) == [0, 1] and not both.flag  # a fingerprint counts once, whoever made it
    # the recipe was another: nothing of it would be made here
    changed = copy.deepcopy(pretrain)
    changed["details"]["recipe"]["pretrain"]["lr"] *= 2
    Path("given.json").write_text(json.dumps([changed, knn]))
    assert main([*line, "--lab", "kyoto"]) == 2
    assert "would not make any of its 2 records" in capsys.readouterr().err
