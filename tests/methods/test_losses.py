"""The contrastive loss over several processes is the loss over one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from methods.parts.heads import spread
from methods.parts.losses import info_nce

RANK = """
import json, sys, torch
import torch.distributed as dist
from methods.parts.losses import info_nce
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
torch.manual_seed(0)
q, k = torch.randn(2, 8, 6).unbind()
rows = slice(4 * rank, 4 * rank + 4)
q = q[rows].clone().requires_grad_()
loss = info_nce(q, k[rows].clone().requires_grad_(), 0.2)
loss.backward()
print(json.dumps([loss.item(), q.grad.tolist()]))
dist.destroy_process_group()
"""


def test_two_processes_share_their_keys(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    root = str(Path(__file__).parents[2])
    ranks = [
        subprocess.Popen([*command, str(r), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True, cwd=root)
        for r in (0, 1)
    ]
    answers = [json.loads(process.communicate(timeout=240)[0].splitlines()[-1]) for process in ranks]
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, 6).unbind()
    q.requires_grad_()
    whole = info_nce(q, k, 0.2)
    whole.backward()
    assert sum(loss for loss, _ in answers) / 2 == pytest.approx(whole.item(), abs=1e-6)
    # DDP averages the gradients of two local means: together they are the gradient of the global mean
    assert q.grad is not None
    torch.testing.assert_close(torch.cat([torch.tensor(g) for _, g in answers]) / 2, q.grad, atol=1e-6, rtol=1e-5)


def test_logits_are_float32_under_autocast() -> None:
    q, k = torch.randn(2, 64, 32).unbind()
    want = info_nce(q, k, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(q, k, 0.05), want)


def test_spread_tells_collapse_from_spread() -> None:
    assert spread(torch.randn(1000, 64)).item() == pytest.approx(1.0, abs=0.02)
    assert spread(torch.ones(1000, 64) + 1e-3 * torch.randn(1000, 64)).item() < 0.01
