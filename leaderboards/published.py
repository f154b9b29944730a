"""The published boards: what `records/` beside this file holds, and nothing else, as files beside it.

`rebuild` is the only writer of those files, and `drift` says whether they still are what the records give.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leaderboards import claims, report
from leaderboards.suite import Suite

FOLDER = Path(__file__).parent
_AGAIN = "write the boards anew with python -m repro report --published"
LARGEST = 2_000_000
"""Bytes: a larger report is published without its pictures, one that still is larger not at all."""


def load_published(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The records under `folder/records`, by file name.

    Raises:
        ValueError: a file that holds no record, named.
    """
    return [record for _, record in _read(folder)]


def rebuild(suite: Suite, folder: Path = FOLDER) -> list[Path]:
    """Write the boards of `folder/records` to `folder`; returns the boards that changed."""
    built = _built(suite, folder)
    changed = [folder / name for name in built if _text(folder / name) != built[name]]
    for path in changed:
        path.write_text(built[path.name], encoding="utf-8")
    strangers = _strangers(folder, built)
    for path in strangers:
        path.unlink()
    return sorted([*changed, *strangers])


def drift(suite: Suite, folder: Path = FOLDER) -> list[str]:
    """One line for every board that is not what the records give; empty when all are."""
    built = _built(suite, folder)
    faults = []
    for name, text in built.items():
        if _text(folder / name) is None:
            faults.append(f"{name} is missing; {_AGAIN}")
        elif _text(folder / name) != text:
            faults.append(f"{name} differs from what the records give; {_AGAIN}, never edit it")
    return faults + [f"{path.name} comes from no record; {_AGAIN}" for path in _strangers(folder, built)]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _strangers(folder: Path, built: dict[str, str]) -> list[Path]:
    views = [p for p in sorted(folder.glob("*")) if p.suffix in (".md", ".svg", ".html") and p.name not in built]
    known = {picture(path.name, what) for path in folder.glob("records/*.json") for what in report.CAPTIONS}
    return views + [p for p in sorted(folder.glob("records/*.webp")) if p.name not in known]


def _built(suite: Suite, folder: Path) -> dict[str, str]:
    found = _read(folder)
    names = {record["fingerprint"]: name for name, record in found}
    pictures = {record["fingerprint"]: shown for name, record in found if (shown := _pictures(folder, name))}
    for kept in [pictures, {}] if pictures else [{}]:
        built = report.everything(
            [record for _, record in found],
            claims.load(suite),
            lambda record: f"records/{names[record['fingerprint']]}",
            suite,
            pictures=kept,
        )
        if len(built[report.FILE].encode()) <= LARGEST:
            return built
    del built[report.FILE]
    return built


def picture(record_file: str, what: str) -> str:
    """The name of the file beside a record that holds a picture of it: `what` is "detections" or "ranking"."""
    return f"{Path(record_file).stem}.{what}.webp"


def _pictures(folder: Path, record_file: str) -> dict[str, str]:
    """The pictures beside a published record, as data URIs by what they show."""
    paths = {what: folder / "records" / picture(record_file, what) for what in report.CAPTIONS}
    return {what: report.data_uri(path.read_bytes()) for what, path in paths.items() if path.is_file()}


def _read(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted((folder / "records").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not a record ({error}); remove it or publish it again") from None
        if not isinstance(record, dict) or "fingerprint" not in record:
            raise ValueError(f"{path}: not a record (no fingerprint); remove it or publish it again")
        found.append((path.name, record))
    return found
