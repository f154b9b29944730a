"""What this machine has, and what of it is free for the next task."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace

import psutil

from slurm import control_group
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
                f"{count} ranks need {wanted.gpus} GPU{'s' * (wanted.gpus != 1)} each, but this machine has {gpus}: use"
                " fewer ranks, or hide all GPUs with CUDA_VISIBLE_DEVICES= to train on the CPU"
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
    """Cores this process may use: its affinity, and the quota of its control groups."""
    affine, quota = len(os.sched_getaffinity(0)), control_group.cores()
    return affine if quota >= affine else max(1, round(quota))


def memory_gb_here() -> float:
    """Memory that is free now, on the machine and in the control groups of this process."""
    return min(psutil.virtual_memory().available, control_group.memory_left()) / 2**30


def shared_memory_here() -> int:
    """Bytes that are free in /dev/shm, by which processes hand tensors to each other: a container has 64 MB or less."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def gpus_here() -> list[str]:
    """Values for CUDA_VISIBLE_DEVICES, each one GPU or part of one that a process can use: those this process sees."""
    listed = _listed()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed if visible is None else usable(visible, len(listed))


def usable(visible: str, machine: int = 0) -> list[str]:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES makes visible, as CUDA reads it.

    They are numbers, or UUIDs that begin with GPU- or MIG-. What follows anything else (-1, "NoDevFiles", nothing at
    all) is hidden, and of a list that names one twice all are. machine: how many there are, where that is known.
    """
    found: list[str] = []
    for name in map(str.strip, visible.split(",")):
        if name.isdecimal():
            name = str(int(name))
            if machine and int(name) >= machine:
                break
        elif not name.startswith(("GPU-", "MIG-")):
            break
        if name in found:
            return []
        found.append(name)
    return found


def _listed() -> list[str]:
    """The GPUs of this machine; in place of one that is divided its parts, which CUDA knows by UUID alone."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, errors="replace", timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    gpus: list[list[str]] = []
    for line in answer.stdout.splitlines():
        if line.startswith("GPU "):
            gpus.append([])
        elif gpus and (part := re.search(r"UUID: (MIG-[^)]+)", line)):
            gpus[-1].append(part[1])
    return [name for number, parts in enumerate(gpus) for name in parts or [str(number)]]
