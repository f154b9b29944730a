"""Pictures for people: accuracy against the cost of pre-training, and values over epochs. Names stand at the marks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards import labels
from leaderboards.arms import Arm
from leaderboards.drawing import (
    CHARACTER,
    LEFT,
    STYLE,
    WIDTH,
    Axes,
    Drawing,
    dot,
    mark,
    text_at,
)
from leaderboards.efficiency import Paid
from leaderboards.pictured import Roles, names
from leaderboards.record_fields import OURS
from leaderboards.tables import EMPTY

MARKS = "● a paper's method, ■ a baseline, ▲ a control (untrained, supervised or raw pixels)"
"""What the shapes of `efficiency` mean."""
_LOOKS = 95  # points of a line at most: more cannot be told apart


@dataclass(frozen=True)
class Line:
    """One line of a picture: a name, (x, value) points, and what a pointer shows at it."""

    name: str
    points: Sequence[tuple[float, float]]
    note: str
    kind: str = "k0"  # classes of its look
    dash: str = ""


@dataclass(frozen=True)
class Extent:
    """What the axes of pictures span that stand beside each other, so that one can be read against the other."""

    x: float  # from 0
    y: tuple[float, float]
    right: float  # pixels beside the axes, for names


COSTS = {
    "flops": (1e12, "operations of pre-training (TFLOP)", "TFLOP"),
    "cpu_s": (60.0, "CPU time of pre-training (minutes)", "min of CPU time"),
    "device_s": (60.0, "device time of pre-training (minutes)", "min of device time"),
}
"""What accuracy is drawn against: unit, label, and the unit in words. The first that two arms have."""


def _costs(arm: Arm, cost: str) -> list[float]:
    return list((arm.cpu_time() if cost == "cpu_s" else arm.training(cost)).values())


def sheet(drawn: Sequence[Drawing]) -> str:
    """Pictures of `efficiency` as one SVG file, two beside each other."""
    y, parts = 0.0, list[str]()
    for row in (drawn[i : i + 2] for i in range(0, len(drawn), 2)):
        parts += [panel.svg((column * (WIDTH + 20), y)) for column, panel in enumerate(row)]
        y += max(panel.height for panel in row) + 16
    width = 2 * WIDTH + 20 if len(drawn) > 1 else WIDTH
    if drawn:
        parts.append(text_at(4, y, "● paper's method, ■ baseline, ▲ control; bar: one standard deviation", "soft"))
        y += 10
    else:
        parts, y = [text_at(8, 24, EMPTY)], 40.0
    return Drawing(width, y, "\n".join(parts), style=STYLE).svg() + "\n"


def efficiency(group: Paid, shown: Sequence[Arm], roles: Roles) -> Drawing | None:
    """Accuracy of arms of a table against what their pre-trainings cost, their names at the marks.

    None where fewer than two arms have a cost that the others have too. Bars are sample standard deviations over seeds.
    The dashed line is the Pareto front of what is shown: an arm that is not ours or a control is no part of it.
    """
    cost = next((cost for cost in COSTS if sum(bool(_costs(arm, cost)) for arm in shown) > 1), None)
    if cost is None:
        return None
    unit, label, word = COSTS[cost]
    found = [arm for arm in shown if _costs(arm, cost)]
    at = [statistics.fmean(_costs(arm, cost)) / unit for arm in found]
    values = [list(arm.values(group.metric).values()) for arm in found]
    means = [statistics.fmean(each) for each in values]
    reach = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values]
    what = "AP" if "AP" in group.metric and group.metric != "mAP" else "%"
    axes = Axes(
        title=group.evaluation.title,
        under=(group.setting.words, f"trained on {group.device}"),
        x=(0.0, max(at) or 1.0),
        y=(
            min(mean - sd for mean, sd in zip(means, reach, strict=True)),
            max(mean + sd for mean, sd in zip(means, reach, strict=True)),
        ),
        labels=(label, f"{group.evaluation.name} {group.metric} ({what})"),
        height=330,
    )
    steps: list[tuple[float, float]] = []
    rivals = zip(found, at, means, strict=True)
    for x, y in front((x, y) for arm, x, y in rivals if arm.trust == OURS and not arm.control):
        steps += ([(x, steps[-1][1])] if steps else []) + [(x, y)]
    drawn, busy = [axes.path(steps, "line front")], _along(axes, steps)
    marks = [(axes.x(x), axes.y(mean)) for x, mean in zip(at, means, strict=True)]
    called = names(found, roles.suite)
    for arm, name, x, mean, sd, each in zip(found, called.values(), at, means, reach, values, strict=True):
        style = roles.style(arm)
        if sd:
            drawn.append(axes.path([(x, mean - sd), (x, mean + sd)], f"line k{style}"))
            busy += _along(axes, [(x, mean - sd), (x, mean + sd)])
        spread = f" ± {sd:.2f}" if sd else ""
        apart = f" ({arm.told_apart})" if arm.told_apart else ""
        note = f"{name}{apart}: {mean:.2f}{spread} {what}, n = {len(each)}, at {x:.3g} {word}"
        drawn.append(mark(axes.x(x), axes.y(mean), style, note))
    places = labels.placed(marks, list(called.values()), labels.Box(*axes.frame), busy)
    return axes.drawing([*drawn, *labels.elements(marks, list(called.values()), places)])


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front: the (cost, value) points than which none is as cheap and better, by cost."""
    best: list[tuple[float, float]] = []
    for cost, value in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((cost, value))
    return best


