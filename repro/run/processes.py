"""What was submitted from a workspace and how it fares: `status`, `logs`, `cancel` and `retry`, for both executors.

All of it is read from the workspace (slurm.states) and, where something is with SLURM, from one squeue and one sacct.
The records decide: a process without its records has failed whatever SLURM calls it, one with them is done.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.plan.tasks import TARGET
from repro.run import execute
from repro.run.views import Fresh, Views
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal.text import duration
from repro.terminal.text import table as rows_as_text

if TYPE_CHECKING:
    from slurm.states import NodeState

_EVERY = 5.0  # seconds between two looks of --watch
_FOLLOW = 0.5  # seconds between two looks of --follow
_SILENT = 300.0  # seconds without a report after which the table says so
_LINES = 30  # of a log
_STAGES = ("pretrain", "import", "frozen", "linear", "finetune", "detection", "reid_finetune")
_WORDS = {"timeout": "timed out", "unsubmitted": "not queued"}


def states(place: Workspace) -> list[NodeState]:
    """Every process ever submitted from a workspace, as the executors and the records have it."""
    from slurm import states as executors

    try:
        found = executors.states(place.processes)
    except ValueError as error:
        raise UserError(str(error)) from None
    marks = records.marks(place.records)
    return [_judged(state, marks) for state in found]


def _judged(state: NodeState, marks: Collection[str]) -> NodeState:
    if state.node.target != TARGET or state.live:
        return state
    jobs = state.node.args["jobs"]
    absent = [job["kind"] for job in jobs if job["fingerprint"][:12] not in marks]
    if state.state == "done" and absent:
        where = f"SLURM calls job {state.job} finished" if state.job else "it ended well"
        reason = f"{where}, but there is no record of {', '.join(absent)}: retry"
        return dataclasses.replace(state, state="failed", reason=reason)
    if state.lost and not absent:
        said = f"{_WORDS.get(state.state, state.state)}" + (f": {state.reason}" if state.reason else "")
        return dataclasses.replace(state, state="done", reason=f"all its records are there, though it counts as {said}")
    return state


def run_of(state: NodeState) -> str:
    """The run that a process belongs to: its key without the stage."""
    return state.key.removeprefix(f"{state.node.stage}-")


# --------------------------------------------------------------------------------------------------------------- status


def watch(settings: Settings) -> None:
    """Print the table anew every few seconds until nothing is queued or running any more."""
    terminal = sys.stdout.isatty()
    text, live = _status(settings)
    while True:
        print(f"\033[H\033[2J{text}" if terminal else f"{text}\n", flush=True)
        if not live:
            return
        time.sleep(_EVERY)
        try:
            text, live = _status(settings)
        except UserError as error:  # SLURM is busy for a while: no reason to end a night's watch
            text = f"{error}; asking again"


def status(settings: Settings) -> str:
    """Runs x stages as a table, and what there is to say about those that are not done."""
    return _status(settings)[0]


def _status(settings: Settings) -> tuple[str, bool]:
    place = _workspace(settings)
    found = states(place)
    count = len(records.marks(place.records))
    lines = [table(found), ""] if found else ["no process was started yet", ""]
    lines.append(f"{count} records in {place.records}")
    return "\n".join(lines), any(state.live for state in found)


def table(found: Sequence[NodeState]) -> str:
    """The table of `status`."""
    cells: dict[str, dict[str, str]] = {}
    others = []
    for state in found:
        if state.node.stage in _STAGES:
            cells.setdefault(run_of(state), {})[state.node.stage] = cell(state)
        else:
            others.append(f"{state.key}: {cell(state)}")
    stages = [stage for stage in _STAGES if any(stage in row for row in cells.values())]
    lines = [
        rows_as_text([[run, *(row.get(stage, "") for stage in stages)] for run, row in cells.items()], ["run", *stages])
    ]
    lines += ["", *others] if others else [""]
    counts = Counter(_WORDS.get(state.state, state.state) for state in found)
    lines.append(", ".join(f"{number} {word}" for word, number in counts.items()))
    told: dict[tuple[str, str], list[NodeState]] = {}
    for state in found:
        if not state.live and state.reason:
            told.setdefault((_WORDS.get(state.state, state.state), state.reason), []).append(state)
    for (word, reason), members in told.items():
        names = members[0].key if len(members) == 1 else f"{len(members)} processes ({members[0].key}, ...)"
        lines.append(f"{word}: {names}: {reason}")
    if any(state.lost for state in found):
        lines.append("the whole log: python -m repro logs STAGE-RUN; to do them again: python -m repro retry")
    return "\n".join(lines)


def cell(state: NodeState) -> str:
    """How a process stands, in a few words."""
    text = _WORDS.get(state.state, state.state)
    if state.state == "running":
        text += _far(state)
    elif state.state == "pending" and state.reason:
        text += f": {state.reason}"
    if state.job and state.live:
        text += f" [{state.job}]"
    if state.restarts:
        text += f", restarted {state.restarts} time{'s' if state.restarts > 1 else ''}"
    return text


def _far(state: NodeState) -> str:
    told, now = state.progress, time.time()
    if told is None or not told.total:
        return ""
    text = f" {told.info.get('job', '')}".rstrip() + f" {100 * told.done // told.total} %"
    if now - told.time > _SILENT:
        return f"{text}, silent for {duration(now - told.time)}"
    left = told.seconds_left(now)
    return text if left is None else f"{text}, {duration(left)} left"


# ----------------------------------------------------------------------------------------------------------------- logs


def logs(settings: Settings, name: str) -> str:
    """The last lines of what a process printed."""
    state = _one(_workspace(settings), name)
    return "\n".join([f"{state.key}: {cell(state)}", *(_last_lines(state.log) or ["it has printed nothing yet"])])


def follow(settings: Settings, name: str) -> None:
    """Print the last lines of a process and what it adds, until it has ended."""
    place = _workspace(settings)
    state = _one(place, name)
    log, looked = state.log, time.monotonic()
    print("\n".join(_last_lines(log)), flush=True)
    position = log.stat().st_size if log.exists() else 0
    while True:
        if log.exists():
            with log.open("rb") as file:
                file.seek(position)
                text = file.read()
            position += len(text)
            sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()
        if not state.live:
            print(f"{state.key}: {cell(state)}" + (f": {state.reason}" if state.reason else ""))
            return
        time.sleep(_FOLLOW)
        if time.monotonic() - looked > _EVERY:  # not at every look at the file: it may be a call to SLURM
            looked = time.monotonic()
            try:
                state = next(new for new in states(place) if new.key == state.key)
            except UserError as error:
                print(f"{error}; asking again", file=sys.stderr, flush=True)


def _last_lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65536))
        return file.read().decode(errors="replace").splitlines()[-_LINES:]


# ----------------------------------------------------------------------------------------------------- cancel and retry


def cancel(settings: Settings, names: Sequence[str]) -> str:
    """Cancel these processes, or all that are queued or running; returns what to print."""
    from slurm import cluster, local

    place = _workspace(settings)
    found = states(place)
    chosen = {state.key: state for state in _chosen(found, names) if state.live}
    if not chosen:
        return "nothing to cancel: none of them is queued or running" if names else "nothing is queued or running"
    local.cancel(place.processes, [key for key, state in chosen.items() if state.entry.run])
    if any(state.job for state in chosen.values()):
        try:
            cluster.cancel(place.processes, chosen)
        except ValueError as error:
            raise UserError(str(error)) from None
    return f"cancelled {_listed(chosen)}; checkpoints are kept, python -m repro retry goes on from them"


def retry(settings: Settings, names: Sequence[str], views: Views) -> int:
    """Do failed processes again (or those named), and all that wait for them, as they were submitted."""
    from slurm import states as executors
    from slurm.graph import Graph

    place = _workspace(settings)
    found = states(place)
    failed = {state.key: state for state in _chosen(found, names) if state.lost}
    if not failed:
        print("nothing to retry: " + ("none of them has failed" if names else "no process has failed"))
        return 0
    again = executors.with_dependants(failed, found)
    live = [state for state in again if state.live and not state.node.always]
    again = [state for state in again if state not in live]
    code = _code_of(again)
    print(f"again: {_listed([state.key for state in again])}, with the code that was submitted")
    status = 0
    for here, members in _by_executor(again, found).items():
        # What they wait for and is under way comes along: the executor leaves that alone and waits for it.
        parents = {parent for state in members for parent in state.node.after}
        waited = [s for s in found if s.live and s.key in parents and bool(s.entry.run) == here and s not in members]
        keys = {state.key for state in (*waited, *members)}
        graph = Graph(
            dataclasses.replace(s.node, after=tuple(parent for parent in s.node.after if parent in keys))
            for s in (*waited, *members)
        )
        if here:
            outcomes = execute.run_here(graph, settings, place, code, Fresh(place, views))
            views.boards(place)
            status = execute.print_failures(outcomes) or status
        else:
            recorded = next((s.entry.profile for s in members if not s.entry.run), None)
            execute.submit(graph, settings, place, code, recorded if settings.cluster == Settings.cluster else None)
    return status


def _code_of(again: Sequence[NodeState]) -> dict[str, Path | None]:
    """The snapshot that each was submitted with. UserError where one is gone: other code is another job."""
    code = {state.key: Path(state.entry.code) if state.entry.code else None for state in again}
    if gone := {key: path for key, path in code.items() if path and not path.is_dir()}:
        key, path = next(iter(gone.items()))
        raise UserError(f"the code that {_listed(gone)} were submitted with is gone ({path}): give {key}'s `run` again")
    return code


def _by_executor(again: Sequence[NodeState], found: Sequence[NodeState]) -> dict[bool, list[NodeState]]:
    """Those to do on this machine (True) and those for SLURM, where these are first: they are only queued.

    Where each was, but a child goes to where its parent is or will be: one executor cannot wait for the other.
    """
    here = {state.key: bool(state.entry.run) for state in found if state.live}
    for state in again:
        own = bool(state.entry.run)
        here[state.key] = own if state.node.always else next((here[p] for p in state.node.after if p in here), own)
    groups: dict[bool, list[NodeState]] = {}
    for state in sorted(again, key=lambda state: here[state.key]):
        groups.setdefault(here[state.key], []).append(state)
    return groups


# ---------------------------------------------------------------------------------------------------------- which ones


def _workspace(settings: Settings) -> Workspace:
    if not settings.workspace.is_dir():
        raise UserError(f"no workspace {settings.workspace}; name one with --workspace")
    return Workspace(settings.workspace)


def _chosen(found: Sequence[NodeState], names: Sequence[str]) -> list[NodeState]:
    """All, or those named: by key, by run, by SLURM's number of a job or of an array."""
    if not names:
        return list(found)
    taken: dict[str, NodeState] = {}
    for name in names:
        these = [s for s in found if name in (s.key, run_of(s)) or (s.job and name in (s.job, s.job.partition("_")[0]))]
        if not these:
            near = difflib.get_close_matches(name, [state.key for state in found], n=1)
            hint = f"did you mean '{near[0]}'?" if near else "python -m repro status shows them"
            raise UserError(f"no process '{name}' in this workspace; {hint}")
        taken |= {state.key: state for state in these}
    return list(taken.values())


def _one(place: Workspace, name: str) -> NodeState:
    these = _chosen(states(place), [name])
    if len(these) > 1:
        raise UserError(f"'{name}' is {len(these)} processes; name one: {', '.join(state.key for state in these)}")
    return these[0]


def _listed(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:5]) + (", ..." if len(keys) > 5 else "")
    return f"{len(keys)} process{'es' if len(keys) != 1 else ''} ({shown})"
