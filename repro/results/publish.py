"""From records to what people read: the workspace's boards, the claims, and the repository's published records."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eval import protocols
from leaderboards import claims, published
from leaderboards import report as page
from repro.errors import UserError
from repro.results.exchange import choose
from repro.settings import Settings, require_writable
from repro.store import records
from repro.store.workspace import Workspace

_WIDEST = 900  # pixels
_OWN_DATA = ("digit-scenes", "digit-cameras")
"""Made here of digits. Photographs show people and want their authors named, so they stay in the workspace."""


def write_boards(place: Workspace) -> list[str]:
    """Write the workspace's boards and report from its records; returns a line for each file that is no record."""
    found, faults = records.read_all(place.records)
    built = page.everything(
        found,
        claims.load(),
        lambda record: f"../records/{records.file_name(dict(record))}",
        {r["fingerprint"]: _log(path, path.stat().st_mtime) for r, path in _artifacts(place, found, ("log",))},
        _pictures(place, found),
        named_protocols(),
    )
    for name, text in built.items():
        records.write_atomic(place.boards / name, text)
    return faults


def _artifacts(place: Workspace, found: Sequence[records.Record], names: Sequence[str]) -> list[tuple[Any, Path]]:
    """(record, file) of the artifacts of these names that are there, and below the workspace."""
    root = place.root.resolve()
    paths = [
        (record, root / str(record["artifacts"][name]))
        for name in names
        for record in found
        if name in record.get("artifacts", {})
    ]
    return [(record, path) for record, path in paths if path.resolve().is_relative_to(root) and path.is_file()]


@lru_cache(maxsize=4096)
def _log(path: Path, changed: float) -> tuple[dict[str, Any], ...]:
    """The lines of a training log; `changed` is the file's time, so that one that grew is read again."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # a process that was killed may have left half a line
            continue
    return tuple(lines)


def _pictures(place: Workspace, found: Sequence[records.Record]) -> dict[str, dict[str, str]]:
    shown: dict[str, dict[str, str]] = {}
    for name in page.CAPTIONS:
        for record, path in _artifacts(place, found, (name,)):
            if packed := _packed(path, path.stat().st_mtime):
                shown.setdefault(record["fingerprint"], {})[name] = page.data_uri(packed)
    return shown


@lru_cache(maxsize=512)
def _packed(path: Path, changed: float) -> bytes:
    """A picture as WebP small enough for a page, b"" for a file that is none; `changed` as for `_log`."""
    from PIL import Image

    packed = io.BytesIO()
    try:
        with Image.open(path) as picture:
            picture.thumbnail((_WIDEST, 4 * _WIDEST))
            picture.convert("RGB").save(packed, "WEBP", quality=70)
    except OSError:
        return b""
    return packed.getvalue()


def report(settings: Settings) -> str:
    """Write the boards anew; returns what to print."""
    require_writable(settings.workspace)
    place = Workspace(settings.workspace)
    faults = write_boards(place)
    lines = [f"passed over: {fault}" for fault in faults]
    lines.append(f"boards written to {place.boards} (begin with {place.boards / 'index.md'})")
    return "\n".join([*lines, f"to look at in a browser: {place.boards / page.FILE}"])


def report_published() -> str:
    """Write the repository's boards anew from the records that it holds; returns what to print."""
    folder = _repository("report --published")
    return f"boards of {folder / 'records'} written to {folder}; changed: {_names(rebuild())}"


def _repository(verb: str) -> Path:
    """The folder of the published boards, where they are part of a repository."""
    if not (published.FOLDER.parent / ".git").exists():
        raise UserError(f"{verb} changes the repository, and {published.FOLDER.parent} is none; run it in a clone")
    return published.FOLDER


def publish(settings: Settings, methods: Sequence[str] | None, track: str | None) -> str:
    """Copy records into `leaderboards/records/` and rebuild the repository's boards."""
    target = _repository("publish")
    place = Workspace(settings.workspace)
    found, faults = records.read_all(place.records)
    chosen = choose(found, methods, track)
    if not chosen:
        raise UserError(f"no record in {place.records} fits; see python -m repro status")
    new = sum(records.write(target / "records", record)[1] for record in chosen)
    free = [record for record in chosen if record["provenance"]["data"]["name"] in _OWN_DATA]
    for name in page.CAPTIONS:
        for record, path in _artifacts(place, free, (name,)):
            packed, kept = _packed(path, path.stat().st_mtime), published.picture(records.file_name(record), name)
            if packed and not (target / "records" / kept).exists():
                (target / "records" / kept).write_bytes(packed)
    changed = rebuild()
    lines = [f"passed over: {fault}" for fault in faults]
    lines.append(f"{new} records published, {len(chosen) - new} were there; boards changed: {_names(changed)}")
    if not (target / page.FILE).is_file():
        lines.append(f"{page.FILE} is left out: it would be larger than {published.LARGEST / 1e6:g} MB")
    return "\n".join(lines)


def rebuild() -> list[Path]:
    """Write the named protocols as they stand, and the repository's boards; returns the boards that changed."""
    text = json.dumps(named_protocols(), indent=1, ensure_ascii=False) + "\n"
    records.write_atomic(published.FOLDER / published.PROTOCOLS, text)
    return published.rebuild(published.FOLDER)


def named_protocols() -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluation -> name -> hash and values, as records hold them."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in protocols.KINDS}
    for kind, named in found.items():
        for name in protocols.names(kind):
            values = protocols.values(protocols.load(kind, name))
            named[name] = {
                key: value for key, value in records.protocol_of(kind, name, values).items() if key != "name"
            }
    return found


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths) or "none"
