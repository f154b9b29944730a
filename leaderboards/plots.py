"""Pictures for people, as SVG: accuracy against compute, learning curves, paired differences.

Drawn here and not by a plotting library, for three reasons: the same records give the same bytes under every version of
it, the colours follow the reader's light or dark scheme, and a report is written in a second while trainings run. What
colour tells, shape, dash or a label tells too, and every mark has its numbers as a tooltip.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from leaderboards.arms import OURS, Arm, Record, called
from leaderboards.boards import EMPTY, Paid, paid
from leaderboards.curves import MONITOR, Look, average, by_seed
from leaderboards.pairs import Difference

# Okabe and Ito's colours, distinguishable with any kind of colour vision; the dark scheme has lighter ones.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0568c", "#a87400", "#2f86b8", "#444444")
_COLOURS_DARK = ("#5fb4ea", "#ff8a47", "#35cfa0", "#e59ac6", "#f0b429", "#8fd0f5", "#dddddd")


def _variables(ink: str, soft: str, grid: str, paper: str, colours: Sequence[str]) -> str:
    named = {"ink": ink, "soft": soft, "grid": grid, "paper": paper, **{f"c{i}": c for i, c in enumerate(colours)}}
    return ":root{" + "".join(f"--{name}:{value};" for name, value in named.items()) + "}"


STYLE = (
    _variables("#1b1f24", "#57606a", "#dde2e7", "#ffffff", _COLOURS)
    + "@media (prefers-color-scheme:dark){"
    + _variables("#e8eaed", "#a6afb8", "#3a4149", "#15181c", _COLOURS_DARK)
    + "}"
    "svg.plot{font:12px system-ui,sans-serif}.plot text{fill:var(--ink)}.plot .soft{fill:var(--soft)}"
    ".plot .bold{font-weight:600}.plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--soft)}"
    ".plot .mark{stroke-width:1.6;stroke-linejoin:round}.plot .hollow{fill:var(--paper)}"
    ".plot .halo{paint-order:stroke;stroke:var(--paper);stroke-width:5px}"
    ".plot .line{fill:none;stroke-width:1.6}.plot .front{stroke:var(--soft);stroke-dasharray:5 4}"
    + "".join(f".plot .k{i}{{stroke:var(--c{i});fill:var(--c{i})}}" for i in range(len(_COLOURS)))
    + ".plot .line{fill:none}.plot .thin{stroke-width:.8;opacity:.45}.plot .mark.hollow{fill:var(--paper)}"
)
"""What the classes of these drawings look like; part of every page or file that holds one."""

_WIDTH = 460
_NARROW = 380
_LEFT, _RIGHT = 62, 14
_CHARACTER = 6.4  # width of a letter of 12 pixels, on average; errs to the wide side
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),  # a circle
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.15), (1.05, 0.85), (-1.05, 0.85)),
    ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    ((0, 1.15), (1.05, -0.85), (-1.05, -0.85)),
    tuple(
        (r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5)) for i, r in enumerate((1.35, 0.6) * 5)
    ),  # a star
    tuple((1.1 * math.sin(math.pi * i / 3), -1.1 * math.cos(math.pi * i / 3)) for i in range(6)),
    tuple(  # a cross
        zip(
            (-0.4, 0.4, 0.4, 1.2, 1.2, 0.4, 0.4, -0.4, -0.4, -1.2, -1.2, -0.4),
            (-1.2, -1.2, -0.4, -0.4, 0.4, 0.4, 1.2, 1.2, 0.4, 0.4, -0.4, -0.4),
            strict=True,
        )
    ),
    ((1.15, 0), (-0.85, 1.05), (-0.85, -1.05)),
    ((-1.15, 0), (0.85, 1.05), (0.85, -1.05)),
)

_FRONT = "front: no method is cheaper and better; controls are not in it"
_HOLLOW = len(_SHAPES) * len(_COLOURS)  # the first shape and colour again, hollow


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a training, or an evaluation's."""

    name: str
    points: Sequence[tuple[float, float]]


def efficiency_sheet(records: Sequence[Record]) -> str:
    """Accuracy against time of pre-training as one SVG file, a panel for each table of the efficiency board.

    records: plain dicts of all kinds.
    """
    groups = paid(records)
    known = names(groups)
    drawn = [panel for group in groups if (panel := efficiency(group, prices(group)[0], known))]
    y, parts = 0.0, list[str]()
    for row in (drawn[i : i + 2] for i in range(0, len(drawn), 2)):
        parts += [_moved(panel, column * (_WIDTH + 20), y) for column, panel in enumerate(row)]
        y += max(_height(panel) for panel in row) + 16
    width = 2 * _WIDTH + 20 if len(drawn) > 1 else _WIDTH
    if not drawn:
        parts, y = [_text(8, 24, EMPTY)], 40.0
    size = f'viewBox="0 0 {width} {y:g}" width="{width}" height="{y:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" {size}>'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


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


