"""Whole recipes: layers, variants, overrides, and lines that name the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from repro.errors import UserError
from repro.plan import recipes, registry, tracks


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_recipe_resolves_on_every_track_and_variant(name: str) -> None:
    info, _ = registry.find(name)
    for variant in ("", *info.variants):
        for track in tracks.tracks():
            recipe = recipes.resolve(info, variant, track, {})
            assert set(recipe) - {"base"} == set(registry.TABLES)
            assert {"epochs", "batch", "optimizer", "lr", "base_batch", "weight_decay", "precision"} <= set(
                recipe["pretrain"]
            )


@pytest.mark.parametrize(
    "override, words",
    [
        ({"pretrain": {"epoch": 2}}, "did you mean 'epochs'"),
        ({"pretrain": {"epochs": "two"}}, "must be an integer"),
        ({"pretrain": {"epochs": 2.5}}, "must be an integer"),
        ({"network": {"dim": True}}, r"network.dim = True must be an integer \(its default is \d+\)"),
        ({"pretrain": {"lr": "fast"}}, r"must be a number \(its default is [\d.e-]+\)"),
        ({"pretrain": {"optimizer": 3}}, r"must be a text \(its default is 'adamw'\)"),
        ({"method": {"crop_scale": 0.5}}, "must be a list of numbers"),
        ({"pretrain": {"precision": "fp16"}}, "did you mean 'bf16'"),
        ({"pretrain": {"optimizer": "adam"}}, "did you mean 'adamw'"),
        ({"pretrain": {"batch": 0}}, "at least 1"),
        ({"pretrain": {"epochs": -1}}, "at least 0"),
    ],
)
def test_a_wrong_override_gets_one_line(override: recipes.Recipe, words: str) -> None:
    info, _ = registry.find("aps")
    with pytest.raises(UserError, match=words) as caught:
        recipes.resolve(info, "", "embedded", override)
    assert "\n" not in str(caught.value)


def test_overrides_come_last_and_touch_nothing_else() -> None:
    info, _ = registry.find("aps")
    plain = recipes.resolve(info, "", "embedded", {})
    changed = recipes.resolve(info, "", "embedded", {"pretrain": {"epochs": 99, "lr": 1}})
    assert changed["pretrain"] == {**plain["pretrain"], "epochs": 99, "lr": 1.0}
    assert plain == recipes.resolve(info, "", "embedded", {})  # the registry itself is untouched


@pytest.mark.parametrize(
    "method, override, words",
    [
        ("aps", {"accumulate": 2}, "negatives are those of the whole batch"),
        ("rotation_aux:simclr", {"accumulate": 2}, "negatives are those of the whole batch"),
        ("byol", {"batch": 100, "devices": 8}, "batch = 100 is not 8 devices x 1 micro-batches"),
        ("byol", {"batch": 36, "devices": 2, "accumulate": 4}, "choose a multiple of 8"),
        ("byol", {"devices": 0}, "at least 1"),
    ],
)
def test_the_contract_of_the_global_batch(method: str, override: dict[str, int], words: str) -> None:
    info, variant = registry.find(method)
    with pytest.raises(UserError, match=words):
        recipes.resolve(info, variant, "mini", {"pretrain": override})


def test_accumulation_is_free_where_no_negative_depends_on_it() -> None:
    for method in ("byol", "truncated_triplet", "moco_v2", "rotation_aux"):
        info, variant = registry.find(method)
        changed = recipes.resolve(info, variant, "mini", {"pretrain": {"batch": 128, "accumulate": 4}})
        assert changed["pretrain"]["accumulate"] == 4
    info, _ = registry.find("truncated_triplet")
    released = recipes.resolve(info, "", "imagenet", {})["pretrain"]
    assert (released["batch"], released["devices"], released["accumulate"]) == (6272, 8, 4)  # 196 a device


def test_a_task_over_a_base_has_the_bases_recipe() -> None:
    info, _ = registry.find("rotation_aux")
    for variant, base in (("", "byol"), ("swav", "swav"), ("moco_v3", "moco_v3:resnet"), ("aps", "aps")):
        other, its_variant = registry.find(base)
        for track in tracks.tracks():
            with_task, alone = recipes.resolve(info, variant, track, {}), recipes.resolve(other, its_variant, track, {})
            assert with_task["base"] == {"name": base, "module": other.module}
            length = {"epochs": 8 if track in ("embedded", "mini") else alone["pretrain"]["epochs"]}
            assert with_task["pretrain"] == alone["pretrain"] | length and with_task["network"] == alone["network"]
            added = with_task["method"].keys() - alone["method"].keys()
            assert added and all(key.startswith(("rotation_", "shuffled_")) for key in added)
        assert registry.negatives(info, variant) == other.negatives
        assert registry.relative_cost(info, variant) > registry.relative_cost(other, its_variant)


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.5]])
def test_statistics_are_of_three_channels(values: list[float]) -> None:
    with pytest.raises(UserError, match=r"method\.std = .*three numbers"):
        recipes.resolve(*registry.find("aps"), "cifar", {"method": {"std": values}})


@pytest.mark.parametrize("values", [[0.5, 0.0, 0.5], [0.5, -0.1, 0.5], [0.5, 0.5, float("nan")]])
def test_pixels_are_divided_by_deviations_above_0(values: list[float]) -> None:
    with pytest.raises(UserError, match=r"method\.std = .*must be (above 0|finite)"):
        recipes.resolve(*registry.find("aps"), "cifar", {"method": {"std": values}})


def test_another_architecture_brings_the_tracks_network_of_it() -> None:
    info, _ = registry.find("byol")
    vit = recipes.resolve(info, "", "mini", {"network": {"arch": "vit"}})["network"]
    assert {key: vit[key] for key in ("dim", "depth", "heads", "patch")} == {
        "dim": 128,
        "depth": 3,
        "heads": 4,
        "patch": 4,
    }
    with pytest.raises(UserError, match=r"network\.arch"):
        recipes.resolve(info, "", "mini", {"network": {"arch": "mlp"}})


def test_neutral_keys_are_keys_that_recipes_have() -> None:
    """One that no recipe has, or of another type than there, would be a slip and take nothing out of a hash."""
    whole = [recipes.resolve(info, "", "mini", {}) for info in registry.methods().values()]
    for table, values in recipes.neutral().items():
        for key, value in values.items():
            held = [recipe[table][key] for recipe in whole if key in recipe[table]]
            assert held and {type(one) for one in held} == {type(value)}, f"{table}.{key}"
            assert value in held  # what is neutral is what most do


def test_a_recipe_file_that_is_not_text_is_one_line_with_its_path(
    tmp_path: Path, refused: Callable[[str], str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes('paper = "größer"'.encode("latin-1"))
    assert f"{path}: not valid TOML" in refused(f"plan --method {path}")
    path.write_text('name = "mine"\nmodule = mine:Mine\n')
    assert refused(f"plan --method {path}").endswith(": module = mine:Mine\n")


@pytest.mark.parametrize(("track", "size"), [("embedded", (64, 3, 4, 4)), ("mini", (128, 3, 4, 4))])
def test_vits_of_the_small_tracks_are_the_same_for_all_and_have_fixed_positions(
    track: str, size: tuple[int, ...]
) -> None:
    """The network is one; which of its features a method teaches may differ."""
    free = {"pool", "freeze_patches"}  # freezing changes no untrained network
    for name in ("aps", "moco_v3", "mae", "supervised:vit", "random:vit", "random:vit_mean", "glnet:vit"):
        info, variant = registry.find(name)
        network = recipes.resolve(info, variant, track, {})["network"]
        assert tuple(network[key] for key in ("dim", "depth", "heads", "patch")) == size
        assert network["positions"] == "sincos"
        same = recipes.resolve(*registry.find("random:vit"), track, {})["network"]
        assert {key: network[key] for key in network.keys() - free} == {key: same[key] for key in same.keys() - free}
    mae, untrained = (
        recipes.resolve(*registry.find(name), track, {})["network"] for name in ("mae", "random:vit_mean")
    )
    assert mae["pool"] == untrained["pool"] == "mean"
