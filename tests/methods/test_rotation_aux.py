"""The rotation task: turns against numpy, its loss against a loop, its passes, its gradient, its labels, its bases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.base import Batch, Clock, Views
from methods.rotation_aux import RotationAux, quarter_turns, rotation_loss
from repro.plan import recipes, registry
from small import LABELLED, SLIM, built, pictures, streams

ROWS = 8
VARIANTS = ("", *registry.find("rotation_aux")[0].variants)


def build(variant: str = "", seed: int = 0, track: str = "mini", hidden: int = 32, **method: Any) -> RotationAux:
    tables = recipes.resolve(registry.find("rotation_aux")[0], variant, track, {})
    resnet = tables["network"]["arch"] == "resnet"
    tables["network"] |= SLIM if resnet else {"dim": 24, "depth": 1, "heads": 2}
    for key in tables["method"]:
        if key.endswith(("_hidden", "_dim")) and tables["method"][key]:
            tables["method"][key] = hidden
        elif key.endswith("bank_size"):
            tables["method"][key] = min(tables["method"][key], 2 * ROWS)
    tables["method"] |= method
    tables["pretrain"] |= {"batch": ROWS, "devices": 1, "accumulate": 1}
    return built(RotationAux, tables, LABELLED, seed)


def steps(method: RotationAux, load: int = 0, rows: int = ROWS) -> list[Views]:
    return list(method.steps(Batch(pictures(rows, seed=load), torch.arange(rows) % 10), streams(rows, load)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_turns_are_numpys(layout: torch.memory_format) -> None:
    x = torch.randn(8, 3, 5, 5).contiguous(memory_format=layout)
    k = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    for row, turned, n in zip(x.numpy(), quarter_turns(x, k).numpy(), k.tolist(), strict=True):
        np.testing.assert_array_equal(turned, np.rot90(row, n, axes=(1, 2)))
    again = quarter_turns(quarter_turns(x, k), (4 - k) % 4)
    assert torch.equal(again, x)


def test_loss_is_written_out() -> None:
    logits, labels = torch.randn(2, 5, 4).unbind(), torch.randint(4, (2, 5)).unbind()
    want = 0.0
    for one, k in zip(logits, labels, strict=True):
        for i in range(5):
            whole = sum(math.exp(float(value)) for value in one[i])
            want -= math.log(math.exp(float(one[i, k[i]])) / whole) / 5
    assert rotation_loss(logits, labels, "sum").item() == pytest.approx(want, abs=1e-5)
    assert rotation_loss(logits, labels, "mean").item() == pytest.approx(want / 2, abs=1e-5)


def test_loss_starts_at_twice_ln_4_and_carries_its_weight() -> None:
    method = build(hidden=1024, rotation_weight=0.3)
    outputs = method(steps(method, rows=32)[0])
    assert outputs["rotation"].item() == pytest.approx(2 * math.log(4), rel=0.1)
    assert outputs["loss_rotation"].item() == pytest.approx(0.3 * outputs["rotation"].item())
    assert 0 < outputs["rotation_accuracy"].item() < 60
    assert build().head[0].out_features == 32 and build(rotation_hidden=48).head[0].out_features == 48


def test_turns_are_uniform_and_independent() -> None:
    method = build("aps", repeats=2, sampling_ratio=0.25)
    drawn = steps(method, rows=1000)
    turns = [views[f"turns{v}"] for views in drawn for v in (1, 2)]
    assert len(turns) == 4 and all(k.dtype == torch.int64 and k.shape == (1000,) for k in turns)
    for k in turns:
        assert (torch.bincount(k, minlength=4) - 250).abs().max() < 70  # 5 standard deviations
    for a in range(4):
        for b in range(a):
            pairs = torch.bincount(4 * turns[a] + turns[b], minlength=16)
            assert (pairs - 62.5).abs().max() < 40


def test_the_passes_are_the_bases_and_then_one_for_each_turned_view() -> None:
    """Weights and running statistics as when one makes the passes by hand, in that order."""
    method, twin = build("swav"), build("swav")
    step = steps(method)[0]
    outputs = method(step)
    twin.base.loss(step)
    logits = []
    for v in (1, 2):
        turned = torch.from_numpy(
            np.stack(
                [
                    np.rot90(x, n, axes=(1, 2))
                    for x, n in zip(step[f"pixels{v}"].numpy(), step[f"turns{v}"].tolist(), strict=True)
                ]
            )
        )
        logits.append(twin.head(twin.encoder.features(turned)))
    want = rotation_loss(logits, [step["turns1"], step["turns2"]], "sum")
    assert torch.equal(outputs["rotation"], want)
    for (key, mine), theirs in zip(method.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), key
    norm: Any = method.encoder.bn1
    assert norm.num_batches_tracked == 4  # global crops, small crops, two turned views


def test_gradient_reaches_the_encoder_and_the_head_alone() -> None:
    method = build()
    assert method.base.__class__.__name__ == "BYOL"
    method(steps(method)[0])["loss_rotation"].backward()
    trained = {id(p) for part in (method.encoder, method.head) for p in part.parameters()}
    for name, parameter in method.named_parameters():
        if id(parameter) in trained:
            assert parameter.grad is not None, name
        else:
            assert parameter.grad is None, name


def test_shuffled_labels_say_nothing_of_the_turns() -> None:
    method = build("shuffled")
    step = steps(method, rows=1000)[0]
    for v in (1, 2):
        agree = (step[f"turns{v}"] == step[f"label{v}"]).float().mean().item()
        assert agree == pytest.approx(0.25, abs=0.07)
        assert (torch.bincount(step[f"label{v}"], minlength=4) - 250).abs().max() < 70
    step, seen = steps(method)[0], build()
    with torch.no_grad():
        got, true = method(step), seen(step)
        assert got["rotation"] != true["rotation"]
        swapped = Views(step.tensors | {f"label{v}": step[f"turns{v}"] for v in (1, 2)})
        assert torch.equal(build("shuffled")(swapped)["rotation"], true["rotation"])
    assert all(torch.equal(got[key], true[key]) for key in got if "rotation" not in key)


@pytest.mark.parametrize("variant", VARIANTS)
def test_over_every_base(variant: str) -> None:
    """The base sees what it sees alone, keeps its rate groups, and is told of every update."""
    method = build(variant)
    base = method.base
    assert (method.negatives, method.updates_per_load, method.mixes_rows) == (
        base.negatives, base.updates_per_load, base.mixes_rows,
    )  # fmt: skip
    assert method.encoder is base.encoder
    names = [name for name, _ in method.named_parameters()]
    assert len(names) == len(set(names)) and not any(name.startswith("encoder.") for name in names)
    assert len(method.state_dict()) == len(base.state_dict()) + len(method.head.state_dict())
    groups, of_base = method.param_groups(0.1), base.param_groups(0.1)
    assert len(groups) == len(of_base) + 1
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in method.parameters() if p.requires_grad)

    drawn = steps(method)
    assert len(drawn) == method.updates_per_load
    told: list[Any] = []
    base.after_update = lambda clock, pending: told.append((clock, pending))  # type: ignore[method-assign]
    outputs = method(drawn[0])
    counted = 1 if variant == "mean" else len(base.rotatable(drawn[0]))
    assert outputs["rotation"].item() == pytest.approx(counted * math.log(4), rel=0.4)
    pending: list[dict[str, Tensor]] = [{}]
    method.after_update(Clock(1, 2), pending)
    assert told == [(Clock(1, 2), pending)]


def test_a_base_without_views_is_refused() -> None:
    tables = recipes.resolve(registry.find("rotation_aux")[0], "", "mini", {})
    tables["base"] = {"name": "supervised", "module": "methods.supervised:Supervised"}
    tables["network"] |= {"width": 8}
    tables["method"] |= recipes.resolve(registry.find("supervised")[0], "", "mini", {})["method"]
    with pytest.raises(ValueError, match="Supervised has no full-size views"):
        steps(RotationAux(tables, LABELLED))


def test_over_swav_imagenet_is_the_released_recipe() -> None:
    tables = recipes.resolve(registry.find("rotation_aux")[0], "swav", "imagenet", {})
    alone = recipes.resolve(registry.find("swav")[0], "", "imagenet", {})
    assert tables["pretrain"] == alone["pretrain"] and tables["network"] == alone["network"]
    assert (tables["method"]["rotation_weight"], tables["method"]["rotation_reduction"]) == (0.1, "sum")
    wide = build("swav", hidden=2048)
    assert [m.out_features for m in wide.head if isinstance(m, nn.Linear)] == [2048, 4]
    assert all(m.bias is not None for m in wide.head if isinstance(m, nn.Linear))
