"""The numbers that papers and repositories report, ours or anybody's: references.csv."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


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
    """The rows of references.csv."""
    text = files("leaderboards").joinpath("references.csv").read_text(encoding="utf-8")
    return [
        Reference(
            **{key: row[key] for key in row if key not in ("value", "baseline", "conflicts")},
            value=float(row["value"]),
            baseline=row["baseline"] == "1",
            conflicts=tuple(row["conflicts"].split()),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]
