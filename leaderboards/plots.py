"""Pictures for people: accuracy against compute, learning curves, paired differences."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards.answers import Answer
from leaderboards.arms import Arm, called
from leaderboards.curves import MONITOR, Look, average, by_seed
from leaderboards.drawing import (
    COLOURS,
    DASHES,
    HOLLOW,
    NARROW,
    STYLE,
    WIDTH,
    Axes,
    Drawing,
    legend_places,
    mark,
    text_at,
)
from leaderboards.efficiency import Paid
from leaderboards.paired_arms import Difference
from leaderboards.record_fields import OURS
from leaderboards.tables import EMPTY

_FRONT = "front: no method is cheaper and better; controls are not in it"


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a training, or an evaluation's."""

    name: str
    points: Sequence[tuple[float, float]]


def efficiency_sheet(groups: Sequence[Paid]) -> str:
    """Accuracy against time of pre-training as one SVG file, a panel for each of these tables."""
    known = names(groups)
    drawn = [panel for group in groups if (panel := efficiency(group, prices(group)[0], known))]
    y, parts = 0.0, list[str]()
    for row in (drawn[i : i + 2] for i in range(0, len(drawn), 2)):
        parts += [panel.svg((column * (WIDTH + 20), y)) for column, panel in enumerate(row)]
        y += max(panel.height for panel in row) + 16
    width = 2 * WIDTH + 20 if len(drawn) > 1 else WIDTH
    if not drawn:
        parts, y = [text_at(8, 24, EMPTY)], 40.0
    return Drawing(width, y, "\n".join(parts), style=STYLE).svg() + "\n"


COSTS = {
    "device_s": (60.0, "device time of pre-training (minutes)"),
    "cpu_s": (60.0, "CPU time of pre-training (minutes)"),
    "flops": (1e12, "operations of pre-training (TFLOP)"),
}


def prices(group: Paid) -> tuple[str, str]:
    """What the accuracies of a table are drawn against, of `COSTS`: time, and operations.

    On a CPU it is CPU time where any arm has it, as other work on the machine makes the time that passes longer. An
    arm without it is not drawn.
    """
    return "cpu_s" if any(arm.cpu_time() for arm in group.arms) else "device_s", "flops"


def names(groups: Iterable[Paid]) -> list[str]:
    """The arms of all groups by the names that pictures use: what gives each its mark, the same in every picture."""
    return sorted({name for group in groups for name in called(group.arms)})


