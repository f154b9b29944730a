"""Records for other programs, read back by those programs' libraries."""

from __future__ import annotations

import json
import re
import statistics
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboards.arms import Arms
from repro.cli.dispatch import main
from repro.results.suite import suite

HOME = Path(__file__).parents[3]
Record = dict[str, Any]


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


def test_csv_holds_every_record_exactly(every: list[Record]) -> None:
    import pandas as pd

    frame = pd.read_csv(export("--to", "csv"), dtype=str)
    same(frame, every)
    evaluations = frame[(frame.kind == "knn") & (frame.method != "random")]
    assert evaluations["recipe.pretrain.epochs"].notna().all()  # of the pre-training behind it


def test_parquet_holds_every_record_exactly(every: list[Record]) -> None:
    import pandas as pd

    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    frame = pd.read_parquet(export("--to", "parquet"))
    same(frame, every)
    assert str(frame["seed"].dtype) == "Int64" and str(frame["metrics.top1"].dtype) == "Float64"


def test_parquet_without_an_engine_is_one_line(refused: Callable[[str], str], monkeypatch: Any) -> None:
    import pandas as pd

    def absent(*_: object, **__: object) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    assert "[parquet]'" in refused("records --to parquet --out x --published")


def test_selection_is_that_of_publish(every: list[Record]) -> None:
    import pandas as pd

    frame = pd.read_csv(export("--to", "csv", "--method", "glnet", "random:vit", "--track", "mini"))
    found = [
        record
        for record in every
        if record["track"] == "mini" and (record["method"], record["variant"]) in (("glnet", ""), ("random", "vit"))
    ]
    assert set(frame.fingerprint) == {record["fingerprint"] for record in found}


def test_latex_holds_the_boards_tables(every: list[Record]) -> None:
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
    found = [r for r in every if r["track"] == "mini"]
    for arm in Arms(found, suite()).current("knn"):
        values = list(arm.values("top1").values())
        mean = f"{statistics.fmean(values):.2f}"
        said = f"{mean} $\\pm$ {statistics.stdev(values):.2f}" if len(values) > 1 else mean
        named = [row for row in rows if row[:2] == (arm.method, arm.variant or "-")]
        fitting = [row for row in named if {said, str(len(values))} <= {*row}]
        assert any(not arm.label or arm.label in row for row in fitting), arm.name
    for line in text.splitlines():
        assert line.count("{") - line.count("\\{") == line.count("}") - line.count("\\}")
        plain = re.sub(r"\\cite\{[^}]*\}", "", line.lstrip("%").replace("tab:", ""))  # keys may have underscores
        assert not re.search(r"(?<!\\)[_#%]", plain) or "generated" in line


def test_model_index_is_that_of_openmmlab(every: list[Record]) -> None:
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
    found = [r for r in every if (r["method"], r["track"]) == ("glnet", "mini")]
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
