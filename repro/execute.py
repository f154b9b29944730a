"""`run` and `status`: from the plan to the executor, and from the records to the table that ends a run."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from repro import plan, records, show
from repro.errors import UserError
from repro.plan import Plan, Request
from repro.settings import Settings, require_writable
from repro.workspace import Workspace

if TYPE_CHECKING:
    from slurm.folder import Outcome
    from slurm.graph import Graph


def run(request: Request, settings: Settings, command: Sequence[str]) -> int:
    """Do what is missing of a request, then print the table; returns the exit status."""
    planned = plan.make(request, settings)
    place = Workspace(settings.workspace)
    return perform(planned, settings, command, lambda: finish(planned, place), _Fresh(place))


def perform(
    planned: Plan,
    settings: Settings,
    command: Sequence[str],
    report: Callable[[], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Do what is missing of a plan; returns the exit status.

    On this machine `meanwhile` is called whenever a process has ended, and `report` at the end.
    """
    require_writable(settings.workspace)
    place = Workspace(settings.workspace)
    for fault in planned.faults:
        print(f"passed over: {fault}", file=sys.stderr)
    todo = planned.to_do()
    lost = next((job for job in todo if job.missing), None)
    if lost:
        raise UserError(lost.missing)
    if not todo:
        print(f"everything was cached: {len(planned.jobs)} jobs, nothing to do")
        report()
        return 0
    _fetch(planned, settings)
    graph = plan.graph(planned, settings)
    print(
        f"track {planned.track.name}: {len(todo)} jobs in {len(graph)} processes"
        f" ({len(planned.jobs) - len(todo)} cached); logs in {place.processes / 'logs'}",
        flush=True,
    )
    if _executor(settings) == "slurm":
        return _submit(graph, settings, place)
    try:
        outcomes = _run_here(graph, settings, place, meanwhile)
    except KeyboardInterrupt:
        again = "python -m repro " + shlex.join(command)
        print(f"\ninterrupted: finished jobs and checkpoints are kept in {settings.workspace}; go on with: {again}")
        return 130
    report()
    failed = [outcome for outcome in outcomes.values() if outcome.state != "done"]
    for outcome in failed:
        print(f"{outcome.state}: {outcome.key}: {outcome.reason}" + (f" (log: {outcome.log})" if outcome.log else ""))
    return 1 if failed else 0


def _fetch(planned: Plan, settings: Settings) -> None:
    """Download what a library can download before any job waits for it, so that a failure shows at once."""
    from repro.data import catalogue

    absent = {status.name for status in catalogue.statuses(settings.where) if not status.found}
    for name in sorted({job.spec["data"]["name"] for job in planned.to_do() if "data" in job.spec} & absent):
        catalogue.prepare(name, settings.where, size=planned.track.size, progress=show.counter(f"fetching {name}"))


def finish(planned: Plan, place: Workspace) -> None:
    """Write the boards and print the one table of these runs."""
    from leaderboards import claims
    from leaderboards.summary import suite_table
    from repro.publish import write_boards

    write_boards(place)
    marks = {job.fingerprint for job in planned.jobs}
    mine = [record for record in records.read_all(place.records)[0] if record["fingerprint"] in marks]
    if mine:
        print()
        print(suite_table(mine, claims.load()))
        print(f"\ncomparable with the papers: {planned.track.comparable}")
    print(f"boards:  {place.boards / 'index.md'}, to look at in a browser: {place.boards / 'report.html'}")
    print(f"records: {place.records}")


def _executor(settings: Settings) -> str:
    if settings.executor == "local":
        return "local"
    from slurm import cluster

    reason = cluster.available()
    if settings.executor == "slurm" and reason:
        raise UserError(reason)
    return "local" if reason else "slurm"


def _submit(graph: Graph, settings: Settings, place: Workspace) -> int:
    from slurm import cluster

    try:
        profile = cluster.Profile.load(settings.cluster)
        submission = cluster.submit(graph, folder=place.processes, profile=profile)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    numbers = sorted({job.partition("_")[0] for job in submission.jobs.values()})
    print(f"submitted {len(submission.jobs)} processes to SLURM in {submission.calls} calls: jobs {', '.join(numbers)}")
    if submission.kept:
        print(f"already queued or running, left alone: {', '.join(submission.kept)}")
    print(f"where they stand:     python -m repro status --workspace {settings.workspace}")
    print("boards, when done:    the same run command again (it prints the table), or python -m repro report")
    return 0


