"""Names at marks: none over another, over a mark or out of its frame, however marks crowd."""

from __future__ import annotations

import random

import pytest

from leaderboards import labels
from leaderboards.labels import Box

FRAME = Box(62, 62, 446, 392)


def covered(a: Box, b: Box) -> float:
    """Area that two boxes share."""
    wide = min(a.right, b.right) - max(a.left, b.left)
    high = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(0.0, wide) * max(0.0, high)


@pytest.mark.parametrize("spread", [400.0, 60.0, 8.0, 0.0])
def test_sixteen_names_have_room_however_the_marks_crowd(spread: float) -> None:
    drawn = random.Random(0)
    for _ in range(2):
        x, y = drawn.uniform(80, 430), drawn.uniform(80, 380)
        marks = [
            (
                min(440.0, max(64.0, x + drawn.uniform(-spread, spread))),
                min(388.0, max(66.0, y + drawn.uniform(-spread, spread))),
            )
            for _ in range(16)
        ]
        names = [f"method_{i}" + ":variant" * (i % 3 == 0) for i in range(16)]
        boxes = [place.box for place in labels.placed(marks, names, FRAME)]
        for i, box in enumerate(boxes):
            assert box.left >= FRAME.left and box.right <= FRAME.right
            assert box.top >= FRAME.top and box.bottom <= FRAME.bottom
            assert all(covered(box, other) == 0 for other in boxes[i + 1 :])
            assert all(covered(box, labels.around(mark, 4.5)) == 0 for mark in marks)


def test_a_lone_name_stands_right_of_its_mark_and_a_line_moves_it() -> None:
    mark = (200.0, 200.0)
    (place,) = labels.placed([mark], ["aps"], FRAME)
    assert place.box.left > 200 and place.box.top < 200 < place.box.bottom
    (moved,) = labels.placed([mark], ["aps"], FRAME, labels.along([(200.0, 200.0), (300.0, 200.0)]))
    assert moved.box.right < 200 or not moved.box.top < 200 < moved.box.bottom
    (edge,) = labels.placed([(440.0, 200.0)], ["aps"], FRAME)
    assert edge.box.right < 440


def test_only_names_away_from_their_marks_get_a_line() -> None:
    marks = [(200.0, 200.0)] * 8
    names = [f"arm{i}" for i in range(8)]
    places = labels.placed(marks, names, FRAME)
    drawn = labels.elements(marks, names, places)
    assert sum("<text" in part for part in drawn) == 8
    assert sum("<path" in part for part in drawn) == sum(place.away > 12 for place in places) > 0
