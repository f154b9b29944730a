"""How a running task says how far it is: one small file, replaced whole, that any executor or terminal can read.

Progress has one shape everywhere: `(done, total, info)`, steps done, steps in all, and what else there is to say.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "REPRO_PROGRESS"
_seconds_between = 1.0
_last_report = 0.0
_latest: Progress | None = None  # what was reported last, whether written or not


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps, what else the task cares to say, and when it said so (unix time).

    `first` and `since` are the step and the time of the first report: a task that was resumed did not begin at 0.
    """

    done: int
    total: int
    info: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0
    first: int = 0
    since: float = 0.0

    def seconds_left(self, now: float) -> float | None:
        """Until the last step, at the rate so far; None where no rate is known yet."""
        if self.done <= self.first or self.time <= self.since:
            return None
        a_step = (self.time - self.since) / (self.done - self.first)
        return max(0.0, (self.total - self.done) * a_step - (now - self.time))


def report(done: int, total: int, info: Mapping[str, Any]) -> None:
    """Called by the task as often as it likes; written once a second (`at_most_every`), and the last step always.

    Steps that go back, another total or another `info["job"]` begin a new piece of work. Outside an executor (no file
    named in the environment) it does nothing.
    """
    global _last_report, _latest
    file = os.environ.get(VARIABLE)
    now, before = time.time(), _latest
    goes_on = before and done >= before.done and (total, info.get("job")) == (before.total, before.info.get("job"))
    first, since = (before.first, before.since) if before and goes_on else (done, now)
    _latest = Progress(done, total, dict(info), now, first, since)
    if not file or (0 <= now - _last_report < _seconds_between and done < total):  # a clock may go back
        return
    _last_report = now
    temporary = Path(f"{file}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # a full disk ends the task where it loses something, not here
        # default=float: numpy and torch scalars are welcome in `info`.
        temporary.write_text(json.dumps(asdict(_latest), default=float), encoding="utf-8")
        temporary.replace(file)


def at_most_every(seconds: float) -> None:
    """How long after a report this process writes the next one, at least."""
    global _seconds_between
    _seconds_between = seconds


def read(file: Path) -> Progress | None:
    """The latest report, or None where there is none (yet)."""
    try:
        return Progress(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
