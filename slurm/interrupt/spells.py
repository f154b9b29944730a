"""In which spells a task ran, from its reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slurm import progress

PATIENCE = 300.0  # seconds until something that should happen is given up


@dataclass
class Spell:
    """What one process did of a task: it went on when `begun` steps were done, and got to `reached`."""

    begun: int
    reached: int


class Watch:
    """The spells of a task, in the order in which they began."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._found: dict[float, Spell] = {}  # by the time of the first report

    @property
    def spells(self) -> list[Spell]:
        return list(self._found.values())

    def look(self) -> None:
        if report := progress.read(self.file):
            self._found[report.since] = Spell(report.first - 1, report.done)

    def until(self, step: int, lives: Callable[[], bool], before: int, tick: float) -> bool:
        """Wait for the spell after the first `before` to get to a step; False where the process ended without."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            living = lives()
            self.look()
            if len(self._found) > before and self.spells[-1].reached >= step:
                return True
            if not living:
                return False
            time.sleep(tick)
        raise TimeoutError(f"{self.file.stem}: not at step {step} after {PATIENCE:.0f} s")
