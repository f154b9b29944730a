"""`repro settle` on SLURM: a job that looks, submits the pairs that come next, and a job that looks again after them.

No job waits while others run. The jobs of a look are submitted as a graph whose last task is the next look, so nothing
is lost where SLURM ends a job, or queues it again: a look that was cut short begins again, leaves alone what is queued,
running or done, and counts what it has begun once (`settle_ledger.py`). A look that a later one has overtaken does
nothing. Between two looks a claim gets all the pairs before which it cannot be decided: five at first, then one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.plan.budget import Budget
from repro.plan.planned import merge
from repro.plan.tasks import TARGET
from repro.results import own_claims
from repro.results.agreement import Parse
from repro.results.settle import ask, ending, line, look, preview, settle
from repro.results.settle_asked import Asked
from repro.results.settle_ledger import Ledger
from repro.results.settle_round import affordable
from repro.run import execute, submit
from repro.run.task_states import states
from repro.settings import Settings
from repro.store.workspace import Workspace
from repro.terminal import text
from slurm import watch
from slurm.graph import Graph, Resources, Task

_LOOK = "repro.cli.settling:again"
_STAGE = "settle"
_TRIES, _PAUSE = 20, 180.0  # looks that failed are repeated for an hour
_NEEDS = Resources(cpus=1, memory_gb=4.0, minutes=240)  # it may wait for room in the queue

Own = Mapping[str, Any]
"""What `own_claims.claims_of` is told, but for the track; empty for claims of papers."""


def start(asked: Asked, own: Own, words: str, *, dry: bool, spent: float = 0.0) -> int:
    """Decide claims within a budget, here or on SLURM as `run` would; returns the exit status.

    spent: seconds on this machine that count, too.
    """
    budget = Budget.parse(words)
    if dry:
        print(preview(asked, budget, on_slurm=budget.gpu or asked.settings.executor == "slurm"))
        return 0
    on_slurm = submit.why_local(asked.settings) is None
    if budget.gpu and not on_slurm:
        raise UserError(f"--budget {words}: on this machine settle uses wall-clock time; give hours, such as 3h")
    if not on_slurm:
        return settle(asked, budget, spent)
    ledger = asked.ledger(budget, on_slurm=True)
    for state in states(Workspace(asked.settings.workspace)):
        if state.live and state.task.stage == _STAGE and state.key.startswith(_prefix(ledger)):
            print(f"already running: {state.key} [{state.job}] looks next; python -m repro status shows its pairs")
            return 0
    with ledger.held():
        ledger.ask()
        return _round(asked, own, ledger, ledger.round + 1)


def go_on(told: Mapping[str, Any], parse: Parse) -> int:
    """The next look, in a job; returns the exit status."""
    data = Path(told["data_root"]) if told["data_root"] else None
    place = Path(told["workspace"])
    settings = Settings(place, data, "slurm", told["cluster"], told["card"])
    own: Own = told["own"]
    claims = own_claims.claims_of(track=told["track"], **own) if own else ()
    asked = ask(() if own else told["claims"], None, told["track"], settings, parse, claims, told["unequal"])
    ledger = asked.ledger(Budget.parse(told["budget"]), on_slurm=True)
    watch.rest()  # it waits for as long as SLURM takes no more jobs, which is no hang
    with ledger.held():
        if ledger.round > told["number"]:
            print("a later look has gone on from here")
            return 0
        for _ in range(_TRIES):
            try:
                return _round(asked, own, ledger, max(ledger.round, told["number"]))  # it may have come further
            except UserError as error:  # perhaps SLURM does not answer for a while
                print(f"{error}; looking again in {text.duration(_PAUSE)}", flush=True)
                time.sleep(_PAUSE)
        return _round(asked, own, ledger, max(ledger.round, told["number"]))


def _round(asked: Asked, own: Own, ledger: Ledger, number: int) -> int:
    """Look, and submit what comes next with the look after it; or say how it ended."""
    settings, place = asked.settings, Workspace(asked.settings.workspace)
    ledger.begin_round(number)
    live = {
        job["fingerprint"]
        for state in states(place)
        if state.live and state.task.target == TARGET
        for job in state.task.args["jobs"]
    }
    steps = look(asked, ledger, live)
    print(*map(line, steps), sep="\n", flush=True)
    chosen = affordable(steps, ledger.left)
    if not chosen:
        print(ending(steps, ledger, asked))
        ledger.close()
        return 1 if ledger.failed else 0
    for step in chosen:
        ledger.begin(step.claim.id, step.commands, step.plans)
    planned = merge([planned for step in chosen for planned in step.plans])
    if not planned.to_do():  # all was made before, and did not count: the next look says so
        return _round(asked, own, ledger, number + 1)
    words = [_STAGE, *(claim.id for claim in asked.claims)]
    status = execute.perform(
        planned, settings, words, lambda: None, closing=lambda graph: _next_look(graph, asked, own, ledger, number + 1)
    )
    print(f"looks again when they have ended: {_prefix(ledger)}{number + 1}; the log of the last look has the table")
    return status


def _next_look(graph: Graph, asked: Asked, own: Own, ledger: Ledger, number: int) -> Task:
    settings = asked.settings
    profile = Path(settings.cluster).resolve() if settings.cluster.endswith(".toml") else settings.cluster
    return Task(
        key=f"{_prefix(ledger)}{number}",
        target=_LOOK,
        args={
            "claims": [claim.id for claim in asked.claims],
            "own": dict(own),
            "track": asked.track,
            "unequal": asked.unequal,
            "budget": ledger.budget.text,
            "number": number,
            "workspace": str(settings.workspace.resolve()),
            "data_root": str(settings.data_root.resolve()) if settings.data_root else None,
            "cluster": str(profile),
            "card": settings.card,
        },
        resources=_NEEDS,
        after=tuple(task.key for task in graph),
        stage=_STAGE,
        always=True,
    )


def _prefix(ledger: Ledger) -> str:
    assert ledger.path
    return f"{_STAGE}-{ledger.path.stem}-"
