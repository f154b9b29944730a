"""The boards as Markdown files."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards import needs
from leaderboards.assessments import outcomes_by_basis, tally, untestable
from leaderboards.boards import INDEX_INTRO, Board, Content
from leaderboards.cells import Cell, Row, whole, words
from leaderboards.tables import EMPTY, Table, arranged
from leaderboards.wording import CLAIMS_INTRO

HEADER = "<!-- generated from records by `python -m repro`; do not edit -->"


def markdown(content: Content, picture: str = "") -> dict[str, str]:
    """Every board by file name.

    picture: address of what `plots.efficiency_sheet` draws of the same records, or "" for none.
    """
    built = {f"{board.name}.md": _board_text(board) for board in content.evaluations}
    built["efficiency.md"] = _board_text(content.efficiency, picture)
    built["pretext.md"] = _board_text(content.pretext)
    built["claims.md"] = _claims_text(content)
    built["index.md"] = _index_text(content)
    return {name: f"{HEADER}\n{_without_tags(text)}\n" for name, text in sorted(built.items())}


def _without_tags(text: str) -> str:
    """Markdown takes what stands after < for HTML, and records are anybody's."""
    return text.rstrip("\n").replace("<", "&lt;")


def _table_text(table: Table, addresses: dict[str, int]) -> str:
    """Aligned Markdown. The addresses of its links are numbered in `addresses`."""
    from tabulate import tabulate

    shown = arranged(table)

    def text(cell: Cell) -> str:
        if not cell.links:
            return cell.text.replace("|", "/")
        found = []
        for shown_as, address in cell.links:
            found.append(f"[{shown_as}][{addresses.setdefault(address, len(addresses) + 1)}]")
        return " ".join(found)

    drawn = tabulate(
        [[text(cell) for cell in row] for row in shown.rows],
        headers=[head for head, _ in shown.heads],
        tablefmt="pipe",
        colalign=["left" if of_words else "right" for _, of_words in shown.heads],
        disable_numparse=True,
    )
    return (shown.above + "\n\n" if shown.above else "") + str(drawn)


def _rows_text(rows: Sequence[Row]) -> str:
    """A table without links of its own."""
    return _table_text(Table("", rows), {})


def _board_text(board: Board, picture: str = "") -> str:
    lines = [f"# {board.title}", "", board.intro, ""]
    if board.tables and picture:
        lines += [f"![Accuracy against time of pre-training]({picture})", ""]
    addresses: dict[str, int] = {}
    for table in board.tables:
        lines += [f"## {table.title}", ""]
        if table.silent:
            lines += [table.silent, ""]
            continue
        if table.first:
            lines += [_table_text(Table("", table.first), addresses), ""]
        else:
            lines += [_table_text(table, addresses), ""]
        lines += [line for under in table.under for line in (under, "")]
    if any(table.first and not table.silent for table in board.tables):
        lines += ["# All columns", ""]
        for table in board.tables:
            if not table.silent:
                lines += [f"## {table.title}, all columns", "", _table_text(table, addresses), ""]
    links = [f"[{place}]: {address}" for address, place in addresses.items()]
    return "\n".join([*lines, *(links or ([] if board.tables else [EMPTY]))])


def _claims_text(content: Content) -> str:
    lines = ["# Claims and verdicts", ""]
    lines += [line for paragraph in CLAIMS_INTRO for line in (paragraph, "")]
    rows = [
        {"paper": words(f"[{paper}](#{paper})"), "claims": whole(len(found)), "verdicts": words(tally(found))}
        for paper, found in content.papers.items()
    ]
    lines += [_rows_text(rows), ""]
    for paper, found in content.papers.items():
        outcomes = [{head: words(text) for head, text in outcomes_by_basis(item).items()} for item in found]
        lines += [f"## {paper}", "", found[0].claim.citation, "", _rows_text(outcomes), ""]
        lines += [line for said in (untestable(found),) if said for line in (said, "")]
        for item in found:
            lines += [
                f"- {' '.join(f'**{sentence}.**' for sentence in item.sentences)}",
                f"  - {item.claim.statement}",
                f"  - `{item.claim.id}`, {item.about}",
                f"  - {item.source}",
                f"  - {item.test}",
                *(f"  - {said}" for said in item.departures),
                *([f"  - note: {item.claim.note}"] if item.claim.note else []),
                *(f"  - records at {where}: {_linked(sides)}" for where, sides in content.sources(item)),
            ]
        lines.append("")
    if content.needs:
        table = _table_text(Table("", needs.rows(content.needs), needs.LIFTED), {})
        lines += ["## What a bigger machine would settle", "", needs.INTRO, "", table]
    return "\n".join(lines)


def _linked(sides: Sequence[tuple[str, Cell]]) -> str:
    """`byol [s0](...) [s1](...); moco_v3 [s0](...)`."""
    return "; ".join(f"{arm} {' '.join(f'[{mark}]({address})' for mark, address in cell.links)}" for arm, cell in sides)


def _index_text(content: Content) -> str:
    rows = [
        {
            "board": words(f"[{board.title}]({board.name}.md)"),
            "arms": whole(board.arms),
            "records": whole(board.records),
            "tracks": words(board.tracks),
        }
        for board in content.evaluations
    ]
    claims = content.assessments
    return "\n".join(
        [
            "# Leaderboards",
            "",
            INDEX_INTRO,
            "",
            _rows_text(rows),
            "",
            "[Accuracy against cost](efficiency.md)",
            "",
            "[Pretext tasks](pretext.md): accuracy on the methods' own tasks: location and rotation",
            "",
            f"[Claims and verdicts](claims.md): {len(claims)} claims of {len(content.papers)} papers; verdicts"
            f" (one per claim, track, and equal epochs or compute): {tally(claims)}.",
            "",
            *(
                f"- {sentence} ([{item.claim.id}](claims.md#{item.claim.paper}))"
                for item in claims
                for sentence in item.brief
            ),
        ]
    )
