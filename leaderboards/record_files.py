"""The files of published records: one of JSON lines an arm, and one for what many records share.

    records/TRACK/METHOD[-VARIANT].jsonl   a record a line, by kind, seed and fingerprint
    records/shared.jsonl                   a part a line: protocols, recipes, code, environments, data sets

In a record's line stands `"$protocol": HASH` where the whole record has `"protocol": {...}`; `$code` and `$environment`
stand for several keys of the provenance. So one more seed adds its own lines and few or none to what is shared. This
module takes whole records apart and puts them together again; what is in them it does not judge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboards import record_json

Record = dict[str, Any]

FOLDER = Path(__file__).parent / "records"
SHARED = "shared.jsonl"
_DIGITS = 12  # of a fingerprint in an address, and of the hash of a part


@dataclass(frozen=True)
class _Part:
    """What many records share.

    name: under which it is shared.  table: of the record that it stands in, "" for the record itself.
    keys: of the table, that make it; where there are none, it is the table's value under its name.
    """

    name: str
    table: str = ""
    keys: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The key that stands for it in a line."""
        return f"${self.name}"

    def table_of(self, record: Record) -> dict[str, Any]:
        """The table that it stands in; {} where the record has none."""
        table = record.get(self.table) if self.table else record
        return table if isinstance(table, dict) else {}


_PARTS = (
    _Part("protocol"),
    _Part("recipe", "details"),
    _Part("code", "provenance", ("commit", "dirty", "source_hash", "snapshot")),
    _Part("environment", "provenance", ("packages", "python", "device", "threads", "processes")),
    _Part("data", "provenance"),
)


@dataclass(frozen=True)
class Fault:
    """A line that gives no record. line: counted from 1, 0 for the file as a whole."""

    path: Path
    line: int
    problem: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.problem}; bring the file back with git, or publish the record again"


@dataclass(frozen=True)
class Line:
    """A whole record, and where it stands."""

    record: Record
    path: Path
    line: int


def arm_file(record: Mapping[str, Any]) -> str:
    """The file of a record, below the folder: `mini/aps-flip_aware.jsonl`."""
    arm = record["method"] + (f"-{record['variant']}" if record["variant"] else "")
    return f"{record['track']}/{arm}.jsonl"


def address(record: Mapping[str, Any]) -> str:
    """What links to a record, below the folder: its file and the beginning of its fingerprint."""
    return f"{arm_file(record)}#{record['fingerprint'][:_DIGITS]}"


# -------------------------------------------------------------------------------------------------------------- writing


def texts(records: Iterable[Record]) -> dict[str, str]:
    """The files of these records, by their names below the folder.

    Raises ValueError for a record that has the key of a reference.
    """
    shared: dict[tuple[str, str], str] = {}
    lines: dict[str, list[str]] = {}
    for record in sorted(records, key=lambda one: (one["kind"], one["seed"], one["fingerprint"])):
        lines.setdefault(arm_file(record), []).append(_compact(_taken_apart(record, shared)))
    parts = [
        f'{{"part":"{name}","hash":"{hashed}","content":{content}}}'
        for (name, hashed), content in sorted(shared.items())
    ]
    return {name: "\n".join(found) + "\n" for name, found in [(SHARED, parts), *sorted(lines.items())]}


def write(folder: Path, records: Iterable[Record]) -> list[Path]:
    """Make the folder hold these records and no others; returns the files that changed."""
    changed = []
    for name, text in texts(records).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
            changed.append(path)
    return changed


def _taken_apart(record: Record, shared: dict[tuple[str, str], str]) -> Record:
    """A record with references in place of its shared parts, which are added to `shared` as JSON."""
    line: Record = {key: dict(value) if isinstance(value, dict) else value for key, value in record.items()}
    for part in _PARTS:
        table = part.table_of(line)
        keys = [key for key in table if key in (part.keys or (part.name,))]
        if part.reference in table:
            raise ValueError(f"record {record['fingerprint'][:_DIGITS]} has a key '{part.reference}'; rename it")
        if not keys:
            continue
        content = {key: table[key] for key in keys} if part.keys else table[part.name]
        hashed = _hash(content)
        shared.setdefault((part.name, hashed), _compact(content))
        items = list(table.items())
        table.clear()
        for key, value in items:
            if key == keys[0]:
                table[part.reference] = hashed
            elif key not in keys:
                table[key] = value
    return line


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _hash(content: Any) -> str:
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


# -------------------------------------------------------------------------------------------------------------- reading


def read(folder: Path = FOLDER) -> tuple[list[Line], list[Fault]]:
    """Every whole record, by file and line, and what gives none. No two records share an object."""
    shared, faults = _shared(folder / SHARED)
    found: list[Line] = []
    seen: dict[str, Line] = {}
    for path in sorted(folder.glob("*/*.jsonl")):
        for number, content in _lines(path):
            try:
                line = Line(_whole(content, shared), path, number)
            except ValueError as error:
                faults.append(Fault(path, number, f"not a record ({error})"))
                continue
            if folder / arm_file(line.record) != path:
                faults.append(Fault(path, number, f"a record of {arm_file(line.record)}"))
            elif (first := seen.setdefault(line.record["fingerprint"], line)) is not line:
                faults.append(Fault(path, number, f"the record of line {first.line} once more"))
            else:
                found.append(line)
    faults += [Fault(path, 0, "a record in a file of its own") for path in sorted(folder.glob("*.json"))]
    return found, faults


def _shared(path: Path) -> tuple[dict[tuple[str, str], str], list[Fault]]:
    """The shared parts as JSON, by name and hash."""
    shared: dict[tuple[str, str], str] = {}
    faults = []
    names = {part.name: part for part in _PARTS}
    for number, text in _lines(path) if path.is_file() else []:
        try:
            part = record_json.parse(text)
            name, stated, content = part["part"], part["hash"], part["content"]
            if names[name].keys and not isinstance(content, dict):
                raise ValueError(f"its content is {type(content).__name__}, not a table")
        except (ValueError, KeyError, TypeError) as error:
            faults.append(Fault(path, number, f"not a shared part ({error})"))
            continue
        if (given := _hash(content)) != stated:
            faults.append(Fault(path, number, f"its hash is {stated}, but its content gives {given}"))
        else:
            shared[name, stated] = _compact(content)
    return shared, faults


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line and its number, counted from 1. Only a line feed ends one: a text in JSON may hold other ends."""
    return enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n") if path.stat().st_size else [], 1)


def _whole(text: bytes, shared: Mapping[tuple[str, str], str]) -> Record:
    """The record of a line. Raises ValueError where it is none, or what it refers to is not there."""
    record = record_json.parse(text)
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    for part in _PARTS:
        table = part.table_of(record)
        if part.reference not in table:
            continue
        hashed = table[part.reference]
        if not isinstance(hashed, str) or (part.name, hashed) not in shared:
            raise ValueError(f"no {part.name} {hashed} in {SHARED}")
        content = json.loads(shared[part.name, hashed])
        values = content if part.keys else {part.name: content}
        items = list(table.items())
        table.clear()
        for key, value in items:
            table.update(values if key == part.reference else {key: value})
    if lacking := [key for key in ("fingerprint", "kind", "method", "variant", "track", "seed") if key not in record]:
        raise ValueError(f"no {lacking[0]}")
    for key in ("fingerprint", "kind", "method", "variant", "track"):
        if not isinstance(record[key], str):
            raise ValueError(f"{key} is {record[key]!r:.80}, not a text")
    return record
