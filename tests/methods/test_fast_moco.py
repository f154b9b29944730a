"""Fast-MoCo: its loss against loops, patches that are encoded alone, what carries gradient, the target."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import nn

from methods.base import Clock
from methods.fast_moco import FastMoCo, patch_loss
from repro.plan import recipes, registry
from repro.stages.schedules import factor
from small import DATA, ROWS, assert_target_follows, built, cross_entropy, views


def build(**method: Any) -> FastMoCo:
    tables = recipes.resolve(registry.methods()["fast_moco"], "", "cifar", {})
    tables["network"] |= {"width": 8}
    tables["method"] |= {"head_hidden": 24, "head_dim": 16, "predictor_hidden": 8} | method
    return built(FastMoCo, tables)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_loss_is_twelve_cross_entropies(temperature: float) -> None:
    p1, p2 = torch.randn(2, 6, 5, 8, dtype=torch.float64).unbind()
    t1, t2 = torch.randn(2, 5, 8, dtype=torch.float64).unbind()
    want = sum(cross_entropy(p, t2, temperature) for p in p1) + sum(cross_entropy(p, t1, temperature) for p in p2)
    got = patch_loss(p1.flatten(0, 1), p2.flatten(0, 1), t1, t2, temperature)
    assert got.item() == pytest.approx(want / 12, abs=1e-5)


def test_the_method_is_its_formulas() -> None:
    """Quarters of each view through the encoder alone, pairs averaged before the projector, the other view's target."""
    method = build()
    step = views(method)
    predictions, targets = {}, {}
    with torch.no_grad():
        outputs = method(step)
        for i in (1, 2):
            x = step[f"pixels{i}"]
            quarters = torch.cat([x[..., r : r + 16, c : c + 16] for c in (0, 16) for r in (0, 16)])
            v = method.encoder.features(quarters).view(4, ROWS, -1)  # one batch, as BatchNorm sees it
            pairs = torch.cat([(v[a] + v[b]) / 2 for a, b in combinations(range(4), 2)])
            predictions[i] = method.predictor(method.projector(pairs)).view(6, ROWS, -1)
            targets[i] = method.target(x)
    want = sum(cross_entropy(p, targets[2], 1.0) for p in predictions[1])
    want += sum(cross_entropy(p, targets[1], 1.0) for p in predictions[2])
    assert outputs["loss_patches"].item() == pytest.approx(want / 12, abs=1e-5)
    assert abs(outputs["loss_patches"].item() - math.log(ROWS)) < 2


def test_gradient_passes_the_patches_and_not_the_target() -> None:
    method = build()
    t1, t2, p = (torch.randn(rows, 8, requires_grad=True) for rows in (5, 5, 30))
    patch_loss(p, p, t1, t2, 1.0).backward()
    assert p.grad is not None and t1.grad is None and t2.grad is None
    method(views(method))["loss_patches"].backward()
    assert all(p.grad is None for p in method.target.parameters())
    assert all(p.grad is not None for p in method.encoder.parameters())


def test_online_statistics_are_those_of_patches() -> None:
    method = build()
    step = views(method)
    sides = []
    handle = method.encoder.get_submodule("conv1").register_forward_hook(lambda _, x, __: sides.append(x[0].shape))
    method(step)
    handle.remove()
    assert sides == [(4 * ROWS, 3, 16, 16)] * 2
    assert method.encoder.get_buffer("bn1.num_batches_tracked") == 2
    assert method.projector[1].num_batches_tracked == 2


def test_target_follows_at_a_constant_rate() -> None:
    assert_target_follows(build(), Clock(3, 4), 0.99)


def test_the_predictors_rate_is_constant() -> None:
    slow, constant = (method := build()).param_groups(1e-4)
    assert constant["constant_lr"] is True and not slow.get("constant_lr")
    assert {id(p) for p in constant["params"]} == {id(p) for p in method.predictor.parameters()}


def test_imagenet_recipe_is_the_released_configuration() -> None:
    tables = recipes.resolve(registry.methods()["fast_moco"], "", "imagenet", {})
    pretrain = tables["pretrain"]
    rate = pretrain["lr"] * pretrain["batch"] / pretrain["base_batch"]
    updates = 2502
    first = rate * factor(pretrain, 0, 0.0, 1 / updates)
    last_of_warmup = rate * factor(pretrain, 0, (updates - 1) / updates, 1 / updates)
    assert (first, last_of_warmup) == (pytest.approx(0.025), pytest.approx(0.1))
    assert (pretrain["batch"], pretrain["devices"], pretrain["epochs"], pretrain["clip_norm"]) == (512, 16, 100, 1.0)
    assert tables["network"]["zero_init_residual"] and tables["method"]["temperature"] == 1.0
    method = FastMoCo(tables | {"network": tables["network"] | {"depth": 18, "width": 8}}, DATA)
    linear = [m for m in (*method.projector, *method.predictor) if isinstance(m, nn.Linear)]
    widths = [(m.in_features, m.out_features) for m in linear]
    assert widths == [(64, 2048), (2048, 2048), (2048, 2048), (2048, 512), (512, 2048)]
