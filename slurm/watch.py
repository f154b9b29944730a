"""Watches whether a task makes progress, and stops it if it hangs: a job that hangs is worse than one that fails.

A task moves while it reports steps, prints, computes, or reads and writes. So a long silent computation is no hang, and
neither is a slow disk; processes that wait for each other are. Time in which a task was stopped (SIGSTOP, SLURM's
suspend) or the watch itself did not run does not count.

The local executor watches its tasks; a job of SLURM's watches itself in a thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from slurm import progress
from slurm.logs import last_line, quoted

PATIENCE = 1800.0  # seconds in which nothing moves, by default
VARIABLE = "REPRO_HANG_MINUTES"  # the same in minutes, for a job of SLURM's; 0: it is not watched

_LOOKS = 60  # in that time
_CPU = 0.01  # of one core: less is what a process that waits takes to look whether it may go on
_TICKS = 0.5  # seconds: less our own looks, a count of ticks may go back by a few
_BYTES = 10_000  # a second, read or written: likewise
_resting = threading.Event()


def patience() -> float:
    """Seconds by the environment of this process."""
    try:
        return float(os.environ[VARIABLE]) * 60
    except (KeyError, ValueError):
        return PATIENCE


def rest() -> None:
    """This process waits on purpose from now on."""
    _resting.set()


@dataclass(frozen=True)
class _Signs:
    """What tells that a task moves: its last report, the size of its log, CPU seconds and bytes of its processes."""

    step: tuple[object, ...]
    printed: int
    cpu: float
    bytes: int
    stopped: bool


class Watch:
    """Watches one task: the processes below one, the task's log and its reports."""

    def __init__(
        self, process: int, log: Path | None = None, reports: Path | None = None, patience: float = PATIENCE
    ) -> None:
        """process: the number of the first.  patience: seconds without a movement; 0 for no end."""
        self.process, self.log, self.reports, self.patience = process, log, reports, patience
        self.every = max(0.1, patience / _LOOKS)
        self.still = 0.0  # seconds
        self._our_cpu, self._our_bytes = 0.0, 0  # what the looks themselves took
        self._looked, self._signs = time.monotonic(), self._look()

    def hangs(self) -> bool:
        """Whether nothing has moved for that long. Looks now and then, however often it is called."""
        passed = time.monotonic() - self._looked
        if not self.patience or passed < self.every:
            return False
        self._looked += passed
        self.still += min(passed, 2 * self.every)  # more has passed where we were stopped ourselves
        signs, before = self._look(), self._signs
        if (
            signs.stopped
            or (signs.step, signs.printed) != (before.step, before.printed)
            or not -_TICKS < signs.cpu - before.cpu < _CPU * self.still
            or not -_BYTES < signs.bytes - before.bytes < _BYTES * self.still
        ):
            self._signs, self.still = signs, 0.0
        return self.still >= self.patience

    def words(self) -> str:
        """The message on a task that hangs."""
        long = f"{self.patience / 60:g} min" if self.patience >= 60 else f"{self.patience:g} s"
        report = self._report()
        step = f"its last step: {report.done} of {report.total}" if report else "it reported no step"
        if report and report.info.get("job"):
            step = f"{step} of {report.info['job']}"
        said = quoted(last_line(self.log)) if self.log else ""
        return f"no progress for {long} (no step, no output, no work of its processes), so it was stopped; {step}{said}"

    def show_stacks(self) -> None:
        """Let the task's Python processes write their stack traces to the log."""
        for process in _tree(self.process):
            with contextlib.suppress(psutil.Error):
                if "slurm.worker" in process.cmdline():  # others may die of that signal
                    process.send_signal(signal.SIGUSR1)

    def _report(self) -> progress.Progress | None:
        with contextlib.suppress(OSError, ValueError, TypeError):  # a damaged one tells nothing
            return progress.read(self.reports) if self.reports else None
        return None

    def _look(self) -> _Signs:
        cpu, count, stopped = 0.0, 0, False
        cpu_before, bytes_before = time.thread_time(), _bytes(psutil.Process())
        for process in _tree(self.process):
            with contextlib.suppress(psutil.Error):
                cpu += sum(process.cpu_times()[:4])  # of its children that have ended too
                stopped = stopped or process.status() == psutil.STATUS_STOPPED
            count += _bytes(process)
        report = self._report()
        step = (report.done, report.total, report.info.get("job")) if report else ()
        printed = 0
        with contextlib.suppress(OSError):
            printed = self.log.stat().st_size if self.log else 0
        self._our_cpu += time.thread_time() - cpu_before
        self._our_bytes += _bytes(psutil.Process()) - bytes_before
        if self.process == os.getpid():
            cpu, count = cpu - self._our_cpu, count - self._our_bytes
        return _Signs(step, printed, cpu, count, stopped)


def show_stacks_on_request() -> None:
    """Let this process do what `Watch.show_stacks` asks for."""
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)


@contextlib.contextmanager
def watched(log: Path, reports: Path, end: Callable[[str], object]) -> Iterator[None]:
    """While the block runs, watch this process and those below it, where it is a job of SLURM's: nobody else does.

    Where it hangs, `end` is called with what there is to say, and the process ends at once with those below it.
    """
    seconds = patience()
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or not seconds:
        yield
        return
    watch, over = Watch(os.getpid(), log, reports, seconds), threading.Event()

    def look() -> None:
        while not over.wait(watch.every):
            if watch.hangs() and not _resting.is_set() and not over.is_set():
                said = watch.words()
                faulthandler.dump_traceback(all_threads=True)
                end(said)
                for process in _tree(os.getpid())[1:]:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                os._exit(1)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _bytes(process: psutil.Process) -> int:
    """What a process has read and written so far; 0 where that is not told."""
    try:
        done = process.io_counters()
    except (psutil.Error, OSError):
        return 0
    return int(done.read_chars + done.write_chars)


def _tree(number: int) -> list[psutil.Process]:
    """The process of that number and all below it; none where it has ended."""
    try:
        first = psutil.Process(number)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []
