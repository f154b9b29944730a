"""What one task of the plan does: its jobs in order, and a record for each.

    run(workspace, jobs, data_root, stored)      called by the executors in a process of its own

A job that has its record is passed over, so a task may be started any number of times. A job that fails takes those
that need it with it; the others go on, and the task ends with status 1. Of several attempts at a job only the newest
writes checkpoints or a record: an older one that wakes up ends there, as one that found another at work.

Files of workspaces name this module, so it stays where it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import platform
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.data import inventory
from repro.errors import Stopped, UserError, unwritable
from repro.plan import fingerprints, kinds
from repro.settings import STORED, Where
from repro.store import atomic, provenance, records, snapshot, time_spent
from repro.store.job import Job
from repro.store.workspace import Workspace
from slurm import progress, shadows, worker
from slurm.fence import Superseded

if TYPE_CHECKING:
    from repro.stages.context import JobContext, Stage


def run(
    workspace: str, jobs: Sequence[Mapping[str, Any]], data_root: str | None = None, stored: str = STORED[0]
) -> None:
    """Do the jobs that have no record yet. Where some fail, ends with SystemExit and a line that says which and why."""
    snapshot.code()  # remembered now: the files may change while we run
    place = Workspace(Path(workspace))
    where = Where(Path(data_root) if data_root else None, place.data, stored)
    done = records.by_fingerprint(records.read_all(place.records)[0])
    failed: dict[str, str] = {}
    reasons = []
    for job in map(Job.from_json, jobs):
        known, kind = job.fingerprint, kinds.KINDS[job.kind]
        if known in done and kind.has_output(place, known):
            continue
        lost = next((parent for parent in job.parents if parent in failed), None)
        if lost:
            failed[known] = failed[lost]
            continue
        try:
            with atomic.attempt(place.job(known)) if _writes() else contextlib.nullcontext() as attempt:
                record = _one(context_of(job, place, where))
                if record is None or attempt is None:  # another rank writes it
                    continue
                record["provenance"]["attempt"] = attempt.number
                attempt.require()
                path, ours = records.write(place.records, record)
        except Stopped:
            print(f"{job.label}: stopped on request, it goes on from its checkpoint", flush=True)
            worker.await_the_end()
            raise SystemExit(143) from None
        except Superseded as error:
            print(f"{job.label}: {error}; this one leaves no result", flush=True)
            raise SystemExit(worker.BUSY) from None
        except Exception as error:
            failed[known] = _reason(error)
        else:
            done[known] = record
            for pattern in (*kind.scratch, time_spent.FILE):
                for leftover in place.job(known).glob(pattern):
                    leftover.unlink(missing_ok=True)
            print(f"{job.label}: {'wrote' if ours else 'was already in'} {path.name}", flush=True)
            continue
        reasons.append(f"{job.label}: {failed[known]}")
    if reasons:
        raise SystemExit("; ".join(reasons))


def _reason(error: Exception) -> str:
    """Why a job failed, in a line; the traceback of what is not ours goes to the log."""
    if isinstance(error, UserError):  # one line on purpose
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; give it more, or lower the batch with --set"
    if line := unwritable(error):
        return line
    traceback.print_exc()  # a foreign error needs its origin
    if file := shadows.guilty(error):
        return shadows.line(file)
    if isinstance(error, ValueError | FileNotFoundError):
        return str(error)
    if str(error).startswith("DataLoader worker"):  # torch's words for the death of a process of its own
        return (
            f"a process that loads images died ({' '.join(str(error).split())}): where /dev/shm is full, start the"
            " container with --shm-size=1g or --ipc=host; where memory is, give the job more"
        )
    hint = "; lower the batch with --set" if type(error).__name__ == "OutOfMemoryError" else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{hint}"


def _writes() -> bool:
    """Whether this is the rank that writes, of those that share a job: see repro.stages.distributed."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def context_of(job: Job, place: Workspace, where: Where) -> JobContext:
    """A job as its stage gets it."""
    from repro.stages.loaders import ContextHere

    return ContextHere(
        job=replace(job, module=snapshot.kept(job.module)),
        workspace=place,
        where=where,
        progress=lambda done, total, info: progress.report(done, total, {"job": job.kind, **info}),
    )


def stage_of(kind: str) -> Stage:
    """What does the jobs of that kind."""
    module, _, name = kinds.KINDS[kind].stage.partition(":")
    stage: Stage = getattr(import_module(module), name)
    return stage


def _one(context: JobContext) -> records.Record | None:
    """The record of a job; None where another rank writes it."""
    job = context.job
    context.folder.mkdir(parents=True, exist_ok=True)
    stage = stage_of(job.kind)
    inventory.require_unchanged(job.spec.get("data"), context.where)
    settle(job.spec["threads"])
    provenance.reset_peak()
    trained_by = {"training_code": fingerprints.code_of(job)[:16]} if job.kind == "pretrain" else {}
    with time_spent.counted(context.folder) as clock:
        outcome = stage(context)
        wall, cpu = clock.wall, clock.cpu
    if outcome is None:
        return None
    import torch

    ranks = job.ranks
    gpu_peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {
        "schema": records.SCHEMA,
        "fingerprint": job.fingerprint,
        "kind": job.kind,
        "method": job.method,
        "variant": job.variant,
        "track": job.track,
        "seed": job.seed,
        "parents": list(job.parents),
        "protocol": records.protocol_of(job.kind, **job.protocol),
        "metrics": outcome.metrics,
        "cost": {
            "wall_s": round(wall, 3),
            "cpu_s": round(cpu, 3),
            "device_s": round(outcome.cost.pop("train_s", wall) * ranks, 3),
            "peak_memory_mb": round(provenance.peak_mb(), 1),
            **({} if gpu_peak is None else {"peak_device_memory_mb": round(gpu_peak, 1)}),
            **outcome.cost,
        },
        "provenance": {
            **snapshot.code(),
            **trained_by,
            "packages": provenance.versions(),
            "python": platform.python_version(),
            "device": provenance.device_name(),
            "threads": torch.get_num_threads(),
            **({"processes": ranks} if ranks > 1 else {}),
            **({} if context.where.stored == STORED[0] else {"stored": context.where.stored}),
            "data": {**outcome.data, **({"limit": job.spec["data"]["limit"]} if "data" in job.spec else {})},
            "slurm": {key: os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID") if key in os.environ},
            "trials": job.recipe.get("pretrain", {}).get("tuning_trials", 0),
            **({"tuned": tuned} if (tuned := job.spec.get("tuned")) else {}),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        "details": outcome.details,
        "artifacts": {
            name: str((context.folder / file).relative_to(context.workspace.root))
            for name, file in outcome.artifacts.items()
        },
    }


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
