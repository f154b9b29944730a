"""Learning curves as small pictures: one a paper, on the same axes, each line named and told apart without colour."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from untuned import suite

from leaderboards import boards, claim_files, courses, curves, panels, published, report
from leaderboards.arms import Arms
from leaderboards.boards import Content
from leaderboards.drawing import Drawing
from leaderboards.panels import MOST
from leaderboards.pictured import Roles
from leaderboards.pictures import Scene

Record = dict[str, Any]
Make = Callable[..., list[Record]]
SPACE = "{http://www.w3.org/2000/svg}"


def content(records: list[Record]) -> Content:
    return boards.compose(Arms(records, suite()), claim_files.load(suite()), lambda record: "x")


def trained(make: Make, name: str, seed: int, tops: list[float], epochs: int = 4, **more: Any) -> list[Record]:
    """A pre-training with looks evenly over its epochs, 5 TFLOP each."""
    method, _, variant = name.partition(":")
    records = make(method, "pretrain", {}, variant=variant, seed=seed, epochs=epochs, **more)
    step = epochs / (len(tops) - 1)
    records[0]["details"]["knn_curve"] = [[i * step, i, 9.0 * i, 5e12 * step * i, top1] for i, top1 in enumerate(tops)]
    return records


def scenes(found: Content) -> list[Scene]:
    return courses.monitors(found, Roles(found.claims, found.known.suite))


def drawn(drawing: Drawing) -> tuple[str, list[str], dict[str, str]]:
    """Title, names of the lines, and their dashes by the names in their notes."""
    root = ElementTree.fromstring(drawing.svg())
    texts = [(element.get("class"), element.text or "") for element in root if element.tag == f"{SPACE}text"]
    dashes = {
        re.sub(r"[: ].*", "", note.text.replace(":", "/", note.text.count(":") - 1)).replace("/", ":"): path.get(
            "stroke-dasharray", ""
        )
        for path in root.iter(f"{SPACE}path")
        if (note := path.find(f"{SPACE}title")) is not None and note.text
    }
    return (
        next(text for kind, text in texts if kind == "bold"),
        [text for kind, text in texts if kind == "name"],
        dashes,
    )


def ticks(drawing: Drawing) -> list[tuple[str, str, str]]:
    """The numbers of both axes and where they stand."""
    root = ElementTree.fromstring(drawing.svg())
    found = [element for element in root if element.tag == f"{SPACE}text" and element.get("class") == "soft"]
    return [
        (element.text or "", element.get("x") or "", element.get("y") or "")
        for element in found
        if re.fullmatch(r"[\d.,]+", element.text or "")
    ]


@pytest.fixture(scope="module")
def published_scenes() -> list[Scene]:
    return scenes(content(published.load_published()))


def test_published_curves_are_a_picture_a_paper_with_few_named_lines(published_scenes: list[Scene]) -> None:
    mini = published_scenes[0]
    titles = [drawn(drawing)[0] for drawing in mini.first]
    papers = ["APS", "GLNet", "Multi-network", "Rotation auxiliary task", "Truncated triplet"]
    assert mini.title.startswith("mini") and titles == [*papers, "Other methods"]
    for scene in published_scenes:
        assert len({tuple(ticks(drawing)) for drawing in scene.first}) == 1  # the same axes
        for drawing in (*scene.first, *scene.more):
            _, names, dashes = drawn(drawing)
            assert 1 <= len(names) == len(dashes) <= MOST
            dashed = [dash for dash in dashes.values() if dash]
            assert len(set(dashed)) == len(dashed)  # told apart without colour
    _, names, dashes = drawn(mini.first[2])
    baselines = {"byol", "simsiam", "moco_v2", "simclr", "nnclr", "fast_moco"}
    assert {name.partition("@")[0] for name in names} == baselines | {"multi_network"}
    assert [name.partition("@")[0] for name, dash in dashes.items() if not dash] == ["multi_network"]
    assert "8 epochs each" in mini.first[2].svg()


def test_no_watched_arm_is_lost(published_scenes: list[Scene]) -> None:
    """Each as often as there are arms that are so called; the methods stand beside their ablations again."""
    found = content(published.load_published())
    want = Counter(arm.name for arm in found.watched if arm.setting.track == "mini")
    shown: dict[str, set[str]] = {}
    for drawing in (*published_scenes[0].first, *published_scenes[0].more):
        for note in re.findall(r"<title>(\S+): ([^<]*)</title>", drawing.svg()):
            shown.setdefault(note[0].partition("@")[0], set()).add(note[1])
    assert {name: len(notes) for name, notes in shown.items()} == dict(want)


def test_the_line_of_a_baseline_is_that_of_the_fairest_pair(make: Make) -> None:
    """Of two lengths of BYOL the one that GLNet's variant trained; the other waits behind the switch."""
    records: list[Record] = []
    for seed in range(2):
        records += trained(make, "glnet:byol", seed, [10.0, 20.0, 30.0])
        records += trained(make, "byol", seed, [10.0, 14.0, 18.0])
    for seed in range(5):
        records += trained(make, "byol", seed, [10.0, 24.0, 28.0], epochs=8)
    records += trained(make, "glnet:no_location", 0, [10.0, 20.0, 29.0])
    (scene,) = scenes(content(records))
    (first,) = scene.first
    assert drawn(first)[:2] == ("GLNet", ["glnet:byol@4", "byol@4"])
    assert "glnet:byol@4: 10 at 0, 30 at 20, n = 2" in first.svg() and "byol@4: 10 at 0, 18 at 20, n = 2" in first.svg()
    assert {drawn(drawing)[0]: list(drawn(drawing)[2]) for drawing in scene.more} == {
        "GLNet: ablations": ["glnet:no_location@4", "glnet:byol@4"],
        "Other lengths of training and imports": ["byol@8"],
    }


def test_a_control_is_drawn_where_it_leaves_the_curves_their_room(make: Make) -> None:
    records: list[Record] = []
    for seed in range(2):
        records += trained(make, "glnet:byol", seed, [10.0, 20.0, 30.0])
        records += trained(make, "byol", seed, [10.0, 14.0, 18.0])
    for top, inside in ((35.0, True), (90.0, False)):
        (scene,) = scenes(content(records + trained(make, "supervised", 0, [10.0, 20.0, top], epochs=20)))
        assert any(name.startswith("supervised") for name in drawn(scene.first[0])[1]) == inside
        assert [drawn(drawing)[0] for drawing in scene.more] == ["Controls"] * (not inside)
    (scene,) = scenes(content(trained(make, "supervised", 0, [10.0, 20.0, 90.0], epochs=20)))
    assert [drawn(drawing)[0] for drawing in scene.first] == ["Controls"] and not scene.more  # nothing else is there


def test_a_picture_with_too_many_lines_becomes_two(make: Make) -> None:
    records = [r for i in range(9) for r in trained(make, f"method{i}", 0, [10.0, 20.0 + i])]
    (scene,) = scenes(content(records))
    assert [drawn(drawing)[0] for drawing in scene.first] == ["Other methods (1 of 2)", "Other methods (2 of 2)"]
    assert sorted(name for drawing in scene.first for name in drawn(drawing)[2]) == [f"method{i}@4" for i in range(9)]


def test_without_operations_epochs_are_drawn_and_the_switch_hides_the_rest(make: Make) -> None:
    records: list[Record] = []
    for seed in range(3):
        records += trained(make, "aps", seed, [10.0, 20.0 + seed, 30.0])
    records += trained(make, "byol", 0, [12.5, 15.0]) + trained(make, "aps:one_update", 0, [10.0, 12.0])
    part = report.page(content(records)).partition('id="curves"')[2].partition('id="parts"')[0]
    first, _, more = part.partition('class="more"')
    assert "not a test score" in part and curves.MONITOR in first
    assert "aps@4: 10 at 0, 30 at 20, n = 3" in first and "byol@4: 12.5 at 0, 15 at 20, n = 1" in first
    assert "operations of pre-training (TFLOP), so far" in first
    assert "aps:one_update@4" in more and "aps:one_update@4" not in first
    for record in records:
        for look in record["details"].get("knn_curve", ()):
            look[3] = 0.0
    assert "aps@4: 10 at 0, 30 at 4, n = 3" in report.page(content(records))
    assert panels.course([(0.0, 1.0)]) == "1 at 0"
