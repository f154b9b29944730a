"""The environment of a task's process: threads, import path, GPUs, and which job of SLURM's it is."""

from __future__ import annotations

import os
import site
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from slurm.graph import Task
from slurm.machine import usable

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

# The folder that modules are imported from before all others: of all tasks, or of each by its key. None: our own.
Code = Path | Mapping[str, Path | None] | None


def code_of(code: Code, key: str) -> Path | None:
    """The folder of the task of that key."""
    return code.get(key) if isinstance(code, Mapping) else code


def by_code(tasks: Iterable[Task], code: Code) -> dict[str, list[Task]]:
    """Tasks by that folder, "" where it is our own: as the journal has it."""
    groups: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        groups[str(code_of(code, task.key) or "")].append(task)
    return groups


def variables(cpus: int, code: Path | None) -> dict[str, str]:
    """Variables that must be set before the worker's Python starts: threads, and where modules come from.

    PYTHONSAFEPATH keeps the working directory (which may hold folders of our names) off the import path. First on it
    comes `code`, else this package's own parent, unless it is installed where every Python of this environment looks
    anyway (there it would come before the standard library).
    """
    variables = dict.fromkeys(_THREADS, str(cpus))
    # Threads that wait must sleep: beside another job on the same cores, spinning ones made a step seven times slower.
    variables |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    variables |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    variables["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # of a log, whatever the locale; no name can end a task
    home = str(code.absolute() if code else Path(__file__).absolute().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    if home not in installed and (code or home not in paths):
        paths.insert(0, home)
    if paths:
        variables["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths)
    return variables


def share_of_gpus(place: int, count: int, each: int) -> str:
    """CUDA_VISIBLE_DEVICES of one of `count` ranks on this machine, `each` of which wants so many GPUs.

    All that are visible where they are fewer: srun has dealt them out already, or there are none.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [str(number) for number in range(count * each)] if visible is None else usable(visible)
    return ",".join(found if len(found) < count * each else found[place * each : (place + 1) * each])


def slurm_job() -> str:
    """The number of the SLURM job we are, as squeue prints it ("7", "7_2"); empty outside SLURM."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def restarts() -> int:
    """How often SLURM has queued the job we are again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))
