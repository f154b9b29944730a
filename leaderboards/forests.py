"""Forest plots: a difference and its interval a row, against 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from leaderboards.answers import Answer, Said
from leaderboards.cells import signed
from leaderboards.drawing import CHARACTER, HOLLOW, Axes, Drawing, mark, text_at
from leaderboards.paired_arms import Difference

_ROW = 38  # pixels of a row of differences


def differences(
    title: str, under: str, found: Sequence[Difference], names: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> Drawing:
    """Mean differences of paired seeds with their 95 % intervals, a row each, and the single seeds as small ticks.

    names: by the names of both arms, what the first has and the second lacks, in words.
    """
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
        about = names.get((item.ours.name, item.theirs.name), "")
        head = f"{item.ours.name}: {about}" if about else f"{item.ours.name} − {item.theirs.name}"
        drawn.append(text_at(18, y - 10, f"{head}, n = {len(item.by_seed)}", "halo"))
        ticks = [f"M{axes.x(value):.1f} {y - 4:.0f}v8" for value in item.by_seed.values()]
        drawn.append(f'<path class="line axis" d="{"".join(ticks)}"/>')
        note = f"{item.name}: {item.words}"
        if item.mean:
            drawn.append(f'<path class="line thick k0" d="M{axes.x(item.low):.1f} {y:.0f}H{axes.x(item.high):.1f}"/>')
            drawn.append(mark(axes.x(item.mean.value), y, 0, note))
        else:
            drawn.append(mark(axes.x(next(iter(item.by_seed.values()))), y, HOLLOW, note))
    return axes.drawing(drawn)


_WIDE, _THIN = 190, 22  # pixels of one line of the drawing of one claim
_EDGE = 14  # pixels from the end of the axis to the edge of the drawing
_CIRCLE, _SQUARE = 0, 1  # marks of equal epochs and of equal compute


def forest(answer: Answer, limit: float) -> Drawing | None:
    """One claim's mean differences and 95 % intervals against 0, and against what the paper states.

    Equal epochs is a line with a circle; equal compute, where it took other runs, one below it with a square. The mark
    of a single pair is hollow and has no interval. What lies beyond the axis is an arrow at its end. None without a
    difference in points or AP at equal epochs.

    limit: points or AP from 0 to either end of the axis.
    """
    if answer.mean is None:
        return None
    height = _THIN * len(answer.drawn)
    drawn = [f'<line class="axis" x1="{_at(0, limit):.1f}" x2="{_at(0, limit):.1f}" y1="0" y2="{height}"/>']
    words = []
    for row, said in enumerate(answer.drawn):
        at_epochs = said is answer.epochs
        y = _THIN * row + _THIN / 2
        drawn += _line(said, answer.unit, limit, y, _CIRCLE if at_epochs else _SQUARE)
        between = f", interval {' to '.join(signed(end, 1).text for end in said.interval)}" if said.interval else ""
        words.append(
            f"{'' if at_epochs else 'equal compute: '}{signed(said.mean or 0.0, 1).text} {answer.unit}{between}"
        )
        if at_epochs and answer.claimed is not None:
            drawn.append(f'<path class="line axis" d="M{_at(answer.claimed, limit):.1f} 2l5 9l-5 9l-5 -9z"/>')
            words.append(f"the paper states {answer.claimed:+g}")
    return Drawing(_WIDE, height, "\n".join(drawn), "; ".join(words))


def _line(said: Said, unit: str, limit: float, y: float, style: int) -> list[str]:
    """The grid, the interval and the mean of one basis."""
    mean, between = said.mean or 0.0, said.interval
    drawn = [f'<line class="grid" x1="{_EDGE}" x2="{_WIDE - _EDGE}" y1="{y:g}" y2="{y:g}"/>']
    note = f"{signed(mean).text} {unit}, one pair"
    if between:
        low, high = (_at(end, limit) for end in between)
        drawn.append(f'<path class="line thick k{style}" d="M{low:.1f} {y:g}H{high:.1f}"/>')
        ends = " to ".join(signed(end).text for end in between)
        note = f"{signed(mean).text} {unit}, 95 % interval (fixed n) {ends}"
    if style == _SQUARE:
        note = f"equal compute: {note}"
    for side in sorted({math.copysign(1, end) for end in (*(between or ()), mean) if abs(end) > limit}):
        tip = f"M{_at(side * limit, limit) - 5 * side:.1f} {y - 4:g}l{5 * side:g} 4l{-5 * side:g} 4"
        drawn.append(f'<path class="line thick k{style}" d="{tip}"><title>{note}</title></path>')
    if abs(mean) <= limit:
        drawn.append(mark(_at(mean, limit), y, style if between else style + HOLLOW, note))
    return drawn


def axis(limit: float) -> Drawing:
    """The numbers of the axis that these drawings share, to stand above or below them."""
    ends = ((-limit, f"{-limit:+g}"), (0.0, "0"), (limit, f"{limit:+g}"))
    drawn = "".join(text_at(_at(end, limit), 13, words, "soft", "middle") for end, words in ends)
    return Drawing(_WIDE, 16, drawn, f"axis from {-limit:+g} to {limit:+g}")


def _at(value: float, limit: float) -> float:
    """Where a difference lies in these drawings, in pixels; the end of the axis for what is beyond."""
    return _WIDE / 2 + max(-1.0, min(1.0, value / limit)) * (_WIDE / 2 - _EDGE)


_HEAD = 18  # pixels of the name of a claim on the sheet, above its drawing


def sheet(found: Sequence[Answer], limit: float) -> list[Drawing]:
    """The drawings of these claims under each other, each below its claim's name; nothing where none has one."""
    drawn = [(answer, row) for answer in found if (row := forest(answer, limit))]
    parts, top = [], 0.0
    for answer, row in drawn:
        parts.append(text_at(4, top + 14, f"{answer.claim.id}, {answer.where}", "bold"))
        parts.append(row.svg((4, top + _HEAD)))
        top += _HEAD + row.height
    parts.append(axis(limit).svg((4, top)))
    said = "Mean differences of the claims in points or AP, 95 % intervals; circle: equal epochs, square: equal compute"
    said += ", diamond: the paper's number"
    width = max([_WIDE, *(CHARACTER * len(f"{a.claim.id}, {a.where}") * 1.1 for a, _ in drawn)]) + 8
    return [Drawing(width, top + 24, "\n".join(parts), said)] if drawn else []
