"""Plots of a mean and its interval a row, its name above it: differences of paired seeds, and shares of a cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

from leaderboards.curves import Reach
from leaderboards.drawing import HOLLOW, WIDTH, Axes, Drawing, mark, text_at
from leaderboards.learning import share
from leaderboards.paired_arms import Difference

_NAME, _MARK = 15, 24  # pixels of a line of words, and of the mark below
_WIDTH = 400  # pixels of a plot of differences
_SIDE = 14  # pixels beside the axis
_MOST_TICKS = 9


@dataclass(frozen=True)
class _Row:
    """words: the first of them plain, those after it in grey.  amount: stands at the end of the first."""

    words: Sequence[str]
    at: float
    interval: tuple[float, float] | None  # None with a single pair
    note: str
    singles: Sequence[float] = ()
    amount: str = ""


def differences(
    titles: Mapping[str, Sequence[Difference]],
    under: str,
    names: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> list[Drawing]:
    """Mean differences of paired seeds with their 95 % intervals, and the single seeds as small ticks.

    titles: title of a plot -> its rows; all plots have one axis.  names: by the names of both arms, what the first has
    and the second has not, in words.
    """
    rows = {title: [_difference(item, names) for item in found] for title, found in titles.items()}
    every = [0.0]
    for row in (row for found in rows.values() for row in found):
        every += [row.at, *row.singles, *(row.interval or ())]
    return [
        _plot(found, _axes(found, title, under, (min(every), max(every)), "difference (points)"))
        for title, found in rows.items()
    ]


def _difference(item: Difference, names: Mapping[tuple[str, str], str]) -> _Row:
    arms = f"{item.ours.name} − {item.theirs.name}, n = {len(item.by_seed)}"
    name = names.get((item.ours.name, item.theirs.name))
    singles = list(item.by_seed.values())
    return _Row(
        [name, arms] if name else [arms],
        item.mean.value if item.mean else singles[0],
        (item.low, item.high) if item.mean else None,
        f"{item.name}: {item.words}",
        singles if item.mean else (),
    )


def shares(title: str, under: str, found: Sequence[Reach], metric: str, label: str) -> Drawing | None:
    """Which share of a baseline's cost each method needs, on a scale of doublings around 1; None without any.

    metric: of TO_ACCURACY.
    """
    means = [(item, mean) for item in found if (mean := share(item, metric)) is not None]
    if not means:
        return None
    rows = []
    for item, mean in means:
        value, ends = math.exp(mean.value), tuple(map(math.exp, mean.interval)) if mean.n > 1 else ()
        amount = f"{value:.2f}" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")
        arms = f"{item.ours.name} against {item.theirs.name}"
        rows.append(
            _Row(
                [f"{arms}, n = {mean.n}"],
                math.log2(value),
                (math.log2(ends[0]), math.log2(ends[1])) if ends else None,
                f"{arms}: {amount} times the cost, n = {mean.n}" + ", 95 % interval" * bool(ends),
                amount=amount,
            )
        )
    edges = [edge for row in rows for edge in (row.at, *(row.interval or ()))]
    low, high = min(-1.0, *edges), max(1.0, *edges)
    step = max(1, math.ceil((high - low) / _MOST_TICKS))
    doublings = range(step * math.ceil(low / step), math.floor(high) + 1, step)
    ticks = [(float(n), f"{2.0**n:.3g}") for n in doublings]
    return _plot(rows, _axes(rows, title, under, (low, high), label, WIDTH, ticks))


def _axes(
    rows: Sequence[_Row],
    title: str,
    under: str,
    edges: tuple[float, float],
    label: str,
    width: int = _WIDTH,
    ticks: Sequence[tuple[float, str]] = (),
) -> Axes:
    height = sum(map(_height, rows))
    return Axes(title, [under], edges, (0.0, 1.0), (label, ""), height, left=_SIDE, width=width, ticks=ticks)


def _height(row: _Row) -> float:
    return _NAME * len(row.words) + _MARK


def _plot(rows: Sequence[_Row], axes: Axes) -> Drawing:
    """The rows below each other. The grid and the line at 0 stop where words stand: nothing crosses a letter."""
    left, _, right, bottom = axes.frame
    drawn = [f'<path class="axis" d="M{axes.x(0):.1f} {axes.top}V{bottom:g}"/>']
    tops = accumulate((_height(row) for row in rows), initial=float(axes.top))
    for row, top in zip(rows, tops, strict=False):
        words = _NAME * len(row.words) + 2
        drawn.append(
            f'<rect class="bare" x="{left + 1:g}" y="{top + 2:g}" width="{right - left - 1:g}" height="{words}"/>'
        )
        for number, line in enumerate(row.words):
            kind = "name soft" if number else "name"
            drawn.append(text_at(left + 5, top + _NAME * (number + 1) - 1, axes.fitted(line), kind))
        if row.amount:
            drawn.append(text_at(right, top + _NAME - 1, row.amount, "name", "end"))
        drawn += _marks(row, axes, top + words + 10)
    return axes.drawing(drawn)


def _marks(row: _Row, axes: Axes, y: float) -> list[str]:
    """The single values, the interval and the mean; a hollow mark where there is no interval."""
    ticks = "".join(f"M{axes.x(value):.1f} {y - 4:.0f}v8" for value in row.singles)
    drawn = [f'<path class="line axis" d="{ticks}"/>'] if ticks else []
    if row.interval is None:
        return [*drawn, mark(axes.x(row.at), y, HOLLOW, row.note)]
    low, high = (axes.x(end) for end in row.interval)
    return [
        *drawn,
        f'<path class="line thick k0" d="M{low:.1f} {y:.0f}H{high:.1f}"/>',
        mark(axes.x(row.at), y, 0, row.note),
    ]
