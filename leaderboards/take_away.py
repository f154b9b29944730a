"""What a paper takes from the report: its tables as CSV and LaTeX with n and intervals, its pictures as SVG."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leaderboards import courses, forests, needs, pictures, report_rows
from leaderboards.answers import Answer, answers, by_title
from leaderboards.boards import Content
from leaderboards.cells import Cell
from leaderboards.courses import History
from leaderboards.drawing import PAPER_STYLE, Drawing
from leaderboards.paired_arms import baseline_differences
from leaderboards.pictured import Roles
from leaderboards.statistics import own
from leaderboards.suite import PROGRAM
from leaderboards.tables import Table, arranged

_NOT_ON_PAPER = ("optimism", "wall time", "peak memory", "device", "date", "from", "note", "updates", "image passes")


def tables(content: Content) -> dict[str, Table]:
    """Every table of the report by the name of its file, with its whole title."""
    known, claims = content.known, content.claims
    found = {"claims": Table("The claims and what was found", [report_rows.claim(a) for a in _answers(content)])}
    found |= board_tables(content)
    for track, items in baseline_differences(claims, known).items():
        rows = [report_rows.difference(item) for item in items if not item.apart]
        found[f"differences-{track}"] = Table(f"Methods against the baselines of their claims, {track}", rows)
    found["needs"] = Table("What a bigger machine would settle", needs.rows(content.needs), needs.LIFTED)
    for track in pictures.tracks_of(known):
        parts = pictures.part_differences(content, track).values()
        rows = [report_rows.difference(item) for items in parts for item in items]
        found[f"parts-{track}"] = Table(f"What each part of a method contributes, {track}", rows)
    found["trainings"] = Table("Trainings", [report_rows.training(arm) for arm in known.current("pretrain")])
    return {name: table for name, table in found.items() if table.rows}


def board_tables(content: Content) -> dict[str, Table]:
    """The tables of the boards alone."""
    found = {}
    for board in (*content.evaluations, content.pretext, content.efficiency):
        for number, part in enumerate(board.tables, 1):
            title = part.title if part.title.startswith(board.title) else f"{board.title}, {part.title}"
            found[f"{board.name}-{number}"] = dataclasses.replace(part, title=title)
    return found


def drawings(content: Content, histories: Mapping[str, History]) -> dict[str, Drawing]:
    """Every picture of the report by the name of its file; those of single claims in one."""
    roles = Roles(content.claims, content.known.suite)
    drawn = forests.verdicts(by_title(answers(content.papers)))
    found: dict[str, Sequence[Drawing]] = {"claims": [drawn] if drawn else []}
    for name, scenes in (
        ("cost", pictures.efficiency(content, roles)),
        ("monitor", courses.monitors(content, roles)),
        ("course", courses.shared(content, histories, roles)),
        ("loss", courses.losses(content, histories)),
        ("parts", pictures.contributions(content)),
    ):
        found[name] = [each for scene in scenes for each in (*scene.first, *scene.others, *scene.more)]
    for track, items in baseline_differences(content.claims, content.known).items():
        if fair := [item for item in items if not item.apart]:
            found[f"differences-{track}"] = pictures.differences(content, track, fair)
    return {f"{name}-{i}": drawing for name, drawn in found.items() for i, drawing in enumerate(drawn, 1)}


def svg(drawing: Drawing) -> str:
    """A picture as a file: dark on white, its colours written out."""
    return dataclasses.replace(drawing, style=PAPER_STYLE).svg() + "\n"


def csv_text(table: Table, known: Iterable[str]) -> str:
    """A table with a column each for mean, standard deviation, n and the ends of the 95 % interval of the mean.

    known: keys of the bibliography; the last column has those that a row rests on.
    """
    shown = arranged(table)
    known = set(known)
    spreads = [any(cell.values for cell in column) for column in zip(*shown.rows, strict=True)]
    heads = [
        head
        for (name, _), spread in zip(shown.heads, spreads, strict=True)
        for head in ([name, f"{name} sd", f"{name} n", f"{name} 95% low", f"{name} 95% high"] if spread else [name])
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*heads, "cite"])
    for row, cells in zip(table.rows, shown.rows, strict=True):
        line: list[Any] = []
        for cell, spread in zip(cells, spreads, strict=True):
            line += _numbers(cell) if spread else ["" if cell.empty else no_formula(cell.text)]
        writer.writerow([*line, " ".join([PROGRAM, *_cited([row], known)])])
    return file.getvalue()


def no_formula(text: str) -> str:
    """A text that no spreadsheet computes: what would begin a formula stands behind an apostrophe."""
    begins = text[:1] in ("=", "@", "\t", "\r") or (text[:1] in ("+", "-") and text[1:2].isalpha())
    return f"'{text}" if begins else text


def _numbers(cell: Cell) -> list[str]:
    if not cell.values:
        return ["", "", "", "", ""]
    mean = own(cell.values)
    if mean.n < 2:
        return [f"{mean.value:.6g}", "", "1", "", ""]
    return [f"{mean.value:.6g}", f"{mean.sd:.6g}", str(mean.n), *(f"{end:.6g}" for end in mean.interval)]


def latex(name: str, table: Table, known: Iterable[str]) -> str:
    """A table in an environment of its own, its caption with n, intervals and citations; needs booktabs.

    name: its label.  known: keys of the bibliography.
    """
    from tabulate import tabulate

    rows = [
        {key: cell for head, plain in row.items() if head not in _NOT_ON_PAPER for key, cell in _both(head, plain)}
        for row in table.rows
    ]
    shown = arranged(dataclasses.replace(table, rows=rows))
    drawn = tabulate(
        [[cell.text for cell in row] for row in shown.rows],
        headers=[head for head, _ in shown.heads],
        tablefmt="latex_booktabs",
        colalign=["left" if words else "right" for _, words in shown.heads],
        disable_numparse=True,
    )
    about = "Mean ± sample standard deviation over n pre-trainings, and the 95 % confidence interval of the mean."
    counted = about if any(cell.values for row in table.rows for cell in row.values()) else ""
    caption = _typeset(" ".join(filter(None, [f"{table.title}.", counted, shown.above, *table.under])))
    cited = _cited(table.rows, set(known))
    methods = f" Methods: \\cite{{{','.join(cited)}}}." if cited else ""
    sources = f" Measured with repro~\\cite{{{PROGRAM}}}.{methods}"
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}{sources}}}",
            f"\\label{{tab:{name}}}",
            str(drawn).replace("±", "$\\pm$"),
            "\\end{table}",
        ]
    )


def _both(head: str, cell: Cell) -> list[tuple[str, Cell]]:
    """A cell, and after the mean of two values or more the interval of that mean."""
    found = [(head, cell)]
    if len(cell.values) > 1:
        digits = len(cell.text.partition(" ")[0].partition(".")[2])
        low, high = own(cell.values).interval
        found.append((f"{head}, 95 %", Cell(f"[{low:.{digits}f}, {high:.{digits}f}]")))
    return found


def _cited(rows: Iterable[Mapping[str, Cell]], known: set[str]) -> list[str]:
    """The keys of what some rows rest on: their methods and baselines, without their variants."""
    named = {
        row[head].text.partition(":")[0] for row in rows for head in ("method", "baseline", "paper") if head in row
    }
    return sorted(named & known)


def _answers(content: Content) -> list[Answer]:
    return [answer for found in answers(content.papers, content.needs).values() for answer in found]


def _typeset(text: str) -> str:
    from tabulate import LATEX_ESCAPE_RULES

    return "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in text).replace("±", "$\\pm$")
