"""The contrastive loss over several processes is the loss over one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from methods.parts.heads import spread
from methods.parts.losses import info_nce
from small import assert_ranks_are_one

RANK = """
from methods.parts.losses import info_nce
q, k = torch.randn(2, 8, 6).unbind()
rows = slice(4 * rank, 4 * rank + 4)
q = q[rows].clone().requires_grad_()
loss = info_nce(q, k[rows].clone().requires_grad_(), 0.2)
loss.backward()
answer = [loss.item(), q.grad.tolist()]
"""


def test_two_processes_share_their_keys(on_two_processes: Callable[[str], list[Any]]) -> None:
    answers = on_two_processes(RANK)
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, 6).unbind()
    q.requires_grad_()
    assert_ranks_are_one(answers, info_nce(q, k, 0.2), q)


def test_logits_are_float32_under_autocast() -> None:
    q, k = torch.randn(2, 64, 32).unbind()
    want = info_nce(q, k, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(q, k, 0.05), want)


def test_spread_tells_collapse_from_spread() -> None:
    assert spread(torch.randn(1000, 64)).item() == pytest.approx(1.0, abs=0.02)
    assert spread(torch.ones(1000, 64) + 1e-3 * torch.randn(1000, 64)).item() < 0.01
