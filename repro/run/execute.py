"""`run`: from the plan to the executor, and from the records to the table that ends a run."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from repro.errors import UserError
from repro.plan import budget
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.plan.tasks import TARGET, graph_of
from repro.run.views import Fresh, Views
from repro.settings import Settings, require_writable
from repro.store import snapshot
from repro.store.hashes import digest
from repro.store.workspace import Workspace
from repro.terminal import text
from repro.terminal.counter import counter
from slurm.graph import Graph, Node, Resources

if TYPE_CHECKING:
    from slurm.folder import Outcome
    from slurm.worker import Code

_COLLATE = Resources(cpus=1, memory_gb=4.0, minutes=20)


def run(
    request: Request,
    settings: Settings,
    command: Sequence[str],
    views: Views,
    limit: str | None = None,
    trim: bool = False,
) -> int:
    """Do what is missing of a request, then print the table; returns the exit status. limit, trim: see budget.py."""
    return carry_out(budget.within(request, settings, limit, trim), settings, command, views)


def carry_out(planned: Plan, settings: Settings, command: Sequence[str], views: Views) -> int:
    """Do what is missing of a plan, then write the boards and print the table; returns the exit status."""
    place = Workspace(settings.workspace)
    known = [job.fingerprint for job in planned.jobs]
    return perform(
        planned,
        settings,
        command,
        lambda: views.finish(known, planned.track, place),
        Fresh(place, views),
        closing=True,
    )


def perform(
    planned: Plan,
    settings: Settings,
    command: Sequence[str],
    report: Callable[[], None],
    meanwhile: Callable[[], None] = lambda: None,
    *,
    closing: bool = False,
) -> int:
    """Do what is missing of a plan; returns the exit status.

    On this machine `meanwhile` is called whenever a process has ended, and `report` at the end; on a cluster, with
    `closing`, a last job writes the boards and the table.
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
    reason = why_local(settings)
    on_slurm = reason is None
    if unanswered(settings, reason):
        print(f"{reason}. Running on this machine; --executor slurm would refuse to", file=sys.stderr, flush=True)
    _fetch(planned, settings)
    graph = graph_of(planned, settings)
    if on_slurm:
        graph = beside_live(graph, place)
    print(
        f"track {planned.track.name}: {len(todo)} jobs in {len(graph)} processes"
        f" ({len(planned.jobs) - len(todo)} cached); logs in {place.processes / 'logs'}",
        flush=True,
    )
    code = snapshot.take(place, [job.module for job in todo])
    try:
        if on_slurm:
            submit(Graph([*graph, _collate(graph, planned, settings)]) if closing else graph, settings, place, code)
            if not closing:
                print("table, when done:     the same command again")
            return 0
        outcomes = run_here(graph, settings, place, code, meanwhile)
    except KeyboardInterrupt:
        again = "python -m repro " + shlex.join(command)
        print(f"\ninterrupted: finished jobs and checkpoints are kept in {settings.workspace}; go on with: {again}")
        return 130
    report()
    return print_failures(outcomes)


def print_failures(outcomes: Mapping[str, Outcome]) -> int:
    """A line for each process that is not done; returns the exit status."""
    failed = [outcome for outcome in outcomes.values() if outcome.state != "done"]
    for outcome in failed:
        print(f"{outcome.state}: {outcome.key}: {outcome.reason}" + (f" (log: {outcome.log})" if outcome.log else ""))
    return 1 if failed else 0


def _fetch(planned: Plan, settings: Settings) -> None:
    """Download what a library can download before any job waits for it, so that a failure shows at once."""
    from repro.data import inventory, preparing

    absent = {status.name for status in inventory.statuses(settings.where) if not status.found}
    for name in sorted({job.spec["data"]["name"] for job in planned.to_do() if "data" in job.spec} & absent):
        preparing.prepare(name, settings.where, size=planned.track.size, progress=counter(f"fetching {name}"))


def _collate(graph: Graph, planned: Plan, settings: Settings) -> Node:
    """The process that ends a submission: it runs when all others have ended, however they ended."""
    marks = [job.fingerprint for job in planned.jobs]
    return Node(
        key=f"collate-{planned.track.name}-{digest(marks)[:8]}",
        target="repro.results.finish:collate",
        args={
            "workspace": str(settings.workspace.resolve()),
            "track": planned.track.name,
            "marks": marks,
            "keys": [node.key for node in graph],
        },
        resources=_COLLATE,
        after=tuple(node.key for node in graph),
        stage="collate",
        always=True,
    )


def why_local(settings: Settings) -> str | None:
    """Why jobs run on this machine, None where they go to SLURM. UserError where it was asked for and is not there."""
    if settings.executor == "local":
        return "--executor local"
    from slurm import cluster

    reason = cluster.available()
    if reason and (settings.executor == "slurm" or settings.cluster != Settings.cluster):
        raise UserError(f"{reason} (--executor local)")
    return reason


