"""SimSiam: its loss against a loop and against mmpretrain's head, its stopped gradients, its predictor's rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from methods.simsiam import SimSiam, negative_cosine
from repro.plan import recipes, registry
from repro.stages.pretrain import PretrainLoop
from small import DATA, Shrunk, built, mmpretrain, pictures, views


def build(shrunk: Shrunk, **method: Any) -> SimSiam:
    tables = shrunk("simsiam")
    tables["method"] |= {"projector_hidden": 24, "projector_dim": 20, "predictor_hidden": 8} | method
    return built(SimSiam, tables)


def test_loss_is_equation_one_written_out() -> None:
    p, z = torch.randn(2, 7, 5).unbind()
    want = 0.0
    for i in range(7):
        dot = sum(float(p[i, d]) * float(z[i, d]) for d in range(5))
        size_p, size_z = (math.sqrt(sum(float(v[i, d]) ** 2 for d in range(5))) for v in (p, z))
        want -= dot / (size_p * size_z) / 7
    assert negative_cosine(p, z).item() == pytest.approx(want, abs=1e-5)
    assert negative_cosine(p, 3 * p).item() == pytest.approx(-1.0, abs=1e-6)


def test_no_gradient_to_the_targets() -> None:
    p, z = (torch.randn(7, 5, requires_grad=True) for _ in range(2))
    negative_cosine(p, z).backward()
    assert p.grad is not None and p.grad.abs().max() > 0 and z.grad is None


def test_gradient_comes_through_the_predictor_alone(shrunk: Shrunk) -> None:
    method = build(shrunk)
    last: Any = method.predictor[-1]
    with torch.no_grad():
        last.weight.zero_()  # p no longer depends on z
        last.bias.fill_(1.0)
    outputs = method(views(method, 8))
    (outputs["loss_1to2"] + outputs["loss_2to1"]).backward()
    for part in (method.encoder, method.projector):
        assert all(p.grad is None or p.grad.abs().max() == 0 for p in part.parameters())


def test_one_step_equals_mmpretrains_head(shrunk: Shrunk) -> None:
    """mmpretrain's predictor and loss on our projections."""
    heads = mmpretrain("heads")
    method = build(shrunk)
    step = views(method, 6)
    head = heads.LatentPredictHead(
        loss={"type": "CosineSimilarityLoss"},
        predictor={"type": "NonLinearNeck", "in_channels": 20, "hid_channels": 8, "out_channels": 20,
                   "with_avg_pool": False, "with_last_bn": False, "with_last_bias": True,
                   "norm_cfg": {"type": "BN1d"}},
    )  # fmt: skip
    with torch.no_grad():
        for mine, theirs in zip(method.predictor.parameters(), head.predictor.parameters(), strict=True):
            theirs.copy_(mine)
        z1, z2 = (method.projector(method.encoder.features(step[name])) for name in ("pixels1", "pixels2"))
        want = 0.5 * (head.loss(z1, z2) + head.loss(z2, z1))
        outputs = method(step)
    torch.testing.assert_close(outputs["loss_1to2"] + outputs["loss_2to1"], want, atol=1e-5, rtol=1e-5)


def test_starts_near_nothing_in_common(shrunk: Shrunk) -> None:
    outputs = build(shrunk, projector_hidden=256, projector_dim=256, predictor_hidden=64)(views(build(shrunk), 32))
    assert abs((outputs["loss_1to2"] + outputs["loss_2to1"]).item()) < 0.2
    assert outputs["std_z"].item() > 0.5


def test_heads_are_the_papers(shrunk: Shrunk) -> None:
    method = build(shrunk)
    kinds = [type(layer) for layer in method.projector]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*block, *block, nn.Linear, nn.BatchNorm1d] and not method.projector[-1].affine
    assert all(layer.bias is None for layer in method.projector if isinstance(layer, nn.Linear))
    assert [type(layer) for layer in method.predictor] == [*block, nn.Linear]
    assert method.predictor[0].bias is None and method.predictor[-1].bias is not None
    assert sum(isinstance(layer, nn.Linear) for layer in build(shrunk, projector_layers=2).projector) == 2
    whole = recipes.resolve(registry.methods()["simsiam"], "", "imagenet", {})
    sizes = [whole["method"][key] for key in ("projector_layers", "projector_hidden", "projector_dim")]
    assert sizes == [3, 2048, 2048] and whole["method"]["predictor_hidden"] == 512
    assert whole["network"]["zero_init_residual"] and whole["pretrain"]["lr"] == 0.05


def test_the_predictors_rate_stays_while_the_others_decays(shrunk: Shrunk, tmp_path: Path) -> None:
    tables = shrunk("simsiam")
    tables["pretrain"] |= {"epochs": 2, "warmup_epochs": 0, "schedule_clock": "epoch", "lr": 0.1}
    method = SimSiam(tables, DATA)
    images = pictures(16)
    loop = PretrainLoop(
        method, images, None, tables["pretrain"], seed=0, device=torch.device("cpu"), folder=tmp_path,
        progress=lambda *_: None,
    )  # fmt: skip
    loop.run()
    rates = {group["constant_lr"]: group["lr"] for group in loop.optimizer.param_groups}
    assert rates[True] == pytest.approx(0.1) and rates[False] == pytest.approx(0.05)  # (1 + cos(pi / 2)) / 2
    constant = [p for group in loop.optimizer.param_groups if group["constant_lr"] for p in group["params"]]
    assert {id(p) for p in constant} == {id(p) for p in method.predictor.parameters()}
