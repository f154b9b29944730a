"""What jobs left beside their records that people look at: training logs and pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from repro.store.records import Record
from repro.store.workspace import Workspace

_WIDEST = 900  # pixels


def of(place: Workspace, found: Sequence[Record], names: Sequence[str]) -> list[tuple[Record, Path]]:
    """(record, file) of the artifacts of these names that are there, and below the workspace."""
    root = place.root.resolve()
    paths = [
        (record, root / str(record["artifacts"][name]))
        for name in names
        for record in found
        if name in record.get("artifacts", {})
    ]
    return [(record, path) for record, path in paths if path.resolve().is_relative_to(root) and path.is_file()]


def log(path: Path) -> tuple[dict[str, Any], ...]:
    """The lines of a training log."""
    return _log(path, path.stat().st_mtime)


def logs(place: Workspace, found: Sequence[Record]) -> dict[str, tuple[dict[str, Any], ...]]:
    """The training logs of these records, by fingerprint."""
    return {record["fingerprint"]: log(path) for record, path in of(place, found, ("log",))}


def packed(path: Path) -> bytes:
    """A picture as WebP small enough for a page, b"" for a file that is none."""
    return _packed(path, path.stat().st_mtime)


@lru_cache(maxsize=4096)
def _log(path: Path, changed: float) -> tuple[dict[str, Any], ...]:
    """changed: the file's time, so that one that grew is read again."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # a process that was killed may have left half a line
            continue
    return tuple(lines)


@lru_cache(maxsize=512)
def _packed(path: Path, changed: float) -> bytes:
    """changed: as for `_log`."""
    from PIL import Image

    buffer = io.BytesIO()
    try:
        with Image.open(path) as picture:
            picture.thumbnail((_WIDEST, 4 * _WIDEST))
            picture.convert("RGB").save(buffer, "WEBP", quality=70)
    except OSError:
        return b""
    return buffer.getvalue()
