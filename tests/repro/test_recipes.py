"""The registry: recipe files, variants, overrides, and lines that name the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro import recipes, tracks
from repro.errors import UserError


@pytest.mark.parametrize("name", sorted(recipes.methods()))
def test_every_recipe_resolves_on_every_track_and_variant(name: str) -> None:
    info, _ = recipes.find(name)
    for variant in ("", *info.variants):
        for track in tracks.tracks():
            recipe = recipes.resolve(info, variant, track, {})
            assert set(recipe) - {"base"} == set(recipes.TABLES)
            assert {"epochs", "batch", "optimizer", "lr", "base_batch", "weight_decay", "precision"} <= set(
                recipe["pretrain"]
            )


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'aps'"):
        recipes.find("apss")
    with pytest.raises(UserError, match="did you mean 'flip_aware'"):
        recipes.find("aps:flip_awar")


@pytest.mark.parametrize(
    "override, words",
    [
        ({"pretrain": {"epoch": 2}}, "did you mean 'epochs'"),
        ({"pretrain": {"epochs": "two"}}, "must be int"),
        ({"pretrain": {"epochs": 2.5}}, "must be int"),
        ({"network": {"dim": True}}, "must be int"),
        ({"pretrain": {"precision": "fp16"}}, "did you mean 'bf16'"),
        ({"pretrain": {"optimizer": "adam"}}, "did you mean 'adamw'"),
        ({"pretrain": {"batch": 0}}, "at least 1"),
        ({"pretrain": {"epochs": -1}}, "at least 0"),
    ],
)
def test_a_wrong_override_gets_one_line(override: recipes.Recipe, words: str) -> None:
    info, _ = recipes.find("aps")
    with pytest.raises(UserError, match=words) as caught:
        recipes.resolve(info, "", "embedded", override)
    assert "\n" not in str(caught.value)


def test_overrides_come_last_and_touch_nothing_else() -> None:
    info, _ = recipes.find("aps")
    plain = recipes.resolve(info, "", "embedded", {})
    changed = recipes.resolve(info, "", "embedded", {"pretrain": {"epochs": 99, "lr": 1}})
    assert changed["pretrain"] == {**plain["pretrain"], "epochs": 99, "lr": 1.0}
    assert plain == recipes.resolve(info, "", "embedded", {})  # the registry itself is untouched


def test_a_recipe_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\nmodule = "mine:Mine"\nrole = "method"\ntitle = "t"\npaper = "p"\nnegatives = "none"\n'
    path.write_text(text + "[defaults.pretrain]\nepochs = 3\n")
    info, variant = recipes.find(str(path))
    assert (info.name, variant, info.defaults["pretrain"]["epochs"]) == ("mine", "", 3)
    path.write_text(text + "[defaults.pretrian]\nepochs = 3\n")
    path.write_text(text.replace("role", "rolle"))
    with pytest.raises(UserError, match="did you mean 'role'"):
        recipes.find(str(path))
    path.write_text(text.replace('"mine"\nmodule', '"aps"\nmodule') + "[defaults.pretrain]\n")
    with pytest.raises(UserError, match="taken"):
        recipes.find(str(path))
