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

from repro.plan import recipes
from repro.stages.distributed import Group
from repro.stages.exchange import TYPES, Exchange

ROOT = Path(__file__).parents[3]


def test_one_rank_alone_keeps_the_gradients_that_backward_left() -> None:
    layer = nn.Linear(3, 2)
    exchange = Exchange(layer.parameters(), Group(), "bf16")
    loss = layer(torch.randn(4, 3)).square().sum()
    exchange.begin(loss)
    loss.backward()
    found = layer.weight.grad
    before = layer.weight.grad.clone() if layer.weight.grad is not None else None
    exchange.finish()
    assert layer.weight.grad is found and before is not None and torch.equal(before, layer.weight.grad)


TWO = """
import dataclasses
import torch, torch.distributed as dist
from torch import nn
from repro.stages import distributed, exchange

exchange.BUCKET = 200
sent, order, at_hidden = [], [], []
all_reduce = dist.all_reduce
def counting(tensor, *args, **kwargs):
    if kwargs.get("async_op"):
        sent.append(tensor)
    if kwargs.get("group") is None:
        order.append(tensor.numel())
    return all_reduce(tensor, *args, **kwargs)
dist.all_reduce = counting


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.hidden = nn.Linear(8, 16)
        self.never = nn.Linear(7, 5)
        self.sometimes = nn.Linear(16, 16, bias=False)
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.last = nn.Linear(16, 30)
        self.precise = nn.Parameter(torch.randn(5, dtype=torch.float64))

    def forward(self, x, extra):
        x = self.hidden(torch.tanh(self.conv(x)).mean(dim=(2, 3)))
        at_hidden.append(0)
        x.register_hook(at_the_hidden_layer)
        if extra:
            x = x + self.sometimes(x)
        return self.last(self.frozen(torch.tanh(x))).square().mean() + self.precise.square().sum().float()


def at_the_hidden_layer(_):
    at_hidden[-1] = len(sent)
    dist.all_reduce(torch.zeros(7))  # as a norm over all ranks sums its statistics during backward


def check(precision, group):
    kind = exchange.TYPES[precision]
    torch.manual_seed(0)
    net = Net().to(memory_format=torch.channels_last)
    parameters = dict(net.named_parameters())
    ours = exchange.Exchange(net.parameters(), group, precision)
    at_hidden.clear()
    # Of each update: in which ranks which micro-batches use the layer that is not always used.
    uses = [{}, {0: (0,), 1: (0,)}, {1: (0,)}, {1: (1,)}, {0: (0, 1), 1: (1,)}, {}, {0: (1,)}, {0: (0, 1)}]
    for update, extra in enumerate(uses):
        torch.manual_seed(10 * update + group.rank)
        parts = [torch.randn(4, 3, 6, 6) for _ in range(2)]
        expected = {name: None for name in parameters}
        for micro, x in enumerate(parts):  # rank by rank, as if there were no exchange
            loss = net(x, micro in extra.get(group.rank, ()))
            wanted = [p for p in parameters.values() if p.requires_grad]
            found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
            for name, p in parameters.items():
                g = next(found) if p.requires_grad else None
                if g is not None:
                    expected[name] = g if expected[name] is None else expected[name] + g
        everyone = [None, None]
        dist.all_gather_object(everyone, expected)
        sent.clear()
        order.clear()
        for micro, x in enumerate(parts):
            loss = net(x, micro in extra.get(group.rank, ()))
            if micro == 1:
                assert not sent, "nothing is sent before the last micro-batch"
                ours.begin(loss)
            loss.backward()
        assert at_hidden[-1] >= 1, "the last layer is on its way before backward is through"
        ours.finish()
        assert len(sent) == len({id(tensor) for tensor in sent}) >= 3
        assert {tensor.dtype for tensor in sent} == ({kind} if kind else {torch.float32, torch.float64})
        for name, p in parameters.items():
            each = [one[name] for one in everyone if one[name] is not None]
            if not each:
                assert p.grad is None, name
                continue
            mean = sum((g / 2).to(kind or g.dtype) for g in each).to(p.dtype)
            assert torch.equal(p.grad, mean), f"{name}, {precision}, update {update}: {p.grad - mean}"
            assert p.grad.stride() == p.stride() and p.grad.dtype == p.dtype
        both = [None, None]
        dist.all_gather_object(both, order)
        assert both[0] == both[1], f"update {update}: the ranks send in another order: {both}"
        net.zero_grad(set_to_none=True)


with distributed.group(2, torch.device("cpu")) as group:
    group = dataclasses.replace(group, gradients=None)  # as on GPUs: all that travels during backward is in one order
    for precision in exchange.TYPES:
        check(precision, group)
    print("all right")
"""


@pytest.mark.processes
def test_two_ranks_get_the_means_whatever_parameters_have_gradients() -> None:
    """Equal to the bit: what each rank computes, divided, rounded where that is asked for, and summed."""
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
    try:
        for process in running:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0 and "all right" in out, out
    finally:
        for process in running:
            process.kill()


def test_the_plan_knows_the_precisions_of_the_exchange() -> None:
    assert tuple(TYPES) == recipes.EXCHANGES
