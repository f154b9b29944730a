"""`repro records import`: records from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from leaderboards.record_fields import OURS, TRUST
from repro.errors import UserError, unknown
from repro.plan.kinds import KINDS
from repro.plan.tracks import tracks
from repro.settings import Settings, require_writable
from repro.store import records
from repro.store.hashes import digest
from repro.store.records import Record
from repro.store.workspace import Workspace

_FOREIGN = tuple(trust for trust in TRUST if trust != OURS)
_KEYS = (
    *("schema", "fingerprint", "kind", "method", "variant", "track", "seed", "parents", "protocol", "metrics", "cost"),
    *("provenance", "details", "artifacts"),
)


def bring_in(file: Path, trust: str, settings: Settings) -> str:
    """Write the records of a JSON file (one, or a list) to the workspace, marked with `trust`; what to tell the user.

    Every record gets a fingerprint of its own, made of what it says, so that none can stand in for a job of ours;
    parents are followed within the file. Artifacts, which lie on another machine, are left out.

    Raises:
        UserError: unknown trust, a file or record that is damaged or breaks an invariant. Nothing is written then.
    """
    if trust not in _FOREIGN:
        raise unknown("trust", trust, _FOREIGN)
    given = _read(file)
    names = [str(record.get("fingerprint") or f"row {row}") for row, record in enumerate(given)]
    where = [f"{file}: record {row}" for row in range(1, len(given) + 1)]
    twice = next((i for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise UserError(f"{where[twice]}: its fingerprint is used twice; give each record one of its own, or none")
    checked = {name: _checked(record, trust, at) for name, record, at in zip(names, given, where, strict=True)}
    made: dict[str, Record] = {}
    lost = 0

    def make(name: str, below: tuple[str, ...]) -> str:
        nonlocal lost
        if name in below:
            raise UserError(f"{file}: record {name[:12]} is its own ancestor; mend its parents")
        if name not in made:
            record = checked[name]
            parents = [parent for parent in record["parents"] if parent in checked]
            lost += len(record["parents"]) - len(parents)
            record["parents"] = [make(parent, (*below, name)) for parent in parents]
            made[name] = {**record, "fingerprint": digest({"imported": record})}
        return str(made[name]["fingerprint"])

    for name in checked:
        make(name, ())
    for record, at in zip(made.values(), where, strict=True):
        faults = records.problems(record)
        if faults:
            raise UserError(f"{at}: {faults[0]}; mend it in the file")
    require_writable(settings.workspace)
    place = Workspace(settings.workspace).records
    new = sum(records.write(place, record)[1] for record in made.values())
    lines = [f"{new} records imported as {trust}, {len(made) - new} were there; they lie in {place}"]
    if lost:
        lines.append(f"{lost} parents are not in the file: what their recipes say shows as '-'")
    lines.append("boards show their trust, verdicts leave them out; now: python -m repro report")
    return "\n".join(lines)


def _read(file: Path) -> list[Record]:
    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is no finite number")

    try:
        given = json.loads(file.read_text(encoding="utf-8"), parse_constant=no_constant)
    except FileNotFoundError:
        raise UserError(f"{file}: cannot be read, no such file; give the path of a JSON file of records") from None
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); give a JSON file of records that you may read"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: cannot be read as JSON, it is not UTF-8 ({error}); save it as UTF-8") from None
    except ValueError as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}); mend it in the file") from None
    found = given if isinstance(given, list) else [given]
    if not found or not all(isinstance(record, dict) for record in found):
        raise UserError(f"{file}: holds no record; give one JSON object, or a list of them")
    return found


def _checked(given: Record, trust: str, at: str) -> Record:
    """A record with all that ours have, as far as it is known, without its fingerprint."""
    for key in given:
        if key not in _KEYS:
            raise UserError(f"{at}: {unknown('key', key, _KEYS)}")
    for key in ("kind", "method", "track", "seed", "metrics"):
        if key not in given:
            raise UserError(f"{at}: key '{key}' is missing")
    schema = given.get("schema", 1)  # of what is written by hand no more is asked than of the oldest
    if not isinstance(schema, int) or not 1 <= schema <= records.SCHEMA:
        raise UserError(f"{at}: schema {schema!r} is none that this repro reads (1 to {records.SCHEMA})")
    kinds: Mapping[str, type] = {
        **dict.fromkeys(("kind", "method", "variant", "track"), str),
        **dict.fromkeys(("metrics", "cost", "provenance", "protocol", "details"), dict),
        "seed": int,
        "parents": list,
    }
    for key, kind in kinds.items():
        if key in given and (not isinstance(given[key], kind) or isinstance(given[key], bool)):
            raise UserError(f"{at}: {key} = {given[key]!r} must be {kind.__name__}")
    if given["kind"] not in KINDS:
        raise UserError(f"{at}: {unknown('kind', given['kind'], KINDS)}")
    if given["track"] not in tracks():
        raise UserError(f"{at}: {unknown('track', given['track'], tracks())}")
    for key in ("method", "variant"):
        if not re.fullmatch(r"[a-z0-9][a-z0-9_]*" if key == "method" else r"[a-z0-9_]*", given.get(key, "")):
            raise UserError(f"{at}: {key} '{given[key]}' must be of small letters, digits and underscores")
    if given["seed"] < 0:
        raise UserError(f"{at}: seed {given['seed']} is below 0")
    about = given.get("provenance", {})
    data = about.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise UserError(
            f"{at}: provenance.data.name is missing; say which pictures, as python -m repro data names them"
        )
    return {
        "schema": schema,
        "kind": given["kind"],
        "method": given["method"],
        "variant": given.get("variant", ""),
        "track": given["track"],
        "seed": given["seed"],
        "parents": [str(parent) for parent in given.get("parents", [])],
        "protocol": {"name": "", "hash": "", "values": {}, **given.get("protocol", {})},
        "metrics": given["metrics"],
        "cost": given.get("cost", {}),
        "provenance": {
            "commit": "unknown",
            "packages": {},
            **about,
            "data": {"source": data["name"], "manifest": "unknown", **data},
            "trust": trust,
        },
        "details": given.get("details", {}),
        "artifacts": {},
    }
