"""Runs a graph on this machine: as many tasks side by side as cores, memory and GPUs allow, each a process."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurm import environment, progress, worker
from slurm.environment import Code, by_code, code_of
from slurm.files import held_by, try_lock
from slurm.folder import Folder, Outcome
from slurm.graph import Graph, Resources, Task
from slurm.journal import Journal
from slurm.logs import last_line, quoted
from slurm.machine import Pool, cores_here, gpus_here, memory_gb_here
from slurm.process import death, ended
from slurm.progress import Progress
from slurm.states import blocked_by
from slurm.status import of_journal
from slurm.watch import PATIENCE, Watch

_TICK = 0.05  # seconds between looks at the children
_ELSEWHERE_TICK = 0.5  # seconds between looks at a lock that somebody else holds
_CANCEL_TICK = 0.5  # seconds between looks for tasks that shall be cancelled
_STACKS = 1.0  # seconds that a task which hangs has to write its stacks: a SIGTERM right behind could overtake
_GRACE = 10.0  # seconds that a cancelled task has to end by itself


@dataclass(frozen=True)
class Event:
    """Something that the caller may want to show. "elsewhere": another process (`who`) runs this task, and we wait."""

    kind: Literal["started", "progress", "elsewhere", "done", "failed", "cancelled", "blocked"]
    key: str
    progress: Progress | None = None
    outcome: Outcome | None = None
    who: str = ""


def run(
    graph: Graph,
    *,
    folder: Path,
    cores: int | None = None,
    memory_gb: float | None = None,
    gpus: Sequence[str] | None = None,
    code: Code = None,
    on_event: Callable[[Event], None] = lambda event: None,
    grace: float = 10.0,
    limits: Mapping[str, float] | None = None,
    patience: float = PATIENCE,
) -> dict[str, Outcome]:
    """Run every task and return how each ended. A task that fails stops only those that wait for it.

    A task that wants more than there is runs when it has the whole machine; its threads are never more than its cores.
    `Resources.minutes` bind only a cluster: on a machine that may be slow there are no time limits but those that the
    caller sets. A task's several ranks, wherever they were to run, all run here.

    Args:
        folder: see slurm.folder. Two runs on one folder never run a task twice at the same time; the second waits
            and shares the result of the first.
        cores, memory_gb, gpus: what may be used; by default what this process may use and what is free now. `gpus`
            are values for CUDA_VISIBLE_DEVICES; a task that asks for none sees none.
        code: folder that the tasks' modules are imported from before all others; or one for each task, by its key.
        on_event: called from this thread. Whatever it raises ends the run.
        grace: seconds between SIGTERM and SIGKILL when the run is cut short.
        limits: seconds that a task may run, by its key; then it is ended as one that is cancelled, and has failed. They
            are looked up as it runs.
        patience: seconds in which nothing moves in a task (slurm.watch) until it is ended and has failed; 0: for ever.

    Raises:
        ValueError: before anything runs, where a task's several ranks want more GPUs than there are, or where one
            of the tasks is queued or running on SLURM.
        KeyboardInterrupt: after Ctrl-C, when all children are gone.
    """
    asks_for_gpus = any(task.resources.gpus for task in graph)
    pool = Pool(
        cores or cores_here(),
        memory_gb or memory_gb_here(),
        list(gpus if gpus is not None else gpus_here() if asks_for_gpus else ()),
    )
    for task in graph:
        pool.fit(task.resources)
    _require_not_on_slurm(graph, Folder(folder))
    state = _Run(graph, Folder(folder), pool, code, on_event, {} if limits is None else limits, patience)
    try:
        while state.waiting or state.running:
            state.end_what_must()
            state.start_ready()
            state.look_at_running()
            time.sleep(_TICK)
    finally:
        state.end(grace)
    return {task.key: state.outcomes[task.key] for task in graph}


def _require_not_on_slurm(graph: Graph, place: Folder) -> None:
    """A machine without SLURM's commands cannot ask: there the tasks' own locks have to do."""
    journal, asked = Journal(place), {task.key for task in graph}
    if not any(entry.job for key, entry in journal.entries.items() if key in asked) or not shutil.which("squeue"):
        return
    queued = [state for state in of_journal(journal, place) if state.live and state.job and state.key in asked]
    if queued:
        first = queued[0]
        raise ValueError(f"'{first.key}' is {first.state} on SLURM (job {first.job}): wait until it ends, or cancel it")


def cancel(folder: Path, keys: Collection[str]) -> None:
    """Ask the runs on this folder to end these tasks; they do so within a second, on whichever machine they are."""
    place = Folder(folder)
    for key in keys:
        place.cancel(key).touch()


@dataclass
class _Child:
    task: Task
    process: subprocess.Popen[bytes]
    share: Resources
    gpus: list[str]
    started: float
    watch: Watch
    before: Outcome | None  # what an earlier process left: told apart by itself, since clocks go back
    progress: Progress | None = None
    kill_at: float | None = None  # it was told to end, and has until then (monotonic time)
    late: bool = False  # it was told so because of its time limit
    hung: str = ""  # nothing moved: in words
    end_at: float = math.inf  # a child that hangs is told to end then (monotonic time)

    def signal(self, number: signal.Signals) -> None:
        """To the whole process group. Only called while the leader is not yet reaped, so that its number is ours."""
        os.killpg(self.process.pid, number)

    def ended(self) -> bool:
        """Has the leader died? Then whatever it left running in its group dies too, and it is reaped."""
        return ended(self.process)


class _Run:
    """The state of one `run`."""

    def __init__(
        self,
        graph: Graph,
        folder: Folder,
        pool: Pool,
        code: Code,
        on_event: Callable[[Event], None],
        limits: Mapping[str, float],
        patience: float,
    ) -> None:
        self.folder, self.pool, self.code, self.on_event = folder, pool, code, on_event
        self.limits, self.patience = limits, patience
        self.waiting: dict[str, Task] = {task.key: task for task in graph}
        self.running: dict[str, _Child] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.elsewhere: dict[str, tuple[float, float]] = {}  # since when (unix), when to look again (monotonic)
        self.alive, self.pipe = os.pipe()  # children hold the reading end; see slurm.process
        self.name = uuid.uuid4().hex[:12]
        self.lock = try_lock(folder.run(self.name))
        for task in graph:
            folder.write_task(task)
            folder.cancel(task.key).unlink(missing_ok=True)
        for source, tasks in by_code(graph, code).items():
            Journal(folder).started(self.name, tasks, source)
        self.look_for_cancels = 0.0

    def end_what_must(self) -> None:
        """End what somebody asked to end, what has run too long, or what hangs. A child gets SIGTERM, and SIGKILL when
        it does not heed that."""
        now = time.monotonic()
        for child in self.running.values():
            if child.kill_at is not None and now >= child.kill_at:
                child.signal(signal.SIGKILL)
            elif child.kill_at is None and time.time() >= child.started + self.limits.get(child.task.key, math.inf):
                child.late, child.kill_at = True, now + _GRACE
                child.signal(signal.SIGTERM)
            elif child.kill_at is None and now >= child.end_at:
                child.kill_at = now + _GRACE
                child.signal(signal.SIGTERM)
            elif child.kill_at is None and not child.hung and child.watch.hangs():
                child.hung, child.end_at = child.watch.words(), now + _STACKS
                child.watch.show_stacks()
        if now < self.look_for_cancels:
            return
        self.look_for_cancels = now + _CANCEL_TICK
        for path in (self.folder.root / "cancel").iterdir():
            running = self.running.get(path.name)
            if running and running.kill_at is None:
                running.kill_at = now + _GRACE
                running.signal(signal.SIGTERM)
            elif task := self.waiting.get(path.name):
                self._settle(task, "cancelled", "on request")

    def _settle(self, task: Task, state: Literal["failed", "cancelled", "blocked"], reason: str, log: str = "") -> None:
        """What the task could not write down itself."""
        outcome = Outcome(task.key, state, reason, log=log, ended=time.time(), digest=task.digest)
        self.folder.write_outcome(outcome)
        self._finish(task, outcome)

    def start_ready(self) -> None:
        for task in list(self.waiting.values()):
            parents = [self.outcomes.get(parent) for parent in task.after]
            lost = next((parent for parent in parents if parent and parent.state != "done"), None)
            if lost and not task.always:
                self._settle(task, "blocked", blocked_by(lost))
            elif all(parents) and not self._busy_elsewhere(task):
                share = self.pool.fit(task.resources)
                gpus = self.pool.take(share)
                if gpus is not None:
                    self._start(task, share, gpus)

    def _busy_elsewhere(self, task: Task) -> bool:
        """Is another process running this task? If it has just finished it, that is our outcome too."""
        since, look = self.elsewhere.get(task.key, (time.time(), 0.0))
        if time.monotonic() < look:
            return True
        lock = try_lock(self.folder.lock(task.key))
        if lock is None:
            if task.key not in self.elsewhere:
                self.on_event(Event("elsewhere", task.key, who=held_by(self.folder.lock(task.key))))
            self.elsewhere[task.key] = (since, time.monotonic() + _ELSEWHERE_TICK)
            return True
        os.close(lock)
        if task.key in self.elsewhere and (outcome := self.folder.finished_since(task, since)):
            self._finish(task, outcome)
            return True
        return False

    def _start(self, task: Task, share: Resources, gpus: list[str]) -> None:
        log = self.folder.log(task.key)
        if log.is_symlink():  # of an earlier submission to SLURM
            log.unlink()
        spec, started = self.folder.write_task(task), time.time()
        threads = max(1, share.cpus // task.resources.ranks)
        variables = environment.variables(threads, code_of(self.code, task.key))
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "slurm.worker", "--parent-pipe", str(self.alive), str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | variables | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)},
                pass_fds=(self.alive,),
                start_new_session=True,
            )
        watch = Watch(process.pid, log, self.folder.progress(task.key), self.patience)
        self.running[task.key] = _Child(task, process, share, gpus, started, watch, self.folder.read_outcome(task.key))
        del self.waiting[task.key]
        self.on_event(Event("started", task.key))

    def look_at_running(self) -> None:
        for key, child in list(self.running.items()):
            over = child.ended()
            latest = progress.read(self.folder.progress(key))
            # A report older than the child is what the last one to run this task left.
            if latest and latest != child.progress and latest.time >= child.started:
                child.progress = latest
                self.on_event(Event("progress", key, progress=latest))
            if over:
                del self.running[key]
                self.pool.give_back(child.share, child.gpus)
                self._judge(child)

    def _judge(self, child: _Child) -> None:
        """How the task of a child that has ended stands."""
        task, status = child.task, child.process.returncode
        if status == worker.BUSY:
            self.waiting[task.key] = task  # somebody was faster
        elif child.kill_at is not None and not self.folder.finished_since(task, child.started):
            if child.late:
                limit = f"{self.limits[task.key]:.0f} s"
                late = f"reached its time limit of {limit}; run it again to continue from its checkpoint"
                self._settle(task, "failed", late)
            elif child.hung:
                self._settle(task, "failed", child.hung, str(self.folder.log(task.key)))
            else:
                self._settle(task, "cancelled", "on request")
        elif outcome := self._left(child):
            self._finish(task, outcome)
        else:
            log = self.folder.log(task.key)
            self._settle(task, "failed", death(status) + quoted(last_line(log)), str(log))

    def _left(self, child: _Child) -> Outcome | None:
        """The outcome that the child wrote, or another executor's worker that did the same work again before we
        looked: its result will do."""
        outcome = self.folder.read_outcome(child.task.key)
        if outcome is None or outcome == child.before:
            return None
        again = child.process.returncode == 0 and outcome.state == "done" and outcome.digest == child.task.digest
        return outcome if outcome.pid == child.process.pid or again else None

    def _finish(self, task: Task, outcome: Outcome) -> None:
        self.waiting.pop(task.key, None)
        self.outcomes[task.key] = outcome
        self.on_event(Event(outcome.state, task.key, outcome=outcome))

    def end(self, grace: float) -> None:
        """Leave nothing running: SIGTERM, and SIGKILL after `grace` seconds or a second Ctrl-C."""
        left = list(self.running.values())
        try:
            for child in left:
                child.signal(signal.SIGTERM)
            limit = time.monotonic() + grace
            while left and time.monotonic() < limit:
                left = [child for child in left if not child.ended()]
                time.sleep(_TICK)
        finally:
            for child in left:
                child.signal(signal.SIGKILL)
                child.process.wait()
            os.close(self.alive)
            os.close(self.pipe)
            self.folder.run(self.name).unlink(missing_ok=True)
            if self.lock is not None:
                os.close(self.lock)
