"""What every registered recipe, variant and track must hold, on tiny versions of its networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.base import Batch, Clock, Method, load_method
from methods.parts.encoders import ResNet, frozen_encoder
from repro.plan import recipes, registry
from small import DATA, LABELLED, built, pictures, streams

ROWS = 16

RECIPES = registry.methods()
TRACKS = ("embedded", "mini", "cifar", "imagenet100", "imagenet")
SHALLOW = {"resnet": 18, "vit": 1}
CASES = [(name, variant) for name, info in sorted(RECIPES.items()) for variant in ("", *info.variants)]


UNTRAINED = {"random"}
LEARNING = [case for case in CASES if case[0] not in UNTRAINED]
Build = Callable[..., Method]


@pytest.fixture
def build(shrunk: Callable[..., recipes.Recipe]) -> Build:
    """`build(name, variant, seed)`: the method with its smallest network and heads, in training mode."""

    def make(name: str, variant: str = "", seed: int = 0) -> Method:
        return built(load_method(RECIPES[name].module), shrunk(name, variant, ROWS), LABELLED, seed)

    return make


@pytest.fixture
def shared(build: Build) -> Build:
    """`shared(name, variant)`: as `build`, but built once for all tests, which leave its weights as they are."""

    def find(name: str, variant: str = "") -> Method:
        if (name, variant) not in _SHARED:
            _SHARED[name, variant] = build(name, variant)
        return _SHARED[name, variant].train()

    return find


_SHARED: dict[tuple[str, str], Method] = {}


def batch(load: int = 0) -> Batch:
    return Batch(pictures(ROWS, seed=load), torch.arange(ROWS) % 4)


def train(method: Method, updates: int) -> Iterator[dict[str, Tensor]]:
    """A plain loop of `updates` optimiser updates."""
    optimizer = torch.optim.AdamW(method.param_groups(0.05), lr=1e-3)
    done = load = 0
    while done < updates:
        for views in method.steps(batch(load), streams(ROWS, load)):
            outputs = method(views)
            total: Any = sum(value for key, value in outputs.items() if key.startswith("loss_"))
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            pending = {key: value for key, value in outputs.items() if key.startswith("pending_")}
            method.after_update(Clock(done, updates), [pending])
            yield outputs
            if done == updates:
                return
        load += 1


@pytest.mark.parametrize(("name", "variant"), LEARNING)
class TestLearning:
    def test_losses_are_finite_metrics_detached_and_no_parameter_changed(
        self, shared: Build, name: str, variant: str
    ) -> None:
        method = shared(name, variant)
        before = {key: value.clone() for key, value in method.state_dict().items()}
        steps = list(method.steps(batch(), streams(ROWS)))
        assert len(steps) == method.updates_per_load
        for views in steps:
            outputs = method(views)
            assert any(key.startswith("loss_") for key in outputs)
            for key, value in outputs.items():
                assert key.startswith("pending_") or (value.ndim == 0 and value.isfinite()), key
                assert value.requires_grad == key.startswith("loss_"), key
            assert {"std_z", "std_features"} & outputs.keys(), "nothing tells a collapse"
        norms = ("running_mean", "running_var", "num_batches_tracked")
        for key, value in method.state_dict().items():
            assert key.endswith(norms) or torch.equal(before[key], value), key

    @pytest.mark.trains
    def test_gradient_reaches_the_encoder_and_nothing_frozen(self, build: Build, name: str, variant: str) -> None:
        method = build(name, variant)
        listed = {id(p) for group in method.param_groups(0.1) for p in group["params"]}
        assert listed == {id(p) for p in method.parameters() if p.requires_grad}
        for _ in train(method, 2):  # the first update opens residual branches that start at zero
            pass
        outputs = method(next(iter(method.steps(batch(), streams(ROWS)))))
        sum(v for k, v in outputs.items() if k.startswith("loss_")).backward()
        for key, parameter in method.encoder.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
        assert all(p.grad is None for p in method.parameters() if not p.requires_grad)

    def test_half_of_the_rows_see_the_same_views_as_in_the_whole(self, shared: Build, name: str, variant: str) -> None:
        method, whole = shared(name, variant), batch()
        if method.mixes_rows:
            pytest.skip("a row's views hold pixels of other rows: two processes exchange them (below)")
        rows = slice(ROWS // 2, ROWS)
        part = Batch(whole.images[rows], None if whole.labels is None else whole.labels[rows])
        for one, two in zip(
            method.steps(whole, streams(ROWS)), method.steps(part, streams(ROWS, part=rows)), strict=True
        ):
            for key in one.tensors:
                torch.testing.assert_close(one[key][rows], two[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_encoder_is_the_duck_type(shared: Build, name: str, variant: str) -> None:
    encoder = shared(name, variant).encoder.eval()
    for side in (32, 64):
        x = torch.randn(2, 3, side, side)
        assert encoder.features(x).shape == (2, encoder.dim)
        for one, channels, stride in zip(encoder.feature_maps(x), encoder.channels, encoder.strides, strict=True):
            assert one.shape == (2, channels, side // stride, side // stride)


@cache
def buildable(network: tuple[tuple[str, Any], ...]) -> None:
    """Once for each: many recipes have the same."""
    with torch.device("meta"):
        frozen_encoder(dict(network))


def of_one_block(
    self: ResNet,
    block: Any,
    planes: int,
    blocks: int,
    *args: Any,
    layer: Callable[..., nn.Sequential] = ResNet._make_layer,
    **kwargs: Any,
) -> nn.Sequential:
    return layer(self, block, planes, 1, *args, **kwargs)


@pytest.mark.parametrize(("name", "variant"), CASES)
@pytest.mark.parametrize("track", TRACKS)
def test_every_track_has_a_recipe_that_builds(
    name: str, variant: str, track: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "normal_", lambda self, *_, **__: self)  # weights, of which there are none on "meta"
    tables = recipes.resolve(RECIPES[name], variant, track, {})
    size = 224 if track.startswith("imagenet") else 32
    shared = recipes.resolve(RECIPES["random"], "", track, {"network": {"arch": tables["network"]["arch"]}})["network"]
    if not variant:  # the same network for all, but where a paper's own is another
        keys = ("size", "dim", "depth", "width", "stem", "patch")
        assert {key: tables["network"][key] for key in keys} == {key: shared[key] for key in keys}
    buildable(tuple(sorted(tables["network"].items())))
    tables["network"]["depth"] = SHALLOW.get(tables["network"]["arch"], 0)  # which no head depends on
    monkeypatch.setattr(ResNet, "_make_layer", of_one_block)
    with torch.device("meta"):
        method = load_method(RECIPES[name].module)(tables, replace(LABELLED, size=size))
    pretrain = tables["pretrain"]
    assert method.negatives == registry.negatives(RECIPES[name], variant)
    assert pretrain["warmup_epochs"] <= pretrain["epochs"] and (pretrain["lr"] > 0) is (pretrain["epochs"] > 0)


@pytest.mark.processes
def test_rows_on_two_processes_are_the_rows_on_one(
    build: Build, shrunk: Callable[..., recipes.Recipe], tmp_path: Path
) -> None:
    """Averaged gradients, losses and what is kept between updates; BatchNorm over both processes, float32."""
    cases = [
        (RECIPES[name].module, shrunk(name, variant, 2 * ROWS) | {"name": {"name": name, "variant": variant}})
        for name, variant in LEARNING
    ]
    for _, tables in cases:
        tables["pretrain"]["devices"] = 2  # negatives of one device are a process's rows
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    script = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([*script, str(rank), str(count)], env=environment) for rank, count in ((0, 1), (0, 2), (1, 2))
    ]
    assert [process.wait(timeout=600) for process in ranks] == [0, 0, 0]
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    assert one.keys() == two.keys() and len(one) == len(cases)
    for case, values in one.items():
        apart, size = 0.0, 0.0
        for key, value in values.items():
            difference = two[case][key] - value
            if key.startswith("grad"):
                apart, size = apart + difference.square().sum().item(), size + value.square().sum().item()
            else:
                assert difference.abs().max().item() <= 1e-5 * max(1.0, value.abs().max().item()), (case, key)
        assert apart**0.5 <= 1e-5 * max(1.0, size**0.5), case  # of the whole gradient as one vector


def test_the_control_makes_no_update(build: Build) -> None:
    assert list(build("random").steps(batch(), streams(ROWS))) == []
    for track in TRACKS:
        assert recipes.resolve(RECIPES["random"], "", track, {})["pretrain"]["epochs"] == 0


def test_supervised_needs_labels(build: Build, shrunk: Callable[..., recipes.Recipe]) -> None:
    method = build("supervised")
    with pytest.raises(ValueError, match="needs labels"):
        next(iter(method.steps(Batch(batch().images), streams(ROWS))))
    with pytest.raises(ValueError, match="needs labels"):
        type(method)(shrunk("supervised"), DATA)


def test_a_network_for_another_size_is_refused(shrunk: Callable[..., recipes.Recipe]) -> None:
    with pytest.raises(ValueError, match=r"network\.size = 32"):
        load_method(RECIPES["aps"].module)(shrunk("aps"), replace(DATA, size=64))
