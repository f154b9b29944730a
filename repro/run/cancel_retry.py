"""`cancel` and `retry`: stop tasks that are queued or running, and run failed ones again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.run import execute, submit
from repro.run.live_boards import Fresh, Views
from repro.run.task_states import chosen_of, listed, states
from repro.settings import Settings
from repro.store.workspace import Workspace

if TYPE_CHECKING:
    from slurm.states import TaskState


def cancel(settings: Settings, names: Sequence[str]) -> str:
    """Cancel these tasks, or all that are queued or running; returns what to print."""
    from slurm import cluster, local

    place = Workspace.existing(settings.workspace)
    found = states(place)
    chosen = {state.key: state for state in chosen_of(found, names) if state.live}
    if not chosen:
        return "nothing to cancel: none of them is queued or running" if names else "nothing is queued or running"
    local.cancel(place.processes, [key for key, state in chosen.items() if state.entry.run])
    if any(state.job for state in chosen.values()):
        try:
            cluster.cancel(place.processes, chosen)
        except ValueError as error:
            raise UserError(str(error)) from None
    nodes = ", ".join(sorted({state.nodes for state in chosen.values() if state.nodes}))
    where = f", on {nodes}" if nodes else ""
    return f"cancelled {listed(chosen)}{where}; checkpoints are kept, python -m repro retry continues from them"


def retry(settings: Settings, names: Sequence[str], views: Views) -> int:
    """Run failed tasks (or those named) again, and all that wait for them, as they were submitted."""
    from slurm import status as executors
    from slurm.graph import Graph

    place = Workspace.existing(settings.workspace)
    submit.require_profile(settings)
    found = states(place)
    failed = {state.key: state for state in chosen_of(found, names) if state.lost}
    if not failed:
        print("nothing to retry: " + ("none of them has failed" if names else "no task has failed"))
        return 0
    again = executors.with_dependants(failed, found)
    live = [state for state in again if state.live and not state.task.always]
    again = [state for state in again if state not in live]
    code = _code_of(again)
    print(f"again: {listed([state.key for state in again])}, with the code that was submitted")
    status = 0
    for here, members in _by_executor(again, found).items():
        # What they wait for and is under way comes along: the executor leaves that alone and waits for it.
        parents = {parent for state in members for parent in state.task.after}
        waited = [s for s in found if s.live and s.key in parents and bool(s.entry.run) == here and s not in members]
        keys = {state.key for state in (*waited, *members)}
        graph = Graph(
            dataclasses.replace(s.task, after=tuple(parent for parent in s.task.after if parent in keys))
            for s in (*waited, *members)
        )
        if here:
            outcomes = execute.run_here(graph, settings, place, code, Fresh(place, views))
            views.boards(place)
            status = execute.print_failures(outcomes) or status
        else:
            recorded = next((s.entry.profile for s in members if not s.entry.run), None)
            submit.submit(graph, settings, place, code, recorded if settings.cluster == Settings.cluster else None)
    return status


def _code_of(again: Sequence[TaskState]) -> dict[str, Path | None]:
    """The snapshot that each was submitted with. UserError where one is gone: other code is another job."""
    code = {state.key: Path(state.entry.code) if state.entry.code else None for state in again}
    if gone := {key: path for key, path in code.items() if path and not path.is_dir()}:
        key, path = next(iter(gone.items()))
        raise UserError(f"the code of {listed(gone)} is gone ({path}): run the command that submitted {key} again")
    return code


def _by_executor(again: Sequence[TaskState], found: Sequence[TaskState]) -> dict[bool, list[TaskState]]:
    """Those to do on this machine (True) and those for SLURM, where these are first: they are only queued.

    Where each was, but a child goes to where its parent is or will be: one executor cannot wait for the other.
    """
    here = {state.key: bool(state.entry.run) for state in found if state.live}
    for state in again:
        own = bool(state.entry.run)
        here[state.key] = own if state.task.always else next((here[p] for p in state.task.after if p in here), own)
    groups: dict[bool, list[TaskState]] = {}
    for state in sorted(again, key=lambda state: here[state.key]):
        groups.setdefault(here[state.key], []).append(state)
    return groups
