"""What the ranks of one training wait for each other's gradients: `repro bench exchange`.

One update's forward and backward pass of a ResNet-50 (23.5 million parameters) on noise, in each of several ranks on
this machine, in three ways in turns, so that a noisy machine is noisy for all of them:

    alone    no gradient is exchanged
    after    all gradients are averaged when backward is through
    during   what the loop does: they are sent while backward runs

What a way takes longer than `alone` is what of its exchange is exposed. Every rank works with one thread.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch import multiprocessing as processes
from torch.multiprocessing.spawn import spawn

from methods.parts.encoders import ResNet
from repro.errors import UserError
from repro.stages.distributed import Group, group
from repro.stages.exchange import Exchange
from repro.terminal import text
from slurm.machine import cores_here

_SIDE, _BATCH = 64, 8  # pixels; pictures in each rank
_FEWEST = 5  # rounds


def table(seconds: float, ranks: int) -> str:
    """Times of the three ways as lines to print.

    seconds: of each way. Raises UserError for fewer than two ranks, or more than there are cores (two always may).
    """
    if ranks < 2:
        raise UserError("bench exchange: it needs at least 2 ranks; use --processes 2 or more")
    most = max(2, cores_here())
    if ranks > most:
        raise UserError(f"bench exchange: {ranks} ranks need a core each; use --processes {most} or fewer here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = processes.get_context("spawn").SimpleQueue()
    running = spawn(_rank, (ranks, port, 3 * seconds, queue), nprocs=ranks, join=False)
    assert running is not None
    while not running.join():
        pass
    parameters, samples = queue.get()
    alone = samples["alone"]
    exposed = {
        way: statistics.median(b - a for a, b in zip(alone, taken, strict=True))
        for way, taken in samples.items()
        if way != "alone"
    }
    rows = [
        [way, f"{1e3 * statistics.median(taken):.0f}", f"{1e3 * exposed[way]:.0f}" if way in exposed else "-"]
        for way, taken in samples.items()
    ]
    share = exposed["during"] / exposed["after"]
    return "\n".join(
        [
            f"{ranks} ranks of one thread, {parameters / 1e6:.1f} million parameters, {_BATCH} images of {_SIDE} px"
            f" in each, gloo, medians of {len(alone)} rounds",
            "",
            text.table(rows, ["gradients", "ms an update", "exposed ms"]),
            f"exposed during / after: {share:.2f}",
        ]
    )


def _rank(rank: int, ranks: int, port: int, seconds: float, queue: processes.SimpleQueue) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(ranks))
    torch.set_num_threads(1)
    with group(ranks, torch.device("cpu")) as together:
        samples = _samples(together, seconds)
        if together.first:
            queue.put(samples)


def _samples(together: Group, seconds: float) -> tuple[int, dict[str, list[float]]]:
    """The number of parameters, and of each way the seconds of its updates, as the slowest rank had them."""
    torch.manual_seed(0)
    net = ResNet(50, 64, "imagenet", zero_init_residual=False)
    exchange = Exchange(net.parameters(), together)
    x = torch.randn(_BATCH, 3, _SIDE, _SIDE)

    def alone() -> None:
        _loss(net, x).backward()

    def after() -> None:
        _loss(net, x).backward()
        together.average([p.grad for p in net.parameters() if p.grad is not None])

    def during() -> None:
        loss = _loss(net, x)
        exchange.begin(loss)
        loss.backward()
        exchange.finish()

    ways: dict[str, Callable[[], None]] = {"alone": alone, "after": after, "during": during}
    samples: dict[str, list[float]] = {way: [] for way in ways}
    started = time.monotonic()
    while len(samples["alone"]) <= _FEWEST or not together.any(time.monotonic() - started > seconds):
        for way, step in ways.items():
            net.zero_grad(set_to_none=True)
            dist.barrier(group=together.host)
            begun = time.perf_counter()
            step()
            taken = torch.tensor(time.perf_counter() - begun, dtype=torch.float64)
            dist.all_reduce(taken, op=dist.ReduceOp.MAX, group=together.host)
            samples[way].append(float(taken))
    # The first round allocates.
    return sum(p.numel() for p in net.parameters()), {way: taken[1:] for way, taken in samples.items()}


def _loss(net: ResNet, x: Tensor) -> Tensor:
    return net.features(x).square().mean()
