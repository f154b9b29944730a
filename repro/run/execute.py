"""`run`: gives the plan to the executor, and prints the table of the records at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from repro.data import account
from repro.errors import UserError
from repro.plan import budget, few_pictures, tuning
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.run import imports, missing_data, submit
from repro.run.display import display
from repro.run.live_boards import Fresh, Views
from repro.settings import Settings, require_temporary, require_writable
from repro.store import snapshot
from repro.store.hashes import digest
from repro.store.workspace import Workspace
from slurm.graph import Graph, Resources, Task

if TYPE_CHECKING:
    from slurm.environment import Code
    from slurm.folder import Outcome

_COLLATE = Resources(cpus=1, memory_gb=4.0, minutes=20)


def run(
    request: Request,
    settings: Settings,
    command: Sequence[str],
    views: Views,
    limit: str | None = None,
    trim: bool = False,
    agreed: bool = False,
) -> int:
    """Do what is missing of a request, then print the table; returns the exit status.

    limit, trim: see budget.py.  agreed: see `missing_data.complete`.

    Raises:
        UserError: a seed that is kept for tuning.
    """
    tuning.refuse_kept(request.seeds)
    return carry_out(budget.within(request, settings, limit, trim), settings, command, views, agreed)


def carry_out(planned: Plan, settings: Settings, command: Sequence[str], views: Views, agreed: bool = False) -> int:
    """Do what is missing of a plan, then write the boards and print the table; returns the exit status."""
    place = Workspace(settings.workspace)
    known = [job.fingerprint for job in planned.jobs]
    return perform(
        planned,
        settings,
        command,
        lambda: views.finish(known, planned.track, place),
        Fresh(place, views),
        closing=lambda graph: _collate(graph, planned, settings),
        agreed=agreed,
    )


def perform(
    planned: Plan,
    settings: Settings,
    command: Sequence[str],
    report: Callable[[], None],
    meanwhile: Callable[[], None] = lambda: None,
    *,
    closing: Callable[[Graph], Task] | None = None,
    agreed: bool = False,
) -> int:
    """Do what is missing of a plan; returns the exit status. agreed: see `missing_data.complete`.

    On this machine `meanwhile` is called whenever a task has ended, and `report` at the end; on a cluster `closing`
    makes a last task, which is to run when all others have ended.
    """
    submit.require_profile(settings)
    require_writable(settings.workspace)
    imports.require_real()
    place = Workspace(settings.workspace)
    for fault in planned.faults:
        print(f"skipped: {fault}", file=sys.stderr)
    if planned.account:
        print(account.words(planned.account), *few_pictures.words(planned.fits), sep="\n", flush=True)
    for line in planned.left_out_lines() + planned.other_data_lines():
        print(line)
    todo = planned.to_do()
    missing_data.complete(planned, settings.where, agreed)
    for choice in planned.choices if todo else ():
        print(choice.line(here=True))
    if not todo:
        print(f"everything was cached: {len(planned.jobs)} jobs, nothing to do")
        report()
        return 0
    reason = submit.why_local(settings)
    on_slurm = reason is None
    if submit.unanswered(settings, reason):
        print(
            f"{reason}. Running on this machine; with --executor slurm the command would stop instead",
            file=sys.stderr,
            flush=True,
        )
    graph = graph_of(planned, settings)
    if on_slurm:
        graph = submit.beside_live(graph, place)
    print(
        f"track {planned.track.name}: {len(todo)} jobs in {len(graph)} tasks"
        f" ({len(planned.jobs) - len(todo)} cached); logs in {place.processes / 'logs'}",
        flush=True,
    )
    code = snapshot.take(place, [job.module for job in todo])
    try:
        if on_slurm:
            submit.submit(Graph([*graph, closing(graph)]) if closing else graph, settings, place, code)
            if not closing:
                print("table, when done:     the same command again")
            return 0
        outcomes = run_here(graph, settings, place, code, meanwhile)
    except KeyboardInterrupt:
        again = f"; go on with: python -m repro {shlex.join(command)}" if command else ""
        print(f"\ninterrupted: finished jobs and checkpoints are kept in {settings.workspace}{again}")
        return 130
    report()
    return print_failures(outcomes)


def print_failures(outcomes: Mapping[str, Outcome]) -> int:
    """A line for each task that is not done; returns the exit status."""
    failed = [outcome for outcome in outcomes.values() if outcome.state != "done"]
    for outcome in failed:
        print(f"{outcome.state}: {outcome.key}: {outcome.reason}" + (f" (log: {outcome.log})" if outcome.log else ""))
    return 1 if failed else 0


def _collate(graph: Graph, planned: Plan, settings: Settings) -> Task:
    """The task that ends a submission: it runs when all others have ended, however they ended."""
    fingerprints = [job.fingerprint for job in planned.jobs]
    return Task(
        key=f"collate-{planned.track.name}-{digest(fingerprints)[:8]}",
        target="repro.results.end_of_run:collate",
        args={
            "workspace": str(settings.workspace.resolve()),
            "track": planned.track.name,
            "fingerprints": fingerprints,
            "keys": [task.key for task in graph],
        },
        resources=_COLLATE,
        after=tuple(task.key for task in graph),
        stage="collate",
        always=True,
    )


def run_here(
    graph: Graph, settings: Settings, place: Workspace, code: Code, meanwhile: Callable[[], None]
) -> dict[str, Outcome]:
    """Run a graph on this machine, with bars or lines that say how it goes; `meanwhile` is called as tasks end."""
    from slurm import local

    require_temporary()
    with display(graph) as show_event:

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
                patience=settings.patience,
                code=code,
                on_event=on_event,
            )
        except ValueError as error:
            raise UserError(str(error)) from None
