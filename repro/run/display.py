"""Shows the progress of a run on this machine: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from repro.terminal.text import duration
from slurm.graph import Graph


@contextmanager
def display(graph: Graph) -> Iterator[Any]:
    """Bars on a terminal, plain lines elsewhere, from the executor's events."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns) as bars:
        whole = bars.add_task("all tasks", total=len(graph), info="")
        tasks: dict[str, Any] = {}

        def on_event(event: Any) -> None:
            if event.kind == "started":
                tasks[event.key] = bars.add_task(event.key, total=None, info="")
            elif event.kind == "progress":
                told = event.progress
                name = f"{event.key} {told.info.get('job', '')}"
                bars.update(tasks[event.key], description=name, completed=told.done, total=told.total, info=_info(told))
            elif event.kind == "elsewhere":
                bars.console.print(f"{event.key}: {event.who} is running it; waiting for its result")
            else:
                bars.advance(whole)
                if event.key in tasks:
                    bars.remove_task(tasks.pop(event.key))
                bars.console.print(_ended(event))

        yield on_event


class _Lines:
    """Plain log lines: starts, ends, and how far each task is, at most every ten seconds."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, event: Any) -> None:
        now = time.monotonic()
        if event.kind == "started":
            self._last[event.key] = now
            print(f"{event.key}: started", flush=True)
        elif event.kind == "progress":
            if now - self._last.get(event.key, 0.0) >= 10:
                self._last[event.key] = now
                told = event.progress
                line = f"{event.key}: {told.info.get('job', '')} {told.done} of {told.total} {_info(told)}"
                print(line.rstrip(), flush=True)
        elif event.kind == "elsewhere":
            print(f"{event.key}: {event.who} is running it; waiting for its result", flush=True)
        else:
            print(_ended(event), flush=True)


def _info(told: Any) -> str:
    shown = {key: value for key, value in told.info.items() if key.startswith("loss") and isinstance(value, float)}
    total = sum(shown.values())
    return f"loss {total:.3f}" if shown else ""


def _ended(event: Any) -> str:
    outcome = event.outcome
    if outcome.state == "done":
        return f"{event.key}: done in {duration(outcome.seconds)}"
    return f"{event.key}: {outcome.state}, {outcome.reason}"
