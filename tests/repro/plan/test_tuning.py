"""The tuning procedure: that it stays as it is, whose recipe it tunes, and what becomes of a recipe that was tuned."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboards.suite import Suite
from leaderboards.tuning import tunings
from repro import settings
from repro.errors import UserError
from repro.plan import builder, recipes, registry, tracks, tuning
from repro.plan.fingerprints import fingerprint_of
from repro.plan.request import Request
from repro.run.tune_equal import arms

Recipe = Callable[[str], str]  # lines of [tracks.mini.tuned] -> the name of the method that has them


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    def written(lines: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(
            """
name = "mine"
module = "methods.simclr:SimCLR"
role = "method"
title = "mine"
paper = "none"
negatives = "global"
[defaults.method]
crop_scale = [0.3, 1.0]
interpolation = "bicubic"
flip_p = 0.5
[defaults.pretrain]
epochs = 5
lr = 0.3
weight_decay = 1e-5
[tracks.mini]
[variants.sharp.method]
flip_p = 0.0
[variants.long.pretrain]
epochs = 9
[variants.slow.pretrain]
lr = 0.1
[variants.plain.pretrain]
optimizer = "sgd"
"""
            + lines
        )
        return str(path)

    return written


def section(rate: float, hashed: str, crop: float = 1.0, name: str = "P1-0a1b2c") -> str:
    return f"""
