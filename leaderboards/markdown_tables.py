"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.answers import Answer
from leaderboards.cells import Cell, Row
from leaderboards.outcomes import outcomes
from leaderboards.tables import Table, arranged


def table_text(table: Table, addresses: dict[str, int]) -> str:
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


def pipe(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned Markdown of texts that are Markdown themselves."""
    from tabulate import tabulate

    return str(tabulate(rows, headers=heads, tablefmt="pipe", disable_numparse=True))


def rows_text(rows: Sequence[Row]) -> str:
    """A table without links of its own."""
    return table_text(Table("", rows), {})


def outcomes_text(found: Sequence[Answer]) -> str:
    """The comparisons counted by their outcome, as Markdown."""
    if not any(answer.epochs or answer.compute for answer in found):
        return "No comparison was tested yet."
    counted = outcomes(found)
    rows = [[what, str(total), *(str(number or "-") for number in of)] for what, total, of in counted.rows]
    return f"{pipe(['comparisons of', 'number', *counted.words], rows)}\n\n{counted.about}"


def without_tags(text: str) -> str:
    """Markdown takes what stands after < for HTML, and records are anybody's."""
    return text.replace("<", "&lt;")
