"""What running a graph leaves in its folder, and the one way each part is written and read.

    nodes/KEY-DIGEST.json   a node as it was asked for
    outcomes/KEY.json       how it ended
    parts/KEY.RANK.json     how one of its several processes ended
    progress/KEY.json       its last report (slurm.progress)
    logs/KEY.log            what it printed (on SLURM a link to submitit's file)
    locks/KEY.lock          held by the process that runs it, so that nobody else does; what it says there is for the
                            others of a node's several processes (slurm.worker)
    locks/RUN.run           held by a run of the local executor
    cancel/KEY              the local executor is asked to end this node
    journal.jsonl           what was submitted (slurm.journal)
    submitit/               SLURM only: submitit's own files

The folder may be shared by machines (locks are flock, which NFS passes on).
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from slurm import progress
from slurm.graph import Node
from slurm.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """How a node ended.

    Attributes:
        state: "done"; "failed"; "cancelled"; or "blocked", when a node it waits for was not done.
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

    def node(self, key: str, digest: str) -> Path:
        return self.root / "nodes" / f"{key}-{digest}.json"

    def outcome(self, key: str, rank: int | None = None) -> Path:
        """Of the node, or of one of its several processes."""
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
        """The last report of a node, unless it is older than `since` (unix time): an earlier process left that."""
        report = progress.read(self.progress(key))
        return report if report and report.time >= since else None

    def write_node(self, node: Node) -> Path:
        path = self.node(node.key, node.digest)
        # What is there may wait for others; what is the same need not go to the disk again.
        if not path.exists() or read_node(path) != node:
            write_json(path, node.to_json())
        return path

    def write_outcome(self, outcome: Outcome, rank: int | None = None) -> None:
        write_json(self.outcome(outcome.key, rank), asdict(outcome))

    def read_outcome(self, key: str, rank: int | None = None) -> Outcome | None:
        try:
            return Outcome(**json.loads(self.outcome(key, rank).read_text()))
        except FileNotFoundError:
            return None

    def forget_parts(self, node: Node) -> None:
        for rank in range(node.resources.processes):
            self.outcome(node.key, rank).unlink(missing_ok=True)

    def first_failure(self, node: Node) -> Outcome | None:
        """Which of a node's several processes failed first, of those that could say so: the others have followed it."""
        processes = range(node.resources.processes) if node.resources.processes > 1 else ()
        parts = {rank: self.read_outcome(node.key, rank) for rank in processes}
        failed = {rank: part for rank, part in parts.items() if part and part.state == "failed"}
        if not failed:
            return None
        rank, first = min(failed.items(), key=lambda item: item[1].ended)
        alike = len({part.reason for part in failed.values()}) == 1 and len(failed) == len(processes)
        named = "" if alike else f"process {rank} of {len(processes)}: "
        return replace(first, reason=named + first.reason)


def read_node(path: Path) -> Node:
    return Node.from_json(json.loads(path.read_text()))


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text`, whole or not at all, whatever dies in between. Raises OSError."""
    path = path.absolute()  # "." has no name that one beside it could be made of
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number, which is another's on another machine; nor tempfile's, which only we could read.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    """`write_atomic` of a plain value."""
    write_atomic(path, json.dumps(data, indent=1))


def try_lock(path: Path) -> int | None:
    """Take the lock and return its file descriptor, or None while somebody else holds it.

    The kernel releases it when the descriptor is closed, by hand or by death. Raises ValueError, in one line, where the
    file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise ValueError(f"cannot lock {path} ({error.strerror}): use a folder whose file system has flock") from None
    return descriptor


def last_line(log: Path, at_most: int = 300) -> str:
    """The last line of a log that tells something: not empty (a progress bar's carriage return ends a line too), and
    no remark of srun's except its errors."""
    told = (
        line.strip()
        for line in reversed(_last_lines(log))
        if not line.startswith("srun: ") or line.startswith("srun: error:")
    )
    return next((line[:at_most] for line in told if line), "")


def ran_out_of_memory(log: Path) -> bool:
    """Whether SLURM's own words at the end of a log are that the job took more memory than it had asked for.

    Where memory is watched without control groups, SLURM calls such a job only FAILED.
    """
    words = ("exceeded memory limit", "oom-kill", "oom_kill")
    return any(line.startswith("slurmstepd") and any(word in line for word in words) for line in _last_lines(log))


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except FileNotFoundError:
        return []
