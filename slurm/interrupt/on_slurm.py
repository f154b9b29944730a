"""Interrupts a task that runs on SLURM."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

from slurm import cluster, scheduler, status
from slurm.graph import Graph
from slurm.interrupt.interrupter import Interrupter
from slurm.interrupt.spells import Spell
from slurm.profile import Profile
from slurm.states import TaskState

WAYS = {
    "preempt": "SLURM: preemption signal",
    "requeue": "SLURM: scontrol requeue",
    "scancel": "SLURM: scancel, retry",
    "slurm-kill": "SLURM: kill -9 of the job, retry",
    "slurm-limit": "SLURM: time limit",
    "down": "SLURM: node down, resumed",
}
_TICK = 0.2  # seconds between two looks at what a job of SLURM's reports


class NotPermitted(Exception):
    """SLURM does not let us do this, or it would harm others."""


_SUBMITTING = threading.Lock()  # it redirects the process's stderr for a moment


class SlurmInterrupter(Interrupter):
    """Interrupts a task that runs on SLURM."""

    def interrupt(self, way: str, times: int, profile: Profile) -> list[Spell]:
        """Interrupt the task so many times, let it end, and return its spells. Raises NotPermitted."""
        with _SUBMITTING:
            cluster.submit(Graph([self.task]), folder=self.place.root, profile=profile)
        with self.tidy():
            for before, step in enumerate(self.steps(times) if way != "slurm-limit" else [1] * times):
                if not self.watch.until(step, self._lives(), before, _TICK):
                    break
                self._strike(way)
                if way in ("scancel", "slurm-kill"):
                    self._until_ended()
                    self.retry()
            self._until_ended()
        return self.watch.spells

    def _state(self) -> TaskState:
        return next(state for state in status.of_folder(self.place.root) if state.key == self.task.key)

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
        self.watch.until(sys.maxsize, self._lives(), 0, _TICK)

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
                self.faults += take_down(scheduler.node_of(job), job)


def take_down(node: str, job: str) -> list[str]:
    """Take a machine that runs this job alone out of service for a second; what is wrong then, in words.

    Raises NotPermitted.
    """
    if scheduler.jobs_on(node) != {job}:
        raise NotPermitted(f"others run jobs on {node}")
    try:
        scheduler.take_down(node, "drill")
    except scheduler.NoAnswer as error:
        raise NotPermitted(str(error)) from None
    try:
        time.sleep(1)
    finally:
        with contextlib.suppress(scheduler.NoAnswer):  # many a cluster takes it back by itself
            scheduler.resume(node)
    return [f"{node} is still down: scontrol update nodename={node} state=resume"] if scheduler.is_down(node) else []
