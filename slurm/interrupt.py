"""Interrupting a node on purpose, at random, in every way there is: whoever compares what it leaves with what an
uninterrupted one leaves knows whether it survives them (`repro drill`).

    Watch       the spells in which a node ran, from its reports
    Local       signals, damaged files, an older attempt that wakes up, a time limit, cancel, death of the executor
    Cluster     with SLURM: preemption, requeue, time limit, cancel, kill -9, a machine that goes down

The node must report its progress at every step (slurm.progress) and go on from its own files.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from slurm import cluster, local, progress, scheduler, states, worker
from slurm.folder import Folder, try_lock
from slurm.graph import Graph, Node
from slurm.profile import Profile

LOCAL = {
    "sigterm": "SIGTERM",
    "kill": "kill -9 of the job",
    "truncated": "kill -9, newest checkpoint cut short",
    "damaged": "kill -9, a bit of the newest checkpoint flipped",
    "woken": "stopped, taken for dead, wakes up beside its successor",
    "group": "kill -9 of the run's whole process group",
    "machine": "kill -9 of everything at once, as a machine fails",
    "cancel": "cancel, retry",
    "limit": "time limit, retry",
}
CLUSTER = {
    "preempt": "SLURM: preemption signal",
    "requeue": "SLURM: scontrol requeue",
    "scancel": "SLURM: scancel, retry",
    "slurm-kill": "SLURM: kill -9 of the job, retry",
    "slurm-limit": "SLURM: time limit",
    "down": "SLURM: node down, resumed",
}
_BY_WORKER = ("sigterm", "kill", "truncated", "damaged", "woken")  # what needs no executor
_TICK = 0.005  # seconds between two looks at a process of ours
_CLUSTER_TICK = 0.2  # seconds between two looks at what a job of SLURM's reports
_MARGIN = 0.6  # of the steps: whoever is slow to strike later meets a job that has ended
_PATIENCE = 300.0  # seconds until something that should happen is given up

Call = tuple[Callable[..., object], tuple[Any, ...]]


@dataclass
class Spell:
    """What one process did of a node: it went on when `begun` steps were done, and got to `reached` of `total`."""

    begun: int
    reached: int
    total: int


class Watch:
    """The spells of a node, in the order in which they began."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._found: dict[float, Spell] = {}  # by the time of the first report

    @property
    def spells(self) -> list[Spell]:
        return list(self._found.values())

    def look(self) -> None:
        if report := progress.read(self.file):
            self._found[report.since] = Spell(report.first - 1, report.done, report.total)

    def until(self, step: int, lives: Callable[[], bool], before: int, tick: float) -> bool:
        """Wait for the spell after the first `before` to get to a step; False where the process ended without."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            living = lives()
            self.look()
            if len(self._found) > before and self.spells[-1].reached >= step:
                return True
            if not living:
                return False
            time.sleep(tick)
        raise TimeoutError(f"{self.file.stem}: not at step {step} after {_PATIENCE:.0f} s")


class _Drill:
    """What both kinds share: where the node runs, at which steps it is interrupted, and processes of our own.

    Attributes:
        faults: what went otherwise than it must, in words.
    """

    def __init__(
        self, folder: Path, node: Node, *, total: int, pause: float, seed: str, again: Call, preload: Sequence[str]
    ) -> None:
        """total: steps of the node, each of which takes `pause` seconds or more; again: what `retry` calls;
        preload: modules that are imported once for all processes."""
        self.place, self.node, self.total, self.pause, self.again = Folder(folder), node, total, pause, again
        self.random = random.Random(seed)
        self.watch = Watch(self.place.progress(node.key))
        self.faults: list[str] = []
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._processes: list[ForkServerProcess] = []

    def steps(self, times: int) -> list[int]:
        """Where to interrupt: none of the first steps, since what was damaged then has no predecessor."""
        return sorted(self.random.sample(range(3, max(4 + times, round(_MARGIN * self.total))), times))

    def fork(self, function: Callable[..., object], *arguments: Any) -> ForkServerProcess:
        """Call it in a process that leads a group of its own and writes to the node's log."""
        log = self.place.root / "drill.log"
        process = self._context.Process(target=_lead, args=(str(log), function, arguments), daemon=True)
        process.start()
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def tidy(self) -> Iterator[None]:
        """Leave no process behind."""
        try:
            yield
        finally:
            for process in self._processes:
                if process.is_alive():
                    process.kill()
                process.join()

    def work(self, node: Node) -> ForkServerProcess:
        """A worker that runs a node of this folder."""
        return self.fork(_work, str(self.place.write_node(node)))

    def finish(self, nodes: Sequence[Node]) -> None:
        """Run what waits for the node, without interruption."""
        with self.tidy():
            for node in nodes:
                self._end(self.work(node))

    def retry(self) -> None:
        function, arguments = self.again
        self._end(self.fork(function, *arguments))

    def _end(self, process: ForkServerProcess) -> None:
        process.join(_PATIENCE)
        self.watch.look()
        if process.is_alive():
            raise TimeoutError(f"{self.node.key}: still running after {_PATIENCE:.0f} s")


