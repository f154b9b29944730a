"""What this machine can do at most, measured: what the training loop is held against.

Square matrix products in the precision of the training are the limit of its operations, copies of a large tensor that
of the memory, and a file read past the cache that of the disk. On a GPU, too: how long no kernel runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from repro.measure.tf32 import tf32

_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices
_COPIED = 2**28  # bytes
_READ = 2**26  # bytes
_TRIES = 3


def products(precision: str, here: torch.device) -> tuple[float, Iterator[None]]:
    """Operations of one product of two square matrices, and an iterator that makes one a step.

    In float32 with TF32 where convolutions use it.
    """
    side = _SIDE.get(here.type, _SIDE["cpu"])
    a, b = torch.randn(2, side, side, device=here, dtype=torch.bfloat16 if precision == "bf16" else None)

    def steps() -> Iterator[None]:
        while True:
            with tf32(torch.backends.cudnn.allow_tf32):
                torch.mm(a, b)
            yield

    return 2.0 * side**3, steps()


def memory_bandwidth(here: torch.device) -> float:
    """Bytes read and written a second by copies of a large tensor, the best of a few."""
    source = torch.zeros(_COPIED, dtype=torch.uint8, device=here)
    target = torch.ones_like(source)

    def copy() -> None:
        target.copy_(source)
        if here.type == "cuda":
            torch.cuda.synchronize()

    return 2 * _COPIED / _best(copy)


def disk_reads(folder: Path) -> float | None:
    """Bytes read a second of a new file in that folder that is in no cache of this system.

    None where the system cannot be asked to forget a file.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    file = folder / "read"
    file.write_bytes(os.urandom(_READ))
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)

        def read() -> None:
            os.lseek(handle, 0, os.SEEK_SET)
            while os.read(handle, 2**22):
                pass

        return _READ / _best(read, before=lambda: os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED))
    finally:
        os.close(handle)
        file.unlink()


def _best(call: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    taken = []
    for _ in range(_TRIES):
        before()
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


def idle_share(kernels: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Share of the time from begin to end in which no kernel ran, 0 to 1; kernels: (begin, end) in any order."""
    busy, reached = 0.0, begin
    for start, stop in sorted(kernels):
        start, stop = max(start, reached), min(stop, end)
        if stop > start:
            busy, reached = busy + stop - start, stop
    return 1 - busy / (end - begin)


def device_idles(steps: Iterator[None], count: int) -> float:
    """Share of the time that the GPU has nothing to do during so many steps."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(count):
            next(steps)
        torch.cuda.synchronize()
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for event in profiled.events():
        spans[event.device_type.name == "CUDA"].append((event.time_range.start, event.time_range.end))
    host = spans[False] or spans[True]  # from the first call on the host to the last
    return idle_share(spans[True], min(start for start, _ in host), max(end for _, end in host))
