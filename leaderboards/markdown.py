"""The boards as Markdown files."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.answers import answers, by_title
from leaderboards.assessments import older_recipes
from leaderboards.board_texts import INDEX_INTRO
from leaderboards.boards import Board, Content
from leaderboards.cells import whole, words
from leaderboards.claims_page import claims_text
from leaderboards.markdown_tables import outcomes_text, rows_text, table_text, without_tags
from leaderboards.reading import OLDER_RECIPE
from leaderboards.tables import EMPTY, Table
from leaderboards.verdict_table import beside_words, verdict_table

HEADER = "<!-- generated from records by `python -m repro`; do not edit -->"


def markdown(content: Content, picture: str = "", verdicts: str = "") -> dict[str, str]:
    """Every board by file name.

    picture, verdicts: addresses of what `pictures.sheet` and `pictures.verdicts` draw of the same records, or "".
    """
    built = {f"{board.name}.md": _board_text(board) for board in content.evaluations}
    built["efficiency.md"] = _board_text(content.efficiency, picture)
    built["pretext.md"] = _board_text(content.pretext)
    built["index.md"] = _index_text(content, verdicts)
    safe = {name: without_tags(text) for name, text in built.items()} | {"claims.md": claims_text(content)}
    return {name: f"{HEADER}\n{text.rstrip()}\n" for name, text in sorted(safe.items())}


def _board_text(board: Board, picture: str = "") -> str:
    full = any(table.first and not table.silent for table in board.tables)
    below = [section.title for section in board.sections] + (["All columns"] if full else [])
    ways = ", ".join(f"[{title}](#{title.lower().replace(' ', '-')})" for title in below)
    lines = [f"# {board.title}", "", *_list(board.lead), *([f"Below the tables: {ways}.", ""] if below else [])]
    addresses: dict[str, int] = {}
    for number, table in enumerate(board.tables):
        lines += [f"## {table.title}", ""]
        if table.silent:
            lines += [table.silent, ""]
            continue
        lines += [table_text(Table("", table.first) if table.first else table, addresses), ""]
        lines += [line for under in table.under for line in (under, "")]
        if picture and number == 0:
            lines += [f"![{board.title}]({picture})", ""]
    for section in board.sections:
        lines += [f"## {section.title}", "", *_list(section.items)]
    if full:
        lines += ["# All columns", "", *_list(board.further)]
        for table in board.tables:
            if not table.silent:
                lines += [f"## {table.title}, all columns", "", table_text(table, addresses), ""]
    links = [f"[{place}]: {address}" for address, place in addresses.items()]
    return "\n".join([*lines, *(links or ([] if board.tables else [EMPTY]))])


def _list(items: Sequence[str]) -> list[str]:
    """Lines of a list, and an empty one behind it; none for none."""
    return [*(f"* {item}" for item in items), ""] if items else []


def _index_text(content: Content, verdicts: str) -> str:
    titled = by_title(answers(content.papers))
    table, rest = verdict_table(titled, "claims.md", content.warnings())
    older = [OLDER_RECIPE] if older_recipes(content.assessments) else []
    rows = [
        {
            "board": words(f"[{board.title}]({board.name}.md)"),
            "rows": whole(board.arms),
            "records": whole(board.records),
            "tracks": words(board.tracks),
        }
        for board in content.evaluations
    ]
    return "\n".join(
        [
            "# Leaderboards",
            "",
            f"{INDEX_INTRO} A row is one method with one recipe; its number is the mean over seeds.",
            "",
            rows_text(rows),
            "",
            "[Accuracy against cost](efficiency.md)",
            "",
            "[Pretext tasks](pretext.md): accuracy on the methods' own tasks: location and rotation",
            "",
            "[Claims and verdicts](claims.md): what the papers claim, and what was found",
            "",
            outcomes_text([answer for found in titled.values() for answer in found]),
            "",
            *([f"![Comparisons of accuracy]({verdicts})", ""] if verdicts and table else []),
            *([table, ""] if table else []),
            *(f"* {line}" for line in (*beside_words(titled), rest, *older) if line),
        ]
    )
