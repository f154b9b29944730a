"""Records: the JSON that a finished job leaves, and the only source of any printed number.

In a workspace a record is a file of its own. It is written to a temporary file, flushed to the disk and published with
`os.link`, which fails where a record of that fingerprint exists: one result counts, whoever ran twice. Published
records are lines of other files (leaderboards.record_files) and whole again once they are read.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eval import protocols
from eval.invariants import check_invariants
from leaderboards import record_files
from repro.errors import UserError
from repro.store.hashes import digest

SCHEMA = 2  # 1: before k-NN had to name its nearest, and before every evaluation had to tell a collapse
_REQUIRED = ("schema", "fingerprint", "kind", "method", "variant", "track", "seed", "metrics", "cost", "provenance")

_MOVE = "move it away and run again"

Record = dict[str, Any]


def _unused(folder: Path, prefix: str) -> Path:
    """A name that nobody else takes, on whatever machine. A file of it is as readable as any other: not tempfile's."""
    return folder / f"{prefix}{uuid.uuid4().hex}"


def arm_of(record: Record) -> str:
    """`aps` or `aps:flip_aware`."""
    return record["method"] + (f":{record['variant']}" if record["variant"] else "")


def file_name(record: Record) -> str:
    """`knn-aps-flip_aware-embedded-s0-0123456789ab.json`."""
    arm = record["method"] + (f"-{record['variant']}" if record["variant"] else "")
    return f"{record['kind']}-{arm}-{record['track']}-s{record['seed']}-{record['fingerprint'][:12]}.json"


def write(folder: Path, record: Record) -> tuple[Path, bool]:
    """Publish a record; returns its path and whether it is ours (False: another writer was first, theirs counts)."""
    if faults := problems(record):
        raise UserError(f"record refused, {'; '.join(faults)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(record)
    fresh = _unused(folder, ".record.")
    try:
        with fresh.open("x", encoding="utf-8") as stream:
            json.dump(record, stream, indent=1, ensure_ascii=False, allow_nan=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return path, False
    finally:
        fresh.unlink(missing_ok=True)
    return path, True


def problems(record: Record) -> list[str]:
    """What is wrong with a record, in words; empty when nothing is."""
    missing = [key for key in _REQUIRED if key not in record]
    if missing:
        return [f"key '{missing[0]}' is missing"]
    if not isinstance(record["schema"], int) or record["schema"] < 1:
        return [f"schema {record['schema']!r} is no schema version"]
    metrics, protocol = record["metrics"], record.get("protocol") or {}
    for key, value, must in (("kind", record["kind"], str), ("metrics", metrics, dict), ("protocol", protocol, dict)):
        if not isinstance(value, must):
            return [f"key '{key}' is {value!r}, not {'text' if must is str else 'an object'}"]
    faults = [
        f"metric '{key}' is {value!r}, not a finite number"
        for key, value in metrics.items()
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value)
    ]
    return faults or check_invariants(metrics, record["kind"], record["schema"], protocol.get("values"))


def read(path: Path) -> Record:
    """One record, checked. Raises UserError naming the file for damage, a newer schema, or broken invariants."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a record ({error})", _MOVE) from None
    if not isinstance(record, dict):
        raise UserError(f"{path}: not a record (no JSON object)", _MOVE)
    if newer(record):
        raise UserError(f"{path}: {newer(record)}", "update repro")
    if faults := problems(record):
        raise UserError(f"{path}: {faults[0]}", _MOVE)
    return record


def newer(record: Record) -> str:
    """What to say of a record that a newer repro has written, or ""."""
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        return f"written by a newer repro (schema {schema}, this one reads {SCHEMA})"
    return ""


def read_all(folder: Path) -> tuple[list[Record], list[str]]:
    """All records of a folder, by file name, and one line for each file that is none (left where it is)."""
    found, faults = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            found.append(read(path))
        except UserError as error:
            faults.append(str(error))
    return found, faults


def read_published(folder: Path = record_files.FOLDER) -> tuple[list[Record], list[str]]:
    """The published records of a folder, checked, and one line for each of its lines that holds none."""
    lines, faults = record_files.read(folder)
    found = []
    for line in lines:
        if problem := newer(line.record) or next(iter(problems(line.record)), ""):
            faults.append(record_files.Fault(line.path, line.line, problem))
        else:
            found.append(line.record)
    return found, [str(fault) for fault in faults]


def known_fingerprints(folder: Path) -> set[str]:
    """The first twelve digits of every fingerprint that has a record, from the file names alone."""
    return {path.stem[-12:] for path in folder.glob("*.json")}


def protocol_of(kind: str, name: str = "", values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A protocol as records hold it; without a name that of a job that is no evaluation."""
    hashed = digest(protocols.hashed(kind, values))[:12] if values else ""
    return {"name": name, "hash": hashed, "values": dict(values or {})}


def by_fingerprint(found: Iterable[Record]) -> dict[str, Record]:
    """Records by job fingerprint."""
    return {record["fingerprint"]: record for record in found}
