"""A job's context on this machine: how many processes load its pictures, so that none starves or dies.

No stage imports this, so it is no part of a fingerprint: pictures are the same whoever loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.context import Context
from repro.data.unpacked import CHUNK
from repro.stages.context import JobContext
from slurm.machine import cores_here, shared_memory_here

_AHEAD = 3  # batches of a loading process at once: two that wait, as torch has it, and one in the making
_SMALL = 64 * 2**10  # bytes of shared memory for all of a picture but its pixels
_FIX = "start the container with --shm-size=1g or --ipc=host"


@dataclass(frozen=True)
class ContextHere(JobContext):
    """Where cores or shared memory are too few for the loading processes of a job, it has fewer, and says so."""

    def decoders(self) -> int:
        side = self.spec["stored"] or self.spec["size"]
        return _that_fit(self.spec["threads"] - 1, CHUNK * 3 * side**2) if self.where.stored == "jpeg" else 0

    def evaluation(self, workers: int = 0) -> Context:
        fewer = _that_fit(workers, batch_bytes(self.spec["protocol"]["values"])) if workers else 0
        return super().evaluation(fewer)


def _that_fit(workers: int, batch: int) -> int:
    """How many processes that load batches of so many bytes this machine has room for."""
    most, free = min(workers, cores_here() - 1), shared_memory_here()
    fewer = max(0, min(most, (free - batch) // (_AHEAD * batch)))
    if fewer < most:
        print(
            f"processes that load images: {fewer} instead of {workers}, because /dev/shm has"
            f" {free / 2**20:.1f} MB free, and each process needs {_AHEAD * batch / 2**20:.1f} MB; {_FIX}",
            flush=True,
        )
    return fewer


def batch_bytes(protocol: Mapping[str, Any]) -> int:
    """Shared memory that a batch of pictures of a detection takes, at most."""
    short = max([protocol["short_side"], *protocol["train_sides"]])
    long = max(protocol["long_side"], protocol["train_long_side"])
    return int(protocol["batch"]) * (3 * short * long + _SMALL)
