"""The tables of the boards as LaTeX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from leaderboards import boards
from leaderboards.arms import Arms
from leaderboards.tables import arranged
from repro.results.find_records import every_claim, with_ancestors
from repro.results.suite import suite
from repro.store.records import Record
from slurm.files import write_atomic

_NOT_ON_PAPER = ("optimism", "wall time", "peak memory", "device", "date", "from", "note", "updates", "image passes")


def write_latex(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """The tables of the boards, each in an environment of its own."""
    from tabulate import tabulate

    content = boards.compose(Arms(with_ancestors(chosen, every), suite()), every_claim(), lambda record: "")
    lines = ["% generated from records by `python -m repro records --to latex`; needs \\usepackage{booktabs}"]
    count = 0
    for board in (*content.evaluations, content.pretext, content.efficiency):
        for number, part in enumerate(board.tables, 1):
            rows = [{key: cell for key, cell in row.items() if key not in _NOT_ON_PAPER} for row in part.rows]
            shown = arranged(dataclasses.replace(part, rows=rows))
            drawn = tabulate(
                [[cell.text for cell in row] for row in shown.rows],
                headers=[head for head, _ in shown.heads],
                tablefmt="latex_booktabs",
                colalign=["left" if words else "right" for _, words in shown.heads],
                disable_numparse=True,
            )
            title = part.title if part.title.startswith(board.title) else f"{board.title}, {part.title}"
            about = "Mean ± sample standard deviation over n pre-trainings."
            caption = " ".join(filter(None, [f"{title}.", about, shown.above, *part.under]))
            lines += [
                "",
                "\\begin{table}",
                "\\centering",
                f"\\caption{{{_typeset(caption)}}}",
                f"\\label{{tab:{board.name}-{number}}}",
                str(drawn).replace("±", "$\\pm$"),
                "\\end{table}",
            ]
            count += 1
    write_atomic(out, "\n".join(lines) + "\n")
    return f"{count} tables"


def _typeset(text: str) -> str:
    from tabulate import LATEX_ESCAPE_RULES

    return "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in text).replace("±", "$\\pm$")
