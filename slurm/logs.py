"""The end of a log, which may say why a task ended."""

from __future__ import annotations

import os
from pathlib import Path

from slurm import scheduler


def last_line(log: Path, at_most: int = 300) -> str:
    """The last line of a log that tells something: not empty (a progress bar's carriage return ends a line too), and
    no remark of srun's."""
    told = (line.strip() for line in reversed(last_lines(log)) if not scheduler.is_remark(line))
    return next((line[:at_most] for line in told if line), "")


def last_lines(log: Path) -> list[str]:
    """Those of the last 8 KiB; none where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except FileNotFoundError:
        return []


def quoted(line: str) -> str:
    """What is added to the reason of a task that gave none itself: the last line of its log, where there is one."""
    return f"; last line of its log: {line}" if line else ""
