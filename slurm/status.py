"""Where every task stands that was ever submitted from a folder, to whichever executor.

All of it follows from the folder, one squeue, and one sacct for what squeue has forgotten. Where a task of SLURM's
stands, slurm.states decides.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from slurm import logs, scheduler
from slurm.files import try_lock
from slurm.folder import Folder, Outcome, read_task
from slurm.graph import Graph, Task
from slurm.journal import Entry, Journal
from slurm.states import ENDED, FORGOTTEN, Facts, TaskState, blocked_by, rule_for


def of_folder(folder: Path) -> list[TaskState]:
    """Every task ever submitted from this folder as it stands now, in the order of submission but for children whose
    parents were submitted again after them.

    Empty where nothing was submitted. Raises ValueError where something is with SLURM and that does not answer.
    """
    place = Folder(folder)
    return of_journal(Journal(place), place)


def of_journal(journal: Journal, place: Folder) -> list[TaskState]:
    """`of_folder`, from a journal that was read already."""
    with_slurm = [entry for entry in journal.entries.values() if entry.job]
    owners = {entry.owner or scheduler.user() for entry in with_slurm}
    known = scheduler.jobs((entry.job for entry in with_slurm), owners)
    alive = {run: place.run_lives(run) for run in {entry.run for entry in journal.entries.values() if entry.run}}
    found: dict[str, TaskState] = {}
    for task in _in_order(journal, place):
        key, entry = task.key, journal.entries[task.key]
        parents = [found[parent] for parent in task.after if parent in found]
        if entry.run:
            found[key] = _here(task, entry, alive[entry.run], parents, place)
        else:
            found[key] = _on_slurm(task, entry, known.get(entry.job), parents, place)
    return list(found.values())


def with_dependants(chosen: Collection[str], found: Sequence[TaskState]) -> list[TaskState]:
    """The tasks of these keys and all that wait for them, directly or not, in the order of `found`."""
    taken = dict.fromkeys(chosen)
    for state in found:  # parents stand before their children
        if any(parent in taken for parent in state.task.after):
            taken[state.key] = None
    return [state for state in found if state.key in taken]


def _in_order(journal: Journal, place: Folder) -> Iterator[Task]:
    """The tasks as they were last planned, parents before their children: a parent may have been planned again."""
    tasks = [read_task(place.task(key, entry.digest)) for key, entry in journal.entries.items()]
    known = {task.key: tuple(parent for parent in task.after if parent in journal.entries) for task in tasks}
    whole = {task.key: task for task in tasks}
    for task in Graph(replace(task, after=known[task.key]) for task in tasks):
        yield whole[task.key]


def _here(task: Task, entry: Entry, alive: bool, parents: Sequence[TaskState], place: Folder) -> TaskState:
    """A task of the local executor: one whose lock is held is running."""
    outcome = place.read_outcome(task.key)
    if outcome and outcome.digest == entry.digest and outcome.ended >= entry.time:
        return TaskState(task, outcome.state, outcome.reason, entry, place.log(task.key), outcome=outcome)
    interrupted = TaskState(
        task,
        "interrupted",
        "the command that should run it ended first: use retry, or run the command again",
        entry,
        place.log(task.key),
    )
    lock = try_lock(place.lock(task.key))
    if lock is None:
        return replace(interrupted, state="running", reason="", progress=place.read_progress(task.key, entry.time))
    os.close(lock)
    if alive:
        waits = [parent.key for parent in parents if parent.live]
        reason = f"waits for {waits[0]}" if waits else "waits for cores, memory or GPUs"
        return replace(interrupted, state="pending", reason=reason)
    return interrupted


def _on_slurm(
    task: Task, entry: Entry, job: scheduler.Job | None, parents: Sequence[TaskState], place: Folder
) -> TaskState:
    outcome = place.read_outcome(task.key)
    if outcome and (outcome.job, outcome.digest) != (entry.job, entry.digest):
        outcome = None
    facts = _facts(task, entry, job, outcome, parents, place)
    rule = rule_for(facts)
    return TaskState(
        task=task,
        state=rule.state,
        reason=rule.words(facts),
        entry=entry,
        log=place.log(task.key),
        # The task counts its own restarts too: SLURM forgets, and without accounting soon.
        restarts=max(job.restarts if job else 0, outcome.restarts if outcome else 0),
        progress=place.read_progress(task.key, entry.time) if rule.state == "running" else None,
        outcome=outcome,
        nodes=job.nodes if job else "",
    )


def _facts(
    task: Task,
    entry: Entry,
    job: scheduler.Job | None,
    outcome: Outcome | None,
    parents: Sequence[TaskState],
    place: Folder,
) -> Facts:
    lost = None if task.always else next((parent for parent in parents if parent.lost), None)
    facts = Facts(
        queued=bool(entry.job),
        cancelled=entry.cancelled,
        word=job.word if job else FORGOTTEN,
        why=job.reason if job else "",
        left=outcome.state if outcome else "",
        left_reason=outcome.reason if outcome else "",
        timed_out_too_often=outcome is not None and scheduler.timed_out_too_often(outcome.reason),
        lost_parent=lost.state if lost else "",
        blocked=blocked_by(lost) if lost else "",
    )
    if outcome or not entry.job or facts.word not in (*ENDED, FORGOTTEN):
        return facts
    # Only of a task that ended without a word more files are read: thousands may be done.
    log, failure = place.log(task.key), place.first_failure(task)
    return replace(
        facts,
        failed_rank=failure.reason if failure and (failure.job, failure.digest) == (entry.job, entry.digest) else "",
        killed_for_memory=scheduler.killed_for_memory(logs.last_lines(log)),
        last_line=logs.last_line(log),
        no_log=not log.exists(),
        nodes=job.nodes if job else "",
    )
