"""What one process of the plan does: its jobs in order, and a record for each.

    run(workspace, jobs)      called by the executors in a process of its own

A job that has its record is passed over, so a process may be started any number of times. A job that fails takes those
that need it with it; the others go on, and the process ends with status 1. Of several attempts at a job only the newest
writes checkpoints or a record: an older one that wakes up ends there, as one that found another at work.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import platform
import resource
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import protocols
from repro.data.types import Where
from repro.errors import Stopped, UserError, unwritable
from repro.store import atomic, elapsed, fingerprint, records, snapshot
from repro.store.workspace import Workspace
from slurm import progress, worker
from slurm.fence import Superseded

if TYPE_CHECKING:
    from repro.stages.common import Outcome, Task

_PACKAGES = ("torch", "torchvision", "numpy", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "pycocotools")
STAGES = {
    "pretrain": "repro.stages.pretrain:run",
    "import": "repro.stages.imported:run",
    "features": "repro.stages.frozen:features",
    "knn": "repro.stages.frozen:knn",
    "linear": "repro.stages.frozen:linear",
    "reid": "repro.stages.frozen:reid",
    "finetune": "repro.stages.finetune:run",
    "detection": "repro.stages.detection:run",
    "reid_finetune": "repro.stages.reid_finetune:run",
}


def run(workspace: str, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Do the jobs that have no record yet. Where some fail, ends with SystemExit and a line that says which and why."""
    snapshot.code()  # remembered now: the files may change while we run
    place = Workspace(Path(workspace))
    done = records.by_fingerprint(records.read_all(place.records)[0])
    failed: dict[str, str] = {}
    reasons = []
    for job in jobs:
        mark = job["fingerprint"]
        if mark in done and place.has_output(job["kind"], mark):
            continue
        lost = next((parent for parent in job["parents"] if parent in failed), None)
        if lost:
            failed[mark] = failed[lost]
            continue
        name = f"{job['kind']} {job['method']}{':' + job['variant'] if job['variant'] else ''} seed {job['seed']}"
        try:
            with atomic.attempt(place.job(mark)) if _writes() else contextlib.nullcontext() as attempt:
                made = _one(place, job)
                if made is None or attempt is None:
                    return
                record, scratch = made
                record["provenance"]["attempt"] = attempt.number
                attempt.require()
                path, ours = records.write(place.records, record)
        except Stopped:
            print(f"{name}: stopped on request, it goes on from its checkpoint", flush=True)
            worker.await_the_end()
            raise SystemExit(143) from None
        except Superseded as error:
            print(f"{name}: {error}; this one leaves no result", flush=True)
            raise SystemExit(worker.BUSY) from None
        except (UserError, ValueError, FileNotFoundError) as error:
            failed[mark] = str(error)
            if not isinstance(error, UserError):  # ours are one line on purpose; a foreign one needs its origin
                traceback.print_exc()
        except MemoryError:
            failed[mark] = "out of memory; give it more, or lower the batch with --set"
        except Exception as error:
            line = unwritable(error)
            if not line:
                traceback.print_exc()
            out = type(error).__name__ == "OutOfMemoryError"
            hint = "; lower the batch with --set" if out else ""
            failed[mark] = line or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{hint}"
        else:
            done[mark] = record
            for pattern in (*scratch, elapsed.FILE):
                for leftover in place.job(mark).glob(pattern):
                    leftover.unlink(missing_ok=True)
            print(f"{name}: {'wrote' if ours else 'was already in'} {path.name}", flush=True)
            continue
        reasons.append(f"{name}: {failed[mark]}")
    if reasons:
        raise SystemExit("; ".join(reasons))


def _writes() -> bool:
    """Whether this is the process that writes, of those that share a job: see repro.stages.distributed."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _one(place: Workspace, job: Mapping[str, Any]) -> tuple[records.Record, tuple[str, ...]] | None:
    """The record of a job, and which files nobody needs once it is written; None where another process writes it."""
    task = task_of(place, job)
    task.folder.mkdir(parents=True, exist_ok=True)
    stage = stage_of(task.kind)
    settle(task.spec["threads"])
    _reset_peak()
    with elapsed.counted(task.folder) as clock:
        outcome = stage(task)
        wall, cpu = clock.wall, clock.cpu
    if outcome is None:
        return None
    import torch

    gpu, processes = torch.cuda.is_available(), task.spec.get("processes", 1)
    record = {
        "schema": records.SCHEMA,
        "fingerprint": task.fingerprint,
        "kind": task.kind,
        "method": task.method,
        "variant": task.variant,
        "track": task.track,
        "seed": task.seed,
        "parents": list(task.parents),
        "protocol": protocol_of(task.kind, **task.spec.get("protocol", {})),
        "metrics": outcome.metrics,
        "cost": {
            "wall_s": round(wall, 3),
            "cpu_s": round(cpu, 3),
            "device_s": round(outcome.cost.pop("train_s", wall) * processes, 3),
            "peak_memory_mb": round(_peak_mb(), 1),
            **({"peak_device_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1)} if gpu else {}),
            **outcome.cost,
        },
        "provenance": {
            **snapshot.code(),
            "packages": _versions(),
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if gpu else cpu_name(),
            "threads": torch.get_num_threads(),
            **({"processes": processes} if processes > 1 else {}),
            "data": outcome.data,
            "slurm": {key: os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID") if key in os.environ},
            "trials": task.spec.get("recipe", {}).get("pretrain", {}).get("tuning_trials", 0),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        "details": outcome.details,
        "artifacts": {
            name: str((task.folder / file).relative_to(place.root)) for name, file in outcome.artifacts.items()
        },
    }
    return record, outcome.scratch


def task_of(place: Workspace, job: Mapping[str, Any], where: Path | None = None) -> Task:
    """A job as its stage gets it. where: decoded pictures, in place of those of the workspace."""
    stages = import_module("repro.stages.common")
    task: Task = stages.Task(
        **{key: job[key] for key in ("kind", "method", "variant", "track", "seed", "spec", "fingerprint")},
        module=snapshot.kept(job["module"]),
        parents=tuple(job["parents"]),
        where=Where(Path(job["data_root"]) if job["data_root"] else None, where or place.data),
        workspace=place,
        progress=lambda done, total, info=None: progress.report(done, total, {"job": job["kind"], **(info or {})}),
        source=Path(job["source"]) if job.get("source") else None,
    )
    return task


def stage_of(kind: str) -> Callable[[Task], Outcome | None]:
    """What does the jobs of that kind."""
    module, _, name = STAGES[kind].partition(":")
    stage: Callable[[Task], Outcome | None] = getattr(import_module(module), name)
    return stage


def cpu_name() -> str:
    """What records call the device where there is no GPU."""
    return f"CPU ({platform.machine()}, {os.cpu_count()} cores)"


def protocol_of(kind: str, name: str = "", values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A protocol as records hold it; without a name that of a job that is no evaluation."""
    mark = fingerprint.digest(protocols.hashed(kind, values))[:12] if values else ""
    return {"name": name, "hash": mark, "values": dict(values or {})}


def settle(threads: int) -> None:
    """Threads of this process, and an allocator that keeps what it has.

    glibc hands every large tensor back to the kernel when it is freed, and the next one is zeroed page by page again:
    without these two calls a sixth of the time of a training on a CPU. Other C libraries go without.
    """
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL(None).mallopt
        allocator(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its upper limit: smaller blocks come from the heap
        allocator(-1, 2**30)  # M_TRIM_THRESHOLD: the heap gives back what it has too much of beyond that


def _reset_peak() -> None:
    """Start the peak of resident memory anew, where the kernel lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_mb() -> float:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
