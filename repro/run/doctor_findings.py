"""What `doctor` says: one line a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what fixes it (empty where all is well)."""

    level: Literal["ok", "warning", "fault"]
    what: str
    said: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}: {self.said}" + (f"; {self.fix}" if self.fix else "")


def hangs(task: str, minutes: float, setting: str) -> Finding:
    """After how long a task without progress is stopped. task: what it is called.  setting: what says so."""
    told = f"a {task} without progress for {minutes:g} min is stopped"
    told = told if minutes else f"no {task} is stopped, however long it makes no progress"
    return Finding("ok", "timeout", f"{told} ({setting})")
