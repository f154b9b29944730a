"""The states of SLURM jobs, and the state of a task that follows from each.

A new state of SLURM is a line in RUNNING or ENDED (of any other word a job waits). Where it tells more than that, it is
a rule: RULES are tried in their order, and the first that fits the facts says where the task stands and why.
slurm.status gathers the facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurm.folder import Outcome
from slurm.graph import Task
from slurm.journal import Entry
from slurm.logs import quoted
from slurm.progress import Progress

State = Literal["unsubmitted", "pending", "running", "done", "failed", "timeout", "cancelled", "interrupted", "blocked"]


@dataclass(frozen=True)
class TaskState:
    """Where a submitted task stands.

    Attributes:
        state: "unsubmitted": SLURM does not know this task (yet). "interrupted": the local executor ended before it.
            "blocked": a task it waits for did not finish.
        reason: one line: what a pending task waits for, why one did not finish.
        entry: how it was submitted; `entry.job` is SLURM's number, empty where there is none.
        restarts: how often SLURM queued it again: preemption, a failed machine, its time limit, or by hand.
        progress: its last report, when it runs.
        outcome: what it left, when it ended in this submission.
        nodes: the nodes that its job has or had last, as SLURM abbreviates them; empty where that is not known.
    """

    task: Task
    state: State
    reason: str
    entry: Entry
    log: Path
    restarts: int = 0
    progress: Progress | None = None
    outcome: Outcome | None = None
    nodes: str = ""

    @property
    def key(self) -> str:
        return self.task.key

    @property
    def job(self) -> str:
        return self.entry.job

    @property
    def live(self) -> bool:
        return self.state in ("pending", "running")

    @property
    def lost(self) -> bool:
        """It is not done, and no process works on it."""
        return not self.live and self.state != "done"


def blocked_by(parent: TaskState | Outcome) -> str:
    """The reason of a task that waits for one which is not done; a blocked one hands on its own."""
    return parent.reason if parent.state == "blocked" else f"'{parent.key}' {parent.state}"


# SLURM's words for a job that it runs, and what is said of it.
RUNNING = {
    "RUNNING": "",
    "COMPLETING": "completing",
    "SUSPENDED": "suspended",
    "STOPPED": "stopped",
    "SIGNALING": "signaling",
    "STAGE_OUT": "stage_out",
}
# SLURM's words for a job that has ended, and what is said of it where it left no outcome.
ENDED = {
    "COMPLETED": "SLURM calls it COMPLETED, but it left no result",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "reached its time limit",
    "OUT_OF_MEMORY": "ran out of memory",
    "NODE_FAIL": "its machine failed",
    "PREEMPTED": "was preempted",
    "BOOT_FAIL": "its machine did not boot",
    "DEADLINE": "reached its deadline",
}
FORGOTTEN = ""  # in place of a word, where neither squeue nor sacct knows the job
_NEVER_STARTED = ("Dependency", "DependencyNeverSatisfied")  # SLURM's reasons: what the job waited for has failed


@dataclass(frozen=True)
class Facts:
    """All that decides the state of a task that was submitted to SLURM.

    Attributes:
        queued: it got a job.
        cancelled: we were asked to cancel it.
        word: SLURM's word for the state of its job, or FORGOTTEN.
        why: SLURM's own reason, such as what a pending job waits for.
        left: the state in the outcome that this job left, "" where it left none.
        left_reason: the reason in that outcome.
        timed_out_too_often: by that outcome it reached its time limit, and might not be queued again.
        lost_parent: the state of a task that it waits for in vain, "" where there is none.
        blocked: what is said of it where there is one.
        failed_rank: why the first of its ranks failed that could say so, "" where none did.
        killed_for_memory: SLURM's words in its log are that it took too much memory.
        last_line: of its log.
        no_log: where its log must be, there is none.
        nodes: that the job had, as SLURM abbreviates them.
    """

    queued: bool = True
    cancelled: bool = False
    word: str = FORGOTTEN
    why: str = ""
    left: str = ""
    left_reason: str = ""
    timed_out_too_often: bool = False
    lost_parent: str = ""
    blocked: str = ""
    failed_rank: str = ""
    killed_for_memory: bool = False
    last_line: str = ""
    no_log: bool = False
    nodes: str = ""

    @property
    def live(self) -> bool:
        """SLURM knows the job and has not ended it."""
        return self.word != FORGOTTEN and self.word not in ENDED

    @property
    def never_runs(self) -> bool:
        """A task that it waits for has ended without being done. (One that was not submitted may still be.)"""
        return self.lost_parent not in ("", "unsubmitted")

    @property
    def said(self) -> str:
        """What is said of a job with this word."""
        return (RUNNING | ENDED).get(self.word, "")

    @property
    def log(self) -> str:
        """What is added to the reason if the task gave none."""
        return quoted(self.last_line)


@dataclass(frozen=True)
class Rule:
    """If it fits, the task is in this state for this reason: a text with {0.NAME} for a fact."""

    name: str
    fits: Callable[[Facts], bool]
    state: State
    reason: str = ""

    def words(self, facts: Facts) -> str:
        """The reason of the task that has these facts."""
        return self.reason.format(facts)


RULES = (
    # It got no job.
    Rule("blocked before it was queued", lambda it: not it.queued and it.never_runs, "blocked", "{0.blocked}"),
    Rule(
        "never queued",
        lambda it: not it.queued,
        "unsubmitted",
        "not queued: if no command is submitting now, use retry, or run the command again",
    ),
    # SLURM has not ended its job.
    Rule("about to be cancelled", lambda it: it.live and it.cancelled, "cancelled", "on request"),
    Rule("running", lambda it: it.word in RUNNING, "running", "{0.said}"),
    Rule("waiting", lambda it: it.live, "pending", "{0.why}"),
    # The job left an outcome.
    Rule("done", lambda it: it.left == "done" and it.word in ("COMPLETED", FORGOTTEN), "done"),
    Rule(
        "done, whatever SLURM calls it",
        lambda it: it.left == "done",
        "done",
        "its result is complete, although SLURM calls it {0.word}",
    ),
    Rule(
        "no requeue is left",
        lambda it: it.timed_out_too_often,
        "timeout",
        "reached its time limit again after all requeues that the profile allows",
    ),
    Rule("failed and said why", lambda it: it.left != "", "failed", "{0.left_reason}"),
    # The job ended without an outcome.
    Rule(
        "ended because its parent failed",
        lambda it: it.word == "CANCELLED" and it.why in _NEVER_STARTED and it.lost_parent != "",
        "blocked",
        "{0.blocked}",
    ),
    # Accounting never learns of an element of an array that was cancelled before it began.
    Rule(
        "cancelled on request",
        lambda it: it.cancelled and it.word in ("CANCELLED", FORGOTTEN),
        "cancelled",
        "on request",
    ),
    Rule("cancelled by others", lambda it: it.word == "CANCELLED", "cancelled", "by hand, or by the cluster"),
    # srun ended rank 0 before it could speak for the task.
    Rule(
        "one rank said why",
        lambda it: it.failed_rank != "" and it.word in ("FAILED", "COMPLETED", FORGOTTEN),
        "failed",
        "{0.failed_rank}",
    ),
    # It left nothing, so it never ran.
    Rule("blocked and forgotten", lambda it: it.word == FORGOTTEN and it.never_runs, "blocked", "{0.blocked}"),
    Rule("forgotten", lambda it: it.word == FORGOTTEN, "failed", "SLURM no longer knows it{0.log}"),
    Rule("reached its time limit", lambda it: it.word == "TIMEOUT", "timeout", "{0.said}{0.log}"),
    Rule(
        "killed for its memory",
        lambda it: it.word == "FAILED" and it.killed_for_memory,
        "failed",
        ENDED["OUT_OF_MEMORY"] + "{0.log}",
    ),
    Rule(
        "its node cannot write here",
        lambda it: it.word == "FAILED" and it.no_log and it.nodes != "",
        "failed",
        "it left no log: {0.nodes} cannot write to this workspace; choose one that all nodes see, or leave that node"
        " out (exclude, in [sbatch] of the profile)",
    ),
    Rule("ended without a reason", lambda it: it.word in ENDED, "failed", "{0.said}{0.log}"),
)


def rule_for(facts: Facts) -> Rule:
    """The first rule that fits."""
    return next(rule for rule in RULES if rule.fits(facts))
