"""Every table and picture of the report as a file for a paper: the numbers, their intervals, and what they cite."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from scipy import stats

from leaderboards import boards, report, take_away
from leaderboards.answers import answers
from leaderboards.arms import Arms
from leaderboards.cells import Cell
from leaderboards.suite import PROGRAM
from leaderboards.tables import Table
from repro import __version__
from repro.cli.dispatch import main
from repro.results import citations
from repro.results.find_records import every_claim
from repro.results.suite import suite

HOME = Path(__file__).parents[3]
Record = dict[str, Any]
pytestmark = pytest.mark.seconds


@pytest.fixture
def content(every: list[Record]) -> boards.Content:
    return boards.compose(Arms(every, suite()), every_claim(), lambda record: "")


@pytest.fixture
def folder() -> Path:
    assert main(["report", "--published", "--export", "paper"]) == 0
    return Path("paper")


def test_csv_has_mean_n_and_the_t_interval_of_every_arm(every: list[Record], folder: Path) -> None:
    tables = {path.name: list(csv.DictReader(path.open())) for path in folder.glob("linear-*.csv")}
    rows = [row for table in tables.values() for row in table]
    arms = [arm for arm in Arms(every, suite()).current("linear") if arm.values("top1")]
    assert len(rows) == len(arms) > 3
    compared = 0
    for arm in arms:
        values = list(arm.values("top1").values())
        mean = sum(values) / len(values)
        (row, *_) = [
            r
            for r in rows
            if (r["method"], r.get("variant") or "") == (arm.method, arm.variant)
            and float(r["top1"]) == pytest.approx(mean, rel=1e-5)
        ]
        assert row["top1 n"] == str(len(values)) and row["cite"].split()[0] == "repro"
        if len(values) > 1:
            want = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
            found = float(row["top1 95% low"]), float(row["top1 95% high"])
            assert found == pytest.approx(want, rel=1e-4)
            compared += 1
    assert compared > 1


def test_latex_has_the_same_intervals_and_cites_what_the_bibliography_holds(folder: Path) -> None:
    known = set(re.findall(r"@\w+\{(\w+),", (folder / "citations.bib").read_text()))
    cited = set()
    for path in folder.glob("*.tex"):
        text = path.read_text()
        for keys in re.findall(r"\\cite\{([^}]*)\}", text):
            cited |= set(keys.split(","))
        assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
        assert "\\cite{repro}" in text and "\\label{tab:" in text
        heads, *rows = [line for line in text.splitlines() if line.endswith("\\\\")]
        assert rows and {row.count("&") for row in rows} == {heads.count("&")}
    assert cited <= known and {"repro", "glnet"} <= cited
    assert any("[" in line for path in folder.glob("linear-*.tex") for line in path.read_text().splitlines()[6:])


def test_every_table_and_picture_of_the_report_has_a_file(content: boards.Content, folder: Path) -> None:
    page = report.page(content)
    shown = [svg for svg in re.findall(r"<svg.*?</svg>", page, flags=re.S) if 'width="190"' not in svg]
    files = {path: path.read_text() for path in folder.glob("*.svg")}
    bodies = {re.sub(r"<style>.*?</style>\n", "", text, flags=re.S).strip() for text in files.values()}
    assert len(shown) > 3 and set(shown) <= bodies
    claims = (folder / "claims-1.svg").read_text()
    drawn = [one for found in answers(content.papers).values() for one in found if one.interval]
    assert claims.count('width="330"') - 1 == len(drawn) > 0  # one for each claim with two pairs, and the axis
    for text in files.values():
        ElementTree.fromstring(text)
        assert "var(" not in text and "@media" not in text  # dark on white in every program
    listed = (folder / "contents.md").read_text()
    assert all(f"`{path.name}`" in listed for path in folder.iterdir() if path.suffix in (".csv", ".svg", ".tex"))


def test_no_cell_of_a_csv_is_a_formula() -> None:
    named = {"=1+1": "'=1+1", "@SUM(1)": "'@SUM(1)", "-cmd": "'-cmd", "+cmd": "'+cmd"}
    told = {text: text for text in ("-0.5 ± 0.2", "+2.1", "aps")}
    rows = [{"method": Cell(f"m{i}"), "device": Cell(text)} for i, text in enumerate(named | told)]
    written = csv.DictReader(take_away.csv_text(Table("t", rows), ()).splitlines())
    assert [row["device"] for row in written] == list((named | told).values())


def test_the_suite_is_cited_as_its_citation_file_says() -> None:
    stated = yaml.safe_load((HOME / "CITATION.cff").read_text())
    assert (stated["title"], stated["version"]) == (citations.TITLE, __version__)
    assert [author["name"] for author in stated["authors"]] == [citations.AUTHORS]
    entries = citations.citations()
    assert "random" not in entries and PROGRAM in entries
    assert "author = {Grill and others}" in entries["byol"] and "year = {2020}" in entries["byol"]


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("")
    assert main(["report", "--published", "--export", "taken"]) == 2
    assert "cannot write taken" in capsys.readouterr().err and Path("taken").read_text() == ""
    assert main(["report", "--published", "--export", ""]) == 2
    assert "--export needs the name of a folder" in capsys.readouterr().err


def test_an_export_replaces_its_own_files_and_no_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "citations.bib").write_text("old")
    assert main(["report", "--published", "--export", str(folder)]) == 0
    assert (folder / "citations.bib").read_text() != "old"
    Path("thesis").mkdir()
    Path("thesis/citations.bib").write_text("mine")
    capsys.readouterr()
    assert main(["report", "--published", "--export", "thesis"]) == 2
    assert "thesis/citations.bib is there, and no export wrote it" in capsys.readouterr().err
    assert [path.read_text() for path in Path("thesis").iterdir()] == ["mine"]