def extent(pictures: Sequence[Sequence[Line]], width: int = WIDTH, zero: bool = False) -> Extent:
    """Room for these pictures of lines: for every point, and right of the end of each line for its name.

    zero: whether 0 must be part of the scale of values.
    """
    points = [point for found in pictures for line in found for point in line.points]
    lowest = min(y for _, y in points)
    most = max(x for x, _ in points) or 1.0
    right = 14.0
    for line in (line for found in pictures for line in found):
        # What is left free makes the frame narrower, and moves the end of a line by its share of that.
        share = line.points[-1][0] / most
        over = len(line.name) * CHARACTER + 12 - (1 - share) * (width - LEFT)
        right = max(right, over / share if share > 0 else right)
    values = (min(0.0, lowest) if zero else lowest, max(y for _, y in points))
    return Extent(most, values, min(right, 0.4 * width))


def lines(
    title: str,
    under: str,
    axis: tuple[str, str],
    found: Sequence[Line],
    within: Extent,
    height: float = 330,
    width: int = WIDTH,
) -> Drawing:
    """Values over epochs or cost, a line each, its name at its end.  axis: labels of x and of the values."""
    axes = Axes(
        title=title,
        under=[under],
        x=(0.0, within.x),
        y=within.y,
        labels=axis,
        height=height,
        width=width,
        right=within.right,
    )
    drawn, busy = [], []
    for line in reversed(found):  # the first lies over the others
        shown, end = thinned(line.points), line.points[-1]
        drawn.append(axes.path(shown, f"line {line.kind}", line.dash, line.note))
        drawn.append(dot(axes.x(end[0]), axes.y(end[1]), line.kind, 3.5 if "thick" in line.kind else 2))
        busy += _along(axes, shown)
    ends = [(axes.x(line.points[-1][0]), axes.y(line.points[-1][1])) for line in found]
    called = [line.name for line in found]
    frame = labels.Box(axes.left, axes.top, axes.width, axes.top + axes.height)
    places = labels.placed(ends, called, frame, busy)
    drawn += labels.elements(ends, called, places, [line.kind.split()[0] for line in found])
    return axes.drawing(drawn)


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about `_LOOKS` points, the first and the last among them."""
    step = -(-len(points) // _LOOKS)
    return points if step == 1 else [*points[:-1:step], points[-1]]


def _along(axes: Axes, points: Sequence[tuple[float, float]]) -> list[labels.Box]:
    """Boxes that cover a line through these points, so that names keep off it."""
    return labels.along([(axes.x(x), axes.y(y)) for x, y in points])
