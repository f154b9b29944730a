"""Records: the JSON that a finished job leaves, and the only source of any printed number.

In a workspace a record is a file of its own. It is written to a temporary file, flushed to the disk and published with
`os.link`, which fails where a record of that fingerprint exists: one result counts, whoever ran twice. Published
records are lines of other files (leaderboards.record_files) and whole again once they are read.
"""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from eval import protocols
from eval.invariants import check_invariants
from leaderboards import record_files, record_json
from repro.errors import UserError
from repro.store.hashes import digest

SCHEMA = 2  # 1: before k-NN had to name its nearest, and before every evaluation had to tell a collapse
_REQUIRED = ("schema", "fingerprint", "kind", "method", "variant", "track", "seed", "metrics", "cost", "provenance")

_TABLE, _TEXT, _WHOLE = (dict, "an object"), (str, "text"), (int, "a whole number")
_KINDS: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(("fingerprint", "kind", "method", "variant", "track"), _TEXT),
    "seed": _WHOLE,
    "parents": (list, "a list"),
    **dict.fromkeys(("metrics", "cost", "protocol", "provenance", "details", "artifacts"), _TABLE),
    **{f"protocol.{key}": _TEXT for key in ("name", "hash")},
    "protocol.values": _TABLE,
    **{f"provenance.{key}": _TABLE for key in ("data", "packages", "slurm")},
    **{f"provenance.data.{key}": _TEXT for key in ("name", "source", "manifest")},
    **{
        f"provenance.{key}": _TEXT
        for key in ("commit", "source_hash", "training_code", "python", "device", "date", "trust", "lab", "tuned")
    },
    **{f"provenance.{key}": _WHOLE for key in ("threads", "processes", "trials")},
    "details.recipe": _TABLE,
    **{f"details.recipe.{key}": _TABLE for key in ("method", "network", "pretrain", "base", "checkpoint")},
    **{f"details.recipe.network.{key}": _WHOLE for key in ("depth", "width", "dim", "patch", "heads", "size")},
}
"""What entries of a record are, where they are there, by their path."""
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What may be the name of a method, a variant, a track: it becomes part of file names."""
_NAMES = {**dict.fromkeys(("fingerprint", "method", "track"), NAME), "variant": r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?"}
_ABSENT = object()

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
    """Publish a record; returns its path and whether it is ours (False: another writer was first, theirs counts).

    A name of a file may hold what cannot be printed; it is written as Python writes it.
    """
    record = record_json.escaped(record)
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
    if not isinstance(record["schema"], int) or isinstance(record["schema"], bool) or record["schema"] < 1:
        return [f"schema {record['schema']!r} is no schema version"]
    if faults := list(_of_other_kinds(record)) or list(_unfit_names(record)):
        return faults
    metrics, protocol = record["metrics"], record.get("protocol") or {}
    faults = [
        f"metric '{key}' is {value!r:.80}, not a finite number" for key, value in metrics.items() if not _finite(value)
    ]
    faults += [
        f"cost '{key}' is {value!r:.80}, not a number from 0 on"
        for key, value in record["cost"].items()
        if not _finite(value) or value < 0
    ]
    return faults or check_invariants(metrics, record["kind"], record["schema"], protocol.get("values"))


def _of_other_kinds(record: Record) -> Iterator[str]:
    """A line for each entry that whoever reads records takes for something else."""
    for path, (kind, words) in _KINDS.items():
        value: Any = record
        for key in path.split("."):
            value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is _ABSENT or (value is None and path in ("parents", "protocol")):
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            yield f"key '{path}' is {value!r:.80}, not {words}"
    parents = record.get("parents")
    for parent in parents if isinstance(parents, list) else ():
        if not isinstance(parent, str):
            yield f"key 'parents' holds {parent!r:.80}, not a text"


def _unfit_names(record: Record) -> Iterator[str]:
    """A line for each name that could lead out of the folders that it is part of a path in."""
    for key, pattern in _NAMES.items():
        if not re.fullmatch(pattern, record[key]):
            yield f"key '{key}' is {record[key]!r:.80}; letters, digits, _, . and - only, a letter or digit first"
    if record["seed"] < 0:
        yield f"seed {record['seed']} is below 0"
    for name, place in (record.get("artifacts") or {}).items():
        if not isinstance(place, str) or PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            yield f"artifact '{name}' is {place!r:.80}, not a path within the workspace"


def _finite(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and abs(value) < 2**63)


def read(path: Path) -> Record:
    """One record, checked. Raises UserError naming the file for damage, a newer schema, or broken invariants."""
    try:
        record = record_json.parse(path.read_bytes())
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
