"""Drawing as SVG: a frame with scales, marks and lines.

By hand and not by a plotting library, for three reasons: the same records give the same bytes under every version of
it, the colours follow the reader's light or dark scheme, and a report is written in a second while trainings run. What
colour tells, shape, dash or a label tells too, and every mark has its numbers as a tooltip.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

# Okabe and Ito's colours, distinguishable with any kind of colour vision; the dark scheme has lighter ones.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0568c", "#a87400", "#2f86b8", "#444444")
_COLOURS_DARK = ("#5fb4ea", "#ff8a47", "#35cfa0", "#e59ac6", "#f0b429", "#8fd0f5", "#dddddd")


def _variables(ink: str, soft: str, grid: str, paper: str, colours: Sequence[str]) -> str:
    named = {"ink": ink, "soft": soft, "grid": grid, "paper": paper, **{f"c{i}": c for i, c in enumerate(colours)}}
    return ":root{" + "".join(f"--{name}:{value};" for name, value in named.items()) + "}"


def _named(variables: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+):([^;]+);", variables))


_LIGHT = _variables("#1b1f24", "#57606a", "#dde2e7", "#ffffff", COLOURS)
_DARK = _variables("#e8eaed", "#a6afb8", "#3a4149", "#15181c", _COLOURS_DARK)
_RULES = (
    "svg.plot{font:12px system-ui,sans-serif}.plot text{fill:var(--ink)}.plot .soft{fill:var(--soft)}"
    ".plot .bold{font-weight:600}.plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--soft)}"
    ".plot .mark{stroke-width:1.6;stroke-linejoin:round}.plot .hollow{fill:var(--paper)}"
    ".plot :is(.halo,.name){paint-order:stroke;stroke:var(--paper);stroke-width:5px}.plot .name{stroke-width:3px}"
    ".plot .lead{stroke:var(--soft);stroke-width:.8}"
    ".plot .line{fill:none;stroke-width:1.6}.plot .front{stroke:var(--soft);stroke-dasharray:5 4}"
    ".plot .muted{stroke:var(--soft);fill:var(--soft)}.plot .bare{fill:var(--paper)}"
    + "".join(f".plot .k{i}{{stroke:var(--c{i});fill:var(--c{i})}}" for i in range(len(COLOURS)))
    + ".plot .line{fill:none}.plot .thick{stroke-width:2.4}.plot .mark.hollow{fill:var(--paper)}"
)
STYLE = _LIGHT + "@media (prefers-color-scheme:dark){" + _DARK + "}" + _RULES
"""What the classes of these drawings look like; part of every page or file that holds one."""
PAPER_STYLE = re.sub(r"var\(--(\w+)\)", lambda found: _named(_LIGHT)[found[1]], _RULES)
"""The same on white paper, for programs that know no variables."""


WIDTH = 460
LEFT, _RIGHT = 62, 14
CHARACTER = 7.0
"""Width of a letter of 12 pixels, on average; errs to the wide side."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")
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
HOLLOW = len(_SHAPES) * len(COLOURS)  # the first shape and colour again, hollow


@dataclass(frozen=True)
class Drawing:
    """One picture, in pixels."""

    width: float
    height: float
    body: str  # the elements inside
    said: str = ""  # what it shows, for those who do not see it; "" for a sheet of drawings that say it themselves
    style: str = ""  # of a file of its own

    def svg(self, at: tuple[float, float] | None = None) -> str:
        """As an element of a page, or, with a place, of another drawing."""
        placed = f'x="{at[0]:g}" y="{at[1]:g}" ' if at else ""
        labelled = f' role="img" aria-label="{escape(self.said)}"' if self.said else ""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        styled = f"<style>{self.style}</style>\n" if self.style else ""
        head = f'<svg {placed}xmlns="http://www.w3.org/2000/svg" class="plot"{labelled} {size}>'
        return f"{head}\n{styled}{self.body}\n</svg>"


