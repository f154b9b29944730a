"""`repro report --export FOLDER`: every table and picture of the report as a file of its own, for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from leaderboards import boards, published, take_away
from leaderboards.arms import Arms
from leaderboards.courses import History
from repro.errors import UserError
from repro.results import artifacts, find_records
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from slurm.files import write_atomic

_BIBLIOGRAPHY = "citations.bib"
_CONTENTS = "contents.md"
_HEAD = "# Tables and plots of the report"


def export_report(folder: Path, published_ones: bool, settings: Settings) -> str:
    """Write the tables as CSV and LaTeX, the pictures as SVG and a bibliography; returns what to tell the user.

    published_ones: of the repository's records instead of the workspace's.

    Raises:
        UserError: no record; a folder that cannot be written, or holds files of these names that no export wrote.
    """
    histories: Mapping[str, History] = {}
    if published_ones:
        place = published.records_folder(published.FOLDER)
        found, faults = records.read_published(place)
    else:
        workspace = Workspace.existing(settings.workspace)
        place = workspace.records
        found, faults = records.read_all(place)
        histories = artifacts.logs(workspace, found)
    if not found:
        raise UserError(f"no record in {place}; see python -m repro status")
    content = boards.compose(Arms(found, suite()), find_records.every_claim(), lambda record: "")
    known = suite().bibliography
    tables = take_away.tables(content)
    drawings = take_away.drawings(content, histories)
    files = {f"{name}.csv": take_away.csv_text(table, known) for name, table in tables.items()}
    files |= {f"{name}.tex": take_away.latex(name, table, known) + "\n" for name, table in tables.items()}
    files |= {f"{name}.svg": take_away.svg(drawing) for name, drawing in drawings.items()}
    files[_BIBLIOGRAPHY] = "\n\n".join(known.values()) + "\n"
    titles = {name: table.title for name, table in tables.items()}
    lines = [f"- `{name}.csv`, `{name}.tex`: {title}" for name, title in titles.items()]
    lines += [f"- `{name}.svg`: {drawing.said}" for name, drawing in drawings.items()]
    files = {_CONTENTS: "\n".join([_HEAD, "", *lines]) + "\n", **files}  # the first to be written: see `_ours`
    try:
        taken = [] if _ours(folder) else [name for name in files if (folder / name).exists()]
        if taken:
            raise UserError(f"{folder / taken[0]} is there, and no export wrote it; give a new folder with --export")
        for name, text in files.items():
            write_atomic(folder / name, text)
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error.strerror or error}); choose another folder with --export"
        ) from None
    return "\n".join(
        [
            *(f"skipped: {fault}" for fault in faults),
            f"wrote {folder}: {len(tables)} tables (.csv and .tex, which needs booktabs), {len(drawings)} plots"
            f" (.svg), {_BIBLIOGRAPHY} and {_CONTENTS}",
            "to make a PDF of a plot: rsvg-convert -f pdf -o NAME.pdf NAME.svg",
        ]
    )


def _ours(folder: Path) -> bool:
    """Whether an earlier export wrote the files of this folder."""
    contents = folder / _CONTENTS
    return contents.is_file() and contents.read_text(encoding="utf-8", errors="replace").startswith(_HEAD)
