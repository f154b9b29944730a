"""At most one attempt at a piece of work publishes what it wrote, whoever ran twice.

A lock keeps two processes apart until a machine is given up for dead and its job queued again, and then wakes up. So
every attempt takes the next number in a folder that all of them share, and from the earlier ones the folders that they
write in:

    1/over        what attempt 1 wrote in is out of its reach
    2/open        what attempt 2 is writing; it reaches its place by a rename or a link from here, or not at all

SLURM's own count of restarts would not do: it begins anew when a job is submitted again.
"""

from __future__ import annotations

import errno
import uuid
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
    fresh = root / f".{uuid.uuid4().hex}"
    (fresh / "open").mkdir(parents=True)
    while True:
        number = 1 + max((int(path.name) for path in root.iterdir() if path.name.isdecimal()), default=0)
        try:
            fresh.rename(root / str(number))  # fails where there is one: its folder is never empty, and never goes
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    for earlier in range(1, number):
        over = root / str(earlier) / "over"
        try:
            over.with_name("open").rename(over)  # at once: nothing in it can be moved from there any more
        except FileNotFoundError:
            continue
        for path in over.iterdir():
            path.unlink(missing_ok=True)
    return Attempt(number, root / str(number) / "open")
