"""Which arms the pictures show: current ones by name, at most sixteen; the rest behind a switch or in a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from untuned import suite

from leaderboards import boards, claim_files, pictures, published
from leaderboards.arms import Arms
from leaderboards.boards import Content
from leaderboards.claims import Claim
from leaderboards.gains import part_names, parts
from leaderboards.pictured import MOST, Roles, names
from repro.plan import recipes, registry

Record = dict[str, Any]
Make = Callable[..., list[Record]]


def content(records: list[Record], claims: list[Claim] | None = None) -> Content:
    known = claim_files.load(suite()) if claims is None else claims
    return boards.compose(Arms(records, suite()), known, lambda record: "x")


def names_in(drawing: Any) -> list[str]:
    return re.findall(r'class="name"[^>]*>([^<]*)<', drawing.svg())


@pytest.fixture(scope="module")
def published_content() -> Content:
    return content(published.load_published())


def test_no_published_picture_names_more_than_sixteen_arms_or_a_hash(published_content: Content) -> None:
    roles = Roles(published_content.claims, suite())
    scenes = pictures.efficiency(published_content, roles)
    every = [drawing for scene in scenes for drawing in (*scene.first, *scene.others, *scene.more)]
    drawn = [drawing for drawing in every if "same accuracy" not in drawing.svg()]  # whose rows name pairs
    assert len(drawn) > 5 and len(every) == len(drawn) + 1
    for drawing in drawn:
        names = names_in(drawing)
        assert 2 <= len(names) <= MOST and not any("(" in name for name in names)
    assert [scene.title for scene in scenes][-1] == "embedded"  # digits decide nothing
    assert len([drawing for scene in scenes for drawing in scene.first]) == len(scenes)


def test_a_method_has_one_mark_and_ablations_lengths_and_imports_wait(make: Make) -> None:
    records: list[Record] = []
    for seed in range(2):
        records += make("glnet", "linear", {"top1": 40.0}, seed=seed)
    records += make("glnet", "linear", {"top1": 49.0}, epochs=99)  # one seed: another length
    records += make("glnet", "linear", {"top1": 41.0}, variant="no_location")
    records += make("aps", "linear", {"top1": 41.0}, variant="uniform")  # a side of our own claims alone
    records += make("moco_v3", "linear", {"top1": 39.0}, variant="resnet")  # a baseline of a claim
    foreign = make("byol", "linear", {"top1": 60.0})
    foreign[0]["provenance"]["trust"] = "self-reported"
    found = content([*records, *foreign])
    (group,) = found.paid
    shown = Roles(found.claims, suite()).pictured(group.arms)
    assert sorted(arm.name for arm in shown.first) == ["glnet", "moco_v3:resnet"]
    assert next(arm for arm in shown.first if arm.name == "glnet").setting.epochs == 16
    assert [[arm.name for arm in part] for part in shown.more] == [
        ["aps:uniform", "byol", "glnet", "glnet:no_location"]
    ]
    assert list(names(group.arms, suite()).values()).count("glnet@99") == 1


def test_more_than_sixteen_arms_are_split_and_none_is_lost(make: Make) -> None:
    records: list[Record] = []
    for number in range(40):
        records += make(f"method{number:02d}", "linear", {"top1": 40.0 + number})
    records += make("aps", "linear", {"top1": 1.0}) + make("random", "linear", {"top1": 2.0}, epochs=0)
    found = content(records)
    (group,) = found.paid
    shown = Roles(found.claims, suite()).pictured(group.arms)
    assert len(shown.first) == MOST and {"aps", "random"} <= {arm.name for arm in shown.first}
    assert all(len(part) <= MOST for part in shown.more)
    every = [arm.name for arm in (*shown.first, *(arm for part in shown.more for arm in part))]
    assert sorted(every) == sorted(arm.name for arm in group.arms) and len(every) == 42


def test_what_cannot_tell_the_untrained_network_from_the_best_is_a_sentence(make: Make) -> None:
    network = recipes.resolve(*registry.find("byol"), "mini", {})["network"]
    records = make("random", "linear", {"top1": 30.0}, epochs=0, network=network)
    for number, method in enumerate(("aps", "byol", "glnet")):
        records += make(method, "linear", {"top1": 30.0 + number / 10}, network=network)
    (scene,) = pictures.efficiency(content(records), Roles(claim_files.load(suite()), suite()))
    assert not (scene.first or scene.others or scene.more)
    assert len(scene.said) == 1 and "no network learnt anything measurable" in scene.said[0]


def test_parts_are_drawn_with_the_paired_t_interval(make: Make) -> None:
    generator = np.random.default_rng(0)
    with_part, without = generator.normal(40, 1, 4), generator.normal(38, 1, 4)
    records: list[Record] = []
    for seed in range(4):
        records += make("glnet", "linear", {"top1": float(with_part[seed])}, seed=seed)
        records += make("glnet", "linear", {"top1": float(without[seed])}, variant="no_location", seed=seed)
    (scene,) = pictures.contributions(content(records))
    want = stats.ttest_rel(with_part, without).confidence_interval(0.95)
    (drawing,) = scene.first
    assert f"95 % interval {want.low:+.2f} to {want.high:+.2f}" in drawing.svg()
    assert ">the location loss<" in drawing.svg() and ">glnet − glnet:no_location, n = 4<" in drawing.svg()
    assert not pictures.contributions(content(records[:8]))  # two seeds are too few


def test_each_variant_of_the_published_records_has_its_part_in_plain_words(published_content: Content) -> None:
    rows = [
        (part.method.name, part.variant.name)
        for evaluation in ("linear", "finetune")
        for part in parts(published_content.known, published_content.claims, "mini", evaluation)
        if (part.method.name, part.variant.name) not in part_names(published_content.claims, evaluation)
    ]
    assert rows == []
    named = part_names(published_content.claims, "linear")
    assert named["glnet", "glnet:no_flip"] == "horizontal flips of the crops"  # its claim is of leaving them out


def test_no_line_of_a_plot_of_rows_crosses_its_words(published_content: Content) -> None:
    """Grid and axis are drawn first; then a blank strip over the whole width, and on it the words."""
    (scene,) = pictures.contributions(published_content)
    assert len(scene.first) == 5  # a plot for each method
    for drawing in scene.first:
        root = ElementTree.fromstring(drawing.svg())
        kinds = [(element.get("class") or "").split()[:1] for element in root]
        strips = [element for element in root if element.get("class") == "bare"]
        names = [element for element in root if (element.get("class") or "").startswith("name")]
        assert len(names) == 2 * len(strips) > 0  # the part in words and below it the two arms
        lines = [place for place, kind in enumerate(kinds) if kind in (["grid"], ["axis"])]
        assert max(lines) < kinds.index(["bare"])
        for word in names:
            y = float(word.get("y") or 0)
            top, bottom = y - 10, y + 3
            assert any(
                float(strip.get("y") or 0) <= top
                and bottom <= float(strip.get("y") or 0) + float(strip.get("height") or 0) + 1
                for strip in strips
            )


def test_the_plotted_shares_are_those_of_the_published_table(published_content: Content) -> None:
    """Where the marks lie, read off the numbers of the axis, against the table's own text."""
    board = (published.FOLDER / "efficiency.md").read_text().partition("# All columns")[0]
    row = r"^\| (\S+) +\| (\S+) +\| +([\d.]+) \(([\d.]+) to ([\d.]+)\) \|.*\[(\d+)\]\[\d+\] *\|$"
    table = re.findall(row, board, flags=re.MULTILINE)
    scenes = pictures.efficiency(published_content, Roles(published_content.claims, suite()))
    (drawing,) = [drawn for scene in scenes for drawn in scene.first if "to the same accuracy" in scene.title]
    root = ElementTree.fromstring(drawing.svg())
    texts = [element for element in root if element.tag.endswith("text")]
    ticks = {
        float(text.get("x") or 0): math.log(float(text.text or 0))
        for text in texts
        if text.get("class") == "soft" and re.fullmatch(r"[\d.]+", text.text or "")
    }
    at, logs = list(ticks), list(ticks.values())
    slope = (logs[-1] - logs[0]) / (at[-1] - at[0])
    marks = [element for element in root if element.tag.endswith("circle")]
    bars = [e for e in root if "thick" in (e.get("class") or "")]
    named = [text.text for text in texts if text.get("class") == "name" and " against " in (text.text or "")]
    assert len(table) == len(named) == len(marks) == len(bars) > 10
    for (ours, theirs, *numbers, n), name, mark, bar in zip(table, named, marks, bars, strict=True):
        assert name == f"{ours} against {theirs}, n = {n}"
        places = [mark.get("cx"), *re.findall(r"[MH]([\d.]+)", bar.get("d") or "")]
        read = [math.exp(logs[0] + slope * (float(x or 0) - at[0])) for x in places]
        assert read == pytest.approx([float(number) for number in numbers], rel=0.02)
