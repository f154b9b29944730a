"""How far a running job is: a small file that the executors read and turn into bars."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Reporter:
    """Writes {"label", "done", "total", "info"} to the file that REPRO_PROGRESS names, at most four times a second."""

    def __init__(self, label: str) -> None:
        self.label = label
        stated = os.environ.get("REPRO_PROGRESS")
        self._path = Path(stated) if stated else None
        self._last = 0.0

    def __call__(self, done: int, total: int, info: dict[str, Any] | None = None) -> None:
        now = time.monotonic()
        if self._path is None or (now - self._last < 0.25 and done < total):
            return
        self._last = now
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_text(
            json.dumps({"label": self.label, "done": done, "total": total, "info": info or {}}), encoding="utf-8"
        )
        fresh.replace(self._path)