def unanswered(settings: Settings, reason: str | None) -> bool:
    """Whether SLURM is installed where jobs run on this machine (`why_local`) without anybody having said so: a login
    node is a poor place to train on while its controller is down for a minute."""
    return reason is not None and settings.executor == "auto" and bool(shutil.which("sbatch"))


def beside_live(graph: Graph, place: Workspace) -> Graph:
    """The graph beside what is queued or running on SLURM: a job that a live process has is left to that process, as it
    was submitted, whatever has been done of it since. The others of a process whose name is taken get one of their own,
    which waits for the live ones whose output it needs. UserError where SLURM does not answer.
    """
    from slurm import states

    try:
        found = [state.node for state in states.states(place.processes) if state.live and state.node.target == TARGET]
    except ValueError as error:
        raise UserError(str(error)) from None
    owners = {job["fingerprint"]: node for node in reversed(found) for job in node.args["jobs"]}
    live, made = {node.key: node for node in found}, dict[str, Node]()
    instead: dict[str, list[str]] = {}  # what stands for a process of the graph
    for node in graph:
        jobs = node.args["jobs"]
        theirs = {job["fingerprint"]: owners[job["fingerprint"]] for job in jobs if job["fingerprint"] in owners}
        mine = [job for job in jobs if job["fingerprint"] not in theirs]
        after = [key for parent in node.after for key in instead[parent]]
        for owner in theirs.values():
            made.setdefault(owner.key, dataclasses.replace(owner, after=tuple(after)))
        instead[node.key] = list(dict.fromkeys(owner.key for owner in theirs.values()))
        if mine:
            marks = [job["fingerprint"] for job in mine]
            key = f"{node.key}-{digest(marks)[:8]}" if node.key in live else node.key
            needed = [theirs[parent].key for job in mine for parent in job["parents"] if parent in theirs]
            after = list(dict.fromkeys([*after, *needed]))
            made[key] = dataclasses.replace(node, key=key, args={**node.args, "jobs": mine}, after=tuple(after))
            instead[node.key].append(key)
    return Graph(made.values())


def submit(
    graph: Graph, settings: Settings, place: Workspace, code: Code, recorded: Mapping[str, Any] | None = None
) -> None:
    """Queue a graph on the cluster and say so. `recorded`: the profile's values, where they are not to be read anew."""
    from slurm import cluster
    from slurm.profile import Profile

    def wait(queued: int, total: int) -> None:
        print(
            f"SLURM takes no more jobs for now: {queued} of {total} processes are queued, the others follow as soon as"
            " there is room. Ctrl-C leaves those that are queued; the same command goes on then.",
            flush=True,
        )

    def trouble(line: str) -> None:
        print(f"{line}; asking again", file=sys.stderr, flush=True)

    try:
        profile = Profile.from_json(recorded, "journal") if recorded else Profile.load(settings.cluster)
        submission = cluster.submit(
            graph, folder=place.processes, profile=profile, code=code, on_full=wait, on_trouble=trouble
        )
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    numbers = sorted({job.partition("_")[0] for job in submission.jobs.values()})
    print(f"submitted {len(submission.jobs)} processes to SLURM in {submission.calls} calls: jobs {', '.join(numbers)}")
    if submission.kept:
        print(f"already queued or running, left alone: {', '.join(submission.kept)}")
    if submission.settled:
        print(f"ended before the queue had room for all: {', '.join(submission.settled)}")
    at = "" if settings.workspace == Settings.workspace else f" --workspace {settings.workspace}"
    print(f"where they stand:     python -m repro status{at}   (--watch: until all have ended)")
    collates = [node.key for node in graph if node.stage == "collate"]
    if collates:
        print(f"table, when done:     python -m repro logs {collates[0]}{at}")


def run_here(
    graph: Graph, settings: Settings, place: Workspace, code: Code, meanwhile: Callable[[], None]
) -> dict[str, Outcome]:
    """Run a graph on this machine, with bars or lines that say how it goes; `meanwhile` is called as processes end."""
    from slurm import local

    with _display(graph) as show_event:

        def on_event(event: Any) -> None:
            show_event(event)
            if event.outcome is not None:
                meanwhile()

        try:
            return local.run(
                graph,
                folder=place.processes,
                cores=settings.cores,
                memory_gb=settings.memory_gb,
                code=code,
                on_event=on_event,
            )
        except ValueError as error:
            raise UserError(str(error)) from None


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
        return f"{event.key}: done in {text.duration(outcome.seconds)}"
    return f"{event.key}: {outcome.state}, {outcome.reason}"
