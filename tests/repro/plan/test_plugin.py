"""Adding a method is one module and one recipe file: a toy from outside the package, by path and by entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings
from repro.store import snapshot
from repro.store.workspace import Workspace

pytestmark = pytest.mark.processes

MODULE = '''
"""Predict the mean colour of a view: a toy."""
from methods.base import Method, Views
from methods.parts.encoders import build_encoder
from methods.parts.heads import spread
from methods.parts.views import Augment
import torch

class Toy(Method):
    negatives = "none"

    def __init__(self, recipe, data):
        super().__init__(recipe, data)
        self.encoder = build_encoder(recipe["network"])
        self.head = torch.nn.Linear(self.encoder.dim, recipe["method"]["outputs"])
        self.augment = Augment.of_recipe(recipe["method"], data)

    def steps(self, batch, rng):
        yield Views({"pixels": self.augment(batch.images, rng.stream("view"))[0]})

    def loss(self, views):
        x = views["pixels"]
        features = self.encoder.features(x)
        wanted = x.mean(dim=(2, 3))[:, : self.head.out_features]
        return {"loss_colour": (self.head(features).float() - wanted).square().mean(), "std_features": spread(features)}
'''
RECIPE = """
name = "toy"
module = "{module}:Toy"
role = "method"
title = "Mean colour"
paper = "none"
negatives = "none"
[defaults.method]
crop_scale = [0.5, 1.0]
outputs = 3
[tracks.embedded.pretrain]
epochs = 1
batch = 64
lr = 1e-3
[variants.red]
summary = "one channel"
[variants.red.method]
outputs = 1
"""
LINE = (
    "--suite quick --executor local --set data.limit=200 linear.epochs=2 linear.low_shot_splits=2 knn.ks=[1,5]".split()
)


def run(arguments: list[str], folder: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "repro", *arguments]
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join(p for p in (environment.pop("PYTHONPATH", ""), root) if p)
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def records(folder: Path) -> set[tuple[str, str, str]]:
    found = [json.loads(path.read_text()) for path in (folder / "repro-work" / "records").glob("*.json")]
    assert all("knn" not in r["kind"] or 0 < r["metrics"]["top1"] <= 100 for r in found)
    return {(r["kind"], r["method"], r["variant"] or "") for r in found}


def test_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "colours.py").write_text(MODULE)
    (tmp_path / "mine" / "toy.toml").write_text(RECIPE.format(module="colours"))
    arms = ["mine/toy.toml", "mine/toy.toml:red"]
    out = run(["run", "--method", *arms, *LINE], tmp_path)
    assert "toy:red" in out
    kinds = {"pretrain", "features", "knn", "linear"}
    assert records(tmp_path) == {(kind, "toy", variant) for kind in kinds for variant in ("", "red")}
    assert "everything was cached" in run(["run", "--method", *arms, *LINE], tmp_path)
    # its code is part of what a result depends on
    (tmp_path / "mine" / "colours.py").write_text(MODULE.replace(".square()", ".abs()"))
    assert "0 cached" in run(["plan", "--method", *arms, *LINE[:2], *LINE[4:]], tmp_path)


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ("epoch = 1", "epochs = 1", "unknown key in [pretrain] 'epoch'; did you mean 'epochs'?"),
        ("output = 3", "outputs = 3", "colours.py:Toy finds no key 'outputs'; if the recipe should have it, add it"),
        ('epochs = 1\n[defaults.network]\narch = ["vit"]', "epochs = 1", "unknown network.arch"),
        ("outputs = 3\nmean = 3", "outputs = 3", "method.mean = 3: must be three numbers"),
        ('outputs = "3"', "outputs = 3", "colours.py:Toy cannot be built (TypeError"),
        ('module = "nowhere.Toy"', 'module = "colours:Toy"', "key 'module' is 'nowhere.Toy', which cannot be loaded"),
        ('module = "colours:Tie"', 'module = "colours:Toy"', ":Tie', which cannot be loaded"),
    ],
)
def test_a_wrong_recipe_file_is_refused_before_anything_runs(tmp_path: Path, wrong: str, right: str, says: str) -> None:
    """Also a key that only the recipe's own defaults state: a misspelt one would train with another value, silently."""
    text = RECIPE.format(module="colours").replace("[tracks.embedded.pretrain]", "[defaults.pretrain]")
    assert right in text
    (tmp_path / "colours.py").write_text(MODULE)
    (tmp_path / "toy.toml").write_text(text.replace(right, wrong))
    with pytest.raises(UserError) as caught:
        make(Request((str(tmp_path / "toy.toml"),), evaluations=("knn",)), Settings(workspace=tmp_path / "work"))
    assert says in str(caught.value)


def test_a_file_is_kept_with_the_code_of_its_submission(tmp_path: Path) -> None:
    module = tmp_path / "colours.py"
    module.write_text("as submitted")
    named = f"{module}:Toy"
    place = Workspace(tmp_path / "work")
    code = snapshot.take(place, ["methods.aps:APS", named])
    assert snapshot.take(place, [named]) == code != snapshot.take(place)
    module.write_text("as edited")
    assert snapshot.take(place, [named]) != code
    ask = f"from repro.store import snapshot; print(snapshot.kept({named!r}), snapshot.kept('methods.aps:APS'))"
    said = subprocess.run(
        [sys.executable, "-c", ask],
        env=os.environ | {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    copy, _, name = said[0].rpartition(":")
    assert Path(copy).is_relative_to(code) and Path(copy).read_text() == "as submitted" and name == "Toy"
    assert said[1] == "methods.aps:APS"
    assert snapshot.kept(named) == named  # no process of a snapshot


def test_by_entry_point(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "toys").mkdir(parents=True)
    (site / "toys" / "__init__.py").write_text(MODULE)
    (site / "toys" / "toy.toml").write_text(RECIPE.format(module="toys"))
    info = site / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[repro.methods]\ntoys = toys\n")
    assert "toy" in run(["methods"], tmp_path, PYTHONPATH=str(site))
    out = run(["run", "--method", "toy", *LINE], tmp_path, PYTHONPATH=str(site))
    assert "toy" in out and ("linear", "toy", "") in records(tmp_path)


def test_a_broken_module_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "colours.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "toy.toml").write_text(RECIPE.format(module="colours"))
    with pytest.raises(AssertionError, match="nowhere_to_be_found"):
        run(["run", "--method", "toy.toml", *LINE], tmp_path)
