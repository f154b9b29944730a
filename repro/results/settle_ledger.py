"""What a settlement has begun, and what it has spent: a journal of lines of JSON, so that it goes on whatever ends it.

    asked     the command was given: claims that had failed before are tried again
    round     a job on SLURM looks for the so-manieth time
    began     a pair: the claim, its commands, and of each of its jobs the estimate and the GPUs that it holds
    ended     the last pair of a claim, on this machine: how long it took, and why it failed
    cut       the last pair of a claim was interrupted: how long it took until then
    closed    nothing more is to do: whoever asks now begins a settlement of his own

What was made is told by the workspace's records alone, so a line too few or twice changes no verdict. On this machine a
budget is wall-clock time: of a pair that was killed the time of what it finished counts. On SLURM it is GPU-hours by
the records, by the estimate while there is none; a job without a GPU counts as if it held one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.plan.budget import Budget
from repro.plan.planned import Plan, PlannedJob
from repro.store.hashes import digest
from repro.store.records import Record
from repro.store.workspace import Workspace
from slurm.files import try_lock

Commands = tuple[tuple[str, ...], ...]


@dataclass
class Pair:
    """One that was begun: its jobs by fingerprint with (estimate, GPUs), and on this machine how it ended."""

    claim: str
    commands: Commands
    jobs: Mapping[str, tuple[float, int]]
    seconds: float | None = None
    failed: str = ""
    cut: float | None = None  # seconds until it was interrupted


@dataclass
class Ledger:
    """What a settlement has spent, by claim, and what is left. Without a path it is kept nowhere."""

    budget: Budget
    on_slurm: bool = False
    path: Path | None = None
    pairs: list[Pair] = field(default_factory=list)
    asked: int = 0  # how many pairs there were when the command was last given
    round: int = 0
    before: int = 0  # how many pairs there were when this round began
    by_claim: dict[str, float] = field(default_factory=dict)  # seconds, see `reckon`
    failed: dict[str, str] = field(default_factory=dict)  # by claim: why it is left alone

    @classmethod
    def open(cls, place: Workspace, name: str, budget: Budget, on_slurm: bool = False) -> Ledger:
        """The one of that name in a workspace, as it was left; a new one where it is closed.

        UserError for a line of JSON that is no entry. One that is no JSON was cut short, and counts as not there.
        """
        found = cls(budget, on_slurm, place.root / "settle" / f"{name}.jsonl")
        found._read()
        return found

    def _read(self) -> None:
        assert self.path
        self._apply({"event": "closed"})
        if not self.path.exists():
            return
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), 1):
            try:
                said = json.loads(line)
            except ValueError:  # blank, or cut short by a death
                continue
            try:
                self._apply(said)
            except (ValueError, TypeError, LookupError, AttributeError, StopIteration):
                raise UserError(f"{self.path}:{number}: no entry of this journal; delete the line") from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who works on it, from what the last one left. UserError while another does."""
        assert self.path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = try_lock(self.path.with_suffix(".lock"))
        if lock is None:
            raise UserError(
                "the same settle command is running in this workspace; wait until it ends, or stop it first"
            )
        try:
            self._read()
            yield
        finally:
            os.close(lock)

    @property
    def spent(self) -> float:
        """Seconds; on SLURM those of GPUs."""
        return sum(self.by_claim.values())

    @property
    def left(self) -> float:
        """Likewise."""
        return max(0.0, self.budget.seconds - self.spent)

    def price(self, planned: Plan) -> float:
        """The estimate of what a plan has to do, in the unit of the budget."""
        if not self.on_slurm:
            return planned.seconds
        return sum(job.seconds * _share(planned, job) for job in planned.to_do())

    def done(self, claim: str, commands: Commands) -> bool:
        """Whether these very commands ended well before: then what they left does not count, and never will."""
        mine = [pair for pair in self._settled if pair.claim == claim]
        return bool(mine) and mine[-1].commands == commands

    @property
    def _settled(self) -> list[Pair]:
        """The pairs that have ended since the command was given, well or not."""
        if self.on_slurm:
            return self.pairs[self.asked : self.before]
        return [pair for pair in self.pairs[self.asked :] if pair.seconds is not None]

    def ask(self) -> None:
        """The command was given."""
        self._write(event="asked")

    def begin_round(self, number: int) -> None:
        """A job looks for the so-manieth time."""
        self._write(event="round", number=number)

    def begin(self, claim: str, commands: Commands, plans: Sequence[Plan]) -> None:
        """A pair is begun, or goes on."""
        jobs = {
            job.fingerprint: (job.seconds, planned.resources(job).gpus) for planned in plans for job in planned.to_do()
        }
        self._write(event="began", claim=claim, commands=commands, jobs=jobs)

    def end(self, claim: str, seconds: float, failed: str = "") -> None:
        """The last pair of a claim has ended."""
        self._write(event="ended", claim=claim, seconds=seconds, failed=failed)

    def cut(self, claim: str, seconds: float) -> None:
        """The last pair of a claim was interrupted."""
        self._write(event="cut", claim=claim, seconds=seconds)

    def close(self) -> None:
        """Nothing more is to do."""
        self._write(event="closed")

    def _write(self, **said: Any) -> None:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write(("\n" + json.dumps(said)).encode())  # the line break first: a line cut short spoils no other
                os.fsync(file.fileno())
        self._apply(said)

    def _apply(self, said: Mapping[str, Any]) -> None:
        match said["event"]:
            case "asked":
                self.asked = len(self.pairs)
            case "round" if int(said["number"]) != self.round:  # one that was cut short begins again
                self.round, self.before = int(said["number"]), len(self.pairs)
            case "began":
                commands = tuple(tuple(map(str, words)) for words in said["commands"])
                jobs = {name: (_seconds(seconds), int(gpus)) for name, (seconds, gpus) in said["jobs"].items()}
                self.pairs.append(Pair(str(said["claim"]), commands, jobs))
            case "ended":
                pair = self._last(said.get("claim", self.pairs[-1].claim))  # older journals do not say which
                pair.seconds, pair.failed = _seconds(said["seconds"]), str(said["failed"])
            case "cut":
                self._last(said["claim"]).cut = _seconds(said["seconds"])
            case "closed":
                self.pairs, self.asked, self.round, self.before = [], 0, 0, 0

    def _last(self, claim: str) -> Pair:
        """The last pair of a claim; StopIteration where it has none."""
        return next(pair for pair in reversed(self.pairs) if pair.claim == claim)

    def reckon(self, recorded: Mapping[str, Record], live: Collection[str] = ()) -> None:
        """What was spent and what failed, by what there is now.

        recorded: the workspace's records by fingerprint.  live: fingerprints of jobs that are queued or running.
        """
        self.by_claim, self.failed = {}, {}
        known: set[str] = set()
        for pair in reversed(self.pairs):
            fresh = {name: job for name, job in pair.jobs.items() if name not in known}
            known |= fresh.keys()
            took = pair.cut if pair.seconds is None else pair.seconds
            if took is None:  # whatever ended it left it no time to say so
                took = sum(self._of_a_job(recorded.get(name), *job) for name, job in fresh.items())
            self.by_claim[pair.claim] = self.by_claim.get(pair.claim, 0.0) + took
        for pair in self._settled:
            if why := self._failure(pair, recorded, live):
                self.failed[pair.claim] = why

    def _of_a_job(self, record: Record | None, estimate: float, gpus: int) -> float:
        if record is None:
            return estimate * max(1, gpus) if self.on_slurm else 0.0
        wall = record["cost"].get("wall_s", estimate)
        return float(wall * max(1, gpus) if self.on_slurm else wall)

    def _failure(self, pair: Pair, recorded: Mapping[str, Record], live: Collection[str]) -> str:
        if not self.on_slurm:
            return pair.failed
        lost = [name for name in pair.jobs if name not in recorded and name not in live]
        return f"a job left no record ({lost[0][:12]}); see python -m repro status" if lost else ""


def _seconds(given: Any) -> float:
    """ValueError or TypeError for what is no time."""
    if not 0 <= float(given) < math.inf:
        raise ValueError(given)
    return float(given)


def _share(planned: Plan, job: PlannedJob) -> int:
    return max(1, planned.resources(job).gpus)


def name_of(track: str, claims: Collection[str], budget: Budget, on_slurm: bool) -> str:
    """What a settlement is called: the same for the same request."""
    return f"{track}-{digest([sorted(claims), budget.text, on_slurm])[:8]}"
