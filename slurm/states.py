"""Where every node stands that was ever submitted from a folder, to whichever executor.

All of it follows from the folder, one squeue, and one sacct for what squeue has forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from slurm import scheduler
from slurm.folder import Folder, Outcome, last_line, ran_out_of_memory, read_node, try_lock
from slurm.graph import Graph, Node
from slurm.journal import Entry, Journal
from slurm.progress import Progress

# submitit's words in a job that reached its limit and may not be queued again; SLURM calls it FAILED.
_TOO_OFTEN = "not requeued because: timed-out"
State = Literal["unsubmitted", "pending", "running", "done", "failed", "timeout", "cancelled", "interrupted", "blocked"]


@dataclass(frozen=True)
class NodeState:
    """Where a submitted node stands.

    Attributes:
        state: "unsubmitted": SLURM does not know this node (yet). "interrupted": the local executor ended before it.
            "blocked": a node it waits for did not finish.
        reason: one line: what a pending node waits for, why one did not finish.
        entry: how it was submitted; `entry.job` is SLURM's number, empty where there is none.
        restarts: how often SLURM queued it again: preemption, a failed machine, its time limit, or by hand.
        progress: last report of the job, when it runs.
        outcome: what the node left, when it ended in this submission.
    """

    node: Node
    state: State
    reason: str
    entry: Entry
    log: Path
    restarts: int = 0
    progress: Progress | None = None
    outcome: Outcome | None = None

    @property
    def key(self) -> str:
        return self.node.key

    @property
    def job(self) -> str:
        return self.entry.job

    @property
    def live(self) -> bool:
        return self.state in ("pending", "running")

    @property
    def lost(self) -> bool:
        """It is not done and nobody is at it."""
        return not self.live and self.state != "done"


def states(folder: Path) -> list[NodeState]:
    """Every node ever submitted from this folder as it stands now, in the order of submission but for children whose
    parents were submitted again after them.

    Empty where nothing was submitted. Raises ValueError where something is with SLURM and that does not answer.
    """
    place = Folder(folder)
    return of_journal(Journal(place), place)


def of_journal(journal: Journal, place: Folder) -> list[NodeState]:
    """`states`, from a journal that was read already."""
    with_slurm = [entry for entry in journal.entries.values() if entry.job]
    owners = {entry.owner or scheduler.user() for entry in with_slurm}
    known = scheduler.jobs((entry.job for entry in with_slurm), owners)
    alive = {run: place.run_lives(run) for run in {entry.run for entry in journal.entries.values() if entry.run}}
    found: dict[str, NodeState] = {}
    for node in _in_order(journal, place):
        key, entry = node.key, journal.entries[node.key]
        parents = [found[parent] for parent in node.after if parent in found]
        if entry.run:
            found[key] = _here(node, entry, alive[entry.run], parents, place)
        else:
            found[key] = _on_cluster(node, entry, known.get(entry.job), parents, place)
    return list(found.values())


def _in_order(journal: Journal, place: Folder) -> Iterator[Node]:
    """The nodes as they were last planned, parents before their children: a parent may have been planned again."""
    nodes = [read_node(place.node(key, entry.digest)) for key, entry in journal.entries.items()]
    known = {node.key: tuple(parent for parent in node.after if parent in journal.entries) for node in nodes}
    whole = {node.key: node for node in nodes}
    for node in Graph(replace(node, after=known[node.key]) for node in nodes):
        yield whole[node.key]


def _here(node: Node, entry: Entry, alive: bool, parents: Sequence[NodeState], place: Folder) -> NodeState:
    """A node of the local executor: one whose lock is held is running."""
    outcome = place.read_outcome(node.key)
    if outcome and (outcome.digest != entry.digest or outcome.ended < entry.time):
        outcome = None

    def state(name: State, reason: str = "", report: Progress | None = None) -> NodeState:
        return NodeState(node, name, reason, entry, place.log(node.key), 0, report, outcome)

    if outcome:
        return state(outcome.state, outcome.reason)
    lock = try_lock(place.lock(node.key))
    if lock is None:
        return state("running", "", place.read_progress(node.key, entry.time))
    os.close(lock)
    if alive:
        waits = [parent.key for parent in parents if parent.live]
        return state("pending", f"waits for {waits[0]}" if waits else "waits for cores, memory or GPUs")
    return state("interrupted", "the run that was to do it ended before it: retry, or give its command again")


def _on_cluster(
    node: Node, entry: Entry, job: scheduler.Job | None, parents: Sequence[NodeState], place: Folder
) -> NodeState:
    log = place.log(node.key)
    outcome = place.read_outcome(node.key)
    if outcome and (outcome.job != entry.job or outcome.digest != entry.digest):
        outcome = None
    # The job counts its own restarts too: SLURM forgets, and without accounting soon.
    restarts = max(job.restarts if job else 0, outcome.restarts if outcome else 0)

    def state(name: State, reason: str = "", report: Progress | None = None) -> NodeState:
        return NodeState(node, name, reason, entry, log, restarts, report, outcome)

    lost = None if node.always else next((parent for parent in parents if parent.lost), None)
    blocked = f"'{lost.key}' {lost.state}" if lost and lost.state != "blocked" else lost.reason if lost else ""
    if not entry.job:
        if lost and lost.state != "unsubmitted":
            return state("blocked", blocked)
        return state("unsubmitted", "not queued: if no submission is under way, retry, or give the command again")
    word, reason = (job.word, job.reason) if job else ("", "")
    ended = scheduler.ENDED.get(word)
    if entry.cancelled and (word in scheduler.RUNNING or (word and not ended)):
        return state("cancelled", "on request")  # it is about to end
    if word in scheduler.RUNNING:
        report = place.read_progress(node.key, entry.time)
        return state("running", "" if word == "RUNNING" else word.lower(), report)
    if word and not ended:
        return state("pending", reason)
    if outcome and outcome.state == "done":
        return state("done", "" if word in ("COMPLETED", "") else f"its result is whole, though SLURM calls it {word}")
    if outcome and _TOO_OFTEN in outcome.reason:
        return state("timeout", "reached its time limit once more than the profile's requeues allow")
    if outcome:
        return state(outcome.state, outcome.reason)
    if word == "CANCELLED" and reason in ("Dependency", "DependencyNeverSatisfied") and lost:
        return state("blocked", blocked)
    if word == "CANCELLED":
        return state("cancelled", "on request" if entry.cancelled else "by hand, or by the cluster")
    if entry.cancelled and not word:  # accounting never learns of an array's element that had not begun
        return state("cancelled", "on request")
    failure = place.first_failure(node) if word in ("FAILED", "COMPLETED", "") else None
    if failure and (failure.job, failure.digest) == (entry.job, entry.digest):
        return state("failed", failure.reason)  # srun ended the node's first process before it could say so
    if not word and lost and lost.state != "unsubmitted":
        return state("blocked", blocked)  # it left nothing, so it never ran
    if not ended:
        ended = "SLURM no longer knows it"
    elif word == "FAILED" and ran_out_of_memory(log):
        ended = scheduler.ENDED["OUT_OF_MEMORY"]
    elif word == "COMPLETED":
        ended = "SLURM calls it COMPLETED, but it left no outcome"
    line = last_line(log)
    return state(
        "timeout" if word == "TIMEOUT" else "failed", f"{ended}; last line of its log: {line}" if line else ended
    )


def with_dependants(chosen: Mapping[str, Any], found: Sequence[NodeState]) -> list[NodeState]:
    """The nodes of these keys and all that wait for them, directly or not, in the order of `found`."""
    taken = dict.fromkeys(chosen)
    for state in found:  # parents stand before their children
        if any(parent in taken for parent in state.node.after):
            taken[state.key] = None
    return [state for state in found if state.key in taken]
