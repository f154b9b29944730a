"""How a running job says how far it is: one small file, replaced whole, that any executor or terminal can read."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "REPRO_PROGRESS"
_SECONDS_BETWEEN = 0.2
_last_report = 0.0


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps, what else the job cares to say, and when it said so (unix time)."""

    done: int
    total: int
    info: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0


def report(done: int, total: int, info: dict[str, Any] | None = None) -> None:
    """Called by the job as often as it likes; written at most five times a second, and the last step always.

    Outside an executor (no file named in the environment) it does nothing.
    """
    global _last_report
    file = os.environ.get(VARIABLE)
    now = time.time()
    if not file or (now - _last_report < _SECONDS_BETWEEN and done < total):
        return
    _last_report = now
    temporary = Path(f"{file}.{os.getpid()}.tmp")
    # default=float: numpy and torch scalars are welcome in `info`.
    temporary.write_text(json.dumps(asdict(Progress(done, total, info or {}, now)), default=float))
    temporary.replace(file)


def read(file: Path) -> Progress | None:
    """The latest report, or None where there is none (yet)."""
    try:
        return Progress(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
