"""The numbers that papers and repositories report, ours or anybody's: references.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable


@dataclass(frozen=True)
class Reference:
    """One reported number, ours or anybody's: a row of references.csv, where duplicates of sources are merged."""

    id: str
    method: str
    setting: str  # what else the source says of it
    backbone: str
    pretrain_data: str
    epochs: str
    batch: str
    evaluation: str
    data: str
    metric: str
    value: float
    unit: str
    baseline: bool  # False: a number of one of the five papers for its own method
    source: str
    verified: str
    conflicts: tuple[str, ...]  # rows that report another value for the same

    @property
    def words(self) -> str:
        """`r001 glnet linear top1 70.5 %, its source`."""
        return f"{self.id} {self.method} {self.evaluation} {self.metric} {self.value:g} {self.unit}, {self.source}"


@cache
def references() -> list[Reference]:
    """The rows of references.csv. Raises ValueError as `read`."""
    return read(files("leaderboards").joinpath("references.csv"))


def read(file: Traversable) -> list[Reference]:
    """The rows of such a file.

    Raises:
        ValueError: one line that names file and line: no UTF-8, other columns, a value that is no number.
    """
    try:
        rows = csv.reader(io.StringIO(file.read_bytes().decode()), strict=True)
        head = next(rows, [])
        if set(head) != _COLUMNS:
            raise ValueError(f"its columns must be {', '.join(sorted(_COLUMNS))}")
        found = []
        for row in rows:
            if len(row) != len(head):
                raise ValueError(f"line {rows.line_num}: {len(row)} columns, not {len(head)}")
            try:
                found.append(_reference(dict(zip(head, row, strict=True))))
            except ValueError as error:
                raise ValueError(f"line {rows.line_num}: {error}") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}: {error}; fix it, or restore it with git") from None
    return found


_COLUMNS = {field.name for field in fields(Reference)}


def _reference(row: Mapping[str, str]) -> Reference:
    return Reference(
        **{key: row[key] for key in row if key not in ("value", "baseline", "conflicts")},
        value=float(row["value"]),
        baseline=row["baseline"] == "1",
        conflicts=tuple(row["conflicts"].split()),
    )
