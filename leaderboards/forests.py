"""Forest plots: a difference and its interval a row, against 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

from leaderboards.answers import Answer
from leaderboards.cells import signed
from leaderboards.drawing import CHARACTER, HOLLOW, Axes, Drawing, mark, text_at
from leaderboards.paired_arms import Difference

_ROW = 38  # pixels of a row of differences


def differences(title: str, under: str, found: Sequence[Difference]) -> Drawing:
    """Mean differences of paired seeds with their 95 % intervals, a row each, and the single seeds as small ticks."""
    edges = [0.0]
    for item in found:
        edges += item.by_seed.values()
        edges += [item.low, item.high] if item.mean else []
    axes = Axes(
        title=title,
        under=[under],
        x=(min(edges), max(edges)),
        y=(0.0, 1.0),
        labels=("difference (points)", ""),
        height=_ROW * len(found),
        left=14,
    )
    bottom = axes.top + axes.height
    drawn = [f'<path class="axis" d="M{axes.x(0):.1f} {axes.top}V{bottom}"/>']
    for row, item in enumerate(found):
        y = axes.top + _ROW * row + 26.0
        drawn.append(text_at(18, y - 10, f"{item.ours.name} − {item.theirs.name}, n = {len(item.by_seed)}", "halo"))
        ticks = [f"M{axes.x(value):.1f} {y - 4:.0f}v8" for value in item.by_seed.values()]
        drawn.append(f'<path class="line axis" d="{"".join(ticks)}"/>')
        note = f"{item.name}: {item.words}"
        if item.mean:
            drawn.append(f'<path class="line thick k0" d="M{axes.x(item.low):.1f} {y:.0f}H{axes.x(item.high):.1f}"/>')
            drawn.append(mark(axes.x(item.mean.value), y, 0, note))
        else:
            drawn.append(mark(axes.x(next(iter(item.by_seed.values()))), y, HOLLOW, note))
    return axes.drawing(drawn)


_WIDE, _THIN = 190, 22  # pixels of the drawing of one claim
_EDGE = 14  # pixels from the end of the axis to the edge of the drawing


def forest(answer: Answer, limit: float) -> Drawing | None:
    """One claim's mean difference and 95 % interval against 0 and against what the paper states.

    The mark of a single pair is hollow and has no interval. What lies beyond the axis is an arrow at its end.
    None without a difference in points or AP.

    limit: points or AP from 0 to either end of the axis.
    """
    mean, between = answer.mean, answer.interval
    if mean is None:
        return None
    y = _THIN / 2
    drawn = [
        f'<line class="grid" x1="{_EDGE}" x2="{_WIDE - _EDGE}" y1="{y}" y2="{y}"/>',
        f'<line class="axis" x1="{_at(0, limit):.1f}" x2="{_at(0, limit):.1f}" y1="0" y2="{_THIN}"/>',
    ]
    said = f"{signed(mean, 1).text} {answer.unit}"
    note = f"{signed(mean).text} {answer.unit}, one pair"
    if between:
        low, high = (_at(end, limit) for end in between)
        drawn.append(f'<path class="line thick k0" d="M{low:.1f} {y}H{high:.1f}"/>')
        said += f", interval {' to '.join(signed(end, 1).text for end in between)}"
        ends = " to ".join(signed(end).text for end in between)
        note = f"{signed(mean).text} {answer.unit}, 95 % interval (fixed n) {ends}"
    for side in sorted({math.copysign(1, end) for end in (*(between or ()), mean) if abs(end) > limit}):
        tip = f"M{_at(side * limit, limit) - 5 * side:.1f} {y - 4}l{5 * side:g} 4l{-5 * side:g} 4"
        drawn.append(f'<path class="line thick k0" d="{tip}"><title>{note}</title></path>')
    if abs(mean) <= limit:
        drawn.append(mark(_at(mean, limit), y, 0 if between else HOLLOW, note))
    if answer.claimed is not None:
        drawn.append(f'<path class="line k1" d="M{_at(answer.claimed, limit):.1f} 2l5 9l-5 9l-5 -9z"/>')
        said += f"; the paper states {answer.claimed:+g}"
    return Drawing(_WIDE, _THIN, "\n".join(drawn), said)


def axis(limit: float) -> Drawing:
    """The numbers of the axis that these drawings share, to stand above or below them."""
    ends = ((-limit, f"{-limit:+g}"), (0.0, "0"), (limit, f"{limit:+g}"))
    drawn = "".join(text_at(_at(end, limit), 13, words, "soft", "middle") for end, words in ends)
    return Drawing(_WIDE, 16, drawn, f"axis from {-limit:+g} to {limit:+g}")


def _at(value: float, limit: float) -> float:
    """Where a difference lies in these drawings, in pixels; the end of the axis for what is beyond."""
    return _WIDE / 2 + max(-1.0, min(1.0, value / limit)) * (_WIDE / 2 - _EDGE)


_LINE = 40  # pixels of a claim on the sheet: its name, and its drawing below


def sheet(found: Sequence[Answer], limit: float) -> list[Drawing]:
    """The drawings of these claims under each other, each below its claim's name; nothing where none has one."""
    drawn = [(answer, row) for answer in found if (row := forest(answer, limit))]
    parts = []
    for number, (answer, row) in enumerate(drawn):
        parts.append(text_at(4, _LINE * number + 14, f"{answer.claim.id}, {answer.where}", "bold"))
        parts.append(row.svg((4, _LINE * number + 16)))
    parts.append(axis(limit).svg((4, _LINE * len(drawn))))
    said = "Mean differences of the claims in points or AP, 95 % intervals; diamond: the paper's number"
    height = _LINE * len(drawn) + 24
    width = max([_WIDE, *(CHARACTER * len(f"{a.claim.id}, {a.where}") * 1.1 for a, _ in drawn)]) + 8
    return [Drawing(width, height, "\n".join(parts), said)] if drawn else []
