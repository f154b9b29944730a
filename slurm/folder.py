"""What running a graph leaves in its folder, and the one way each part is written and read.

    nodes/KEY-DIGEST.json   a task as it was asked for
    outcomes/KEY.json       how it ended
    parts/KEY.RANK.json     how one of its several ranks ended
    progress/KEY.json       its last report (slurm.progress)
    logs/KEY.log            what it printed (on SLURM a link to submitit's file)
    locks/KEY.lock          held by the process that runs it, so that nobody else does; what rank 0 says there is for
                            the other ranks (slurm.ranks)
    locks/RUN.run           held by a run of the local executor
    cancel/KEY              the local executor is asked to end this task
    journal.jsonl           what was submitted (slurm.journal)
    submitit/               SLURM only: submitit's own files

The folder may be shared by machines (locks are flock, which NFS passes on). These names, and the keys in the files,
are found in workspaces of older versions, and read by tasks that run with older code: they stay, `nodes` for tasks too.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from slurm import progress
from slurm.files import try_lock, write_json
from slurm.graph import Task
from slurm.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        state: "done"; "failed"; "cancelled"; or "blocked", when a task it waits for was not done.
        reason: one line, empty when done.
        value: what the target returned.
        log: file with everything it printed; empty where it never ran.
        seconds, cpu_seconds: of the call; memory is the process's peak, its largest child added. Zero if it was killed.
        ended: unix time.
        digest, pid, job: whose outcome this is; `job` is SLURM's number, empty on this machine.
        restarts: how often SLURM had queued it again.
    """

    key: str
    state: Literal["done", "failed", "cancelled", "blocked"]
    reason: str = ""
    value: Any = None
    log: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    ended: float = 0.0
    digest: str = ""
    pid: int = 0
    job: str = ""
    restarts: int = 0


class Folder:
    """Paths below one root, which is created. Raises ValueError where it cannot be."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            for name in ("nodes", "outcomes", "parts", "progress", "logs", "locks", "cancel"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot create {error.filename}: {error.strerror}; choose another folder") from None
        self.journal = self.root / "journal.jsonl"
        self.submitit = self.root / "submitit"

    def task(self, key: str, digest: str) -> Path:
        return self.root / "nodes" / f"{key}-{digest}.json"

    def outcome(self, key: str, rank: int | None = None) -> Path:
        """Of the task, or of one of its several ranks."""
        return self.root / "outcomes" / f"{key}.json" if rank is None else self.root / "parts" / f"{key}.{rank}.json"

    def progress(self, key: str) -> Path:
        return self.root / "progress" / f"{key}.json"

    def log(self, key: str) -> Path:
        return self.root / "logs" / f"{key}.log"

    def lock(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"

    def cancel(self, key: str) -> Path:
        return self.root / "cancel" / key

    def run(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.run"

    def run_lives(self, name: str) -> bool:
        """Is that run of the local executor going on?"""
        if not self.run(name).exists():
            return False
        lock = try_lock(self.run(name))
        if lock is not None:
            os.close(lock)
        return lock is None

    def read_progress(self, key: str, since: float) -> Progress | None:
        """The last report of a task, unless it is older than `since` (unix time): an earlier process left that."""
        report = progress.read(self.progress(key))
        return report if report and report.time >= since else None

    def write_task(self, task: Task) -> Path:
        path = self.task(task.key, task.digest)
        # What is there may wait for others; what is the same need not go to the disk again.
        if not path.exists() or read_task(path) != task:
            write_json(path, task.to_json())
        return path

    def write_outcome(self, outcome: Outcome, rank: int | None = None) -> None:
        write_json(self.outcome(outcome.key, rank), asdict(outcome))

    def read_outcome(self, key: str, rank: int | None = None) -> Outcome | None:
        try:
            return Outcome(**json.loads(self.outcome(key, rank).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def finished_since(self, task: Task, start: float) -> Outcome | None:
        """The outcome of the same work, done by somebody else since `start` (unix time)."""
        outcome = self.read_outcome(task.key)
        if outcome and outcome.state == "done" and outcome.digest == task.digest and outcome.ended >= start:
            return outcome
        return None

    def forget_ranks(self, task: Task) -> None:
        for rank in range(task.resources.ranks):
            self.outcome(task.key, rank).unlink(missing_ok=True)

    def first_failure(self, task: Task) -> Outcome | None:
        """Which of a task's several ranks failed first, of those that could say so: the others have followed it."""
        ranks = range(task.resources.ranks) if task.resources.ranks > 1 else ()
        ends = {rank: self.read_outcome(task.key, rank) for rank in ranks}
        # A rank on a node that was given up for lost may wake up beside the job's next life, and fail then.
        life = max((end.restarts for end in ends.values() if end), default=0)
        failed = {rank: end for rank, end in ends.items() if end and (end.state, end.restarts) == ("failed", life)}
        if not failed:
            return None
        rank, first = min(failed.items(), key=lambda item: item[1].ended)
        alike = len({end.reason for end in failed.values()}) == 1 and len(failed) == len(ranks)
        named = "" if alike else f"rank {rank} of {len(ranks)}: "
        return replace(first, reason=named + first.reason)


def read_task(path: Path) -> Task:
    return Task.from_json(json.loads(path.read_text(encoding="utf-8")))
