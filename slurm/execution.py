"""Runs one task in this process: take its lock, import its target, call it, leave an outcome.

Being interrupted (a signal, Ctrl-C, death) is no outcome: the task may be started again and is expected to go on from
its own checkpoints. Of a task of several ranks each leaves an outcome of its own among `parts`, and only rank 0 locks
the task and leaves its outcome.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from slurm import environment, process, progress, ranks, shadows, temporary
from slurm.files import held_by, try_lock
from slurm.folder import Folder, Outcome, read_task
from slurm.graph import Task
from slurm.watch import watched

_LONGEST = 1000  # characters kept of what an error says; its cause may follow a long path
_REPORT_EVERY = 5.0  # seconds between two reports of a job of SLURM: many at once share one file server


class Busy(Exception):
    """Another process is running this task."""


def execute(spec: Path, *, wait: bool) -> Any:
    """Run the task described in FOLDER/nodes/KEY-DIGEST.json and return what its target returns.

    Args:
        wait: where another process runs this task, wait for it, and take over its result if it did the same work;
            otherwise raise `Busy`. With it, the task's other ranks have been started (by srun); without, they are
            started here.

    Whatever the target raises is recorded in one line and raised again.
    """
    task, folder = read_task(spec), Folder(spec.parents[1])
    several, call = task.resources.ranks > 1, partial(_call, task)
    if several and wait:
        if task.resources.gpus:
            place = int(os.environ.get("SLURM_LOCALID", 0))
            share = environment.share_of_gpus(place, task.resources.ranks_per_node, task.resources.gpus)
            os.environ["CUDA_VISIBLE_DEVICES"] = share
        if rank := int(os.environ.get("SLURM_PROCID", 0)):
            return run_rank(task, folder, rank) if ranks.may_begin(task, folder) else None
    if several:
        call = partial(_run_rank_0 if wait else ranks.start_all, task, folder)
    lock = try_lock(folder.lock(task.key))
    asked = time.time()
    waited = lock is None
    if waited and wait:
        sys.stderr.write(f"waiting for {held_by(folder.lock(task.key))}, which runs '{task.key}'\n")
    while lock is None:
        if not wait:
            raise Busy(f"'{task.key}' is being run by another process ({held_by(folder.lock(task.key))})")
        time.sleep(1)
        lock = try_lock(folder.lock(task.key))
    try:
        if waited and (outcome := folder.finished_since(task, asked)):
            ranks.send_home(lock)
            return outcome.value
        folder.progress(task.key).unlink(missing_ok=True)
        os.environ[progress.VARIABLE] = str(folder.progress(task.key))
        if wait:
            progress.at_most_every(_REPORT_EVERY)
        if several:
            folder.forget_ranks(task)
            ranks.let_begin(lock)
        return _record(task, folder, call)
    finally:
        os.close(lock)


def run_rank(task: Task, folder: Folder, rank: int) -> Any:
    """Call the target as one of several ranks; the first alone reports progress."""
    if rank:
        os.environ.pop(progress.VARIABLE, None)
    return _record(task, folder, partial(_call, task), rank)


def _run_rank_0(task: Task, folder: Folder) -> Any:
    """Rank 0 where srun started all: where they fail, the reason is that of whichever was first."""
    try:
        return run_rank(task, folder, 0)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise  # interrupted
        traceback.print_exc()
        failure = folder.first_failure(task)
        raise SystemExit(failure.reason if failure else _one_line(error)) from None


def _record(task: Task, folder: Folder, call: Callable[[], Any], rank: int | None = None) -> Any:
    """What `call` returns; how that ended is written down, of the task or of one of its several ranks."""
    start, cpu_start = time.time(), process.cpu_seconds()

    def record(state: Any, reason: str, value: Any) -> None:
        outcome = Outcome(
            key=task.key,
            state=state,
            reason=reason,
            value=value,
            log=str(folder.log(task.key)),
            seconds=time.time() - start,
            cpu_seconds=process.cpu_seconds() - cpu_start,
            peak_memory_mb=process.peak_memory_mb(),
            ended=time.time(),
            digest=task.digest,
            pid=os.getpid(),
            job=environment.slurm_job(),
            restarts=environment.restarts(),
        )
        folder.write_outcome(outcome, rank)

    try:
        with watched(folder.log(task.key), folder.progress(task.key), lambda said: record("failed", said, None)):
            value = call()
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{task.target} must return plain JSON ({error})") from None
    except SystemExit as error:
        if isinstance(error.code, str):  # the target's own words, which Python prints and turns into status 1
            record("failed", error.code[:_LONGEST], None)
        raise
    except Exception as error:
        file = shadows.guilty(error)
        record("failed", shadows.line(file) if file else _one_line(error), None)
        raise
    record("done", "", value)
    return value


def _call(task: Task) -> Any:
    try:
        if said := temporary.settle():
            sys.stderr.write(f"{said}\n")
        temporary.shorten_sockets()
    except ValueError as error:
        raise SystemExit(str(error)) from None
    process.end_when_a_queue_fails()
    module, function = task.target.split(":")
    return getattr(importlib.import_module(module), function)(**task.args)


def _one_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:_LONGEST] if text else type(error).__name__
