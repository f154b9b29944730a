"""The published boards: what `records/` beside this file holds, and nothing else, as files beside it.

`rebuild` is the only writer of those files, and `drift` says whether they still are what the records give.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leaderboards import claim_files, record_files, report
from leaderboards.record_fields import Record
from leaderboards.suite import Suite

FOLDER = record_files.FOLDER.parent
_OURS = "README.md"  # the one file of this kind that no record makes
_WRITE = "python -m repro report --published"
LARGEST = 1_500_000
"""Bytes: a larger report is published without its pictures, one that still is larger not at all."""


def load_published(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The records of `folder/records`, by file and line.

    Raises:
        ValueError: a line that holds no record, named.
    """
    found, faults = record_files.read(records_folder(folder))
    if faults:
        raise ValueError(str(faults[0]))
    return [line.record for line in found]


def records_folder(folder: Path) -> Path:
    """Where the records of boards in `folder` are."""
    return folder / record_files.FOLDER.name


def rebuild(suite: Suite, folder: Path = FOLDER) -> list[Path]:
    """Write the boards of `folder/records` to `folder`; returns the boards that changed."""
    found = load_published(folder)
    built = _built(suite, folder, found)
    changed = [folder / name for name in built if not _holds(folder / name, built[name])]
    for path in changed:
        path.write_text(built[path.name], encoding="utf-8")
    strangers = _strangers(folder, built, found)
    for path in strangers:
        path.unlink()
    return sorted([*changed, *strangers])


def drift(suite: Suite, folder: Path = FOLDER) -> list[str]:
    """One line for every board that is not what the records give; empty when all are."""
    found = load_published(folder)
    built = _built(suite, folder, found)
    faults = []
    for name, text in built.items():
        if not (folder / name).is_file():
            faults.append(f"{name} is missing; write it with {_WRITE}")
        elif not _holds(folder / name, text):
            faults.append(f"{name} does not match the records; write it again with {_WRITE}, never by hand")
    strangers = _strangers(folder, built, found)
    return faults + [f"{path.name} comes from no record; delete it, or run {_WRITE}" for path in strangers]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _strangers(folder: Path, built: dict[str, str], found: Sequence[Record]) -> list[Path]:
    views = [
        p for p in sorted(folder.glob("*")) if p.suffix in (".md", ".svg", ".html") and p.name not in (*built, _OURS)
    ]
    place = records_folder(folder)
    known = {place / picture(record, what) for record in found for what in report.CAPTIONS}
    return views + [p for p in sorted(place.rglob("*.webp")) if p not in known]


def _built(suite: Suite, folder: Path, found: Sequence[Record]) -> dict[str, str]:
    place = records_folder(folder)
    pictures = {record["fingerprint"]: shown for record in found if (shown := _pictures(place, record))}
    for kept in [pictures, {}] if pictures else [{}]:
        built = report.everything(
            found,
            claim_files.load(suite),
            lambda record: f"{place.name}/{record_files.address(record)}",
            suite,
            artifacts=kept,
        )
        if len(built[report.FILE].encode()) <= LARGEST:
            return built
    del built[report.FILE]
    return built


def picture(record: Record, what: str) -> str:
    """The file of a picture of a record, below the folder: `what` is "detections" or "ranking"."""
    file, _, fingerprint = record_files.address(record).partition("#")
    return f"{file.removesuffix('.jsonl')}-{fingerprint}.{what}.webp"


def _pictures(place: Path, record: Record) -> dict[str, str]:
    """The pictures of a published record, as data URIs by what they show."""
    paths = {what: place / picture(record, what) for what in report.CAPTIONS}
    return {what: report.data_uri(path.read_bytes()) for what, path in paths.items() if path.is_file()}
