"""How far work is that is done while the user waits: one line that counts, and a bar for bytes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from repro.terminal.text import size

Show = Callable[[int, int, Mapping[str, Any]], None]


@contextmanager
def download_bar(what: str) -> Iterator[Show]:
    """A progress callback for bytes: a bar with speed and time left on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield counter(what, size)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total, info: bars.update(task, completed=done, total=total)


def counter(what: str, words: Callable[[float], str] = "{:,}".format) -> Show:
    """A progress callback: one line that is rewritten on a terminal, a line every five seconds elsewhere.

    words: how a number is printed.
    """
    terminal = sys.stderr.isatty()
    last = 0.0

    def show(done: int, total: int, info: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < (0.1 if terminal else 5.0):
            return
        last = now
        line = f"{what}: {words(done)} of {words(total)}"
        print(
            f"\r{line}\033[K" if terminal and done < total else line,
            end="" if terminal and done < total else "\n",
            file=sys.stderr,
        )

    return show
