"""The boards and the report of a workspace."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards import report as page
from repro.results import artifacts, find_records
from repro.results.suite import suite
from repro.settings import Settings, require_writable
from repro.store import records
from repro.store.workspace import Workspace
from slurm.files import write_atomic


def write_boards(place: Workspace) -> list[str]:
    """Write the workspace's boards and report from its records; returns a line for each file that is no record."""
    found, faults = records.read_all(place.records)
    built = page.everything(
        found,
        find_records.every_claim(),
        lambda record: f"../records/{records.file_name(dict(record))}",
        suite(),
        artifacts.logs(place, found),
        _pictures(place, found),
    )
    for name, text in built.items():
        write_atomic(place.boards / name, text)
    return faults


def _pictures(place: Workspace, found: Sequence[records.Record]) -> dict[str, dict[str, str]]:
    shown: dict[str, dict[str, str]] = {}
    for name in page.CAPTIONS:
        for record, path in artifacts.of(place, found, (name,)):
            if packed := artifacts.packed(path):
                shown.setdefault(record["fingerprint"], {})[name] = page.data_uri(packed)
    return shown


def report(settings: Settings) -> str:
    """Rewrite the boards; returns what to print."""
    place = Workspace.existing(settings.workspace)
    require_writable(settings.workspace)
    faults = write_boards(place)
    lines = [f"skipped: {fault}" for fault in faults]
    if not any(place.records.glob("*.json")):
        lines.append(f"0 records in {place.root}: the boards are empty. Results come from: python -m repro run")
    lines.append(f"boards written to {place.boards} (begin with {place.boards / 'index.md'})")
    return "\n".join([*lines, f"to look at in a browser: {place.boards / page.FILE}"])
