"""Cells of tables: what a number, a time or a set of records reads as, and what it sorts by."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from leaderboards.record_fields import Record, entry

Link = Callable[[Record], str]
"""Record -> address of its file, relative to the boards."""


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    value: float | None = None  # what it sorts by, as exact as `text` is; None: it sorts by its text
    words: bool = False  # words begin at the left of their column, figures end at its right
    links: tuple[tuple[str, str], ...] = ()  # (text, address) of each part of `text` that leads somewhere
    values: tuple[float, ...] = ()  # of the seeds, where `text` is their mean

    @property
    def empty(self) -> bool:
        """Whether it has nothing to say."""
        return self.text in ("-", "")

    @property
    def key(self) -> str:
        """What it sorts by, as text."""
        return self.text if self.value is None else f"{self.value:.10g}"


Row = Mapping[str, Cell]
"""Head of a column -> cell."""

NOTHING = Cell("-")


def words(text: object) -> Cell:
    """Words, on one line."""
    return Cell(" ".join(str(text).split()), words=True)


def whole(number: int | None) -> Cell:
    """A whole number, "-" for None."""
    return NOTHING if number is None else Cell(str(number), number)


def whole_numbers(found: Iterable[int], between: str = " ") -> Cell:
    """Some whole numbers, which sort by the first."""
    found = list(found)
    return Cell(between.join(map(str, found)), found[0]) if found else NOTHING


def percent(share: float | None) -> Cell:
    """A share of 1 as `40 %`, "-" for None."""
    return NOTHING if share is None else _figure(100 * share, 0, " %")


def spread(values: Iterable[float], digits: int = 2) -> Cell:
    """Mean and sample standard deviation: `71.25`, `71.25 ± 0.31`, or "-" for nothing."""
    values = list(values)
    if not values:
        return NOTHING
    mean = f"{statistics.fmean(values):.{digits}f}"
    text = mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"
    return Cell(text, float(mean), values=tuple(values))


def signed(value: float, digits: int = 2) -> Cell:
    """A difference: `+0.50`, or `0.00` without a sign."""
    rounded = round(value, digits) + 0.0  # no "-0.00"
    return Cell(f"{rounded:{'+' if rounded else ''}.{digits}f}", rounded)


def count(values: Iterable[float], unit: float = 1.0, digits: int = 0) -> Cell:
    """Mean in multiples of `unit`, `79,872`, or "-" for nothing."""
    values = list(values)
    return _figure(statistics.fmean(values) / unit, digits) if values else NOTHING


def duration(seconds: Iterable[float]) -> Cell:
    """Mean of times in seconds: `8.4 s`, `12.5 min`, `5.2 h`, or "-"."""
    seconds = list(seconds)
    if not seconds:
        return NOTHING
    mean = statistics.fmean(seconds)
    for unit, name in ((3600, "h"), (60, "min")):
        if mean >= unit:
            return _figure(mean / unit, 1, f" {name}", unit)
    return _figure(mean, 1, " s")


def memory(megabytes: Iterable[float], of: str = "") -> Cell:
    """Largest of peaks in MiB: `812 MB`, `3.1 GB`, with `of` behind it, or "-"."""
    largest = max(megabytes, default=None)
    if largest is None:
        return NOTHING
    gigabytes = f"{largest / 1024:.1f}"
    if largest >= 1024:
        return Cell(f"{gigabytes} GB{of}", float(gigabytes) * 1024)
    return Cell(f"{largest:.0f} MB{of}", round(largest))


def peak(costs: Callable[[str], Mapping[int, float]]) -> Cell:
    """Peak memory of jobs: the device's where they ran on one, else the process's."""
    device = costs("peak_device_memory_mb")
    return memory(device.values(), " GPU") if device else memory(costs("peak_memory_mb").values())


def _figure(value: float, digits: int, after: str = "", unit: float = 1.0) -> Cell:
    """unit: what one of `value` counts when cells of other units stand in the column."""
    return Cell(f"{value:,.{digits}f}{after}", float(f"{value:.{digits}f}") * unit)


def dates(records: Mapping[int, Record]) -> Cell:
    """The days of records: `2026-11-20`, `2026-11-20..22`."""
    days = sorted({str(entry(record, "provenance", "date") or "-")[:10] for record in records.values()})
    if len(days) == 1:
        return words(days[0])
    return words(f"{days[0]}..{days[-1][8:]}" if days[0][:8] == days[-1][:8] else f"{days[0]}..{days[-1]}")


def linked(links: Iterable[tuple[str, str]]) -> Cell:
    """(text, address) of each link."""
    found = tuple(links)
    return Cell(" ".join(text for text, _ in found), words=True, links=found)


def sources(records: Mapping[int, Record], link: Link) -> Cell:
    """A cell that leads to the records behind its row: `s0 s1 s2`."""
    return linked((f"s{seed}", link(record)) for seed, record in sorted(records.items()))
