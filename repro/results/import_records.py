"""`repro records import`: records from elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leaderboards import record_json
from leaderboards.record_fields import OURS, PEER, TRUST
from repro.errors import UserError, unknown
from repro.plan.kinds import KINDS
from repro.plan.tracks import tracks
from repro.results.agreement import Parse, reproducible
from repro.results.record_checks import own_contradictions
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
_GENERATIONS = 50  # ours have three
_NAME = 80  # characters of a lab's name
_LONGEST = 200  # bytes of a file's name; file systems allow 255 bytes


def bring_in(file: Path, trust: str | None, settings: Settings, parse: Parse, lab: str = "") -> str:
    """Write the records of a JSON file to the workspace, marked with `trust`; what to tell the user.

    file: one record or a list of them; one a line where its name ends in .jsonl; or a folder of such files, as the
    records of a workspace are. Every record gets a fingerprint of its own, made of what it says, so that none can stand
    in for a job of ours; parents are followed within the file. Artifacts, which lie on another machine, are left out.
    lab: who measured the records of a peer. These keep their fingerprints and count with ours; those that a run of this
    checkout would not make again (`agreement.py`) are left out.

    Raises:
        UserError: a file that cannot be read, no trust or an unknown one, a peer without a name, or a name without a
            peer, a file or record that is damaged or breaks an invariant, a peer of whom no record is left. Nothing is
            written then.
    """
    read = _read(file)
    if trust is None:
        raise UserError(
            f"who made these records? --trust {' or '.join(_FOREIGN)}", "see python -m repro records --help"
        )
    if trust not in _FOREIGN:
        raise unknown("trust", trust, _FOREIGN)
    if (trust == PEER) != bool(lab):
        raise UserError(f"--lab goes with --trust {PEER}: it names the lab whose records these are")
    if lab and (lab != lab.strip() or not lab.isprintable() or len(lab) > _NAME):
        raise UserError(f"--lab {lab:.{_NAME}}: give one line of at most {_NAME} letters, without spaces at its ends")
    checked: dict[str, Record] = {}
    where: dict[str, str] = {}
    for at, given in read:
        record = _checked(given, trust, at, lab)
        name = str(given.get("fingerprint") or at)
        if name in checked:
            raise UserError(f"{at}: its fingerprint is used twice; give each record one of its own, or none")
        checked[name], where[name] = record, at
    others = 0
    if trust == PEER:
        given_names = [{**record, "fingerprint": name} for name, record in checked.items()]
        same = reproducible(given_names, settings, parse)
        others = len(checked) - len(same)
        if not same:
            raise UserError(
                f"{file}: a run of this checkout would not make any of its {others} records: recipe, data, protocol or"
                " code differ, or their pre-trainings are not in the file; import them with --trust self-reported"
            )
        checked = {name: record for name, record in checked.items() if name in same}
    made: dict[str, Record] = {}
    lost = 0

    def make(name: str, below: tuple[str, ...]) -> str:
        nonlocal lost
        if name in below:
            raise UserError(f"{where[name]}: it is its own ancestor; fix its parents")
        if len(below) > _GENERATIONS:
            raise UserError(f"{where[name]}: it has more than {_GENERATIONS} generations of children; fix the parents")
        if name not in made:
            record = checked[name]
            parents = [parent for parent in record["parents"] if parent in checked]
            lost += len(record["parents"]) - len(parents)
            record["parents"] = [make(parent, (*below, name)) for parent in parents]
            made[name] = {**record, "fingerprint": name if trust == PEER else digest({"imported": record})}
        return str(made[name]["fingerprint"])

    for name in checked:
        make(name, ())
    for name, record in made.items():
        if KINDS[record["kind"]].judges and not record["metrics"]:
            raise UserError(f"{where[name]}: metrics holds no metric; say at least one of kind '{record['kind']}'")
        if faults := records.problems(record) or own_contradictions(record):
            raise UserError(f"{where[name]}: {faults[0]}; fix it in the file")
        if len(os.fsencode(records.file_name(record))) > _LONGEST:
            raise UserError(f"{where[name]}: its method and variant are too long for the name of a file")
    require_writable(settings.workspace)
    place = Workspace(settings.workspace).records
    new = _write(place, list(made.values()))
    there = len(made) - new
    lines = [
        f"{new} record{'' if new == 1 else 's'} imported as {trust}, {there} {'was' if there == 1 else 'were'} there;"
        f" they lie in {place}"
    ]
    if lost:
        absent = "1 parent is" if lost == 1 else f"{lost} parents are"
        lines.append(f"{absent} not in the file: what their recipes say shows as '-'")
    if others:
        one = "1 other was" if others == 1 else f"{others} others were"
        lines.append(f"{one} left out: a run of this checkout would not make the same (recipe, data, protocol or code)")
    if trust == PEER:
        lines.append(f"verdicts count them with the records of this lab, and name {lab}; now: python -m repro report")
    else:
        lines.append("boards show their trust, verdicts leave them out; now: python -m repro report")
    return "\n".join(lines)


def _write(place: Path, made: Sequence[Record]) -> int:
    """Write all of them or, where the disk does not let it, none; returns how many were not there yet."""
    fresh: list[Path] = []
    try:
        for record in made:
            path, ours = records.write(place, record)
            if ours:
                fresh.append(path)
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise
    return len(fresh)


def _read(file: Path) -> list[tuple[str, Record]]:
    """The records of a file, or of all in a folder, each with the words for where it stands."""
    if file.is_dir():
        below = sorted(path for path in file.iterdir() if path.suffix in (".json", ".jsonl"))
        if not below:
            raise UserError(f"{file}: no .json file lies in this folder; give the records folder of a workspace")
        return [found for path in below for found in _read(path)]
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: cannot be read, no such file; give the path of a JSON file of records") from None
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); give a JSON file of records that you may read"
        ) from None
    found: list[tuple[str, Any]] = []
    if file.suffix == ".jsonl":
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                found.append((f"{file}:{number}", _parsed(line, f"{file}:{number}")))
    else:
        given = _parsed(content, str(file))
        listed = given if isinstance(given, list) else [given]
        found = [(f"{file}: record {number}", record) for number, record in enumerate(listed, 1)]
    if not found:
        raise UserError(f"{file}: it holds no record; give one JSON object, or a list of them")
    for at, record in found:
        if not isinstance(record, dict):
            raise UserError(f"{at}: no record, but {type(record).__name__}; give one JSON object, or a list of them")
    return found


def _parsed(content: bytes, at: str) -> Any:
    try:
        return record_json.parse(content)
    except ValueError as error:
        raise UserError(
            f"{at}: not JSON ({error}); give one JSON object, a list of them, or one on each line of a .jsonl file"
        ) from None


def _checked(given: Record, trust: str, at: str, lab: str) -> Record:
    """A record with all that ours have, as far as it is known, without its fingerprint."""
    for key in given:
        if key not in _KEYS:
            raise UserError(f"{at}: {unknown('key', key, _KEYS)}")
    for key in ("kind", "method", "track", "seed", "metrics"):
        if key not in given:
            raise UserError(f"{at}: key '{key}' is missing")
    schema = given.get("schema", 1)  # of what is written by hand no more is asked than of the oldest
    if not isinstance(schema, int) or isinstance(schema, bool) or not 1 <= schema <= records.SCHEMA:
        raise UserError(f"{at}: schema {schema!r:.80} is none that this repro reads (1 to {records.SCHEMA})")
    kinds: Mapping[str, type] = {
        **dict.fromkeys(("kind", "method", "variant", "track"), str),
        **dict.fromkeys(("metrics", "cost", "provenance", "protocol", "details"), dict),
        "seed": int,
        "parents": list,
        "fingerprint": str,
    }
    for key, kind in kinds.items():
        if key in given and (not isinstance(given[key], kind) or isinstance(given[key], bool)):
            raise UserError(f"{at}: {key} = {given[key]!r:.80} must be {kind.__name__}")
    if odd := [parent for parent in given.get("parents", []) if not isinstance(parent, str)]:
        raise UserError(f"{at}: 'parents' holds {odd[0]!r:.80}, which is no fingerprint")
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
        raise UserError(f"{at}: provenance.data.name is missing; say which images, as python -m repro data names them")
    return {
        "schema": schema,
        "kind": given["kind"],
        "method": given["method"],
        "variant": given.get("variant", ""),
        "track": given["track"],
        "seed": given["seed"],
        "parents": list(given.get("parents", [])),
        "protocol": {"name": "", "hash": "", "values": {}, **given.get("protocol", {})},
        "metrics": given["metrics"],
        "cost": given.get("cost", {}),
        "provenance": {
            "commit": "unknown",
            "packages": {},
            **about,
            "data": {"source": data["name"], "manifest": "unknown", **data},
            "trust": trust,
            **({"lab": lab} if lab else {}),
        },
        "details": given.get("details", {}),
        "artifacts": {},
    }
