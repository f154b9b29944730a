"""Forest plots: a difference and its interval a row, against 0."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.answers import Answer
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


_WIDE, _THIN = 240, 34  # pixels of the drawing of one claim


def forest(answer: Answer, limit: float) -> Drawing | None:
    """One claim's mean difference and 95 % interval against 0 and against what the paper states; None without one.

    limit: points from 0 to either end of the axis.
    """
    if answer.interval is None:
        return None
    mean, low, high = answer.interval

    def x(value: float) -> float:
        return _WIDE / 2 + max(-1.0, min(1.0, value / limit)) * (_WIDE / 2 - 14)

    y = 11.0
    drawn = [
        f'<line class="grid" x1="14" x2="{_WIDE - 14}" y1="{y}" y2="{y}"/>',
        f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="1" y2="21"/>',
        f'<path class="line thick k0" d="M{x(low):.1f} {y}H{x(high):.1f}"/>',
        mark(x(mean), y, 0, f"{mean:+.2f} points, 95 % interval (fixed n) {low:+.2f} to {high:+.2f}"),
        text_at(x(0) - 3, _THIN - 1, "0", "soft"),
    ]
    said = f"{mean:+.1f} points, interval {low:+.1f} to {high:+.1f}"
    if answer.claimed is not None:
        drawn.append(f'<path class="line k1" d="M{x(answer.claimed):.1f} 2l5 9l-5 9l-5 -9z"/>')
        said += f"; the paper states {answer.claimed:+g}"
    for end in (-limit, limit):
        drawn.append(text_at(x(end) - 14, _THIN - 1, f"{end:+g}", "soft"))
    return Drawing(_WIDE, _THIN, "\n".join(drawn), said)


_LINE = 52  # pixels of a claim on the sheet: its name, and its drawing below


def sheet(found: Sequence[Answer], limit: float) -> list[Drawing]:
    """The drawings of these claims under each other, each below its claim's name; nothing where none has one."""
    drawn = [(answer, row) for answer in found if (row := forest(answer, limit))]
    parts = []
    for number, (answer, row) in enumerate(drawn):
        parts.append(text_at(4, _LINE * number + 14, f"{answer.claim.id}, {answer.where}", "bold"))
        parts.append(row.svg((4, _LINE * number + 16)))
    said = "Mean differences of the claims, 95 % intervals; diamond: the paper's number"
    height = _LINE * len(drawn) + 12
    width = max([_WIDE, *(CHARACTER * len(f"{a.claim.id}, {a.where}") * 1.1 for a, _ in drawn)]) + 8
    return [Drawing(width, height, "\n".join(parts), said)] if drawn else []
