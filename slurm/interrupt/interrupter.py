"""What both kinds of interrupters need: the task, the steps to strike at, and processes of our own."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from slurm import temporary, worker
from slurm.folder import Folder
from slurm.graph import Task
from slurm.interrupt.spells import PATIENCE, Watch
from slurm.process import lead

_MARGIN = 0.6  # of the steps: whoever is slow to strike later meets a task that has ended

Call = tuple[Callable[..., object], tuple[Any, ...]]


class Interrupter:
    """What both kinds share: where the task runs, at which steps it is interrupted, and processes of our own.

    Attributes:
        faults: what went wrong, in words.
    """

    def __init__(
        self, folder: Path, task: Task, *, total: int, pause: float, seed: str, again: Call, preload: Sequence[str]
    ) -> None:
        """total: steps of the task, each of which takes `pause` seconds or more; again: what `retry` calls;
        preload: modules that are imported once for all processes."""
        self.place, self.task, self.total, self.pause, self.again = Folder(folder), task, total, pause, again
        self.random = random.Random(seed)
        self.watch = Watch(self.place.progress(task.key))
        self.faults: list[str] = []
        temporary.shorten_sockets()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._processes: list[ForkServerProcess] = []

    def steps(self, times: int) -> list[int]:
        """Where to interrupt: none of the first steps, since what was damaged then has no predecessor."""
        return sorted(self.random.sample(range(3, max(4 + times, round(_MARGIN * self.total))), times))

    def fork(self, function: Callable[..., object], *arguments: Any) -> ForkServerProcess:
        """Call it in a new process with a process group and a log of its own."""
        log = self.place.root / "drill.log"
        process = self._context.Process(target=lead, args=(str(log), function, arguments), daemon=True)
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

    def work(self, task: Task) -> ForkServerProcess:
        """A worker that runs a task of this folder."""
        return self.fork(_work, str(self.place.write_task(task)))

    def finish(self, tasks: Sequence[Task]) -> None:
        """Run what waits for the task, without interruption."""
        with self.tidy():
            for task in tasks:
                self.end(self.work(task))

    def retry(self) -> None:
        """Do the task again, as its user would."""
        function, arguments = self.again
        self.end(self.fork(function, *arguments))

    def end(self, process: ForkServerProcess) -> None:
        """Wait for it. Raises TimeoutError if it does not end."""
        process.join(PATIENCE)
        self.watch.look()
        if process.is_alive():
            raise TimeoutError(f"{self.task.key}: still running after {PATIENCE:.0f} s")


def _work(spec: str) -> None:
    sys.exit(worker.main([spec]))
