"""The registry: recipe files, variants by name, and lines that name the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.errors import UserError
from repro.plan import registry


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'aps'"):
        registry.find("apss")
    with pytest.raises(UserError, match="did you mean 'flip_aware'"):
        registry.find("aps:flip_awar")


def test_a_recipe_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\nmodule = "mine:Mine"\nrole = "method"\ntitle = "t"\npaper = "p"\nnegatives = "none"\n'
    path.write_text(text + "[defaults.pretrain]\nepochs = 3\n")
    info, variant = registry.find(str(path))
    assert (info.name, variant, info.defaults["pretrain"]["epochs"]) == ("mine", "", 3)
    path.write_text(text + "[defaults.pretrian]\nepochs = 3\n")
    with pytest.raises(UserError, match="did you mean 'pretrain'"):
        registry.find(str(path))
    path.write_text(text.replace("role", "rolle"))
    with pytest.raises(UserError, match="did you mean 'role'"):
        registry.find(str(path))
    path.write_text(text.replace('"mine"\nmodule', '"aps"\nmodule') + "[defaults.pretrain]\n")
    with pytest.raises(UserError, match="taken"):
        registry.find(str(path))


def test_the_default_base_has_a_name_too() -> None:
    assert registry.find("rotation_aux:byol") == registry.find("rotation_aux")
    with pytest.raises(UserError, match="unknown variant of rotation_aux 'byo'"):
        registry.find("rotation_aux:byo")


def test_all_keys_that_a_recipe_file_lacks_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nmodule = "mine:Mine"\nnegatives = "none"\n[defaults]\n')
    with pytest.raises(UserError) as caught:
        registry.find(str(tmp_path / "mine.toml"))
    assert str(caught.value) == f"{tmp_path / 'mine.toml'}: keys 'role', 'title', 'paper' are missing"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("[defaults]\n[variants.v]\nsumary = 'x'", "variants.v: unknown key 'sumary'; did you mean 'summary'?"),
        ("relative_cost = nan\n[defaults]", "relative_cost = nan must be a finite number"),
        ("[defaults]\n[variants.v]\nrelative_cost = 'x'", "variants.v: relative_cost = 'x' must be a finite number"),
        ("[defaults]\n[variants]\nv = 3", "variants.v = 3 must be a table"),
        ("[defaults]\npretrain = 3", "defaults.pretrain = 3 must be a table"),
        ("arxiv = 2104.1\n[defaults]", "arxiv = 2104.1 must be a text"),
        ("arxiv = ''", "key 'defaults' is missing"),
        ("[defaults]\n[tracks.minni.pretrain]\nlr = 1.0", "unknown track 'minni'; did you mean 'mini'?"),
        ("[defaults]\n[variants.v.tracks.minni.pretrain]\nlr = 1.0", "unknown track 'minni'; did you mean 'mini'?"),
        ("[defaults]\n[variants.all]\nsummary = 'x'", "the name 'all' has a meaning of its own in --method"),
    ],
)
def test_a_fault_of_a_recipe_file_is_one_line(tmp_path: Path, change: str, says: str) -> None:
    text = 'name = "mine"\nmodule = "mine:Mine"\nrole = "method"\ntitle = "t"\npaper = "p"\nnegatives = "none"\n'
    (tmp_path / "mine.toml").write_text(text + change)
    with pytest.raises(UserError) as caught:
        registry.find(str(tmp_path / "mine.toml"))
    assert f"mine.toml: {says}" in str(caught.value)
    assert "\n" not in str(caught.value)
