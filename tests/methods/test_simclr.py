"""SimCLR: its loss against a loop and against mmpretrain's algorithm, its two heads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.parts.losses import nt_xent
from methods.simclr import SimCLR
from small import Shrunk, built, mmpretrain, views


def build(shrunk: Shrunk, **method: Any) -> SimCLR:
    tables = shrunk("simclr")
    tables["method"] |= method
    return built(SimCLR, tables)


def test_loss_is_algorithm_one_written_out() -> None:
    """With the paper's numbering: rows 2k - 1 and 2k are the views of picture k."""
    z1, z2 = torch.randn(2, 5, 8, dtype=torch.float64).unbind()
    z = [row for pair in zip(z1, z2, strict=True) for row in pair]
    s = [[float(F.cosine_similarity(a, b, dim=0)) for b in z] for a in z]

    def part(i: int, j: int) -> float:
        return -math.log(math.exp(s[i][j] / 0.3) / sum(math.exp(s[i][k] / 0.3) for k in range(10) if k != i))

    want = sum(part(2 * k, 2 * k + 1) + part(2 * k + 1, 2 * k) for k in range(5)) / 10
    assert nt_xent(z1, z2, 0.3).item() == pytest.approx(want, abs=1e-5)


def test_starts_at_the_logarithm_of_the_others(shrunk: Shrunk) -> None:
    """An untrained network without a final norm sends all views nearly the same way."""
    method = build(shrunk, projector_norm=False, one_forward=False, temperature=0.5)
    outputs = method(views(method, 32))
    assert outputs["loss_nt_xent"].item() == pytest.approx(math.log(63), abs=0.1)


@pytest.mark.parametrize("norm", [True, False])
def test_one_step_equals_mmpretrains_algorithm(shrunk: Shrunk, norm: bool) -> None:
    """mmpretrain's SimCLR around our encoder and head: both views in one forward pass, interleaved."""
    selfsup = mmpretrain("selfsup")
    method = build(shrunk, projector_norm=norm)

    class Neck(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (method.projector(x),)

    theirs = selfsup.SimCLR(
        backbone=method.encoder,
        neck=Neck(),
        head={"type": "ContrastiveHead", "loss": {"type": "CrossEntropyLoss"}, "temperature": method.temperature},
    )
    step = views(method, 6)
    with torch.no_grad():
        want = theirs.loss([step["pixels1"], step["pixels2"]], [])["loss"]
        got = method(step)["loss_nt_xent"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_both_views_and_all_negatives() -> None:
    z1, z2 = (torch.randn(4, 6, requires_grad=True) for _ in range(2))
    nt_xent(z1, z2, 0.2).backward()
    assert z1.grad is not None and z2.grad is not None
    assert (z1.grad.abs().amax(dim=1) > 0).all() and (z2.grad.abs().amax(dim=1) > 0).all()


def test_heads_of_the_authors_and_of_solo_learn(shrunk: Shrunk) -> None:
    authors, solo = build(shrunk, projector_norm=True), build(shrunk, projector_norm=False)
    kinds = [type(layer) for layer in authors.projector]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    last: Any = authors.projector[-1]
    assert last.weight.requires_grad and not last.bias.requires_grad and last.bias.abs().max() == 0
    assert [type(layer) for layer in solo.projector] == [nn.Linear, nn.ReLU, nn.Linear]
    assert solo.projector[0].bias is not None and solo.projector[-1].bias is not None
