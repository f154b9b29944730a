"""Interrupts a task that runs on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from slurm import local, worker
from slurm.files import try_lock
from slurm.graph import Graph, Task
from slurm.interrupt.interrupter import Interrupter
from slurm.interrupt.spells import PATIENCE, Spell

WAYS = {
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
_BY_WORKER = ("sigterm", "kill", "truncated", "damaged", "woken")  # what needs no executor
_TICK = 0.005  # seconds between two looks at a process of ours


class MachineInterrupter(Interrupter):
    """Interrupts a task on this machine.

    Signals and damage strike a worker that is forked from a process with everything imported; what has to do with the
    executor strikes a real one with its workers.
    """

    def interrupt(self, way: str, times: int, newest: Path) -> list[Spell]:
        """Interrupt the task so many times, let it end, and return its spells. newest: the file it resumes from."""
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
                    self.end(self.work(self.task))
                else:
                    self.retry()
        return self.watch.spells

    def _once(self, way: str, step: int) -> None:
        if way == "limit":
            self.end(self._start(step))
            return
        process = self.work(self.task) if way in _BY_WORKER else self._start(None)
        if self._wait(process, step):
            self._strike(way, process)
        self.end(process)
        self._until_free()

    def _start(self, limit: int | None) -> ForkServerProcess:
        return self.fork(_execute, str(self.place.root), self.task.to_json(), limit)

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
                local.cancel(self.place.root, [self.task.key])
            case _:
                os.kill(process.pid, signal.SIGKILL)

    def _until_free(self) -> None:
        """Until nobody runs the task: a worker outlives its executor by a moment."""
        end = time.monotonic() + PATIENCE
        while (lock := try_lock(self.place.lock(self.task.key))) is None and time.monotonic() < end:
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
        older = self.work(self.task)
        self._wait(older, steps[0])
        for step in (*steps[1:], 0):
            assert older.pid is not None
            try:
                os.kill(older.pid, signal.SIGSTOP)
            except ProcessLookupError:  # it was faster, so nothing is interrupted; the score counts what was
                break
            # As when a file server lets go of the locks of a machine that it takes for dead.
            self.place.lock(self.task.key).unlink()
            newer = self.work(self.task)
            self._wait(newer, max(step, self.watch.spells[-1].reached + 1))
            assert newer.pid is not None
            os.kill(newer.pid, signal.SIGSTOP)
            before = _stamps(folder)
            os.kill(older.pid, signal.SIGCONT)
            self.end(older)
            if older.exitcode != worker.BUSY:
                self.faults.append(f"an attempt that was superseded ended with status {older.exitcode}")
            if _stamps(folder) != before:
                self.faults.append("an attempt that was superseded wrote to the files of its successor")
            os.kill(newer.pid, signal.SIGCONT)
            older = newer
        self.end(older)


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What changes with every file that is written to or replaced."""
    stats = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def _execute(folder: str, task: dict[str, Any], limit: int | None) -> None:
    """limit: the step with which its time is up."""
    limits: dict[str, float] = {}
    began = 0.0

    def heed(event: local.Event) -> None:
        nonlocal began
        if event.kind == "started":
            began = time.time()
        if limit is not None and event.progress and event.progress.done >= limit:
            limits[event.key] = time.time() - began

    local.run(Graph([Task.from_json(task)]), folder=Path(folder), on_event=heed, limits=limits)
