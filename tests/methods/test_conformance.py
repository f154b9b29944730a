"""What every registered recipe, variant and track must hold, on tiny versions of its networks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.base import Batch, Clock, DataInfo, Method, Streams
from repro import recipes

ROWS = 16

RECIPES = recipes.methods()
TRACKS = ("embedded", "mini", "cifar", "imagenet100", "imagenet")
DATA = DataInfo(32, (0.49, 0.48, 0.45), (0.2, 0.2, 0.2), 10)
CASES = [(name, variant) for name, info in sorted(RECIPES.items()) for variant in ("", *info.variants)]


def resolved(name: str, variant: str = "", track: str = "cifar") -> recipes.Recipe:
    return recipes.resolve(RECIPES[name], variant, track, {})


def build(name: str, variant: str = "", seed: int = 0) -> Method:
    """The method with its smallest network and heads; the algorithm's own settings stay."""
    tables = resolved(name, variant)
    small: dict[str, Any] = {"dim": 24, "depth": 2, "heads": 2, "patch": 8, "size": 32}
    if tables["network"]["arch"] == "resnet":
        small = {"depth": 18, "width": 8, "stem": "cifar"}
    tables["network"] |= small
    for key, value in tables["method"].items():
        if key.endswith(("_hidden", "_dim")):
            tables["method"][key] = 32
        if key.endswith("bank_size"):
            tables["method"][key] = min(value, 24)
    tables["pretrain"] |= {"batch": ROWS, "devices": 1, "accumulate": 1}
    module, _, cls = RECIPES[name].module.partition(":")
    torch.manual_seed(seed)
    method: Method = getattr(importlib.import_module(module), cls)(tables, DATA)
    return method.train()


def batch(load: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(load)
    return Batch(torch.randint(0, 256, (ROWS, 3, 32, 32), generator=generator).byte(), torch.arange(ROWS) % 4)


def streams(load: int = 0, rows: slice = slice(0, ROWS)) -> Streams:
    return Streams(0, 0, load, global_batch=ROWS, rows=rows, device="cpu")


def train(method: Method, updates: int) -> Iterator[dict[str, Tensor]]:
    """A plain loop of `updates` optimiser updates."""
    optimizer = torch.optim.AdamW(method.param_groups(0.05), lr=1e-3)
    done = load = 0
    while done < updates:
        for views in method.steps(batch(load), streams(load)):
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


@pytest.mark.parametrize(("name", "variant"), [c for c in CASES if c[0] != "random"])
class TestLearning:
    def test_losses_are_finite_and_metrics_detached(self, name: str, variant: str) -> None:
        method = build(name, variant)
        steps = list(method.steps(batch(), streams()))
        assert len(steps) == method.updates_per_load
        for views in steps:
            outputs = method(views)
            assert any(key.startswith("loss_") for key in outputs)
            for key, value in outputs.items():
                assert key.startswith("pending_") or (value.ndim == 0 and value.isfinite()), key
                assert value.requires_grad == key.startswith("loss_"), key

    def test_gradient_reaches_the_encoder_and_never_what_is_not_trained(self, name: str, variant: str) -> None:
        method = build(name, variant)
        listed = {id(p) for group in method.param_groups(0.1) for p in group["params"]}
        assert listed == {id(p) for p in method.parameters() if p.requires_grad}
        for _ in train(method, 2):  # the first update opens residual branches that start at zero
            pass
        outputs = method(next(iter(method.steps(batch(), streams()))))
        sum(v for k, v in outputs.items() if k.startswith("loss_")).backward()
        for key, parameter in method.encoder.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
        assert all(p.grad is None for p in method.parameters() if not p.requires_grad)

    def test_same_seed_gives_the_same_updates_bit_for_bit(self, name: str, variant: str) -> None:
        first, second = build(name, variant), build(name, variant)
        for a, b in zip(train(first, 5), train(second, 5), strict=True):
            assert all(torch.equal(a[key], b[key]) for key in a)
        for (key, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
            assert torch.equal(a, b), key

    def test_loss_changes_no_parameter(self, name: str, variant: str) -> None:
        method = build(name, variant)
        before = [p.clone() for p in method.parameters()]
        method(next(iter(method.steps(batch(), streams()))))
        assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))

    def test_half_of_the_rows_see_the_same_views_as_in_the_whole(self, name: str, variant: str) -> None:
        method, whole = build(name, variant), batch()
        rows = slice(ROWS // 2, ROWS)
        part = Batch(whole.images[rows], None if whole.labels is None else whole.labels[rows])
        for one, two in zip(method.steps(whole, streams()), method.steps(part, streams(rows=rows)), strict=True):
            for key in one.tensors:
                torch.testing.assert_close(one[key][rows], two[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_encoder_is_the_duck_type(name: str, variant: str) -> None:
    encoder = build(name, variant).encoder.eval()
    for side in (32, 64):
        x = torch.randn(2, 3, side, side)
        assert encoder.features(x).shape == (2, encoder.dim)
        for one, channels, stride in zip(encoder.feature_maps(x), encoder.channels, encoder.strides, strict=True):
            assert one.shape == (2, channels, side // stride, side // stride)


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("track", TRACKS)
def test_every_track_has_a_recipe_that_builds(name: str, track: str) -> None:
    tables = resolved(name, "", track)
    size = 224 if track.startswith("imagenet") else 32
    module, _, cls = RECIPES[name].module.partition(":")
    kind = getattr(importlib.import_module(module), cls)
    kind(tables, DataInfo(size, DATA.mean, DATA.std, 10))
    assert tables["pretrain"]["warmup_epochs"] <= tables["pretrain"]["epochs"]
    assert tables["pretrain"]["lr"] > 0 or not tables["pretrain"]["epochs"]


def test_the_control_makes_no_update() -> None:
    assert list(build("random").steps(batch(), streams())) == []
    assert all(resolved("random", "", track)["pretrain"]["epochs"] == 0 for track in TRACKS)


def test_supervised_needs_labels() -> None:
    method = build("supervised")
    with pytest.raises(ValueError, match="needs labels"):
        next(iter(method.steps(Batch(batch().images), streams())))
    module = importlib.import_module("methods.supervised")
    with pytest.raises(ValueError, match="needs labels"):
        module.Supervised(resolved("supervised"), DataInfo(32, DATA.mean, DATA.std, None))


def test_a_network_for_another_size_is_refused() -> None:
    module = importlib.import_module("methods.aps")
    with pytest.raises(ValueError, match=r"network\.size = 32"):
        module.APS(resolved("aps"), DataInfo(64, DATA.mean, DATA.std))
