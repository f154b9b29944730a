"""Where names go in a picture: beside what they name, over nothing else, so that no legend is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from leaderboards.drawing import CHARACTER, text_at

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, float]

_NEAR = 9.0  # pixels from a mark to its name
_FAR = (16.0, 24.0, 34.0, 46.0, 60.0, 76.0, 96.0, 120.0, 150.0, 190.0, 240.0)
_TURNS = tuple(math.pi * turn / 16 for turn in range(32))
_LED = 12.0  # names further away than this get a line to their mark
_MARK = 6.5  # half the width of a mark and its rim
_OUTSIDE, _ON_MARK, _ON_LINE, _ON_WAY = 5000.0, 1000.0, 25.0, 100.0
"""What it costs a name, in pixels of distance: to leave the frame, to lie over a mark or another name, to lie over a
part of a line, and that the line to its mark leads over a mark or a name."""


class Box(NamedTuple):
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class Place(NamedTuple):
    """Where a name goes: the point of its text, how it is anchored there, and its box."""

    at: Point
    anchor: str
    box: Box
    away: float  # pixels from its mark


def around(point: Point, reach: float) -> Box:
    """The square around a point."""
    return Box(point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach)


def along(points: Sequence[Point]) -> list[Box]:
    """Small boxes along the straight lines from point to point."""
    found = []
    for here, there in pairwise(points):
        steps = max(1, round(math.dist(here, there) / 10))
        found += [around(_between(here, there, i / steps), 3.0) for i in range(steps + 1)]
    return found


def _between(here: Point, there: Point, share: float) -> Point:
    return here[0] + (there[0] - here[0]) * share, here[1] + (there[1] - here[1]) * share


def placed(marks: Sequence[Point], names: Sequence[str], frame: Box, busy: Sequence[Box] = ()) -> list[Place]:
    """A place for each name near its mark: within the frame, over no mark and over no other name.

    Where nothing is free, the place that lies over the least. The same input gives the same places.

    busy: what a name should rather not lie over, for example parts of lines.
    """
    import numpy as np

    taken = [around(mark, _MARK) for mark in marks]
    soft = np.array(busy, dtype=float).reshape(-1, 4)
    found: dict[int, Place] = {}
    crowd = [sum(math.dist(mark, other) < 50 for other in marks) for mark in marks]
    for index in sorted(range(len(marks)), key=lambda i: (-crowd[i], marks[i][1], marks[i][0])):
        mark = marks[index]
        best, cost = _cheapest(_candidates(mark, names[index]), mark, frame, taken, soft)
        if cost >= _ON_MARK:
            best, _ = _cheapest([[best], _everywhere(mark, names[index], frame)], mark, frame, taken, soft)
        found[index] = best
        taken.append(best.box)
        if best.away > _LED:
            soft = np.vstack([soft, *(around(point, 1.5) for point in _way(mark, best))])
    return [found[index] for index in range(len(marks))]


def elements(
    marks: Sequence[Point], names: Sequence[str], places: Sequence[Place], styles: Sequence[str] = ()
) -> list[str]:
    """The names as SVG, with a thin line to the mark where a name is not beside it.  styles: classes of those lines."""
    drawn = []
    for mark, name, place, style in zip(marks, names, places, styles or [""] * len(marks), strict=True):
        if place.away > _LED:
            x, y = _edge(mark, place.box)
            drawn.append(f'<path class="{f"lead {style}".strip()}" d="M{mark[0]:.0f} {mark[1]:.0f}L{x:.0f} {y:.0f}"/>')
        drawn.append(text_at(round(place.at[0]), round(place.at[1]), name, "name", place.anchor))
    return drawn


def _candidates(mark: Point, name: str) -> Iterator[list[Place]]:
    """Places for a name, the nearest first: right, left, above and below, then rings around the mark."""
    yield [_at(mark, name, _NEAR, turn) for turn in (0.0, math.pi, 1.5 * math.pi, 0.5 * math.pi)]
    for away in _FAR:
        yield [_at(mark, name, away, turn) for turn in (_TURNS if away > 50 else _TURNS[::2])]


def _everywhere(mark: Point, name: str, frame: Box) -> list[Place]:
    """Places all over the frame."""
    wide = CHARACTER * len(name)
    return [
        Place((left, top + 10.0), "", Box(left, top, left + wide, top + 13), math.dist(mark, (left + wide / 2, top)))
        for top in range(round(frame.top) + 1, round(frame.bottom) - 13, 8)
        for left in range(round(frame.left) + 1, round(frame.right - wide), 16)
    ]


def _at(mark: Point, name: str, away: float, turn: float) -> Place:
    x, y = mark[0] + away * math.cos(turn), mark[1] + away * math.sin(turn) + 4
    wide = CHARACTER * len(name)
    side = math.cos(turn)
    anchor = "" if side > 0.3 else "end" if side < -0.3 else "middle"
    if anchor == "middle":
        y += 3 * math.sin(turn)
    left = x - {"": 0.0, "end": wide, "middle": wide / 2}[anchor]
    return Place((x, y), anchor, Box(left, y - 10, left + wide, y + 3), away)


def _cheapest(
    rings: Iterable[Sequence[Place]], mark: Point, frame: Box, taken: Sequence[Box], soft: np.ndarray
) -> tuple[Place, float]:
    """The place with the least distance and the least in its way, and what that costs; of equals the first.

    soft: boxes, float [N, 4].
    """
    import numpy as np

    priced = ((np.array(taken).T, _ON_MARK), (soft.T, _ON_LINE))
    best, least = None, math.inf
    for ring in rings:
        if not ring or ring[0].away >= least:
            break
        left, top, right, bottom = np.array([place.box for place in ring]).T[:, :, None]
        outside = (left < frame.left) | (top < frame.top) | (right > frame.right) | (bottom > frame.bottom)
        cost = np.array([place.away for place in ring]) + _OUTSIDE * outside[:, 0]
        for (lefts, tops, rights, bottoms), price in priced:
            meets = (left < rights) & (lefts < right) & (top < bottoms) & (tops < bottom)
            cost = cost + price * meets.sum(1)
        for place, price in zip(ring, cost.tolist(), strict=True):
            if price < least and (total := price + _crossed(place, mark, taken)) < least:
                best, least = place, total
    assert best
    return best, least


def _crossed(place: Place, mark: Point, taken: Sequence[Box]) -> float:
    """What it costs that the line from a mark to its name leads over other marks and names."""
    if place.away <= _LED:
        return 0.0
    own = around(mark, _MARK)
    edge = _edge(mark, place.box)
    whole = Box(min(mark[0], edge[0]), min(mark[1], edge[1]), max(mark[0], edge[0]), max(mark[1], edge[1]))
    near = [other for other in taken if other != own and whole.meets(other)]
    way = [around(point, 0.5) for point in _way(mark, place)] if near else []
    crossed = sum(any(step.meets(other) for step in way) for other in near)
    return _ON_WAY * min(crossed, 5)  # to cross many is better than to lie over one


def _edge(mark: Point, box: Box) -> Point:
    """The point of a name's box that is nearest to its mark."""
    return min(max(mark[0], box.left), box.right), min(max(mark[1], box.top + 2), box.bottom - 1)


def _way(mark: Point, place: Place) -> list[Point]:
    """Points of the line from a mark to its name."""
    x, y = _edge(mark, place.box)
    steps = max(2, round(math.dist(mark, (x, y)) / 4))
    return [_between(mark, (x, y), i / steps) for i in range(1, steps)]
