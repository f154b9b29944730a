"""The page of claims in Markdown: a table of verdicts for each paper, then a section for each tested claim."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards import needs
from leaderboards.assessments import Assessment, counts, older_recipes, outcomes_by_basis, tally
from leaderboards.boards import Content
from leaderboards.cells import Cell, words
from leaderboards.claims import MECHANISM
from leaderboards.markdown_tables import rows_text, table_text
from leaderboards.reading import HOW_TESTED, claims_intro
from leaderboards.tables import Table


def claims_text(content: Content) -> str:
    """The whole page."""
    lines = ["# Claims and verdicts", "", counts(content.assessments), ""]
    rows = [
        {
            "paper": words(f"[{paper}](#{paper})"),
            "its claims": words(tally(item for item in found if item.claim.kind != MECHANISM)),
            "our own claims on why": words(tally(item for item in found if item.claim.kind == MECHANISM)),
        }
        for paper, found in content.papers.items()
    ]
    lines += [rows_text(rows), "", "## How to read the verdicts", ""]
    lines += [line for paragraph in claims_intro(older_recipes(content.assessments)) for line in (paragraph, "")]
    lines += ["[More about how claims are tested](#how-claims-are-tested).", ""]
    for paper, found in content.papers.items():
        lines += [f"## {paper}", "", found[0].claim.citation, ""]
        lines += _paper_lines(found, content)
    if content.needs:
        table = table_text(Table("", needs.rows(content.needs), needs.LIFTED), {})
        lines += ["## What a bigger machine would settle", "", needs.INTRO, "", table, ""]
    lines += ["## How claims are tested", "", *(line for paragraph in HOW_TESTED for line in (paragraph, ""))]
    return "\n".join(lines)


def _paper_lines(found: Sequence[Assessment], content: Content) -> list[str]:
    """A table and a section each for tested claims; a line each for those not run or out of reach."""
    tested = [item for item in found if item.answered]
    lines: list[str] = []
    if tested:
        rows = []
        for item in tested:
            row = {head: words(text) for head, text in outcomes_by_basis(item).items()}
            rows.append({**row, "claim": words(f"[{item.claim.id}](#{item.claim.id})")})
        lines += [rows_text(rows), ""]
        lines += [line for item in tested for line in _section(item, content)]
    not_run = [item for item in found if not item.answered and not item.untestable]
    untestable = [item for item in found if not item.answered and item.untestable]
    if not_run:
        lines += [f"### Claims of {found[0].claim.paper} that were not run", "", *map(_line, not_run), ""]
    if untestable:
        lines += [f"### Claims of {found[0].claim.paper} that cannot be tested", "", *map(_line, untestable), ""]
    return lines


def _section(item: Assessment, content: Content) -> list[str]:
    claim = item.claim
    lines = [f"### {claim.id}", "", claim.statement, ""]
    lines += [line for said in item.why for line in (f"**Why**: {said}.", "")]
    for headline, details in item.findings:
        outcome, colon, measured = headline.partition(": ")
        lines += [f"**{outcome}**{colon}{measured}", "", *(f"- {detail}" for detail in details)]
        lines += [""] if details else []
    lines += [
        "About this claim:",
        "",
        *(f"- {said}" for said in item.open),
        f"- {item.about}",
        f"- {item.source}",
        f"- {item.test}",
        *(f"- {said.words}" for said in content.learnt(item)),
        *(f"- {said}" for said in item.departures),
        *([f"- note: {claim.note}"] if claim.note else []),
        *(f"- records on {where}: {_linked(sides)}" for where, sides in content.sources(item)),
        "",
    ]
    return lines


def _line(item: Assessment) -> str:
    """A claim without a verdict from records, in one line."""
    note = f" Note: {item.claim.note}" if item.claim.note else ""
    said = "; ".join(item.open)
    return f"- **{item.claim.id}**: {item.claim.statement} {said}. {item.about}. {item.source}. {item.test}.{note}"


def _linked(sides: Sequence[tuple[str, Cell]]) -> str:
    """`byol [s0](...) [s1](...); moco_v3 [s0](...)`."""
    return "; ".join(f"{arm} {' '.join(f'[{mark}]({address})' for mark, address in cell.links)}" for arm, cell in sides)
