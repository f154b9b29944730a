"""What was submitted from a workspace and how it fares, for both executors.

All of it is read from the workspace (slurm.status) and, where something is with SLURM, from one squeue and one sacct.
The records decide: a task without its records has failed whatever SLURM calls it, one with them is done.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from repro.errors import UserError, nearest
from repro.plan.tasks import TARGET
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal.text import duration

if TYPE_CHECKING:
    from slurm.states import TaskState

WORDS = {"timeout": "timed out", "unsubmitted": "not queued"}
"""What people are told of a state that has another name inside."""
_SILENT = 300.0  # seconds without a report after which a table says so


def states(place: Workspace) -> list[TaskState]:
    """Every task ever submitted from a workspace, as the executors and the records have it."""
    from slurm import status as executors

    if not place.processes.is_dir():  # looking at it would make it
        return []
    try:
        found = executors.of_folder(place.processes)
    except ValueError as error:
        raise UserError(str(error)) from None
    recorded = records.known_fingerprints(place.records)
    return [_judged(state, recorded) for state in found]


def _judged(state: TaskState, recorded: Collection[str]) -> TaskState:
    if state.task.target != TARGET or state.live:
        return state
    jobs = state.task.args["jobs"]
    absent = [job["kind"] for job in jobs if job["fingerprint"][:12] not in recorded]
    if state.state == "done" and absent:
        where = f"SLURM calls job {state.job} finished" if state.job else "it ended well"
        reason = f"{where}, but there is no record of {', '.join(absent)}: retry"
        return dataclasses.replace(state, state="failed", reason=reason)
    if state.lost and not absent:
        said = f"{WORDS.get(state.state, state.state)}" + (f": {state.reason}" if state.reason else "")
        return dataclasses.replace(state, state="done", reason=f"all its records are there, though it counts as {said}")
    return state


def run_of(state: TaskState) -> str:
    """The run that a task belongs to: its key without the stage."""
    return state.key.removeprefix(f"{state.task.stage}-")


def cell(state: TaskState) -> str:
    """How a task stands, in a few words."""
    text = WORDS.get(state.state, state.state)
    if state.state == "running":
        text += _far(state)
    elif state.state == "pending" and state.reason:
        text += f": {state.reason}"
    where = f"on {state.nodes}" if state.nodes and state.state != "done" else ""
    if state.job and state.live:
        text += f" [{state.job}{where and f' {where}'}]"
    elif where:
        text += f" {where}"
    if state.restarts:
        text += f", restarted {state.restarts} time{'s' if state.restarts > 1 else ''}"
    return text


def _far(state: TaskState) -> str:
    told, now = state.progress, time.time()
    if told is None or not told.total:
        return ""
    text = f" {told.info.get('job', '')}".rstrip() + f" {100 * told.done // told.total} %"
    if now - told.time > _SILENT:
        return f"{text}, silent for {duration(now - told.time)}"
    left = told.seconds_left(now)
    return text if left is None else f"{text}, {duration(left)} left"


def chosen_of(found: Sequence[TaskState], names: Sequence[str]) -> list[TaskState]:
    """All, or those named: by key, by run, by SLURM's number of a job or of an array."""
    if not names:
        return list(found)
    taken: dict[str, TaskState] = {}
    for name in names:
        these = [s for s in found if name in (s.key, run_of(s)) or (s.job and name in (s.job, s.job.partition("_")[0]))]
        if not these:
            near = nearest(name, [state.key for state in found])
            hint = f"did you mean '{near}'?" if near else "python -m repro status shows them"
            raise UserError(f"no task '{name}' in this workspace; {hint}")
        taken |= {state.key: state for state in these}
    return list(taken.values())


def one_of(place: Workspace, name: str) -> TaskState:
    these = chosen_of(states(place), [name])
    if len(these) > 1:
        raise UserError(f"'{name}' is {len(these)} tasks; name one: {', '.join(state.key for state in these)}")
    return these[0]


def listed(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:5]) + (", ..." if len(keys) > 5 else "")
    return f"{len(keys)} task{'s' if len(keys) != 1 else ''} ({shown})"
