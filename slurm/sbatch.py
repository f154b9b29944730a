"""What a job asks of sbatch, from its task and the profile of the cluster."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from slurm import environment, scheduler, watch
from slurm.arrays import Batch
from slurm.graph import Resources, Task
from slurm.profile import Profile


def refusal(resources: Resources, profile: Profile) -> str:
    """Why sbatch would not take a job that wants this (`sbatch --test-only`), in one line; empty where it would."""
    task = Task("test", "test:only", resources=profile.spread(resources))
    options = _options("test", task, "", profile) | dict(profile.sbatch)
    long = [f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}") for key, value in options.items()]
    try:
        scheduler.ask(["sbatch", "--test-only", *long, "--wrap=true"])
    except scheduler.NoAnswer as error:
        return str(error)
    return ""


def timeouts(task: Task, profile: Profile) -> int:
    """How often its job may reach the time limit and be queued again. Whose time is cut to the profile's limit reaches
    that limit so often anyway."""
    return profile.requeues + math.ceil(_minutes_wanted(task, profile) / _minutes_granted(task, profile)) - 1


def _minutes_wanted(task: Task, profile: Profile) -> int:
    return math.ceil(task.resources.minutes * profile.time_scale)


def _minutes_granted(task: Task, profile: Profile) -> int:
    wanted = _minutes_wanted(task, profile)
    return min(wanted, profile.max_minutes or wanted)


def parameters(name: str, batch: Batch, profile: Profile, code: Path | None) -> dict[str, Any]:
    """What submitit is told of a job or an array of jobs; the folder `code` comes first on its import path."""
    task, wanted = batch.tasks[0], {}
    resources = task.resources
    if batch.elements:  # in place of submitit's own, which count from 0
        wanted["array"] = f"{scheduler.abbreviated(batch.elements)}%{min(len(batch.tasks), profile.parallel)}"
    exports = [
        f"export {key}={shlex.quote(value)}" for key, value in environment.variables(resources.cpus, code).items()
    ]
    if profile.hang_minutes != Profile.hang_minutes:
        exports.append(f"export {watch.VARIABLE}={profile.hang_minutes:g}")
    # Unquoted on purpose, for the job's shell to put its variables in; a folder with spaces keeps together.
    scratch = [f'export TMPDIR="{profile.scratch}"', 'mkdir -p "$TMPDIR"'] if profile.scratch else []
    return _options(name, task, batch.dependency, profile) | {
        "array_parallelism": profile.parallel,
        "setup": [*exports, *scratch, *profile.setup],
        # Time to write a last checkpoint before the limit, and most of a short job left to work in.
        "signal_delay_s": min(90, 15 * _minutes_granted(task, profile)),
        "stderr_to_stdout": True,
        # srun no longer takes --cpus-per-task from the job it runs in. Ranks that have lost one wait in vain.
        "srun_args": [
            f"--cpus-per-task={resources.cpus}",
            "--cpu-bind=none",
            *(["--kill-on-bad-exit=1"] if resources.ranks > 1 else []),
            *profile.srun,
        ],
        "additional_parameters": {"kill-on-invalid-dep": "yes", "requeue": True, **wanted, **profile.sbatch},
    }


def _options(name: str, task: Task, dependency: str, profile: Profile) -> dict[str, Any]:
    """What a job asks for, by sbatch's long options."""
    resources = task.resources
    options = {
        "job_name": name,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "time": _minutes_granted(task, profile),
        "nodes": resources.nodes,
        "ntasks_per_node": resources.ranks_per_node,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus * resources.ranks_per_node,
        "mem": f"{math.ceil(resources.memory_gb * resources.ranks_per_node * 1024)}M",
        "dependency": dependency,
    }
    return {key: value for key, value in options.items() if value}
