"""The tables of the boards as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leaderboards import boards, take_away
from leaderboards.arms import Arms
from repro.results.find_records import every_claim, with_ancestors
from repro.results.suite import suite
from repro.store.records import Record
from slurm.files import write_atomic


def write_latex(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """The tables of the boards, each in an environment of its own."""
    content = boards.compose(Arms(with_ancestors(chosen, every), suite()), every_claim(), lambda record: "")
    known = suite().bibliography
    found = [take_away.latex(name, table, known) for name, table in take_away.board_tables(content).items()]
    head = (
        "% generated from records by `python -m repro records --to latex`; needs \\usepackage{booktabs};"
        " `report --export FOLDER` writes the bibliography"
    )
    write_atomic(out, "\n\n".join([head, *found]) + "\n")
    return f"{len(found)} tables"
