"""What a part of `repro gpu` is given and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("cuda", "cpu")
"""Of devices."""
Figures = dict[str, Any]
"""Plain JSON."""
Tell = Callable[[Figures], None]
"""Keeps what a part has found so far, should it be ended before it is done."""


@dataclass(frozen=True)
class Case:
    """Where and how long a part runs.

    device: of KINDS.  small: sizes for a CPU.  seconds: the part's share of the time; it ends itself by then.
    tests: files that pytest takes.  workspace: where the training leaves its records.
    """

    device: str
    small: bool
    seconds: float
    workspace: Path
    data_root: Path | None = None
    tests: tuple[str, ...] = ()

    @property
    def track(self) -> str:
        """Whose recipes the parts take."""
        return "embedded" if self.small else "cifar"


@dataclass(frozen=True)
class Found:
    """good: whether all is as it must be.  line: in words."""

    good: bool
    line: str
    figures: Figures
