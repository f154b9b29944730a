"""What `doctor` says: one line a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what mends it (empty where all is well)."""

    level: Literal["ok", "warning", "fault"]
    what: str
    said: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}: {self.said}" + (f"; {self.fix}" if self.fix else "")
