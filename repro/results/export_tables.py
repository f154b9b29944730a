"""Records as tables: a row a record, as CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboards.record_fields import Record as AnyRecord
from leaderboards.record_fields import entry, origin_of, trust_of
from leaderboards.setting import network_name
from leaderboards.take_away import no_formula
from repro.errors import UserError
from repro.store import records
from repro.store.records import Record
from slurm.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

_PROVENANCE = ("commit", "dirty", "source_hash", "python", "device", "threads", "trials", "date")


def write_csv(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """Write the chosen records to `out`; returns how large the table is."""
    frame = _frame(chosen, every)
    plain = frame.map(lambda value: no_formula(value) if isinstance(value, str) else value)
    write_atomic(out, plain.to_csv(index=False))
    return f"{len(frame)} records, {len(frame.columns)} columns"


def write_parquet(chosen: Sequence[Record], every: Sequence[Record], out: Path) -> str:
    """`write_csv` with types. UserError where nothing is installed that writes Parquet."""
    frame = _frame(chosen, every)
    try:
        frame.to_parquet(out, index=False)
    except ImportError:
        raise UserError("Parquet needs another package: pip install 'repro-ssl[parquet]'; or use --to csv") from None
    return f"{len(frame)} records, {len(frame.columns)} columns"


def flat(record: Record, origin: AnyRecord | None) -> dict[str, Any]:
    """A record as one row: plain values under dotted names; lists as JSON.

    origin: its pre-training, whose recipe and network the row shows.
    """
    about = record["provenance"]
    protocol = record.get("protocol") or {}
    recipe = entry(origin or {}, "details", "recipe") or {}
    row = {
        "fingerprint": record["fingerprint"],
        "kind": record["kind"],
        "method": record["method"],
        "variant": record["variant"],
        "track": record["track"],
        "seed": record["seed"],
        "trust": trust_of(record, origin),
        "network": network_name(recipe.get("network")),
        "protocol": protocol.get("name", ""),
        "protocol_hash": protocol.get("hash", ""),
        "parents": " ".join(record.get("parents") or ()),
        **_under("metrics", record["metrics"]),
        **_under("cost", record["cost"]),
        **_under("provenance", {key: about.get(key) for key in _PROVENANCE}),
        **_under("data", about.get("data") or {}),
    }
    for table, values in sorted(recipe.items()):
        row |= _under(f"recipe.{table}", values)
    return row


def _under(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{name}.{key}": json.dumps(value) if isinstance(value, list | dict) else value for key, value in values.items()
    }


def _frame(chosen: Sequence[Record], every: Sequence[Record]) -> pd.DataFrame:
    """One row a record. Columns keep the type of their values; where records disagree, it is text."""
    import pandas as pd

    known = records.by_fingerprint(every)
    rows = [flat(record, origin_of(record, known)) for record in chosen]
    order = ("metrics.", "cost.", "provenance.", "data.", "recipe.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: next((i for i, part in enumerate(order, 1) if name.startswith(part)), 0))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        kind = kinds.pop() if len(kinds) == 1 else float if kinds == {int, float} else str
        columns[name] = pd.array([None if value is None else kind(value) for value in values], dtype=_COLUMNS[kind])
    return pd.DataFrame(columns)


_COLUMNS: Mapping[type, Any] = {bool: "boolean", int: "Int64", float: "Float64", str: "string"}
