"""Which arms the pictures show: current ones by name, at most sixteen; the rest behind a switch or in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from untuned import suite

from leaderboards import boards, claim_files, pictures, published
from leaderboards.arms import Arms
from leaderboards.boards import Content
from leaderboards.claims import Claim
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
    drawn = [drawing for scene in scenes for drawing in (*scene.first, *scene.others, *scene.more)]
    assert len(drawn) > 5
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
