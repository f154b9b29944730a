"""Several ranks that train one network together: the group they form, and what they tell each other.

Who starts the ranks, each a process of its own, says in the environment who they are, as SLURM's srun (SLURM_PROCID,
SLURM_NTASKS, ...) or torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) do; how many there must be says the plan.
Each holds the whole network and a contiguous part of the rows of a batch; gradients are averaged (exchange.py),
BatchNorm takes its statistics over all of them, and rank 0 alone writes. On GPUs the tensors travel by NCCL, on CPUs,
and all that the host decides, by gloo.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from repro.errors import Stopped, UserError
from slurm import scheduler

PATIENCE = datetime.timedelta(minutes=30)  # for a rank that does not answer: rank 0 may be writing a checkpoint


@dataclass(frozen=True)
class Group:
    """The ranks of one training, of which this is number `rank` of `size`."""

    rank: int = 0
    size: int = 1
    host: Any = None  # the gloo group, for what is decided on CPUs
    gradients: Any = None  # the group that sums gradients, beside what else travels meanwhile; None is that of all

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def part(self, rows: slice) -> slice:
        """This rank's share of those rows of the batch."""
        count = (rows.stop - rows.start) // self.size
        return slice(rows.start + self.rank * count, rows.start + (self.rank + 1) * count)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type and device by their means over the ranks."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all of them must ask."""
        if self.size == 1:
            return flag
        told = torch.tensor(int(flag))
        dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self.host)
        return bool(told)


@contextlib.contextmanager
def group(ranks: int, device: torch.device) -> Iterator[Group]:
    """The group of that many ranks; for one, no group at all.

    A rank that fails keeps its connections until it ends, so that it has said why before the others notice; one that
    was asked to stop waits until the first has written its checkpoint.

    Raises UserError where the environment speaks of another number of ranks, or of none.
    """
    if ranks == 1:
        yield Group()
        return
    if "SLURM_PROCID" in os.environ and "RANK" not in os.environ:
        from submitit.helpers import TorchDistributedEnvironment

        # Which GPUs it sees was settled before CUDA was started (slurm.worker).
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        os.environ["MASTER_ADDR"] = scheduler.address_of(os.environ["MASTER_ADDR"])
    size = os.environ.get("WORLD_SIZE", "0")
    if size != str(ranks):
        raise UserError(
            f"this training was planned for {ranks} ranks, but {size if size != '0' else 'none'} were started"
            " together; start it with python -m repro run, which starts the planned number"
        )
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    host: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
    # Two communicators of NCCL that are busy at once may wait for each other for ever.
    gradients: Any = None if device.type == "cuda" else dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), ranks, host, gradients)
    except Stopped:
        dist.barrier(group=host)
        raise
    dist.destroy_process_group()
