"""Tables in READMEs: made of records between marks, and never edited by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leaderboards import published
from repro.results import readmes
from repro.results.find_records import published_records
from repro.results.suite import suite

ROOT = published.FOLDER.parent


def test_only_what_stands_between_marks_is_written() -> None:
    text = "before\n<!-- generated: one -->\nold\n<!-- end -->\nbetween\n<!-- generated: two -->\n<!-- end -->\nafter\n"
    made = readmes.filled(text, {"one": lambda: "1", "two": lambda: "2"})
    assert made == (
        "before\n<!-- generated: one -->\n1\n\n<!-- end -->\nbetween\n"
        "<!-- generated: two -->\n2\n\n<!-- end -->\nafter\n"
    )
    assert readmes.filled(made, {"one": lambda: "1", "two": lambda: "2"}) == made
    with pytest.raises(ValueError, match="no table is called 'two'; known are one"):
        readmes.filled(text, {"one": lambda: "1"})


def test_an_edited_table_is_found_and_written_anew(tmp_path: Path) -> None:
    records, _ = published_records()
    page = tmp_path / "README.md"
    page.write_text("# here\n<!-- generated: gains mini -->\n<!-- end -->\n", encoding="utf-8")
    assert readmes.fill(tmp_path, records, suite()) == [page] and readmes.drift(tmp_path, records, suite()) == []
    made = page.read_text(encoding="utf-8")
    page.write_text(made.replace("| method", "| methods"), encoding="utf-8")
    (fault,) = readmes.drift(tmp_path, records, suite())
    assert fault.startswith("README.md: a table does not match the records; ")
    assert readmes.fill(tmp_path, records, suite()) == [page] and page.read_text(encoding="utf-8") == made


def test_the_repositorys_readmes_are_what_its_records_give() -> None:
    assert readmes.drift(ROOT, published.load_published(ROOT / "leaderboards"), suite()) == []


_ROWS = re.compile(r"^(?:\|.*\||\S.*?(?: {2,}\S+)+)$")


def test_no_readme_has_a_table_of_numbers_that_no_record_makes() -> None:
    """A row of a table, between bars or in columns, with a cell that is a number alone."""
    pages = [ROOT / "README.md", *(path for path in ROOT.glob("[!.]*/README.md"))]
    assert {str(path.relative_to(ROOT)) for path in pages} <= set(readmes.PAGES)
    rows = 0
    for path in pages:
        text = path.read_text(encoding="utf-8")
        made = re.findall(r"<!-- generated: .*?<!-- end -->", text, flags=re.DOTALL)
        rows += sum(len(_numbers(part)) for part in made)
        by_hand = re.sub(r"<!-- generated: .*?<!-- end -->", "", text, flags=re.DOTALL)
        assert _numbers(by_hand) == [], f"{path}: numbers that no record makes"
    assert rows > 30  # it finds them where they may be


def _numbers(text: str) -> list[str]:
    found = []
    for line in filter(_ROWS.match, text.splitlines()):
        cells = re.split(r" {2,}|\|", line.strip("|"))
        if any(re.fullmatch(r"[+-]?[\d,]*\.?\d+ ?%?", cell.strip()) for cell in cells):
            found.append(line)
    return found


def test_the_front_page_is_short_and_all_its_links_lead_somewhere() -> None:

    for name in ("README.md", "repro/README.md", "eval/README.md", "slurm/README.md", "leaderboards/README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
        assert [link for link in links if ":" not in link and not ((ROOT / name).parent / link).exists()] == []
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<!-- generated: one -->\nprose\n<!-- generated: one -->\nx\n<!-- end -->\n", "<!-- generated: one -->"),
        ("<!-- generated: one -->\nx\n<!-- end\n", "<!-- generated: one -->"),
        ("x\n<!-- end -->\n", "<!-- end -->"),
        ("<!--generated: one -->\nx\n<!-- end -->\n", "<!--generated: one -->"),
        ("<!-- generated one -->\nx\n<!-- end -->\n", "<!-- generated one -->"),
    ],
)
def test_a_mark_without_its_other_half_is_refused(text: str, mark: str) -> None:
    with pytest.raises(ValueError, match=f"mark '{mark}' is not one of a pair"):
        readmes.filled(text, {"one": lambda: "made"})
