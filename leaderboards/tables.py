"""Tables: rows whose numbers may stand beside each other, and what every view of one shows."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards.arms import Arm
from leaderboards.cells import Cell, Row
from leaderboards.setting import Setting
from leaderboards.verdicts import NO_VERDICTS

EMPTY = "No records yet."


@dataclass(frozen=True)
class Table:
    """Rows whose numbers may stand beside each other, the best first."""

    title: str
    rows: Sequence[Row]
    lifted: tuple[str, ...] = ()  # columns that become a line above the table where all rows agree
    under: Sequence[str] = ()  # lines below the table
    setting: Setting | None = None  # of which all rows share the scope
    first: Sequence[Row] = ()  # what a reader needs of each row, shown above the rest; (): there is no shorter form
    silent: str = ""  # why the numbers tell nothing; a view says that in their place


@dataclass(frozen=True)
class Arranged:
    """A table as every view of it shows it."""

    above: str  # a line above it, or ""
    heads: list[tuple[str, bool]]  # of each column, and whether it holds words
    rows: list[list[Cell]]


def arranged(table: Table) -> Arranged:
    """Without the columns in which no row has anything to say, and without those that become the line above."""
    columns = dict.fromkeys(column for row in table.rows for column in row)
    found = {column: [row.get(column, Cell("-")) for row in table.rows] for column in columns}
    found = {column: cells for column, cells in found.items() if not all(cell.empty for cell in cells)}
    common = [column for column in table.lifted if column in found and len({cell.text for cell in found[column]}) == 1]
    above = "All rows: " + "; ".join(f"{column} {found[column][0].text}" for column in common) + "." if common else ""
    shown = {column: cells for column, cells in found.items() if column not in common}
    heads = [(column, any(cell.words for cell in cells)) for column, cells in shown.items()]
    return Arranged(above, heads, [list(cells) for cells in zip(*shown.values(), strict=True)])


def by_scope(found: Iterable[Arm]) -> list[list[Arm]]:
    """Arms whose numbers may share a table: the smallest track first, of one track the fullest table first.

    Digits, which decide nothing, come last.
    """
    groups: dict[tuple[object, ...], list[Arm]] = defaultdict(list)
    for arm in found:
        groups[arm.setting.scope].append(arm)
    return sorted(
        groups.values(), key=lambda group: (page_order(group[0].setting), -len(group), group[0].setting.scope)
    )


def page_order(setting: Setting) -> tuple[bool, int, str]:
    """To sort by: where the tables of its track stand on a page."""
    order, track, *_ = setting.scope
    return track == NO_VERDICTS, order, track


def best_first(arm: Arm, metric: str) -> tuple[float, str, str]:
    """To sort by: the best first, then by name."""
    values = arm.values(metric).values()
    return (-statistics.fmean(values) if values else 1.0, arm.name, str(arm.setting) + arm.label)


def lines_under(found: Sequence[Arm]) -> list[str]:
    """What stands below a table of these arms, whatever it shows: a long protocol's values, and that it has one row."""
    setting = found[0].setting
    alone = ["This table has one row: there is nothing to compare it with."] if len(found) == 1 else []
    return ([setting.other_values] if setting.other_values else []) + alone
