"""The boards as Markdown files."""

from __future__ import annotations

from leaderboards.answers import answers, by_title
from leaderboards.assessments import counts, older_recipes
from leaderboards.boards import INDEX_INTRO, Board, Content
from leaderboards.cells import whole, words
from leaderboards.claims_page import claims_text
from leaderboards.markdown_tables import rows_text, table_text
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
    built["claims.md"] = claims_text(content)
    built["index.md"] = _index_text(content, verdicts)
    return {name: f"{HEADER}\n{_without_tags(text)}\n" for name, text in sorted(built.items())}


def _without_tags(text: str) -> str:
    """Markdown takes what stands after < for HTML, and records are anybody's."""
    return text.rstrip("\n").replace("<", "&lt;")


def _board_text(board: Board, picture: str = "") -> str:
    several = len(board.intro) > 1
    intro = [*(f"* {item}" if several else item for item in board.intro), ""] if board.intro else []
    lines = [f"# {board.title}", "", *intro]
    lines += [board.note, ""] if board.note else []
    addresses: dict[str, int] = {}
    for number, table in enumerate(board.tables):
        lines += [f"## {table.title}", ""]
        if table.silent:
            lines += [table.silent, ""]
            continue
        if table.first:
            lines += [table_text(Table("", table.first), addresses), ""]
        else:
            lines += [table_text(table, addresses), ""]
        lines += [line for under in table.under for line in (under, "")]
        if picture and number == 0:
            lines += [f"![{board.title}]({picture})", ""]
    if any(table.first and not table.silent for table in board.tables):
        lines += ["# All columns", "", *([board.full, ""] if board.full else [])]
        for table in board.tables:
            if not table.silent:
                lines += [f"## {table.title}, all columns", "", table_text(table, addresses), ""]
    links = [f"[{place}]: {address}" for address, place in addresses.items()]
    return "\n".join([*lines, *(links or ([] if board.tables else [EMPTY]))])


def _index_text(content: Content, verdicts: str) -> str:
    titled = by_title(answers(content.papers))
    table, rest = verdict_table(titled, "claims.md", content.warnings())
    older = [OLDER_RECIPE] if older_recipes(content.assessments) else []
    rows = [
        {
            "board": words(f"[{board.title}]({board.name}.md)"),
            "configurations": whole(board.arms),
            "records": whole(board.records),
            "tracks": words(board.tracks),
        }
        for board in content.evaluations
    ]
    return "\n".join(
        [
            "# Leaderboards",
            "",
            f"{INDEX_INTRO} A configuration is one method with one recipe on the same data, several seeds.",
            "",
            rows_text(rows),
            "",
            "[Accuracy against cost](efficiency.md)",
            "",
            "[Pretext tasks](pretext.md): accuracy on the methods' own tasks: location and rotation",
            "",
            f"[Claims and verdicts](claims.md), counted by the outcome at equal epochs. {counts(content.assessments)}",
            "",
            *([f"![Comparisons of accuracy]({verdicts})", ""] if verdicts and table else []),
            *([table, ""] if table else []),
            *(f"* {line}" for line in (*beside_words(titled), rest, *older) if line),
        ]
    )
