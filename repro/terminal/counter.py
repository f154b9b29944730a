"""One line that counts, for work that is done while the user waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def counter(what: str) -> Callable[[int, int, Mapping[str, Any]], None]:
    """A progress callback: one line that is rewritten on a terminal, a line every five seconds elsewhere."""
    terminal = sys.stderr.isatty()
    last = 0.0

    def show(done: int, total: int, info: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < (0.1 if terminal else 5.0):
            return
        last = now
        line = f"{what}: {done:,} of {total:,}"
        print(
            f"\r{line}\033[K" if terminal and done < total else line,
            end="" if terminal and done < total else "\n",
            file=sys.stderr,
        )

    return show
