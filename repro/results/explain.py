"""`repro explain`: from a printed number back to what made it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from leaderboards.record_fields import (
    COUNTED,
    ORIGINS,
    OURS,
    TRUST,
    cost_of,
    drawn_of,
    lab_of,
    origin_of,
    trust_of,
)
from repro.plan import kinds
from repro.results import find_records, rerun
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record
from repro.terminal import text


def explain(cell: str, settings: Settings) -> str:
    """What a cell of a board is made of, and the commands that give it again.

    cell: see `find_records.find`.
    """
    found, faults = find_records.everything(settings)
    record = find_records.find(cell, found)
    known = records.by_fingerprint(found)
    chain = _chain(record, known)
    origin = known[(origin_of(record, known) or record)["fingerprint"]]
    about = record["provenance"]
    pictures = {**dict.fromkeys(("source", "name", "manifest"), "-"), **about.get("data", {})}
    drawn = drawn_of(record)
    seen = f"; {drawn:,} training images drawn by seed {record['seed']}" if drawn else ""
    lines = [
        *(f"skipped: {fault}" for fault in faults),
        f"{record['kind']} of {records.arm_of(record)}, track {record['track']}, seed {record['seed']}",
        "  " + ", ".join(f"{key} {value:.4g}" for key, value in record["metrics"].items()),
        "",
        "made by",
        text.table(
            [[r["kind"], r["fingerprint"][:12], _date(r), _time(r), _machine(r)] for r in chain],
            ["job", "fingerprint", "date", "time", "on"],
        ),
        "",
        f"images: {pictures['source']} ({pictures['name']}, manifest {pictures['manifest'][:12]}){seen}",
        f"code:     {_code(about)}",
        "packages: " + ", ".join(f"{name} {version}" for name, version in about.get("packages", {}).items()),
    ]
    trust = trust_of(record, origin)
    if trust != OURS:
        counts = f"from {lab_of(record)}" if trust in COUNTED else "no verdict rests on it"
        lines.append(f"trust:    {trust}, {TRUST.get(trust, 'unknown')}; {counts}")
    protocol = record.get("protocol") or {}
    if protocol.get("name"):
        lines.append(f"protocol: {protocol['name']} ({protocol['hash']})")
    shown = kinds.KINDS[record["kind"]].evaluations if record["kind"] in kinds.KINDS else ()
    if len(shown) > 1:
        lines.append(f"{' and '.join(evaluation.name for evaluation in shown)} come from this one record")
    if record is not origin and origin["kind"] not in ORIGINS:
        lines.append("the pre-training behind it is not at hand")
    if about.get("commit", "unknown") == "unknown":
        lines += ["", "To repeat it:"]
    else:
        lines += ["", "To repeat it (the first line checks out the code of that run):"]
        lines.append(f"  git checkout {about['commit'][:12]} && pip install -e .")
        if about.get("dirty"):
            lines.append("  (its uncommitted changes are not kept: the result may differ)")
    words, problem = rerun.words(record, origin)
    if words:
        lines.append("  " + shlex.join(words))
    if problem:
        lines.append(f"  {problem}")
    return "\n".join(lines)


def _chain(record: Record, known: Mapping[str, Record]) -> list[Record]:
    """The record's ancestors that are at hand and itself, each once, the oldest first."""
    order: dict[str, Record] = {}

    def add(one: Record, below: tuple[str, ...]) -> None:
        name = one["fingerprint"]
        if name not in order and name not in below:
            for parent in one.get("parents") or ():
                if parent in known:
                    add(known[parent], (*below, name))
            order[name] = one

    add(record, ())
    return list(order.values())


def _date(record: Record) -> str:
    return str(record["provenance"].get("date", "-"))[:16].replace("T", " ")


def _time(record: Record) -> str:
    wall = cost_of(record, "wall_s")
    return "-" if wall is None else text.duration(wall)


def _machine(record: Record) -> str:
    about = record["provenance"]
    times = f"{about['processes']} x " if "processes" in about else ""
    threads = about.get("threads", "-")
    return f"{times}{about.get('device', '-')}, {threads} thread{'' if threads == 1 else 's'}"


def _code(about: Mapping[str, Any]) -> str:
    commit = str(about.get("commit", "unknown"))
    if commit == "unknown":
        return f"no commit known; source {about.get('source_hash', '-')}"
    return f"commit {commit[:12]}" + (" with uncommitted changes" if about.get("dirty") else "")
