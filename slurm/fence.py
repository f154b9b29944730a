"""At most one attempt at a piece of work publishes what it wrote, whoever ran twice.

A lock keeps two processes apart until a machine is given up for dead and its job queued again, and then wakes up. So
every attempt takes the next number in a folder that all of them share, and with it the folders that the earlier ones
write in:

    2/        what attempt 2 is writing; it reaches its place by a rename or a link from here, or not at all

SLURM's own count of restarts would not do: it begins anew when a job is submitted again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


class Superseded(Exception):
    """A newer attempt has begun: nothing that this one writes counts any more."""


@dataclass(frozen=True)
class Attempt:
    """One attempt: its number, from 1, and the folder in which it alone writes."""

    number: int
    folder: Path

    def require(self) -> None:
        """Raises Superseded once a newer attempt has begun."""
        if not self.folder.is_dir():
            raise Superseded(f"attempt {self.number} is over, a newer one has begun")


def claim(root: Path) -> Attempt:
    """The next attempt on the work that `root` belongs to; all earlier ones are over when this returns."""
    root.mkdir(parents=True, exist_ok=True)
    while True:
        earlier = [int(path.name) for path in root.iterdir() if path.name.isdecimal()]
        mine = Attempt(max(earlier, default=0) + 1, root / str(max(earlier, default=0) + 1))
        try:
            mine.folder.mkdir()  # one process alone gets the number, on any file system
            break
        except FileExistsError:
            continue
    for number in earlier:
        over = root / f".{number}-{mine.number}"
        try:
            (root / str(number)).rename(over)  # at once; what lies in it cannot be moved from there any more
        except FileNotFoundError:
            continue
        shutil.rmtree(over, ignore_errors=True)
    return mine
