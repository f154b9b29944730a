"""Gradients that are sent during the backward pass are the means of what each rank computes by itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from repro.stages.distributed import Group
from repro.stages.exchange import Exchange

ROOT = Path(__file__).parents[3]


def test_one_rank_alone_keeps_the_gradients_that_backward_left() -> None:
    layer = nn.Linear(3, 2)
    exchange = Exchange(layer.parameters(), Group())
    exchange.begin()
    layer(torch.randn(4, 3)).square().sum().backward()
    found = layer.weight.grad
    before = layer.weight.grad.clone() if layer.weight.grad is not None else None
    exchange.finish()
    assert layer.weight.grad is found and before is not None and torch.equal(before, layer.weight.grad)


TWO = """
import torch, torch.distributed as dist
from torch import nn
from repro.stages import distributed, exchange

exchange.BUCKET = 200
sent = []
all_reduce = dist.all_reduce
def counting(tensor, *args, **kwargs):
    if kwargs.get("async_op"):
        sent.append(tensor)
    return all_reduce(tensor, *args, **kwargs)
dist.all_reduce = counting


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.hidden = nn.Linear(8, 16)
        self.sometimes = nn.Linear(16, 16, bias=False)
        self.never = nn.Linear(7, 5)
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.last = nn.Linear(16, 30)
        self.precise = nn.Parameter(torch.randn(5, dtype=torch.float64))

    def forward(self, x, extra):
        x = self.hidden(torch.tanh(self.conv(x)).mean(dim=(2, 3)))
        at_hidden.append(0)
        x.register_hook(lambda _: at_hidden.__setitem__(-1, len(sent)))
        if extra:
            x = x + self.sometimes(x)
        return self.last(self.frozen(torch.tanh(x))).square().mean() + self.precise.square().sum().float()


with distributed.group(2, torch.device("cpu")) as group:
    torch.manual_seed(0)
    net = Net().to(memory_format=torch.channels_last)
    parameters = dict(net.named_parameters())
    ours = exchange.Exchange(net.parameters(), group)
    at_hidden = []
    # Of each update: in which ranks its micro-batches use the layer that is not always used.
    for update, extra in enumerate([(), (0, 1), (1,), (), (0,)]):
        torch.manual_seed(10 * update + group.rank)
        parts = [torch.randn(4, 3, 6, 6) for _ in range(2)]
        expected = {name: None for name in parameters}
        for micro, x in enumerate(parts):  # rank by rank, as if there were no exchange
            loss = net(x, group.rank in extra and micro == 0)
            wanted = [p for p in parameters.values() if p.requires_grad]
            found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
            for name, p in parameters.items():
                g = next(found) if p.requires_grad else None
                if g is not None:
                    expected[name] = g if expected[name] is None else expected[name] + g
        everyone = [None, None]
        dist.all_gather_object(everyone, expected)
        sent.clear()
        for micro, x in enumerate(parts):
            if micro == 1:
                assert not sent, "nothing is sent before the last micro-batch"
                ours.begin()
            net(x, group.rank in extra and micro == 0).backward()
        assert at_hidden[-1] >= 1, "the last layer is on its way before backward is through"
        ours.finish()
        assert len(sent) == len({id(tensor) for tensor in sent}) >= 3
        for name, p in parameters.items():
            each = [one[name] for one in everyone if one[name] is not None]
            if not each:
                assert p.grad is None, name
                continue
            torch.testing.assert_close(p.grad, sum(each) / 2, msg=lambda m: f"{name}, update {update}: {m}")
            assert p.grad.stride() == p.stride()
        both = [None, None]
        dist.all_gather_object(both, {name: p.grad for name, p in parameters.items()})
        assert all(both[0][n] is both[1][n] is None or torch.equal(both[0][n], both[1][n]) for n in parameters)
        net.zero_grad(set_to_none=True)
    print("all right", len(sent))
"""


@pytest.mark.processes
def test_two_ranks_get_the_means_whatever_parameters_have_gradients() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TWO],
            env={**os.environ, **together, "PYTHONPATH": str(ROOT), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and "all right" in out, out
