"""What this machine has, and what of it is free for the next task."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil

from slurm.graph import Resources


class Pool:
    """What is free of the machine."""

    def __init__(self, cores: int, memory_gb: float, gpus: list[str]) -> None:
        self.cores, self.memory_gb, self.gpus = cores, memory_gb, gpus
        self._all = (cores, memory_gb, len(gpus))

    def fit(self, wanted: Resources) -> Resources:
        """What all ranks of a task want together, cut to the size of the machine.

        Raises ValueError where some of them would have a GPU and others none.
        """
        cores, memory_gb, gpus = self._all
        count = wanted.ranks
        if 0 < gpus < count * wanted.gpus and count > 1:
            raise ValueError(
                f"{count} ranks want {wanted.gpus} of the GPUs each, and this machine has {gpus}: ask for fewer"
                " ranks, or hide all GPUs with CUDA_VISIBLE_DEVICES= to train on its cores"
            )
        return replace(
            wanted,
            nodes=1,
            ranks_per_node=1,
            cpus=min(count * wanted.cpus, cores),
            memory_gb=min(count * wanted.memory_gb, memory_gb),
            gpus=min(count * wanted.gpus, gpus),
        )

    def take(self, share: Resources) -> list[str] | None:
        """Take a share, and return its GPUs; None when it is not free."""
        if share.cpus > self.cores or share.memory_gb > self.memory_gb + 1e-9 or share.gpus > len(self.gpus):
            return None
        self.cores -= share.cpus
        self.memory_gb -= share.memory_gb
        taken, self.gpus = self.gpus[: share.gpus], self.gpus[share.gpus :]
        return taken

    def give_back(self, share: Resources, gpus: list[str]) -> None:
        self.cores += share.cpus
        self.memory_gb += share.memory_gb
        self.gpus = sorted(self.gpus + gpus)


def cores_here() -> int:
    """Cores this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _control_group("cpu.max").partition(" ")
    return max(1, min(cores, round(int(quota) / int(period)))) if quota.isdigit() else cores


def memory_gb_here() -> float:
    """Memory that is free now, on the machine and in its container."""
    free = psutil.virtual_memory().available
    limit = _control_group("memory.max")
    if limit.isdigit():
        free = min(free, int(limit) - int(_control_group("memory.current") or 0))
    return max(free, 0) / 2**30


def _control_group(name: str) -> str:
    """A setting of the control group that a container sees as its root; empty where there is none."""
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""


def gpus_here() -> list[str]:
    """Values for CUDA_VISIBLE_DEVICES: those this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listing.splitlines()))]
