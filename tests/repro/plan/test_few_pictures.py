"""Recipes on a folder of few pictures: as many updates, of batches that the pictures fill, within the recipe's time."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from repro.cli import tables
from repro.errors import UserError
from repro.plan import few_pictures, recipes, registry, tracks
from repro.plan.builder import make
from repro.plan.few_pictures import Fitted, fitted
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.settings import Settings

USUAL = 5000  # of mini


def recipe(name: str, track: str = "mini", **stated: dict[str, Any]) -> recipes.Recipe:
    return recipes.resolve(*registry.find(name), track, stated)


def fit(name: str, pictures: int, usual: int = USUAL, **stated: dict[str, Any]) -> Fitted:
    return fitted(name, recipe(name, **stated), pictures, usual, stated)


def folder(root: Path, classes: int, each: int) -> str:
    """Files in class folders: a plan decodes none."""
    for name in range(classes):
        (root / f"class{name}").mkdir(parents=True)
        for i in range(each):
            (root / f"class{name}" / f"{i}.png").write_bytes(f"{name} {i}".encode())
    return str(root)


def plan(data: str | None, *methods: str, track: str = "mini", sets: tuple[str, ...] = ()) -> Plan:
    request = Request(methods, track, ("knn",), data=data, overrides=sets)
    return make(request, Settings(workspace=Path("repro-work")))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("pictures", [16, 40, 100, 160, 255, 256, 800, 2000, 4999])
@pytest.mark.parametrize("name", ["simclr", "aps", "glnet", "truncated_triplet", "moco_v2", "rotation_aux"])
def test_updates_stay_near_the_recipes_and_time_below_it(name: str, pictures: int) -> None:
    before, after = recipe(name)["pretrain"], fit(name, pictures).recipe["pretrain"]
    usual = USUAL // before["batch"] * before["epochs"]
    loads = pictures // after["batch"]
    assert loads >= 2
    assert usual - loads < loads * after["epochs"] <= usual
    assert loads * after["epochs"] * after["batch"] <= USUAL * before["epochs"]  # pictures that pass the network
    assert before["batch"] % after["batch"] == 0 and after["batch"] >= 8
    risen = after["warmup_epochs"] / after["epochs"] - before["warmup_epochs"] / before["epochs"]
    assert abs(risen) <= 0.5 / after["epochs"] + 1e-9  # half an epoch is rounded either way
    same = {key: value for key, value in before.items() if key not in ("batch", "epochs", "warmup_epochs")}
    assert same.items() <= after.items()


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_as_many_pictures_as_the_recipe_is_for_change_nothing(name: str) -> None:
    for pictures in (USUAL, 50_000):
        assert fit(name, pictures) == Fitted(recipe(name), pictures, USUAL)
    assert recipe(name)["pretrain"]["epochs"] or not fit(name, 20).changes  # nor where nothing is trained


def test_the_recipe_that_is_given_stays_as_it_is() -> None:
    given = recipe("moco_v2")
    kept = copy.deepcopy(given)
    assert fitted("moco_v2", given, 160, USUAL, {}).recipe != kept == given


def test_a_bank_holds_no_larger_share_of_the_pictures_and_at_least_a_batch() -> None:
    assert recipe("nnclr")["method"]["bank_size"] == 2048
    assert fit("nnclr", 2000).recipe["method"]["bank_size"] == 2048 * 2000 // USUAL
    few = fit("nnclr", 150).recipe
    assert few["method"]["bank_size"] == few["pretrain"]["batch"] == 64
    assert fit("nnclr", 2000, method={"bank_size": 1500}).recipe["method"]["bank_size"] == 1500


def test_what_is_stated_wins() -> None:
    stated = fit("simclr", 160, pretrain={"epochs": 5}).recipe["pretrain"]
    assert (stated["epochs"], stated["batch"], stated["warmup_epochs"]) == (5, 64, 1)
    stated = fit("simclr", 160, pretrain={"batch": 32}).recipe["pretrain"]
    assert (stated["batch"], stated["epochs"]) == (32, 5000 // 32 * 8 // 5)
    stated = fit("simclr", 160, pretrain={"warmup_epochs": 3}).recipe["pretrain"]
    assert (stated["epochs"], stated["warmup_epochs"]) == (156, 3)


def test_devices_and_micro_batches_keep_whole_pictures() -> None:
    shares = {"devices": 2, "accumulate": 8}
    after = fit("byol", 100, pretrain=shares).recipe["pretrain"]
    assert after["batch"] == 32 and after["batch"] % 16 == 0  # a half of it would be, a quarter would not


@pytest.mark.seconds
def test_the_plan_says_what_is_fitted_before_anything_runs() -> None:
    made = plan(folder(Path("own"), 4, 50), "simclr", "glnet", "random", "random:pixels")
    lines = tables.plan_table(made, Settings(workspace=Path("repro-work"))).splitlines()
    assert lines[-2].startswith("200 images of 4 classes")
    assert lines[-1] == (
        "simclr, glnet: 160 training images, where the recipe is for 5,000: batch 128 -> 64, epochs 8 -> 156,"
        " warmup_epochs 1 -> 20, so that the number of updates stays near the recipe's"
    )
    trained = {job.arm: job.recipe["pretrain"]["epochs"] for job in made.jobs if job.kind == "pretrain"}
    assert trained == {"simclr": 156, "glnet": 156, "random": 0, "random:pixels": 0}


@pytest.mark.seconds
def test_a_fitted_recipe_is_the_recipe_of_the_same_values() -> None:
    own = folder(Path("own"), 4, 50)
    sets = ("pretrain.batch=64", "pretrain.epochs=156", "pretrain.warmup_epochs=20")
    alike = [[job.fingerprint for job in plan(own, "simclr", sets=said).jobs] for said in ((), sets)]
    assert alike[0] == alike[1]
    other = plan(own, "simclr", sets=("pretrain.epochs=155",)).jobs
    assert other[0].fingerprint != alike[0][0]


@pytest.mark.seconds
@pytest.mark.parametrize("track", tracks.tracks())
def test_recipes_of_named_data_sets_are_as_registered(track: str) -> None:
    names = [name + (f":{v}" if v else "") for name, info in registry.methods().items() for v in ("", *info.variants)]
    for data in (None, "cifar100", "digits"):  # of which the last has fewer pictures than most recipes are for
        large = [name for name in names if data == "digits" and recipe(name, track)["pretrain"]["batch"] > 4000]
        for name in large:
            with pytest.raises(UserError, match=f"{name}: 4000 training images do not fill a batch of"):
                plan(data, name, track=track)
        made = plan(data, *(name for name in names if name not in large), track=track)
        assert not made.fits
        for name in made.recipes:
            assert made.recipes[name] == recipe(name, track), name


@pytest.mark.seconds
def test_a_limit_counts_as_the_number_of_pictures() -> None:
    own = folder(Path("own"), 4, 50)
    assert plan(own, "simclr", sets=("data.limit=80",)).fits["simclr"].pictures == 80
    assert plan(own, "simclr", sets=("data.limit=800",)).fits["simclr"].pictures == 160


@pytest.mark.parametrize(("name", "track", "least"), [("simclr", "mini", 16), ("truncated_triplet", "imagenet", 3136)])
def test_the_least_number_of_pictures_is_the_one_that_the_message_gives(name: str, track: str, least: int) -> None:
    whole = recipe(name, track)
    with pytest.raises(UserError, match=f"{least - 1} training images are too few; .*; give {least} or more"):
        fitted(name, whole, least - 1, 10**6, {})
    made = fitted(name, whole, least, 10**6, {}).recipe["pretrain"]
    assert least // made["batch"] == 2
    whole["pretrain"]["batch"] = 8  # whoever states a batch may have one of them an epoch
    alone = fitted(name, whole, 9, 10**6, {"pretrain": {"batch": 8}}).recipe["pretrain"]
    assert alone["batch"] == 8
    with pytest.raises(UserError, match="7 training images are too few; batches have 8 images; give 8 or more"):
        fitted(name, whole, 7, 10**6, {"pretrain": {"batch": 8}})
    with pytest.raises(UserError, match=r"; set data\.limit to 8 or more"):
        fitted(name, whole, 7, 10**6, {"pretrain": {"batch": 8}, "data": {"limit": 7}})


def test_too_few_pictures_are_refused_in_one_line_and_the_controls_still_work() -> None:
    own = folder(Path("own"), 2, 3)
    with pytest.raises(UserError) as caught:
        plan(own, "simclr")
    said = str(caught.value)
    assert re.match(r"simclr: 4 training images are too few; batches have 8 images; give 16 or", said)
    assert "\n" not in said
    assert "--method random random:pixels" in said
    assert len(plan(own, "random", "random:pixels").jobs) == 6
    assert not plan(own, "random", sets=("pretrain.epochs=2", "pretrain.batch=64")).fits  # it trains nothing


@pytest.mark.seconds
def test_a_method_that_cannot_do_with_the_fitted_batch_says_so_with_the_plan() -> None:
    with pytest.raises(UserError, match=r"truncated_triplet: .*uses ranks 10 \.\. 7, but a device has 7 negatives"):
        plan(folder(Path("own"), 2, 10), "truncated_triplet")


def test_the_line_groups_what_changes_alike() -> None:
    found = {name: fit(name, 160) for name in ("simclr", "glnet", "moco_v2", "random")}
    assert [line.partition(":")[0] for line in few_pictures.words(found)] == ["simclr, glnet", "moco_v2"]
