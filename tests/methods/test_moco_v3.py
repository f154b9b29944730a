"""MoCo-v3: its loss against a loop and against mmpretrain's head, its momentum network, its ResNet form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from methods.base import Clock
from methods.moco_v3 import MoCoV3, contrast
from methods.parts.ema import cosine_momentum
from repro.plan import recipes, registry
from small import SLIM, assert_running_statistics_are_the_targets_own, assert_target_follows, built, mmpretrain, views


def build(network: dict[str, Any] | None = None, **method: Any) -> MoCoV3:
    tables = recipes.resolve(registry.methods()["moco_v3"], "", "cifar", {})
    tables["network"] |= {"dim": 24, "depth": 2, "heads": 2, "patch": 8} | (network or {})
    tables["method"] |= {"head_hidden": 32, "head_dim": 16} | method
    return built(MoCoV3, tables)


def test_loss_is_algorithm_one_written_out() -> None:
    q, k = torch.randn(2, 5, 8, dtype=torch.float64).unbind()
    want = 0.0
    for i in range(5):
        similar = [math.exp(float(F.cosine_similarity(q[i], k[j], dim=0)) / 0.2) for j in range(5)]
        want -= 2 * 0.2 * math.log(similar[i] / sum(similar)) / 5
    assert contrast(q, k, 0.2).item() == pytest.approx(want, abs=1e-5)


def test_one_step_equals_mmpretrains_head() -> None:
    """mmpretrain's head on our features, projections and predictor; its cross-entropy carries the weight 2 T."""
    heads = mmpretrain("heads")
    method = build()
    step = views(method, 6)
    head = heads.MoCoV3Head(
        predictor={"type": "NonLinearNeck", "in_channels": 16, "hid_channels": 32, "out_channels": 16,
                   "num_layers": 2, "with_bias": False, "with_last_bn": True, "with_last_bn_affine": False,
                   "with_last_bias": False, "with_avg_pool": False},
        loss={"type": "CrossEntropyLoss", "loss_weight": 2 * 0.2},
        temperature=0.2,
    )  # fmt: skip
    theirs = list(head.predictor.parameters())
    with torch.no_grad():
        for mine, their in zip(method.predictor.parameters(), theirs, strict=True):
            their.copy_(mine)
        q = [method.projector(method.encoder.features(step[f"pixels{n}"])) for n in (1, 2)]
        k = [method.target(step[f"pixels{n}"]) for n in (1, 2)]
        want = head.loss(q[0], k[1]) + head.loss(q[1], k[0])
        outputs = method(step)
    got = outputs["loss_1to2"] + outputs["loss_2to1"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_target_follows_once_per_update_by_the_cosine() -> None:
    method = build()
    assert_target_follows(method, Clock(1, 4), 1 - 0.01 * (math.cos(math.pi * 0.25) + 1) / 2)
    frozen = [p.clone() for p in method.target.parameters()]
    method.after_update(Clock(4, 4), [{}])
    assert all(torch.equal(a, b) for a, b in zip(frozen, method.target.parameters(), strict=True))
    assert cosine_momentum(0.99, 0.0) == pytest.approx(0.99) and cosine_momentum(0.99, 0.5) == pytest.approx(0.995)


def test_running_statistics_of_the_target_are_its_own() -> None:
    assert_running_statistics_are_the_targets_own(build(SLIM))


def test_frozen_patches_are_not_trained() -> None:
    method = build()
    trained = {id(p) for group in method.param_groups(0.1) for p in group["params"]}
    assert id(method.encoder.patches.weight) not in trained
    assert not any(id(p) in trained for p in method.target.parameters())
    assert id(method.encoder.class_token) in trained


def test_heads_of_vit_and_resnet() -> None:
    vit, cnn = build(), build({"arch": "resnet", "depth": 18, "width": 8}, projector_layers=2, predictor_norm=False)
    assert [tuple(p.shape) for p in vit.projector.parameters() if p.ndim > 1] == [(32, 24), (32, 32), (16, 32)]
    assert [tuple(p.shape) for p in cnn.projector.parameters() if p.ndim > 1] == [(32, 64), (16, 32)]
    assert isinstance(vit.predictor[-1], torch.nn.BatchNorm1d) and isinstance(cnn.predictor[-1], torch.nn.Linear)
    assert not vit.projector[-1].affine


def test_views_differ_as_the_recipe_says() -> None:
    method = build(blur_p=[1.0, 0.1], solarize_p=[0.0, 0.2])
    assert (method.augments[0].blur_p, method.augments[1].blur_p) == (1.0, 0.1)
    assert (method.augments[0].solarize_p, method.augments[1].solarize_p) == (0.0, 0.2)
