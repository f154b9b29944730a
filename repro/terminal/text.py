"""Numbers and tables as they are printed. Nothing here decides anything."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 100  # of sentences in a terminal
SHOWN = 3  # names of a list that may be long


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `5.2 h`, `3.1 days`."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            number = seconds / unit
            return f"{number:.1f} {name}" if unit == 3600 and number < 10 else f"{number:.0f} {name}"
    return f"{seconds / 86400:.1f} days"


def gpu_hours(hours: float, digits: int = 3) -> str:
    """`0.083`, `9.99`, `1,901`: so many digits below 100, and no exponent above."""
    return f"{hours:.{digits}g}" if hours < 99.5 else f"{hours:,.0f}"


def size(count: float) -> str:
    """`512 bytes`, `14 kB`, `2.3 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str], widths: Sequence[int | None] | None = None) -> str:
    """A plain table; every value is printed as it stands.

    widths: the most characters of a line in each column (None: any); longer cells get more lines.
    """
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, maxcolwidths=widths))


def wrapped(line: str, first: str = "", others: str = "") -> list[str]:
    """The line in lines of at most WIDTH characters; no name, path or address is broken.

    first, others: what stands before the first line, and before each of the others.
    """
    return textwrap.wrap(
        line, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def some(names: Iterable[str], most: int = SHOWN, longest: int | None = None) -> str:
    """The first of the names: `a, b, c, ...`. longest: characters of a name, of which the rest is cut off."""
    listed = [name if longest is None or len(name) <= longest else f"{name[:longest]}..." for name in names]
    return ", ".join([*listed[:most], *(["..."] if len(listed) > most else [])])


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A row of bars, one a value, between the ends of a scale."""
    bars = "▁▂▃▄▅▆▇█"
    return "".join(bars[round((value - low) / ((high - low) or 1.0) * (len(bars) - 1))] for value in values)
