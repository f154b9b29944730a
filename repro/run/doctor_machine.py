"""What `doctor` looks at on any machine that runs jobs: this one, and a node of the cluster."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from repro.run import imports
from repro.run.doctor_findings import Finding
from repro.store import snapshot
from repro.store.source_hash import PACKAGES

_SHARED = 2**28  # bytes: what one process that loads batches of large pictures wants
_PROJECT = "repro-ssl"
_HEAVY = ("torch", "torchvision", "mmengine", "mmcv", "mmdet", "mmpretrain")


def on_machine(gpus: int) -> Iterator[Finding]:
    """What can be said of the machine that this process runs on. gpus: how many a job of the track asks for."""
    yield Finding("ok", "python", f"{platform.python_version()} ({sys.executable})")
    yield rooms()
    yield from _import_path()
    yield from _packages()
    yield _operators()
    yield _gpus(gpus)
    yield _temporary_files()
    yield _shared_memory()


def rooms() -> Finding:
    home = Path(__file__).resolve().parents[2]
    for room in PACKAGES:
        try:
            found = snapshot.room_folder(room).resolve().parent
        except ModuleNotFoundError as error:
            return Finding("fault", "repro", str(error), "install the project again (pip install -e .)")
        if found != home:
            fix = "import repro before it"
            return Finding("fault", "repro", f"'{room}' is imported from {found}, the others from {home}", fix)
    return Finding("ok", "repro", f"{', '.join(PACKAGES)} from {home}")


def _import_path() -> Iterator[Finding]:
    """Files that are imported in place of a library."""
    from slurm import shadows

    if file := shadows.hidden(imports.LIBRARIES):
        said, _, fix = shadows.line(file).partition(": ")
        yield Finding("fault", "import path", said, fix)


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires(_PROJECT) or ()]
    except PackageNotFoundError:
        wanted = []
        yield Finding(
            "warning",
            "packages",
            f"{_PROJECT} is not installed, so the versions that it needs are not known",
            "pip install -e .",
        )
    for need in wanted:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            yield Finding("fault", "packages", f"{need.name} is missing", f"pip install '{need}'")
            continue
        if not need.specifier.contains(have, prereleases=True):
            yield Finding("fault", "packages", f"{need.name} {have} is not {need.specifier}", f"pip install '{need}'")
    said = []
    for name in _HEAVY:
        try:
            said.append(f"{name} {importlib.import_module(name).__version__}")
        except Exception as error:
            line = f"import {name} failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
            yield Finding("fault", "packages", line, "install the project again in a fresh environment")
    yield Finding("ok", "packages", ", ".join(said))


def _operators() -> Finding:
    """The operators that detection needs: torchvision's compiled ones, and mmcv's by whatever way they come."""
    try:
        import torch
        from torchvision.ops import nms, roi_align

        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
        pooled = roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2)
        if kept != [0, 2] or not torch.allclose(pooled, torch.ones(1, 1, 2, 2)):
            return Finding(
                "fault",
                "operators",
                "torchvision's nms or roi_align gives wrong results",
                "install torch and torchvision again, of one release",
            )
        from eval import mmcv_ops

        mmcv_ops.install()
        importlib.import_module("mmdet.models")
    except Exception as error:
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return Finding("fault", "operators", line, "install torch and torchvision of one release, and mmdet's packages")
    return Finding("ok", "operators", "nms and roi_align of torchvision work, mmdet's models can be imported")


def _gpus(wanted: int) -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("warning", "GPUs", "not checked: torch is missing", "pip install torch")
    have = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if have < wanted:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        fix = "check the driver (nvidia-smi), the partition and gpus_per_node of the profile"
        return Finding("fault", "GPUs", f"{have} of the {wanted} that a job of this track needs; {built}", fix)
    names = sorted({torch.cuda.get_device_name(number) for number in range(have)})
    told = f"{have} ({', '.join(names)}), CUDA {torch.version.cuda}" if have else "none, but none is needed"
    return Finding("ok", "GPUs", told)


def _temporary_files() -> Finding:
    from slurm import temporary

    try:
        said = temporary.settle()
        temporary.shorten_sockets()
    except ValueError as error:
        return Finding("fault", "temporary files", str(error))
    if said:
        return Finding("warning", "temporary files", said, "set TMPDIR to a folder that can be written")
    return Finding("ok", "temporary files", f"in {tempfile.gettempdir()}")


def _shared_memory() -> Finding:
    from slurm.machine import shared_memory_here

    free = shared_memory_here()
    told = f"{free / 2**20:,.1f} MB free in /dev/shm"
    if free < _SHARED:
        fix = "start the container with --shm-size=1g or --ipc=host, else fewer processes load images"
        return Finding("warning", "shared memory", told, fix)
    return Finding("ok", "shared memory", told)


def file_system(folder: Path) -> Finding:
    """Locks keep two processes off one job, and a link is how one record of a fingerprint wins."""
    from slurm.files import try_lock

    probe = folder / f".probe-{uuid.uuid4().hex}"
    other = probe.with_name(f"{probe.name}-link")
    fix = "choose a --workspace on a file system that supports flock and hard links"
    try:
        lock = try_lock(probe)
        other.hardlink_to(probe)
    except ValueError as error:
        return Finding("fault", "file system", str(error), fix)
    except OSError as error:
        return Finding("fault", "file system", f"no hard links in {folder} ({error.strerror})", fix)
    finally:
        other.unlink(missing_ok=True)
        probe.unlink(missing_ok=True)
    if lock is not None:
        os.close(lock)
    return Finding("ok", "file system", "locks and hard links work")


def commands(where: str, *, sacct: Literal["fault", "warning"]) -> Iterator[Finding]:
    absent = [name for name in ("sbatch", "squeue", "scancel", "srun", "scontrol", "sacct") if not shutil.which(name)]
    if "scontrol" in absent:
        fix = "a job that reaches its time limit cannot queue itself again: ask the administrator, or use retry"
        yield Finding("warning", "commands", f"no scontrol on {where}", fix)
    if "sacct" in absent:
        yield Finding(
            sacct, "commands", f"no sacct on {where}", "status soon forgets ended jobs; install SLURM's client commands"
        )
    others = [name for name in absent if name not in ("scontrol", "sacct")]
    if others:
        yield Finding("warning", "commands", f"no {', '.join(others)} on {where}")
    if not absent:
        yield Finding("ok", "commands", f"sbatch, squeue, scancel, srun, scontrol and sacct on {where}")
