"""NNCLR: its loss against loops, over pairs of views and over two processes; the bank; what carries gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import nn

from methods.base import Clock
from methods.nnclr import NNCLR, neighbour_loss
from repro.plan import recipes, registry
from small import DATA, ROWS, assert_ranks_are_one, built, cross_entropy, views


def build(variant: str = "", **method: Any) -> NNCLR:
    tables = recipes.resolve(registry.methods()["nnclr"], variant, "cifar", {})
    tables["network"] |= {"width": 8}
    tables["pretrain"]["batch"] = ROWS
    tables["method"] |= {"head_hidden": 24, "head_dim": 16, "predictor_hidden": 20, "bank_size": 15} | method
    return built(NNCLR, tables)


def test_loss_is_written_out() -> None:
    n, p = torch.randn(2, 5, 8, dtype=torch.float64).unbind()
    want = cross_entropy(n, p, 0.2)
    assert neighbour_loss(n, p, 0.2).item() == pytest.approx(want, abs=1e-5)
    assert abs(want - cross_entropy(p, n, 0.2)) > 1e-3  # rows and columns are not the same thing


def test_loss_at_the_start_is_the_logarithm_of_the_batch() -> None:
    n, p = torch.randn(2, 64, 4096).unbind()
    assert neighbour_loss(n, p, 1.0).item() == pytest.approx(math.log(64), abs=0.02)


@pytest.mark.parametrize(("variant", "count"), [("", 2), ("three_views", 3)])
def test_every_view_answers_the_neighbours_of_every_other(variant: str, count: int) -> None:
    method = build(variant)
    step = views(method)
    x = [step[f"pixels{i}"] for i in range(1, count + 1)]
    assert len(step.tensors) == count == len(method.rotatable(step))
    with torch.no_grad():
        z = [method.projector(method.encoder.features(pixels)) for pixels in x]
        p = [method.predictor(projection) for projection in z]
        outputs = method(step)
    n = []
    for projections in z:
        best = []
        for row in projections:
            scores = [float(row @ entry / row.norm() / entry.norm()) for entry in method.bank.rows]
            best.append(method.bank.rows[scores.index(max(scores))])
        n.append(torch.stack(best))
    pairs = [cross_entropy(n[a], p[b], 0.2) for a, b in permutations(range(count), 2)]
    assert len(pairs) == count * (count - 1)
    assert outputs["loss_nearest"].item() == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    torch.testing.assert_close(outputs["pending_keys"], z[0])


def test_gradient_comes_from_every_prediction_and_from_no_neighbour() -> None:
    n, p = torch.randn(5, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    neighbour_loss(n, p, 0.2).backward()
    assert n.grad is None and p.grad is not None and (p.grad.abs().sum(dim=1) > 0).all()
    # of a prediction d/dp_k = sum_i (softmax_ik - [i = k]) n_i / T: as a negative of the others too
    unit = torch.nn.functional.normalize(torch.randn(2, 5, 8), dim=2)
    share = (unit[0] @ unit[1].T / 0.2).softmax(dim=1) - torch.eye(5)
    slope = share.T @ unit[0] / 0.2 / 5
    want = slope - (slope * unit[1]).sum(dim=1, keepdim=True) * unit[1]  # through the normalisation of unit rows
    prediction = unit[1].clone().requires_grad_()
    neighbour_loss(unit[0], prediction, 0.2).backward()
    torch.testing.assert_close(prediction.grad, want, atol=1e-6, rtol=1e-5)


def test_bank_is_asked_before_view_one_enters_it() -> None:
    method = build()
    rows = method.bank.rows.clone()
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(15))
    method(views(method))
    assert torch.equal(method.bank.rows, rows)
    batches = torch.randn(3, ROWS, 16).unbind()
    for keys in batches:  # 18 keys in 15 rows: the last 3 lie over the first 3
        method.after_update(Clock(1, 9), [{"pending_keys": keys}])
    assert torch.equal(method.bank.rows, torch.cat([batches[2][3:], batches[0][3:], batches[1], batches[2][:3]]))
    assert method.bank.pointer.item() == 3


def test_a_bank_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method\.bank_size = 5 .*pretrain\.batch = 6"):
        build(bank_size=5)


def test_heads_are_those_of_the_recipe() -> None:
    method = NNCLR(recipes.resolve(registry.methods()["nnclr"], "", "cifar", {}), DATA)
    projector = [(m.in_features, m.out_features) for m in method.projector if isinstance(m, nn.Linear)]
    assert projector == [(512, 2048), (2048, 2048), (2048, 256)]
    assert isinstance(method.projector[-1], nn.BatchNorm1d) and method.projector[-1].affine
    assert [(m.in_features, m.out_features) for m in method.predictor if isinstance(m, nn.Linear)] == [
        (256, 4096),
        (4096, 256),
    ]
    assert method.bank.rows.shape == (65536, 256)
    assert [augment.solarize_p for augment in method.augments] == [0.0, 0.2]


RANK = """
from methods.nnclr import neighbour_loss
n, p = torch.randn(2, 8, 6).unbind()
rows = slice(4 * rank, 4 * rank + 4)
p = p[rows].clone().requires_grad_()
loss = neighbour_loss(n[rows], p, 0.2)
loss.backward()
answer = [loss.item(), p.grad.tolist()]
"""


def test_two_processes_are_one(on_two_processes: Callable[[str], list[Any]]) -> None:
    answers = on_two_processes(RANK)
    torch.manual_seed(0)
    n, p = torch.randn(2, 8, 6).unbind()
    p = p.clone().requires_grad_()
    assert_ranks_are_one(answers, neighbour_loss(n, p, 0.2), p)
