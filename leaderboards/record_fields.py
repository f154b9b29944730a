"""How this room reads a record: a plain dict in which any entry may be missing, which stops nothing.

Of a record this room reads `kind`, `method`, `variant`, `track`, `seed`, `fingerprint`, `parents`, `protocol`
(name, hash), `metrics`, `cost`, `provenance` (data, device, trials, tuned, date, source_hash, trust) and, of a
pre-training, `provenance.training_code`, `details.collapsed_at_update` and `details.recipe` (its tables). An evaluation
finds its pre-training through `parents`; where that is not at hand, network, epochs and cost of training show as "-".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

ORIGINS = ("pretrain", "import")
"""Kinds of record that an arm begins with."""
OURS, PEER = "ours", "peer"
TRUST = {
    OURS: "measured by this program from a pre-training of its own",
    PEER: "measured by this program in another lab: recipe, data and code are the same",
    "author": "made with the authors' weights or by their hands",
    "self-reported": "somebody's own number, not measured by this program",
}
"""How far a record is ours (`provenance.trust`; without it: ours)."""
COUNTED = (OURS, PEER)
"""Verdicts rest on these alone, which may share an arm."""


_ROUNDING = 0.002  # seconds: costs are rounded to thousandths


_TABLES = (dict, Mapping)  # what most tables are first: the test for the abstract class is slow


def number(table: object, key: str) -> float | None:
    """A finite number of a table, or None."""
    return finite(table.get(key)) if isinstance(table, _TABLES) else None


def finite(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def entry(record: Record, *path: str) -> Any:
    """`entry(record, "provenance", "data", "name")`, or None where a part of the way is missing."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, _TABLES) else None
    return value


MOST_PICTURES = 1e9
"""No training set has as many."""


def drawn_of(record: Record) -> int | None:
    """How many training pictures the seed of a record drew; 0: all were used, None: it does not say, or no number."""
    limit = entry(record, "provenance", "data", "limit")
    if limit == 0:
        return 0
    pictures = finite(entry(record, "provenance", "data", "limit", "pictures"))
    return int(pictures) if pictures and 0 < pictures < MOST_PICTURES else None


def origin_of(record: Record, by_fingerprint: Mapping[str, Record]) -> Record | None:
    """The pre-training or import that a record descends from (itself, if it is one), None where it is not at hand."""
    todo, seen = [record], set[str]()
    while todo:
        found = todo.pop()
        if found["kind"] in ORIGINS:
            return found
        for parent in found.get("parents") or ():
            if parent in by_fingerprint and parent not in seen:
                seen.add(parent)
                todo.append(by_fingerprint[parent])
    return None


def lab_of(record: Record) -> str:
    """The other lab that a record comes from (`provenance.lab`), or ""."""
    return str(entry(record, "provenance", "lab") or "") if trust_of(record) == PEER else ""


def trust_of(record: Record, origin: Record | None = None) -> str:
    """How far a record is ours. What comes from a foreign pre-training (or weights) is foreign too."""
    if origin is not None and origin["kind"] == "import":
        return "author"
    found = (str(entry(one, "provenance", "trust") or OURS) for one in (record, origin) if one is not None)
    return next((trust for trust in found if trust != OURS), OURS)


def last_attempt_only(record: Record) -> bool:
    """Whether `wall_s` and `cpu_s` are of its last attempt alone: less than its device time, which is of all.

    So it was recorded of trainings that were resumed, before jobs kept the seconds of all their attempts.
    """
    wall, device = (number(record.get("cost"), key) for key in ("wall_s", "device_s"))
    processes = entry(record, "provenance", "processes") or 1
    return wall is not None and device is not None and wall < device / processes - _ROUNDING


def cost_of(record: Record, key: str) -> float | None:
    """A cost of a job, None where it is not known of all its attempts."""
    known = key not in ("wall_s", "cpu_s") or not last_attempt_only(record)
    return number(record.get("cost"), key) if known else None