def efficiency(group: Paid, cost: str, known: Sequence[str]) -> str:
    """Accuracy of arms against `cost` (of `COSTS`) of their pre-trainings, with the Pareto front.

    "" where fewer than two arms have that cost. Bars are sample standard deviations over seeds. An arm that is not ours
    is no part of the front, and neither is a control (`arms.CONTROLS`). known: what `names` gives.
    """
    unit, label = COSTS[cost]
    found = [
        (name, arm, statistics.fmean(costs.values()) / unit, list(arm.values(group.metric).values()))
        for name, arm in sorted(zip(called(group.arms), group.arms, strict=True), key=lambda pair: pair[0])
        if (costs := arm.cpu_time() if cost == "cpu_s" else arm.training(cost))
    ]
    if len(found) < 2:
        return ""
    means = [statistics.fmean(values) for *_, values in found]
    reach = [statistics.stdev(values) if len(values) > 1 else 0.0 for *_, values in found]
    low = min(mean - sd for mean, sd in zip(means, reach, strict=True))
    high = max(mean + sd for mean, sd in zip(means, reach, strict=True))
    here = [name for name, *_ in found]
    styles = [known.index(name) for name in here]
    legend, below = _legend(here, _FRONT)
    title, _, where = group.title.partition(", ")
    what = "AP" if "AP" in group.metric and group.metric != "mAP" else "%"
    axes = _Axes(
        title=f"{title}: {group.evaluation} {group.metric}",
        under=where.replace(", trained on ", "\ntrained on "),
        x=(0.0, max(x for _, _, x, _ in found) or 1.0),
        y=(low, high),
        labels=(label, f"{group.evaluation} {group.metric} ({what})"),
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
            drawn.append(axes.path([(x, mean - sd), (x, mean + sd)], f"line k{style % len(_COLOURS)}"))
        spread = f" ± {sd:.2f}" if sd else ""
        note = f"{name}: {mean:.2f}{spread} {what}, n = {len(values)}, at {x:.3g} of {label}"
        drawn.append(_mark(axes.x(x), axes.y(mean), style, note))
    keys = [_mark(x, y - 4, style) for style, (x, y) in zip(styles, legend, strict=False)]
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


def curves(title: str, under: str, label: str, found: Sequence[Curve], zero: bool = False) -> str:
    """Lines over epochs, told apart by dash and colour.

    label: of the values, with their unit.  zero: whether 0 must be part of the scale.
    """
    points = [point for curve in found for point in curve.points]
    lowest = min(y for _, y in points)
    seeds = [curve.name for curve in found]
    found = [Curve(curve.name, _thinned(curve.points)) for curve in found]
    legend, below = _legend(seeds, width=_NARROW) if len(seeds) > 1 else ([], 0.0)
    axes = _Axes(
        title=title,
        under=under,
        x=(0.0, max(x for x, _ in points) or 1.0),
        y=(min(0.0, lowest) if zero else lowest, max(y for _, y in points)),
        labels=("epochs", label),
        height=150,
        below=below,
        width=_NARROW,
    )
    drawn, keys = [], []
    for style, curve in enumerate(found):
        kind, dash = f"line k{style % len(_COLOURS)}", _DASHES[style % len(_DASHES)]
        first, last = curve.points[0], curve.points[-1]
        note = f"{curve.name}: {first[1]:.4g} at epoch {first[0]:.3g}, {last[1]:.4g} at epoch {last[0]:.3g}"
        drawn.append(axes.path(curve.points, kind, dash, note))
        if len(curve.points) == 1:
            drawn.append(_mark(axes.x(first[0]), axes.y(first[1]), style, note))
        if legend:
            x, y = legend[style]
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            keys.append(f'<path class="{kind}"{dashed} d="M{x - 8:.1f} {y - 4:.1f}H{x + 8:.1f}"/>')
    return axes.drawing([*drawn, *(axes.under_plot(keys, legend, seeds) if legend else ())])


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about as many points as a panel has pixels, the first and the last among them."""
    step = -(-len(points) // _NARROW)
    return points if step == 1 else [*points[:-1:step], points[-1]]


MONITOR_AXES = {"epochs": (1.0, "epochs"), "device_s": COSTS["device_s"], "flops": COSTS["flops"]}


def monitor(title: str, under: str, axis: str, found: Sequence[tuple[str, Arm]], known: Sequence[str]) -> str:
    """The k-NN monitor over `axis` (of `MONITOR_AXES`): an arm's mean as a line with a mark a look, its seeds thinly.

    found: the arms of one scope by name.  known: the names that have marks (`names`), these among them.
    """
    unit, label = MONITOR_AXES[axis]

    def points(curve: Sequence[Look]) -> list[tuple[float, float]]:
        return [(getattr(look, axis) / unit, look.top1) for look in curve]

    seeds = {name: [points(curve) for curve in by_seed(arm).values()] for name, arm in found}
    means = {name: points(average(list(by_seed(arm).values()))) for name, arm in found}
    every = [point for curves in seeds.values() for curve in curves for point in curve]
    legend, below = _legend(list(seeds), width=_NARROW)
    axes = _Axes(
        title=title,
        under=under,
        x=(0.0, max(x for x, _ in every) or 1.0),
        y=(min(y for _, y in every), max(y for _, y in every)),
        labels=(label + (", so far" if unit != 1.0 else ""), MONITOR),
        height=230,
        below=below,
        width=_NARROW,
    )
    drawn, keys = [], []
    for (name, curves), (x, y) in zip(seeds.items(), legend, strict=True):
        style = known.index(name)
        kind = f"line k{style % len(_COLOURS)}"
        if len(curves) > 1:
            drawn += [axes.path(curve, f"{kind} thin") for curve in curves]
        drawn.append(axes.path(means[name], kind, note=f"{name}, mean of {len(curves)}"))
        for cost, top1 in means[name]:
            note = f"{name}: {top1:.2f} % at {cost:.3g} of {label}, n = {len(curves)}"
            drawn.append(_mark(axes.x(cost), axes.y(top1), style, note))
        keys.append(_mark(x, y - 4, style))
    return axes.drawing([*drawn, *axes.under_plot(keys, legend, list(seeds))])


def differences(title: str, found: Sequence[Difference]) -> str:
    """Mean differences of paired seeds with their 95 % intervals, a row each, and the single seeds as small ticks."""
    edges = [0.0]
    for item in found:
        edges += item.by_seed.values()
        edges += [item.low, item.high] if item.mean else []
    step = 42
    notes = ["mean and 95 % interval", "one pair only: no interval", "one seed's difference"]
    legend, below = _legend(notes)
    axes = _Axes(
        title=title,
        under="right of 0: the method is better",
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
        drawn.append(_text(18, y - 11, f"{item.name}, n = {len(item.by_seed)}", "halo"))
        ticks = [f"M{axes.x(value):.1f} {y - 5:.1f}v10" for value in item.by_seed.values()]
        drawn.append(f'<path class="line axis" d="{"".join(ticks)}"/>')
        if item.mean:
            where = f"{axes.x(item.low):.1f} {y:.1f}H{axes.x(item.high):.1f}"
            drawn.append(f'<path class="line k0" style="stroke-width:2.4" d="M{where}"/>')
            drawn.append(_mark(axes.x(item.mean.value), y, 0, f"{item.name}: {item.words}"))
        else:
            drawn.append(_mark(axes.x(next(iter(item.by_seed.values()))), y, _HOLLOW, f"{item.name}: {item.words}"))
    (x, y), (x1, y1), (x2, y2) = legend
    keys = [
        f'<path class="line k0" style="stroke-width:2.4" d="M{x - 8:.1f} {y - 4:.1f}H{x + 8:.1f}"/>',
        _mark(x, y - 4, 0),
        _mark(x1, y1 - 4, _HOLLOW),
        f'<path class="line axis" d="M{x2:.1f} {y2 - 9:.1f}v10"/>',
    ]
    return axes.drawing([*drawn, *axes.under_plot(keys, legend, notes)])


# --------------------------------------------------------------------------------------------------------------- pieces


class _Axes:
    """A frame with grid, scales and labels."""

    def __init__(
        self,
        title: str,
        under: str,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        height: float,
        below: float,
        left: float = _LEFT,
        width: int = _WIDTH,
    ) -> None:
        """x, y: values to show.  labels: of the scales, "" for one without numbers.  below: room of the legend."""
        self.title, self.under, self.labels, self.height, self.left = title, under, labels, height, left
        self.width = width
        self.top = 28 + 17 * len(under.splitlines())
        self._x, self._y = _widened(*x), _widened(*y) if labels[1] else y
        self.full = self.top + height + 40 + below

    def x(self, value: float) -> float:
        low, high = self._x
        return self.left + (value - low) / (high - low) * (self.width - self.left - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return self.top + (high - value) / (high - low) * self.height

    def path(self, points: Sequence[tuple[float, float]], kind: str, dash: str = "", note: str = "") -> str:
        """A line through points of these axes."""
        if len(points) < 2:
            return ""
        way = "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return (
            f'<path class="{kind}"{dashed} d="{way}">' + (f"<title>{escape(note)}</title>" if note else "") + "</path>"
        )

    def under_plot(self, keys: list[str], places: list[tuple[float, float]], names: Sequence[str]) -> list[str]:
        """The legend: keys and names, moved below the scale."""
        words = [_text(x + 13, y, name) for (x, y), name in zip(places, names, strict=True)]
        return [f'<g transform="translate(0 {self.top + self.height + 44:g})">', *keys, *words, "</g>"]

    def _fitted(self, text: str) -> str:
        """A text that fits into the width of the drawing."""
        most = int((self.width - 8) / _CHARACTER)
        return text if len(text) <= most else text[: most - 1] + "…"

    def drawing(self, inside: Sequence[str]) -> str:
        bottom, right = self.top + self.height, self.width - _RIGHT
        said = escape("; ".join([self.title, *self.under.splitlines()]))
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" aria-label="{said}"'
            f' viewBox="0 0 {self.width} {self.full:g}" width="{self.width}" height="{self.full:g}">',
            _text(4, 15, self._fitted(self.title), "bold"),
            *(_text(4, 32 + 17 * i, self._fitted(line), "soft") for i, line in enumerate(self.under.splitlines())),
        ]
        for value in _ticks(*self._x):
            x = self.x(value)
            lines.append(f'<path class="grid" d="M{x:.1f} {self.top}V{bottom:g}"/>')
            lines.append(_text(x, bottom + 16, _number(value), "soft", "middle"))
        for value in _ticks(*self._y) if self.labels[1] else ():
            y = self.y(value)
            lines.append(f'<path class="grid" d="M{self.left} {y:.1f}H{right}"/>')
            lines.append(_text(self.left - 6, y + 4, _number(value), "soft", "end"))
        lines.append(_text((self.left + right) / 2, bottom + 33, self.labels[0], "", "middle"))
        if self.labels[1]:
            middle = self.top + self.height / 2
            turned = f'transform="rotate(-90 11 {middle:g})" x="11" y="{middle:g}" text-anchor="middle"'
            lines.append(f"<text {turned}>{escape(self.labels[1])}</text>")
        lines.append(f'<path class="line axis" d="M{self.left} {self.top}V{bottom:g}H{right}"/>')
        return "\n".join(line for line in [*lines, *inside, "</svg>"] if line)


def _widened(low: float, high: float) -> tuple[float, float]:
    """Room around the values; a scale that begins at 0 keeps beginning there."""
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return (low if low == 0 < high else low - room), high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.6g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    marks = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{marks}>{escape(text)}</text>'


def _mark(x: float, y: float, style: int, note: str = "") -> str:
    """A marker: shape and colour by `style`; after as many as there are shapes, hollow ones."""
    shape = _SHAPES[style % len(_SHAPES)]
    kind = f"mark k{style % len(_COLOURS)}" + (" hollow" if style // len(_SHAPES) % 2 else "")
    inside = f"<title>{escape(note)}</title>" if note else ""
    if not shape:
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{inside}</circle>'
    corners = " ".join(f"{x + 5 * dx:.1f},{y + 5 * dy:.1f}" for dx, dy in shape)
    return f'<polygon class="{kind}" points="{corners}">{inside}</polygon>'


def _legend(names: Sequence[str], last: str = "", width: int = _WIDTH) -> tuple[list[tuple[float, float]], float]:
    """(where each key goes, height of them all): as many columns as the longest name leaves; `last` on its own line."""
    wide = max(map(len, names)) * _CHARACTER + 34
    columns = max(1, min(len(names), int((width - 8) // wide)))
    rows = -(-len(names) // columns)
    wide = min(wide * 1.15, (width - 8) / columns)
    places = [(14.0 + (i // rows) * wide, 12.0 + (i % rows) * 19) for i in range(len(names))]
    if last:
        places.append((14.0, 12.0 + rows * 19))
    return places, 19.0 * (rows + bool(last)) + 8


def _height(drawing: str) -> float:
    return float(drawing.partition('height="')[2].partition('"')[0])


def _moved(drawing: str, x: float, y: float) -> str:
    return drawing.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" ', 1)