class _Fresh:
    """Keeps boards and report of a workspace fresh while a run goes on, for a twentieth of one core at most."""

    def __init__(self, place: Workspace) -> None:
        self._place, self._not_before = place, 0.0

    def __call__(self) -> None:
        from repro.publish import write_boards

        began = time.monotonic()
        if began < self._not_before:
            return
        try:
            write_boards(self._place)
        except Exception as error:  # a view that cannot be written must not end a night of training
            print(f"boards not written: {error}", file=sys.stderr)
        now = time.monotonic()
        self._not_before = now + max(5.0, 19 * (now - began))


def _run_here(graph: Graph, settings: Settings, place: Workspace, meanwhile: Callable[[], None]) -> dict[str, Outcome]:
    from slurm import local

    with _display(graph) as show_event:

        def on_event(event: Any) -> None:
            show_event(event)
            if event.outcome is not None:
                meanwhile()

        return local.run(
            graph,
            folder=place.processes,
            cores=settings.cores,
            memory_gb=settings.memory_gb,
            on_event=on_event,
        )


@contextmanager
def _display(graph: Graph) -> Iterator[Any]:
    """Bars on a terminal, plain lines elsewhere, from the executor's events."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns) as bars:
        whole = bars.add_task("all processes", total=len(graph), info="")
        tasks: dict[str, Any] = {}

        def on_event(event: Any) -> None:
            if event.kind == "started":
                tasks[event.key] = bars.add_task(event.key, total=None, info="")
            elif event.kind == "progress":
                told = event.progress
                name = f"{event.key} {told.info.get('job', '')}"
                bars.update(tasks[event.key], description=name, completed=told.done, total=told.total, info=_info(told))
            elif event.kind == "elsewhere":
                bars.console.print(f"{event.key}: another process is running it; waiting for its result")
            else:
                bars.advance(whole)
                if event.key in tasks:
                    bars.remove_task(tasks.pop(event.key))
                bars.console.print(_ended(event))

        yield on_event


class _Lines:
    """Plain log lines: starts, ends, and how far each process is, at most every ten seconds."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, event: Any) -> None:
        now = time.monotonic()
        if event.kind == "started":
            self._last[event.key] = now
            print(f"{event.key}: started", flush=True)
        elif event.kind == "progress":
            if now - self._last.get(event.key, 0.0) >= 10:
                self._last[event.key] = now
                told = event.progress
                line = f"{event.key}: {told.info.get('job', '')} {told.done} of {told.total} {_info(told)}"
                print(line.rstrip(), flush=True)
        elif event.kind == "elsewhere":
            print(f"{event.key}: another process is running it; waiting for its result", flush=True)
        else:
            print(_ended(event), flush=True)


def _info(told: Any) -> str:
    shown = {key: value for key, value in told.info.items() if key.startswith("loss") and isinstance(value, float)}
    total = sum(shown.values())
    return f"loss {total:.3f}" if shown else ""


def _ended(event: Any) -> str:
    outcome = event.outcome
    if outcome.state == "done":
        return f"{event.key}: done in {show.duration(outcome.seconds)}"
    return f"{event.key}: {outcome.state}, {outcome.reason}"


def status(settings: Settings) -> str:
    """Where the processes of this workspace stand, and how many records there are."""
    place = Workspace(settings.workspace)
    if not settings.workspace.is_dir():
        raise UserError(f"no workspace {settings.workspace}; name one with --workspace")
    found, faults = records.read_all(place.records)
    rows = [*_on_cluster(place), *_here(place)]
    lines = [show.table(rows, ["process", "where", "state", ""])] if rows else ["no process was started yet"]
    lines += ["", f"{len(found)} records in {place.records}"]
    return "\n".join([*lines, *(f"passed over: {fault}" for fault in faults)])


def _on_cluster(place: Workspace) -> list[list[str]]:
    from slurm import cluster

    try:
        states = cluster.status(place.processes)
    except ValueError as error:
        raise UserError(str(error)) from None
    return [[s.key, f"SLURM {s.job}", s.state, s.reason or _far(s.progress if s.live else None)] for s in states]


def _here(place: Workspace) -> list[list[str]]:
    """The processes of the local executor: one that holds its lock is running."""
    from slurm import progress
    from slurm.folder import Folder, try_lock

    folder = Folder(place.processes)
    rows = []
    for key in folder.known():
        outcome = folder.read_outcome(key)
        lock = try_lock(folder.lock(key))
        if lock is None:
            rows.append([key, "here", "running", _far(progress.read(folder.progress(key)))])
            continue
        os.close(lock)
        if outcome is None or not outcome.job:
            state = outcome.state if outcome else "interrupted"
            why = outcome.reason if outcome else "run the same command again: it goes on from the last checkpoint"
            rows.append([key, "here", state, why])
    return rows


def _far(told: Any) -> str:
    return f"{told.info.get('job', '')} {told.done} of {told.total}".strip() if told else ""