def _lead(log: str, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    with Path(log).open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    function(*arguments)


def _work(spec: str) -> None:
    sys.exit(worker.main([spec]))


def _execute(folder: str, node: dict[str, Any], limit: int | None) -> None:
    """limit: the step with which its time is up."""
    limits: dict[str, float] = {}
    began = 0.0

    def heed(event: local.Event) -> None:
        nonlocal began
        if event.kind == "started":
            began = time.time()
        if limit is not None and event.progress and event.progress.done >= limit:
            limits[event.key] = time.time() - began

    local.run(Graph([Node.from_json(node)]), folder=Path(folder), on_event=heed, limits=limits)


# ---------------------------------------------------------------------------------------------------- on this machine


class Local(_Drill):
    """Interrupts a node on this machine.

    Signals and damage strike a worker that is forked from a process with everything imported; what has to do with the
    executor strikes a real one with its workers.
    """

    def interrupt(self, way: str, times: int, newest: Path) -> list[Spell]:
        """Interrupt the node that often, let it end, and return its spells. newest: the file that it goes on from."""
        steps = self.steps(times)
        with self.tidy():
            if way == "woken":
                self._wake(steps, newest.parent)
            else:
                for step in steps:
                    self._once(way, step)
                    if way in ("truncated", "damaged"):
                        self._spoil(newest, cut=way == "truncated")
                if way in _BY_WORKER:
                    self._end(self.work(self.node))
                else:
                    self.retry()
        return self.watch.spells

    def _once(self, way: str, step: int) -> None:
        if way == "limit":
            self._end(self._start(step))
            return
        process = self.work(self.node) if way in _BY_WORKER else self._start(None)
        if self._wait(process, step):
            self._strike(way, process)
        self._end(process)
        self._until_free()

    def _start(self, limit: int | None) -> ForkServerProcess:
        return self.fork(_execute, str(self.place.root), self.node.to_json(), limit)

    def _wait(self, process: ForkServerProcess, step: int) -> bool:
        """Until the process that was started last has done that step, and some of the next."""
        before = len(self.watch.spells)
        if not self.watch.until(step, process.is_alive, before, _TICK):
            return False
        time.sleep(self.random.uniform(0, self.pause))
        return True

    def _strike(self, way: str, process: ForkServerProcess) -> None:
        assert process.pid is not None
        match way:
            case "sigterm":
                os.kill(process.pid, signal.SIGTERM)
            case "group":
                os.killpg(process.pid, signal.SIGKILL)
            case "machine":
                for victim in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
                    victim.kill()
            case "cancel":
                local.cancel(self.place.root, [self.node.key])
            case _:
                os.kill(process.pid, signal.SIGKILL)

    def _until_free(self) -> None:
        """Until nobody runs the node: a worker outlives its executor by a moment."""
        end = time.monotonic() + _PATIENCE
        while (lock := try_lock(self.place.lock(self.node.key))) is None and time.monotonic() < end:
            time.sleep(_TICK)
        if lock is not None:
            os.close(lock)

    def _spoil(self, file: Path, *, cut: bool) -> None:
        if not file.exists():  # killed between two names
            return
        raw = bytearray(file.read_bytes())
        place = self.random.randrange(len(raw))
        if cut:
            del raw[place:]
        else:
            raw[place] ^= 1 << self.random.randrange(8)
        spoilt = file.with_name("spoilt")  # a file of its own: under the other name the same one may be linked
        spoilt.write_bytes(raw)
        spoilt.replace(file)

    def _wake(self, steps: Sequence[int], folder: Path) -> None:
        """Stop a worker, start another beside it, and wake the first while the second is stopped: it must end without
        a change to any file of that folder."""
        older = self.work(self.node)
        self._wait(older, steps[0])
        for step in (*steps[1:], 0):
            assert older.pid is not None
            os.kill(older.pid, signal.SIGSTOP)
            # As when a file server lets go of the locks of a machine that it takes for dead.
            self.place.lock(self.node.key).unlink()
            newer = self.work(self.node)
            self._wait(newer, max(step, self.watch.spells[-1].reached + 1))
            assert newer.pid is not None
            os.kill(newer.pid, signal.SIGSTOP)
            before = _stamps(folder)
            os.kill(older.pid, signal.SIGCONT)
            self._end(older)
            if older.exitcode != worker.BUSY:
                self.faults.append(f"an attempt that was superseded ended with status {older.exitcode}")
            if _stamps(folder) != before:
                self.faults.append("an attempt that was superseded wrote to the files of its successor")
            os.kill(newer.pid, signal.SIGCONT)
            older = newer
        self._end(older)


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What changes with every file that is written to or replaced."""
    stats = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


# ----------------------------------------------------------------------------------------------------------- with SLURM


class NotPermitted(Exception):
    """SLURM does not let us do this, or it would harm others."""


_SUBMITTING = threading.Lock()  # it redirects the process's stderr for a moment


class Cluster(_Drill):
    """Interrupts a node that runs on SLURM."""

    def interrupt(self, way: str, times: int, profile: Profile) -> list[Spell]:
        """Interrupt the node that often, let it end, and return its spells. Raises NotPermitted."""
        with _SUBMITTING:
            cluster.submit(Graph([self.node]), folder=self.place.root, profile=profile)
        with self.tidy():
            for before, step in enumerate(self.steps(times) if way != "slurm-limit" else [1] * times):
                if not self.watch.until(step, self._lives(), before, _CLUSTER_TICK):
                    break
                self._strike(way)
                if way in ("scancel", "slurm-kill"):
                    self._until_ended()
                    self.retry()
            self._until_ended()
        return self.watch.spells

    def _state(self) -> states.NodeState:
        return next(state for state in states.states(self.place.root) if state.key == self.node.key)

    def _lives(self) -> Callable[[], bool]:
        """Whether the job is queued or running, asked once a second; queued again, it seems dead for a moment."""
        asked, dead = 0.0, 0

        def lives() -> bool:
            nonlocal asked, dead
            if time.monotonic() - asked > 1:
                dead = 0 if self._state().live else dead + 1
                asked = time.monotonic()
            return dead < 3

        return lives

    def _until_ended(self) -> None:
        self.watch.until(sys.maxsize, self._lives(), 0, _CLUSTER_TICK)

    def _strike(self, way: str) -> None:
        job = self._state().job
        match way:
            case "preempt":
                scheduler.ask(["scancel", "--signal=USR2", job])
            case "requeue":
                scheduler.ask(["scontrol", "requeue", job])
            case "scancel":
                scheduler.cancel([job])
            case "slurm-kill":
                scheduler.ask(["scancel", "--signal=KILL", job])
            case "down":
                self._down(job)

    def _down(self, job: str) -> None:
        node = scheduler.ask(["squeue", f"--jobs={job}", "--noheader", "--format=%N"]).strip()
        if set(scheduler.ask(["squeue", f"--nodelist={node}", "--noheader", "--format=%A"]).split()) != {job}:
            raise NotPermitted(f"others run jobs on {node}")
        change = ["scontrol", "update", f"nodename={node}"]
        try:
            scheduler.ask([*change, "state=down", "reason=drill"])
        except ValueError as error:
            raise NotPermitted(str(error)) from None
        try:
            time.sleep(1)
        finally:
            with contextlib.suppress(ValueError):  # many a cluster takes it back by itself
                scheduler.ask([*change, "state=resume"])
        if "down" in scheduler.ask(["sinfo", f"--nodes={node}", "--noheader", "--format=%T"]):
            self.faults.append(f"{node} is still down: {' '.join([*change, 'state=resume'])}")
