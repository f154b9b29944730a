"""Wall and CPU seconds of a job over all of its attempts.

They lie beside the job's checkpoints and are written before each: what a checkpoint holds is paid for, whenever and
however the process dies. What came after the last one is not counted, and nothing where no checkpoint is left.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from repro.store import atomic

FILE = "spent.json"
"""In the folder of a job, until its record is written. The name stays: jobs of older versions go on from it."""

_clocks: dict[Path, Clock] = {}  # of this process, by the folder of the job


@dataclass(frozen=True)
class Clock:
    """Counts on from what the attempts before this one took."""

    wall_before: float = 0.0
    cpu_before: float = 0.0
    wall_start: float = field(default_factory=time.monotonic)
    cpu_start: float = field(default_factory=time.process_time)

    @property
    def wall(self) -> float:
        """Seconds so far."""
        return self.wall_before + time.monotonic() - self.wall_start

    @property
    def cpu(self) -> float:
        """CPU seconds of this process, all threads, so far."""
        return self.cpu_before + time.process_time() - self.cpu_start


@contextlib.contextmanager
def counted(folder: Path) -> Iterator[Clock]:
    """The clock of the job of that folder, while the block does it."""
    try:
        before = json.loads((folder / FILE).read_text(encoding="ascii")) if any(folder.glob("*.pt*")) else {}
    except (OSError, ValueError):
        before = {}
    _clocks[folder] = Clock(before.get("wall_s", 0.0), before.get("cpu_s", 0.0))
    try:
        yield _clocks[folder]
    finally:
        del _clocks[folder]


def keep(folder: Path) -> None:
    """Write down what the job of that folder took so far, if this process counts it. Raises as `atomic.replace`."""
    if clock := _clocks.get(folder):
        text = json.dumps({"wall_s": clock.wall, "cpu_s": clock.cpu})
        atomic.replace(folder / FILE, lambda stream: stream.write(text.encode()))