class Axes:
    """A frame with grid, scales and labels."""

    def __init__(
        self,
        title: str,
        under: Sequence[str],
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        height: float,
        left: float = LEFT,
        width: int = WIDTH,
        right: float = _RIGHT,
        ticks: Sequence[tuple[float, str]] = (),
    ) -> None:
        """x, y: values to show.  under: lines below the title.  labels: of the scales, "" for one without numbers.

        right: room right of the scales.  ticks: what stands where on the scale of x; by default round numbers.
        """
        self.title, self.under, self.labels, self.height, self.left = title, under, labels, height, left
        self.width, self.right = width, right
        self.top = 28 + 17 * len(under)
        self._x, self._y = _widened(*x), _widened(*y) if labels[1] else y
        self._ticks = ticks or [(value, _number(value)) for value in _ticks(*self._x)]
        self.full = self.top + height + 40

    def x(self, value: float) -> float:
        low, high = self._x
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self._y
        return self.top + (high - value) / (high - low) * self.height

    def path(self, points: Sequence[tuple[float, float]], kind: str, dash: str = "", note: str = "") -> str:
        """A line through points of these axes."""
        if len(points) < 2:
            return ""
        way = _way([(round(self.x(x)), round(self.y(y))) for x, y in points])
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return (
            f'<path class="{kind}"{dashed} d="{way}">' + (f"<title>{escape(note)}</title>" if note else "") + "</path>"
        )

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the area within the scales."""
        return self.left, self.top, self.width - self.right, self.top + self.height

    def fitted(self, text: str) -> str:
        """A text that fits into the width of the drawing."""
        most = int((self.width - 8) / (0.9 * CHARACTER))  # long lines are nearer to the average letter
        return text if len(text) <= most else text[: most - 1] + "…"

    def drawing(self, inside: Sequence[str]) -> Drawing:
        """The frame with these elements in it."""
        bottom, right = self.top + self.height, self.width - self.right
        lines = [
            text_at(4, 15, self.fitted(self.title), "bold"),
            *(text_at(4, 32 + 17 * i, self.fitted(line), "soft") for i, line in enumerate(self.under)),
        ]
        for value, number in self._ticks:
            x = self.x(value)
            lines.append(f'<path class="grid" d="M{x:.1f} {self.top}V{bottom:g}"/>')
            lines.append(text_at(x, bottom + 16, number, "soft", "middle"))
        for value in _ticks(*self._y) if self.labels[1] else ():
            y = self.y(value)
            lines.append(f'<path class="grid" d="M{self.left} {y:.1f}H{right}"/>')
            lines.append(text_at(self.left - 6, y + 4, _number(value), "soft", "end"))
        lines.append(text_at((self.left + right) / 2, bottom + 33, self.labels[0], "", "middle"))
        if self.labels[1]:
            middle = self.top + self.height / 2
            turned = f'transform="rotate(-90 11 {middle:g})" x="11" y="{middle:g}" text-anchor="middle"'
            lines.append(f"<text {turned}>{escape(self.labels[1])}</text>")
        lines.append(f'<path class="line axis" d="M{self.left} {self.top}V{bottom:g}H{right}"/>')
        body = "\n".join(line for line in [*lines, *inside] if line)
        return Drawing(self.width, self.full, body, "; ".join([self.title, *self.under]))


def _way(points: Sequence[tuple[int, int]]) -> str:
    """A path through these pixels, in steps from one to the next: half as long as by places."""
    steps = [f"{x - a}{y - b:+}".replace("+", " ") for (a, b), (x, y) in pairwise(points)]
    return f"M{points[0][0]} {points[0][1]}l" + " ".join(steps).replace(" -", "-")


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


def text_at(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    marks = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.4g}" y="{y:.4g}"{marks}>{escape(text)}</text>'


def mark(x: float, y: float, style: int, note: str = "") -> str:
    """A marker: shape and colour by `style`; after as many as there are shapes, hollow ones."""
    shape = _SHAPES[style % len(_SHAPES)]
    kind = f"mark k{style % len(COLOURS)}" + (" hollow" if style // len(_SHAPES) % 2 else "")
    inside = f"<title>{escape(note)}</title>" if note else ""
    if not shape:
        return f'<circle class="{kind}" cx="{x:.4g}" cy="{y:.4g}" r="4.5">{inside}</circle>'
    corners = " ".join(f"{x + 5 * dx:.4g},{y + 5 * dy:.4g}" for dx, dy in shape)
    return f'<polygon class="{kind}" points="{corners}">{inside}</polygon>'


def dot(x: float, y: float, kind: str, radius: float = 2.0) -> str:
    """The end of a line, in its colour."""
    return f'<circle class="mark {kind}" cx="{x:.0f}" cy="{y:.0f}" r="{radius:g}"/>'