def efficiency(group: Paid, cost: str, known: Sequence[str]) -> Drawing | None:
    """Accuracy of arms against `cost` (of `COSTS`) of their pre-trainings, with the Pareto front.

    None where fewer than two arms have that cost. Bars are sample standard deviations over seeds. An arm that is not
    ours is no part of the front, and neither is a control (`arms.CONTROLS`). known: what `names` gives.
    """
    unit, label = COSTS[cost]
    found = [
        (name, arm, statistics.fmean(costs.values()) / unit, list(arm.values(group.metric).values()))
        for name, arm in sorted(zip(called(group.arms), group.arms, strict=True), key=lambda pair: pair[0])
        if (costs := arm.cpu_time() if cost == "cpu_s" else arm.training(cost))
    ]
    if len(found) < 2:
        return None
    means = [statistics.fmean(values) for *_, values in found]
    reach = [statistics.stdev(values) if len(values) > 1 else 0.0 for *_, values in found]
    low = min(mean - sd for mean, sd in zip(means, reach, strict=True))
    high = max(mean + sd for mean, sd in zip(means, reach, strict=True))
    here = [name for name, *_ in found]
    styles = [known.index(name) for name in here]
    legend, below = legend_places(here, _FRONT)
    what = "AP" if "AP" in group.metric and group.metric != "mAP" else "%"
    values_are = f"{group.evaluation.name} {group.metric}"
    axes = Axes(
        title=f"{group.evaluation.title}: {values_are}",
        under=(group.setting.words, f"trained on {group.device}"),
        x=(0.0, max(x for _, _, x, _ in found) or 1.0),
        y=(low, high),
        labels=(label, f"{values_are} ({what})"),
        height=230,
        below=below,
    )
    rivals = [
        (x, mean) for (_, arm, x, _), mean in zip(found, means, strict=True) if arm.trust == OURS and not arm.control
    ]
    steps: list[tuple[float, float]] = []
    for x, y in front(rivals):
        steps += ([(x, steps[-1][1])] if steps else []) + [(x, y)]
    drawn = [axes.path(steps, "line front")]
    for style, (name, _, x, values), mean, sd in zip(styles, found, means, reach, strict=True):
        if sd:
            drawn.append(axes.path([(x, mean - sd), (x, mean + sd)], f"line k{style % len(COLOURS)}"))
        spread = f" ± {sd:.2f}" if sd else ""
        note = f"{name}: {mean:.2f}{spread} {what}, n = {len(values)}, at {x:.3g} of {label}"
        drawn.append(mark(axes.x(x), axes.y(mean), style, note))
    keys = [mark(x, y - 4, style) for style, (x, y) in zip(styles, legend, strict=False)]
    x, y = legend[-1]
    keys.append(f'<path class="line front" d="M{x - 8:.1f} {y - 4:.1f}H{x + 8:.1f}"/>')
    return axes.drawing([*drawn, *axes.under_plot(keys, legend, [*here, _FRONT])])


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front: the (cost, value) points than which none is as cheap and better, by cost."""
    best: list[tuple[float, float]] = []
    for cost, value in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((cost, value))
    return best


def curves(title: str, under: str, label: str, found: Sequence[Curve], zero: bool = False) -> Drawing:
    """Lines over epochs, told apart by dash and colour.

    label: of the values, with their unit.  zero: whether 0 must be part of the scale.
    """
    points = [point for curve in found for point in curve.points]
    lowest = min(y for _, y in points)
    seeds = [curve.name for curve in found]
    found = [Curve(curve.name, _thinned(curve.points)) for curve in found]
    legend, below = legend_places(seeds, width=NARROW) if len(seeds) > 1 else ([], 0.0)
    axes = Axes(
        title=title,
        under=[under],
        x=(0.0, max(x for x, _ in points) or 1.0),
        y=(min(0.0, lowest) if zero else lowest, max(y for _, y in points)),
        labels=("epochs", label),
        height=150,
        below=below,
        width=NARROW,
    )
    drawn, keys = [], []
    for style, curve in enumerate(found):
        kind, dash = f"line k{style % len(COLOURS)}", DASHES[style % len(DASHES)]
        first, last = curve.points[0], curve.points[-1]
        note = f"{curve.name}: {first[1]:.4g} at epoch {first[0]:.3g}, {last[1]:.4g} at epoch {last[0]:.3g}"
        drawn.append(axes.path(curve.points, kind, dash, note))
        if len(curve.points) == 1:
            drawn.append(mark(axes.x(first[0]), axes.y(first[1]), style, note))
        if legend:
            x, y = legend[style]
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            keys.append(f'<path class="{kind}"{dashed} d="M{x - 8:.1f} {y - 4:.1f}H{x + 8:.1f}"/>')
    return axes.drawing([*drawn, *(axes.under_plot(keys, legend, seeds) if legend else ())])


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about as many points as a panel has pixels, the first and the last among them."""
    step = -(-len(points) // NARROW)
    return points if step == 1 else [*points[:-1:step], points[-1]]


MONITOR_AXES = {"epochs": (1.0, "epochs"), "device_s": COSTS["device_s"], "flops": COSTS["flops"]}


def monitor(title: str, under: str, axis: str, found: Sequence[tuple[str, Arm]], known: Sequence[str]) -> Drawing:
    """The k-NN monitor over `axis` (of `MONITOR_AXES`): an arm's mean as a line with a mark a look, its seeds thinly.

    found: the arms of one scope by name.  known: the names that have marks (`names`), these among them.
    """
    unit, label = MONITOR_AXES[axis]

    def points(curve: Sequence[Look]) -> list[tuple[float, float]]:
        return [(getattr(look, axis) / unit, look.top1) for look in curve]

    looks = {name: list(by_seed(arm).values()) for name, arm in found}
    seeds = {name: [points(curve) for curve in curves] for name, curves in looks.items()}
    means = {name: points(average(curves)) for name, curves in looks.items()}
    every = [point for curves in seeds.values() for curve in curves for point in curve]
    legend, below = legend_places(list(seeds), width=NARROW)
    axes = Axes(
        title=title,
        under=[under],
        x=(0.0, max(x for x, _ in every) or 1.0),
        y=(min(y for _, y in every), max(y for _, y in every)),
        labels=(label + (", so far" if unit != 1.0 else ""), MONITOR),
        height=230,
        below=below,
        width=NARROW,
    )
    drawn, keys = [], []
    for (name, curves), (x, y) in zip(seeds.items(), legend, strict=True):
        style = known.index(name)
        kind = f"line k{style % len(COLOURS)}"
        if len(curves) > 1:
            drawn += [axes.path(curve, f"{kind} thin") for curve in curves]
        drawn.append(axes.path(means[name], kind, note=f"{name}, mean of {len(curves)}"))
        for cost, top1 in means[name]:
            note = f"{name}: {top1:.2f} % at {cost:.3g} of {label}, n = {len(curves)}"
            drawn.append(mark(axes.x(cost), axes.y(top1), style, note))
        keys.append(mark(x, y - 4, style))
    return axes.drawing([*drawn, *axes.under_plot(keys, legend, list(seeds))])


def differences(title: str, found: Sequence[Difference]) -> Drawing:
    """Mean differences of paired seeds with their 95 % intervals, a row each, and the single seeds as small ticks."""
    edges = [0.0]
    for item in found:
        edges += item.by_seed.values()
        edges += [item.low, item.high] if item.mean else []
    step = 42
    notes = ["mean and 95 % interval", "one pair only: no interval", "one seed's difference"]
    legend, below = legend_places(notes)
    axes = Axes(
        title=title,
        under=["right of 0: the method is better"],
        x=(min(edges), max(edges)),
        y=(0.0, 1.0),
        labels=("method − baseline (points)", ""),
        height=step * len(found),
        below=below,
        left=14,
    )
    zero = (
        f'<line class="axis" x1="{axes.x(0):.1f}" x2="{axes.x(0):.1f}" y1="{axes.top}" y2="{axes.top + axes.height}"/>'
    )
    drawn = [zero]
    for row, item in enumerate(found):
        y = axes.top + step * row + 30.0
        drawn.append(text_at(18, y - 11, f"{item.name}, n = {len(item.by_seed)}", "halo"))
        ticks = [f"M{axes.x(value):.1f} {y - 5:.1f}v10" for value in item.by_seed.values()]
        drawn.append(f'<path class="line axis" d="{"".join(ticks)}"/>')
        if item.mean:
            where = f"{axes.x(item.low):.1f} {y:.1f}H{axes.x(item.high):.1f}"
            drawn.append(f'<path class="line k0" style="stroke-width:2.4" d="M{where}"/>')
            drawn.append(mark(axes.x(item.mean.value), y, 0, f"{item.name}: {item.words}"))
        else:
            drawn.append(mark(axes.x(next(iter(item.by_seed.values()))), y, HOLLOW, f"{item.name}: {item.words}"))
    (x, y), (x1, y1), (x2, y2) = legend
    keys = [
        f'<path class="line k0" style="stroke-width:2.4" d="M{x - 8:.1f} {y - 4:.1f}H{x + 8:.1f}"/>',
        mark(x, y - 4, 0),
        mark(x1, y1 - 4, HOLLOW),
        f'<path class="line axis" d="M{x2:.1f} {y2 - 9:.1f}v10"/>',
    ]
    return axes.drawing([*drawn, *axes.under_plot(keys, legend, notes)])


_FOREST, _THIN = 240, 34  # pixels of a row of the forest plot: width, height


def forest(answer: Answer, limit: float) -> Drawing | None:
    """One claim's mean difference and 95 % interval against 0 and against what the paper states; None without one.

    limit: points from 0 to either end of the axis.
    """
    if answer.interval is None:
        return None
    mean, low, high = answer.interval

    def x(value: float) -> float:
        return _FOREST / 2 + max(-1.0, min(1.0, value / limit)) * (_FOREST / 2 - 14)

    y = 11.0
    drawn = [
        f'<line class="grid" x1="14" x2="{_FOREST - 14}" y1="{y}" y2="{y}"/>',
        f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="1" y2="21"/>',
        f'<path class="line k0" style="stroke-width:2.4" d="M{x(low):.1f} {y}H{x(high):.1f}"/>',
        mark(x(mean), y, 0, f"{mean:+.2f} points, 95 % interval (fixed n) {low:+.2f} to {high:+.2f}"),
        text_at(x(0) - 3, _THIN - 1, "0", "soft"),
    ]
    said = f"{mean:+.1f} points, interval {low:+.1f} to {high:+.1f}"
    if answer.claimed is not None:
        drawn.append(f'<path class="line k1" d="M{x(answer.claimed):.1f} 2l5 9l-5 9l-5 -9z"/>')
        said += f"; the paper states {answer.claimed:+g}"
    for end in (-limit, limit):
        drawn.append(text_at(x(end) - 14, _THIN - 1, f"{end:+g}", "soft"))
    return Drawing(_FOREST, _THIN, "\n".join(drawn), said)
