"""BYOL: its loss against a loop and mmpretrain's head, its momentum network, first weights and what LARS leaves out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from methods.base import Clock
from methods.byol import BYOL, distance
from repro.plan import recipes, registry
from repro.stages import schedules
from small import (
    SLIM,
    assert_running_statistics_are_the_targets_own,
    assert_target_starts_equal,
    built,
    mmpretrain,
    online,
    views,
)


def recipe(track: str = "cifar", variant: str = "", network: dict[str, Any] = SLIM, **method: Any) -> recipes.Recipe:
    tables = recipes.resolve(registry.methods()["byol"], variant, track, {})
    tables["network"] |= network
    tables["method"] |= {"projector_hidden": 32, "predictor_hidden": 24, "head_dim": 16} | method
    return tables


def build(*args: Any, **kwargs: Any) -> BYOL:
    return built(BYOL, recipe(*args, **kwargs))


def test_distance_is_equation_two_written_out() -> None:
    torch.manual_seed(0)
    q, t = torch.randn(2, 5, 8).unbind()
    want = 0.0
    for i in range(5):
        a, b = q[i] / q[i].norm(), t[i] / t[i].norm()
        want += sum((float(a[j]) - float(b[j])) ** 2 for j in range(8)) / 5
    assert distance(q, t).item() == pytest.approx(want, abs=1e-5)
    assert distance(q, q).item() == pytest.approx(0, abs=1e-6)
    assert distance(q, -q).item() == pytest.approx(4, abs=1e-6)


def test_gradient_goes_into_the_prediction_alone() -> None:
    q, t = (torch.randn(5, 8, requires_grad=True) for _ in range(2))
    distance(q, t).backward()
    assert q.grad is not None and q.grad.abs().max() > 0 and t.grad is None


def test_one_step_equals_mmpretrains_head() -> None:
    """mmpretrain's head on our features, projections and predictor; its loss is -cos where ours is 2 - 2 cos."""
    heads = mmpretrain("heads")
    method = build()
    step = views(method, 6)
    head = heads.LatentPredictHead(
        predictor={"type": "NonLinearNeck", "in_channels": 16, "hid_channels": 24, "out_channels": 16,
                   "num_layers": 2, "with_bias": True, "with_last_bias": True, "with_last_bn": False,
                   "with_avg_pool": False},
        loss={"type": "CosineSimilarityLoss"},
    )  # fmt: skip
    with torch.no_grad():
        for source, place in zip(method.predictor.parameters(), head.predictor.parameters(), strict=True):
            place.copy_(source)
    z = [method.projector(method.encoder.features(step[f"pixels{n}"])) for n in (1, 2)]
    t = [method.target(step[f"pixels{n}"]) for n in (1, 2)]
    want = 4 + 2 * (head.loss(z[0], t[1]) + head.loss(z[1], t[0]))
    outputs = method(step)
    got = outputs["loss_1to2"] + outputs["loss_2to1"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    weights = list(method.encoder.parameters())
    ours, theirs = torch.autograd.grad(got, weights, retain_graph=True), torch.autograd.grad(want, weights)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_target_follows_at_the_last_micro_batch_of_every_update(micro_batches: int) -> None:
    """OpenSelfSup's hook, iteration by iteration: k counts micro-batches from 0, m is taken when an update is made."""
    method, updates = build(), 4
    assert_target_starts_equal(method)
    want = [p.detach().clone() for p in online(method)]
    made = 0
    for k in range(updates * micro_batches):
        if (k + 1) % micro_batches:
            continue
        with torch.no_grad():
            for p in online(method):
                p.add_(0.1)
        m = 1 - 0.01 * (math.cos(math.pi * k / (updates * micro_batches)) + 1) / 2
        want = [m * t + (1 - m) * p.detach() for t, p in zip(want, online(method), strict=True)]
        made += 1
        method.after_update(Clock(made, updates, micro_batches), micro_batches * [{}])
        for target, value in zip(method.target.parameters(), want, strict=True):
            torch.testing.assert_close(target.detach(), value, atol=1e-6, rtol=1e-5)
    assert made == updates


def test_running_statistics_of_the_target_are_its_own() -> None:
    assert_running_statistics_are_the_targets_own(build())


def test_heads_have_biases_and_no_norm_at_their_end() -> None:
    method = build()
    for head, widths in ((method.projector, (64, 32, 16)), (method.predictor, (16, 24, 16))):
        first, norm, relu, last = head
        assert (first.in_features, first.out_features, last.out_features) == widths
        assert first.bias is not None and last.bias is not None
        assert isinstance(norm, torch.nn.BatchNorm1d) and isinstance(relu, torch.nn.ReLU)


def test_initial_weights_are_openselfsups() -> None:
    method = build(
        network={"arch": "resnet", "depth": 50, "width": 32, "stem": "imagenet"},
        projector_hidden=512,
        predictor_hidden=512,
        head_dim=64,
    )
    for name, module in method.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = module.weight[0].numel()
            want = 0.01 if name.startswith("predictor") else math.sqrt(2 / fan_in)
            spread = 5 * want / math.sqrt(2 * module.weight.numel())  # five standard errors
            assert module.weight.std().item() == pytest.approx(want, abs=spread), name
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            assert bool((module.weight == 1).all()) and not module.bias.any()


def test_released_exclusion_overlooks_the_norms_of_the_shortcuts() -> None:
    method = build(network={"arch": "resnet", "depth": 50, "width": 8, "stem": "imagenet"}, lars_exclusion="released")
    names = {id(p): name for name, p in method.named_parameters()}
    scaled, excluded = method.param_groups(1e-6)
    assert (scaled["adapt"], scaled["weight_decay"], excluded["adapt"], excluded["weight_decay"]) == (
        *("all", 1e-6),
        *("none", 0.0),
    )
    vectors = {names[id(p)] for p in scaled["params"] if p.ndim == 1}
    assert vectors == {f"encoder.layer{n}.0.downsample.1.weight" for n in (1, 2, 3, 4)}
    assert all(p.ndim == 1 for p in excluded["params"])
    assert {"projector.1.weight", "predictor.1.bias", "encoder.bn1.weight", "encoder.layer1.0.downsample.1.bias"} <= {
        names[id(p)] for p in excluded["params"]
    }
    (group,) = build(lars_exclusion="vectors").param_groups(1e-6)
    assert "adapt" not in group  # LARS's own choice: matrices
    with pytest.raises(ValueError, match=r"method\.lars_exclusion = 'bn'"):
        build(lars_exclusion="bn")


def test_imagenet_is_openselfsups_recipe() -> None:
    pretrain = recipe("imagenet")["pretrain"]
    assert pretrain["lr"] * pretrain["batch"] / pretrain["base_batch"] == pytest.approx(4.8)
    assert pretrain["batch"] == 256 * pretrain["devices"] * pretrain["accumulate"]
    assert schedules.factor(pretrain, 0, 0.0) == pytest.approx(1e-4)
    warm = 1 - (1 - 5.5 / 10) * (1 - 1e-4)
    assert schedules.factor(pretrain, 5, 0.5) == pytest.approx(warm * (1 + math.cos(math.pi * 5 / 200)) / 2)
    assert schedules.factor(pretrain, 100, 0.9) == pytest.approx(0.5)
    paper = recipe("imagenet", "paper")["pretrain"]
    assert paper["lr"] * paper["batch"] / paper["base_batch"] == pytest.approx(3.2)


def test_views_differ_as_the_recipe_says() -> None:
    method = build("imagenet", network={**SLIM})
    assert (method.augments[0].blur_p, method.augments[1].blur_p) == (1.0, 0.1)
    assert (method.augments[0].solarize_p, method.augments[1].solarize_p) == (0.0, 0.2)
    assert method.augments[0].interpolation == "bicubic"