[tracks.mini.tuned]
procedure = "{name}"
recipe = "{hashed}"
chosen = [{rate}, 1.0, {crop}]
points = [[1.0, 1.0, 1.0], [{rate}, 1.0, {crop}]]
scores = [[40.0, nan], [41.0, 42.0]]
records = [["0a", ""], ["0b", "0c"]]
"""


def begun(name: str) -> str:
    """The hash of what is tuned."""
    return tuning.hash_of(recipes.without_neutral(recipes.resolve(*registry.find(name), "mini", {}, tuned=False)))


def test_the_procedure_is_frozen() -> None:
    """Whoever changes it changes its name, too."""
    steps = tuning.procedure()
    assert steps.id == "P2-1bd28f"
    assert len(steps.points) == 6 and len(set(steps.points)) == 6 and len(steps.seeds) == 2
    assert str(steps.points[0]) == "unchanged"


def test_a_point_multiplies_rate_decay_and_the_smallest_crop() -> None:
    recipe = {"pretrain": {"lr": 0.3, "weight_decay": 1e-6}, "method": {"crop_scale": [0.6, 1.0]}}
    point = tuning.Point(rate=2.0, decay=10.0, crop=0.5)
    assert point.values(recipe) == {
        "pretrain": {"lr": 0.6, "weight_decay": 1e-5},
        "method": {"crop_scale": [0.3, 1.0]},
    }
    assert tuning.Point(1.0, 1.0, 2.0).values(recipe)["method"] == {"crop_scale": [1.0, 1.0]}
    assert tuning.Point(1.0, 1.0, 2.0).values({**recipe, "method": {}})["method"] == {}
    assert [tuning.procedure().epochs({"pretrain": {"epochs": epochs}}) for epochs in (1, 4, 13)] == [1, 2, 7]


@pytest.mark.parametrize(
    "scores, place",
    [
        ([40.0, 41.5, 40.0], 1),
        ([40.6, 41.0, 41.1], 0),  # as good as the best, within a point: the first one
        ([40.0, 41.0, 41.1], 1),
        ([math.nan, 30.0, 31.5], 2),  # what left no result is never chosen
    ],
)
def test_the_first_of_the_best_is_chosen(scores: list[float], place: int) -> None:
    assert tuning.procedure().chosen(scores) == place


def test_who_is_tuned_by_itself() -> None:
    for name, owner in {
        "glnet": "glnet",
        "glnet:info_nce": "glnet",
        "moco_v3:resnet": "moco_v3:resnet",
        "rotation_aux": "byol",
        "rotation_aux:shuffled": "byol",
        "rotation_aux:moco_v3": "moco_v3:resnet",
        "aps:small": "aps",
    }.items():
        assert arms([name], "mini") == [owner]
    every = arms(["all"], "mini")
    assert {"byol", "moco_v3", "moco_v3:resnet", "glnet", "aps"} <= set(every)
    assert not {"random", "supervised", "rotation_aux", "glnet:byol", "byol:paper"} & set(every)
    with pytest.raises(UserError, match="supervised is a control"):
        arms(["supervised"], "mini")


def test_variants_inherit_what_was_found(recipe: Recipe) -> None:
    hashed = begun(recipe(""))
    name = recipe(section(2.0, hashed, crop=0.5))
    plain = recipes.resolve(*registry.find(name), "mini", {}, tuned=False)
    assert begun(name) == hashed  # the table does not change what is tuned
    for variant, rate in {"": 0.6, ":sharp": 0.6, ":long": 0.6, ":slow": 0.2, ":plain": 0.3}.items():
        found = recipes.resolve(*registry.find(name + variant), "mini", {})
        assert found["pretrain"]["lr"] == rate
        assert found["method"]["crop_scale"] == ([0.3, 1.0] if variant == ":plain" else [0.15, 1.0])
        by = recipes.tuned_by(*registry.find(name + variant), "mini", found)
        assert by == ("" if variant == ":plain" else "P1-0a1b2c")
    assert recipes.resolve(*registry.find(name), "cifar", {})["pretrain"]["lr"] == 0.3
    assert plain["pretrain"]["lr"] == 0.3


@pytest.mark.parametrize(
    "stated, by",
    [
        ({"pretrain": {"epochs": 7}}, True),
        ({"method": {"flip_p": 0.1}}, True),
        ({"method": {"crop_scale": [0.5, 1.0]}}, False),  # which are tuned, too
        ({"pretrain": {"lr": 0.5}}, False),
        ({"pretrain": {"batch": 64}}, False),
    ],
)
def test_values_of_ones_own_are_not_tuned(recipe: Recipe, stated: recipes.Recipe, by: bool) -> None:
    name = recipe(section(2.0, begun(recipe(""))))
    arm = registry.find(name)
    assert recipes.tuned_by(*arm, "mini", recipes.resolve(*arm, "mini", stated)) == ("P1-0a1b2c" if by else "")


def test_a_record_from_before_another_crop_was_found_is_not_tuned(recipe: Recipe) -> None:
    name = recipe(section(1.0, begun(recipe("")), crop=0.5))
    arm = registry.find(name)
    told = Suite({}, recipe=lambda *_: recipes.resolve(*arm, "mini", {}), tuned=lambda *_: "P1-0a1b2c")
    for tuned, procedure in {True: "P1-0a1b2c", False: ""}.items():
        record = {"details": {"recipe": recipes.resolve(*arm, "mini", {}, tuned=tuned)}, "provenance": {"trials": 3}}
        assert [how.procedure for how in tunings("mine", "mini", [record], told)] == [procedure]


def test_a_recipe_that_changed_since_is_not_tuned(recipe: Recipe) -> None:
    arm = registry.find(recipe(section(2.0, "another")))
    assert recipes.tuned_by(*arm, "mini", recipes.resolve(*arm, "mini", {})) == ""


def test_a_damaged_table_gets_one_line(recipe: Recipe) -> None:
    arm = registry.find(recipe(section(2.0, "0a").replace('"P1-0a1b2c"', "3")))
    with pytest.raises(UserError, match=r"mine.toml: tracks.mini.tuned: procedure = 3 must be a text"):
        recipes.resolve(*arm, "mini", {})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("chosen = [2.0, 1.0, 1.0]", "chosen = [nan, 1.0, 1.0]", r"must be \[rate, decay, crop\], each above 0"),
        ("chosen = [2.0, 1.0, 1.0]", "chosen = [inf, 1.0, 1.0]", r"must be \[rate, decay, crop\], each above 0"),
        ("chosen = [2.0, 1.0, 1.0]", "chosen = [0.0, 1.0, 1.0]", r"must be \[rate, decay, crop\], each above 0"),
        ("chosen = [2.0, 1.0, 1.0]", "chosen = [7.0, 1.0, 1.0]", r"\[7.0, 1.0, 1.0\] is none of its points"),
        ("scores = [[40.0, nan], [41.0, 42.0]]", "scores = [[40.0, nan]]", "each of the points needs scores"),
    ],
)
def test_a_table_that_contradicts_itself_gets_one_line(recipe: Recipe, old: str, new: str, says: str) -> None:
    arm = registry.find(recipe(section(2.0, "0a").replace(old, new)))
    with pytest.raises(UserError, match=rf"mine\.toml: tracks\.mini\.tuned: .*{says}"):
        recipes.resolve(*arm, "mini", {})


def test_a_choice_that_its_scores_do_not_make_gets_one_line(recipe: Recipe) -> None:
    """Of the procedure as it stands; what another one chose cannot be checked."""
    today = tuning.procedure().id
    stated = section(2.0, "0a", name=today).replace("[40.0, nan]", "[45.0, 40.0]")
    with pytest.raises(UserError, match=r"chosen = \[2.0, 1.0, 1.0\], but by its scores the procedure chooses \[1.0, "):
        recipes.resolve(*registry.find(recipe(stated)), "mini", {})
    for scores, says in (("[[nan, nan], [nan, nan]]", "no point has a score"), ("[[], []]", "needs 2 scores")):
        damaged = section(1.0, "0a", name=today).replace("[[40.0, nan], [41.0, 42.0]]", scores)
        with pytest.raises(UserError, match=says):
            recipes.resolve(*registry.find(recipe(damaged)), "mini", {})
    for fits in (stated.replace("[41.0, 42.0]", "[44.0, 45.0]"), stated.replace(today, "P1-0a1b2c")):
        recipes.resolve(*registry.find(recipe(fits)), "mini", {})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    for stated, says in (
        ({"pretrain": {"lr": value}}, "--set: pretrain.lr"),
        ({"method": {"crop_scale": [value, 1.0]}}, "--set: method.crop_scale"),
    ):
        with pytest.raises(UserError, match=f"{says} = .* must be finite"):
            recipes.resolve(*registry.find("simclr"), "mini", stated)


def test_how_values_were_found_is_no_part_of_a_fingerprint(recipe: Recipe, own_folder: None) -> None:
    """A choice of 1 for all leaves every job what it was; another one makes it another job."""
    made = {}
    hashed = begun(recipe(""))
    for what, lines in {"none": "", "same": section(1.0, hashed), "other": section(2.0, hashed)}.items():
        asked = Request((recipe(lines),), "mini", ("linear",))
        job = builder.make(asked, settings.load({}), build=False).jobs[0]
        assert job.fingerprint == fingerprint_of(job)
        made[what] = job
    assert made["none"].fingerprint == made["same"].fingerprint != made["other"].fingerprint
    assert [made[what].spec["tuned"] for what in made] == ["", "P1-0a1b2c", "P1-0a1b2c"]


def test_every_table_in_our_recipes_is_of_the_recipe_as_it_stands() -> None:
    for info in registry.methods().values():
        for track in tracks.tracks():
            for variant in ("", *info.variants):
                if found := tuning.section(info, variant, track):
                    recipe = recipes.resolve(info, variant, track, {})
                    assert recipes.tuned_by(info, variant, track, recipe) == found.procedure == tuning.procedure().id
