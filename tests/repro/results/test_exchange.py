"""Records for other programs, read back by those programs' libraries, and records from elsewhere."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import tomllib
from pathlib import Path
from typing import Any

import pytest

from leaderboards import claims, published, verdicts
from leaderboards.arms import arms
from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings
from repro.store import records

PUBLISHED = published.FOLDER / "records"
HOME = published.FOLDER.parent
Record = dict[str, Any]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_DATA", raising=False)


def export(*words: str) -> Path:
    assert main(["records", *words, "--out", "out/file", "--published"]) == 0
    return Path("out/file")


def same(frame: Any, found: list[Record]) -> None:
    """Every number and word of the records stands in its row, and nothing else does."""
    import pandas as pd

    assert len(frame) == len(found)
    rows = {row["fingerprint"]: row for row in frame.to_dict("records")}
    for record in found:
        row = rows[record["fingerprint"]]
        for table in ("metrics", "cost"):
            filled = {c for c in frame.columns if c.startswith(f"{table}.") and not pd.isna(row[c])}
            assert filled == {f"{table}.{key}" for key in record[table]}
            for key, value in record[table].items():
                assert float(row[f"{table}.{key}"]) == value
        assert (row["kind"], row["method"], int(row["seed"])) == (record["kind"], record["method"], record["seed"])
        assert row["data.manifest"] == record["provenance"]["data"]["manifest"]
        assert row["trust"] == "ours"
        if record["kind"] == "pretrain":
            pretrain = record["details"]["recipe"]["pretrain"]
            assert float(row["recipe.pretrain.lr"]) == pretrain["lr"]
            assert json.loads(row["recipe.pretrain.betas"]) == pretrain["betas"]


def test_csv_holds_every_record_exactly() -> None:
    import pandas as pd

    frame = pd.read_csv(export("--to", "csv"), dtype=str)
    same(frame, published.load_published())
    evaluations = frame[(frame.kind == "knn") & (frame.method != "random")]
    assert evaluations["recipe.pretrain.epochs"].notna().all()  # of the pre-training behind it


def test_parquet_holds_every_record_exactly() -> None:
    import pandas as pd

    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    frame = pd.read_parquet(export("--to", "parquet"))
    same(frame, published.load_published())
    assert str(frame["seed"].dtype) == "Int64" and str(frame["metrics.top1"].dtype) == "Float64"


def test_parquet_without_an_engine_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    import pandas as pd

    def absent(*_: object, **__: object) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    assert main("records --to parquet --out x --published".split()) == 2
    assert "[parquet]'" in capsys.readouterr().err


def test_selection_is_that_of_publish() -> None:
    import pandas as pd

    frame = pd.read_csv(export("--to", "csv", "--method", "glnet", "random:vit", "--track", "mini"))
    found = [
        record
        for record in published.load_published()
        if record["track"] == "mini" and (record["method"], record["variant"]) in (("glnet", ""), ("random", "vit"))
    ]
    assert set(frame.fingerprint) == {record["fingerprint"] for record in found}


def test_latex_holds_the_boards_tables() -> None:
    text = export("--to", "latex", "--track", "mini").read_text()
    tables = text.split("\\begin{table}")[1:]
    (knn,) = [table for table in tables if "\\label{tab:knn-1}" in table]
    for words in ("\\toprule", "\\midrule", "\\bottomrule", "\\end{table}", "\\caption{k-NN, mini: CIFAR-10"):
        assert words in knn
    rows = {
        tuple(cell.strip().replace("\\_", "_") for cell in line.rstrip("\\ ").split("&"))
        for line in knn.splitlines()
        if line.endswith("\\\\")
    }
    found = [r for r in published.load_published() if r["track"] == "mini"]
    for arm in arms(found, "knn"):
        values = list(arm.values("top1").values())
        mean = f"{statistics.fmean(values):.2f}"
        said = f"{mean} $\\pm$ {statistics.stdev(values):.2f}" if len(values) > 1 else mean
        named = [row for row in rows if row[:2] == (arm.method, arm.variant or "-")]
        which = arm.label, f"{arm.label}, superseded"
        fitting = [row for row in named if {said, str(len(values))} <= {*row}]
        assert any(not arm.label or {*which} & {*row} for row in fitting), arm.name
    for line in text.splitlines():
        assert line.count("{") - line.count("\\{") == line.count("}") - line.count("\\}")
        assert not re.search(r"(?<!\\)[_#%]", line.lstrip("%").replace("tab:", "")) or "generated" in line


def test_model_index_is_that_of_openmmlab() -> None:
    import yaml

    index = yaml.safe_load(export("--to", "model-index", "--track", "mini").read_text())
    assert set(index) == {"Collections", "Models"}
    collections = {collection["Name"]: collection for collection in index["Collections"]}
    assert collections["aps"]["Paper"]["URL"] == "https://arxiv.org/abs/2306.02854"
    names = [model["Name"] for model in index["Models"]]
    assert len(set(names)) == len(names)
    for model in index["Models"]:
        assert model["In Collection"] in collections
        assert (HOME / model["Config"]).is_file()
    # Arms of one name differ by their recipe: seeds, epochs and mean of each, from the records alone.
    found = [r for r in published.load_published() if (r["method"], r["track"]) == ("glnet", "mini")]
    groups: dict[str, list[Record]] = {}
    for trained in (r for r in found if r["kind"] == "pretrain"):
        groups.setdefault(json.dumps([trained["variant"], trained["details"]["recipe"]]), []).append(trained)
    expected = []
    for group in groups.values():
        features = {r["fingerprint"] for r in found if set(r["parents"]) & {t["fingerprint"] for t in group}}
        judged = (r for r in found if r["kind"] == "linear" and set(r["parents"]) & features)
        top1 = [r["metrics"]["top1"] for r in judged if r["protocol"]["name"] == "mini"]
        epochs = group[0]["details"]["recipe"]["pretrain"]["epochs"]
        expected.append((sorted(t["seed"] for t in group), epochs, pytest.approx(statistics.fmean(top1))))
    assert len(expected) > 1
    for model in (model for model in index["Models"] if model["In Collection"] == "glnet"):
        metrics = {result["Task"]: result["Metrics"] for result in model["Results"]}
        said = model["Metadata"]["Seeds"], model["Metadata"]["Epochs"]
        expected.remove((*said, metrics["Linear Classification"]["Top 1 Accuracy"]))
    assert not expected


@pytest.mark.parametrize(
    "line, words",
    [
        ("records", "--to NAME --out FILE"),
        ("records --to cvs --out x --published", "did you mean 'csv'"),
        ("records --to csv --out x", "no record in"),
        ("records --to csv --out x --published --track mnii", "did you mean 'mini'"),
        ("records --to csv --out . --published", "cannot write"),
        ("records imprt x", "did you mean 'import'"),
        ("records import x.json", "--trust NAME"),
        ("records import x.json --trust ours", "self-reported"),
        ("records import x.json --trust author", "cannot be read"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], line: str, words: str) -> None:
    assert main(line.split()) == 2
    streams = capsys.readouterr()
    assert words in streams.err and streams.err.count("\n") == 1


# --------------------------------------------------------------------------------------------------------------- import

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


def imported() -> list[Record]:
    found, faults = records.read_all(Path("repro-work/records"))
    assert not faults
    return found


def test_a_number_by_hand_is_a_record_that_boards_mark(capsys: pytest.CaptureFixture[str]) -> None:
    assert bring_in(REPORTED) == 0
    (record,) = imported()
    assert record["metrics"] == REPORTED["metrics"] and record["provenance"]["trust"] == "self-reported"
    assert bring_in([REPORTED]) == 0
    assert "0 records imported as self-reported, 1 were there" in capsys.readouterr().out
    assert main(["report"]) == 0
    board = Path("repro-work/boards/linear.md").read_text()
    (head,) = [line for line in board.splitlines() if line.startswith("| method")]
    (row,) = [line for line in board.splitlines() if line.startswith("| glnet")]
    cells = dict(zip((c.strip() for c in head.split("|")), (c.strip() for c in row.split("|")), strict=True))
    assert cells["trust"] == "self-reported" and cells["top1"] == "91.00"
    assert "self-reported" in Path("repro-work/boards/report.html").read_text()
    assert main(["explain", record["fingerprint"][:12]]) == 0
    assert "no verdict rests on it" in capsys.readouterr().out
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


def test_our_own_boards_show_no_trust() -> None:
    assert "trust" not in (published.FOLDER / "linear.md").read_text()


def glnet_on_mini() -> list[Record]:
    found = published.load_published()
    return [r for r in found if (r["method"], r["variant"], r["track"]) == ("glnet", "", "mini")]


def chain() -> list[Record]:
    """The records of one of our runs, as somebody else would send them."""
    found = [r for r in glnet_on_mini() if r["seed"] == 1]
    assert {record["kind"] for record in found} == {"pretrain", "features", "knn", "linear"}
    return found


def test_imported_records_stand_in_for_no_job(tmp_path: Path) -> None:
    given = chain()
    assert bring_in(given, "author") == 0
    found = imported()
    assert not {r["fingerprint"] for r in found} & {r["fingerprint"] for r in given}
    marks = {r["fingerprint"] for r in found}
    assert all(parent in marks for r in found for parent in r["parents"])
    (arm,) = arms(found, "knn")
    assert arm.trust == "author" and arm.setting.epochs == 4 and arm.setting.network == "ResNet-18 w16"

    request = Request(("glnet",), "embedded", ("knn",), (0,))
    job = make(request, Settings()).jobs[0]
    mine = {**REPORTED, "kind": "pretrain", "fingerprint": job.fingerprint, "track": "embedded"}
    assert bring_in(mine) == 0
    assert not any(other.cached for other in make(request, Settings()).jobs)


def test_ours_and_foreign_seeds_are_never_one_arm() -> None:
    ours = glnet_on_mini()
    given = chain()
    for record in given:
        record["seed"] = 7
    assert bring_in(given) == 0
    found = arms([*ours, *imported()], "knn")
    assert sorted((arm.trust, sorted(arm.records)) for arm in found) == [("ours", [0, 1, 2]), ("self-reported", [7])]


def test_verdicts_rest_on_ours_alone() -> None:
    """A claim that our records settle stays settled as it was, whatever is imported; and imports settle nothing."""
    claim = next(c for c in claims.load() if c.baseline and c.evaluation == "linear" and "mini" in c.proxies)
    found = []
    for seed in range(5):
        for method, variant, top1 in (
            (claim.method, claim.variant, 45.0 + seed % 2),
            (claim.baseline, claim.baseline_variant, 40.0 + 0.1 * seed),
        ):
            plain = {"track": "mini", "seed": seed, "method": method, "variant": variant}
            about = {"data": {"name": "cifar10-jpeg"}, "device": "CPU", "trials": 0}
            recipe = {"network": {"arch": "resnet", "depth": 18}, "pretrain": {"epochs": 4, "batch": 128}}
            mark = f"{method}{variant}{seed}"
            found.append(
                {**plain, "fingerprint": mark, "kind": "pretrain", "metrics": {}, "provenance": about}
                | {"details": {"recipe": recipe}}
            )
            found.append(
                {**plain, "fingerprint": mark + "l", "kind": "linear", "parents": [mark], "provenance": about}
                | {"metrics": {"top1": top1}}
            )
    full = [{"schema": 1, "parents": [], "cost": {}, "protocol": {"name": "mini", "hash": "x"}, **r} for r in found]
    assert verdicts.verdict(claim, full, "mini").outcome == "holds"

    Path("given.json").write_text(json.dumps(full))
    assert bring_in(full, "author") == 0
    foreign = imported()
    assert len(foreign) == len(full)
    assert verdicts.verdict(claim, foreign, "mini").outcome == "not run"

    worse = [{**r, "metrics": {"top1": 1.0}} if r["kind"] == "linear" else r for r in full]
    shutil.rmtree("repro-work")
    assert bring_in(worse) == 0
    for basis in (verdicts.EPOCHS, verdicts.COMPUTE):
        assert verdicts.verdict(claim, [*full, *imported()], "mini", basis) == verdicts.verdict(
            claim, full, "mini", basis
        )
    # an evaluation of ours that rests on foreign weights is foreign as well
    mixed = [
        {**r, "provenance": {**r["provenance"], "trust": "author"}} if r["kind"] == "pretrain" else r for r in full
    ]
    assert verdicts.verdict(claim, mixed, "mini").outcome == "not run"
    assert {arm.trust for arm in arms(mixed, "linear")} == {"author"}


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


# ------------------------------------------------------------------------------------------------------------- citation


def test_citation_is_of_this_version() -> None:
    import yaml

    cited = yaml.safe_load((HOME / "CITATION.cff").read_text())
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert cited["version"] == project["version"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what CFF 1.2.0 requires
    allowed = "abstract authors cff-version commit contact date-released doi identifiers keywords license license-url"
    allowed += " message preferred-citation references repository repository-artifact repository-code title type url"
    assert set(cited) <= {*allowed.split(), "version"}
    assert cited["cff-version"] == "1.2.0" and cited["type"] in ("software", "dataset")
    assert all(set(author) == {"name"} for author in cited["authors"])  # an entity, not a person
    assert len(set(cited["keywords"])) == len(cited["keywords"])
