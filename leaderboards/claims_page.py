"""The page of claims in Markdown: a table of verdicts for each paper, then a section for each tested claim."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards import needs
from leaderboards.assessments import Assessment, counts, older_recipes, outcomes_by_basis, tally
from leaderboards.boards import Content
from leaderboards.cells import Cell, words
from leaderboards.claims import MECHANISM
from leaderboards.markdown_tables import rows_text, table_text, without_tags
from leaderboards.reading import HOW_TESTED, evidence, terms
from leaderboards.tables import Table

COUNTED = (
    "Each claim counts once, by its verdict at equal epochs. `cannot be tested`: the paper's setting is unknown or no"
    " track has its data."
)


# Each is a line of its own: no record can write it, as its words stand in longer lines.
_FOLD, _FOLD_END = (
    "<details><summary>Evidence, settings, sources and records</summary>",
    "</details>",
)


def claims_text(content: Content) -> str:
    """The whole page."""
    counted = [{key: words(text) for key, text in row.items()} for row in counts(content.assessments)]
    lines = ["# Claims and verdicts", "", COUNTED, "", rows_text(counted), ""]
    rows = [
        {
            "paper": words(f"[{paper}](#{paper})"),
            "its claims": words(tally(item for item in found if item.claim.kind != MECHANISM)),
            "our own claims on why": words(tally(item for item in found if item.claim.kind == MECHANISM)),
        }
        for paper, found in content.papers.items()
    ]
    lines += [rows_text(rows), "", "## How to read the verdicts", ""]
    lines += [*(f"* {term}" for term in terms(older_recipes(content.assessments))), ""]
    lines += ["How sure a verdict is: see [how claims are tested](#how-claims-are-tested).", ""]
    for paper, found in content.papers.items():
        lines += [f"## {paper}", "", found[0].claim.citation, ""]
        lines += _paper_lines(found, content)
    if content.needs:
        table = table_text(Table("", needs.rows(content.needs), needs.LIFTED), {})
        lines += ["## What a bigger machine would settle", "", needs.INTRO, "", table, ""]
    lines += [
        "## How claims are tested",
        "",
        *(line for paragraph in (*evidence(), *HOW_TESTED) for line in (paragraph, "")),
    ]
    return "\n".join(line if line in (_FOLD, _FOLD_END) else without_tags(line) for line in lines)


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
    """What was found in sentences; all that only some readers need is folded away."""
    lines = [f"### {item.claim.id}", "", item.claim.statement, ""]
    for found in item.findings:
        outcome, colon, measured = found.headline.partition(": ")
        said = ". ".join([measured, *(_capital(words, item) for words in found.certainty)])
        lines += [f"**{outcome}**{colon}{said}.", ""]
    lines += [line for said in item.why for line in (f"**Why**: {said}.", "")]
    lines += [f"**Note**: {item.claim.note}", ""] if item.claim.note else []
    lines += [_FOLD, ""]
    lines += [f"- {said}" for said in (*item.background, *item.open, item.about, item.source, item.test)]
    lines += [f"- {said.words}" for said in content.learnt(item)]
    lines += [f"- {said}" for said in item.departures]
    lines += [f"- records on {where}: {_linked(sides)}" for where, sides in content.sources(item)]
    return [*lines, "", _FOLD_END, ""]


def _capital(words: str, item: Assessment) -> str:
    """The words as a sentence; the name of a method stays as it is written in a command."""
    return words if words.startswith(item.claim.arm) else words[0].upper() + words[1:]


def _line(item: Assessment) -> str:
    """A claim without a verdict from records, in one line."""
    note = f" Note: {item.claim.note}" if item.claim.note else ""
    said = "; ".join(item.open)
    return f"- **{item.claim.id}**: {item.claim.statement} {said}. {item.about}. {item.source}. {item.test}.{note}"


def _linked(sides: Sequence[tuple[str, Cell]]) -> str:
    """`byol [s0](...) [s1](...); moco_v3 [s0](...)`."""
    return "; ".join(f"{arm} {' '.join(f'[{mark}]({address})' for mark, address in cell.links)}" for arm, cell in sides)
