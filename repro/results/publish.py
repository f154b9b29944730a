"""`repro publish`: chosen records go to the repository, whose boards are made of those alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from leaderboards import published, record_files
from leaderboards import report as page
from repro.errors import UserError
from repro.results import artifacts, readmes
from repro.results.find_records import choose, every_claim
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from slurm.files import try_lock

_LOCK = ".lock"
_OWN_DATA = ("digit-scenes", "digit-cameras")
"""Made here of digits. Photographs show people and want their authors named, so they stay in the workspace."""


def publish(settings: Settings, methods: Sequence[str] | None, track: str | None) -> str:
    """Add records to `leaderboards/records/` and rebuild the repository's boards. UserError while another does."""
    folder = _repository("publish")
    target = published.records_folder(folder)
    place = Workspace(settings.workspace)
    found, faults = records.read_all(place.records)
    chosen = choose(found, methods, track)
    if not chosen:
        raise UserError(f"no record in {place.records} fits; see python -m repro status")
    every_claim()  # damaged ones would stop the boards, after the records were written
    with _alone(folder):
        there, damaged = records.read_published(target)
        if damaged:  # they would be lost
            raise UserError(damaged[0])
        known = records.by_fingerprint(there)
        new = [record for record in chosen if record["fingerprint"] not in known]
        try:
            record_files.write(target, [*there, *new])
        except ValueError as error:
            raise UserError(str(error)) from None
        free = [record for record in chosen if record["provenance"]["data"]["name"] in _OWN_DATA]
        for name in page.CAPTIONS:
            for record, path in artifacts.of(place, free, (name,)):
                kept = target / published.picture(record, name)
                if not kept.exists() and (packed := artifacts.packed(path)):
                    kept.write_bytes(packed)
        changed = rebuild()
    lines = [f"skipped: {fault}" for fault in faults]
    lines.append(
        f"{len(new)} records published, {len(chosen) - len(new)} were there; boards changed: {_names(changed)}"
    )
    if not (published.FOLDER / page.FILE).is_file():
        lines.append(f"{page.FILE} is left out: it would be larger than {published.LARGEST / 1e6:g} MB")
    return "\n".join(lines)


def report_published() -> str:
    """Rewrite the repository's boards from the records that it holds; returns what to print."""
    folder = _repository("report --published")
    with _alone(folder):
        changed = rebuild()
    return f"boards of {published.records_folder(folder)} written to {folder}; changed: {_names(changed)}"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a repository's boards: of two writers at once, one would undo what the other adds."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = try_lock(folder / _LOCK)
    except ValueError as error:
        raise UserError(str(error)) from None
    if lock is None:
        raise UserError(f"another command is writing the boards of {folder}", "run this one again when it has ended")
    try:
        yield
    finally:
        os.close(lock)


def _repository(verb: str) -> Path:
    """The folder of the published boards, where they are part of a repository."""
    if not (published.FOLDER.parent / ".git").exists():
        raise UserError(f"{verb} changes the repository, and {published.FOLDER.parent} is none; run it in a clone")
    return published.FOLDER


def rebuild() -> list[Path]:
    """Write the repository's boards and the tables of its READMEs; returns what changed.

    UserError for a line that holds no record.
    """
    _, damaged = records.read_published(published.records_folder(published.FOLDER))
    if damaged:
        raise UserError(damaged[0])
    try:
        boards = published.rebuild(suite(), published.FOLDER)
        return boards + readmes.fill(published.FOLDER.parent, published.load_published(published.FOLDER), suite())
    except ValueError as error:
        raise UserError(str(error)) from None


def _names(paths: Sequence[Path]) -> str:
    """The boards by their names, the READMEs with their folder."""
    found = [
        str(path.relative_to(published.FOLDER.parent)) if path.name == "README.md" else path.name for path in paths
    ]
    return ", ".join(found) or "none"
