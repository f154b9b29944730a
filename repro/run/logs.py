"""`logs`: the last lines that a task printed; with `--follow` also new ones."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from repro.errors import UserError
from repro.run.task_states import cell, one_of, states
from repro.settings import Settings
from repro.store.workspace import Workspace

_EVERY = 5.0  # seconds between two looks at the task's state
_FOLLOW = 0.5  # seconds between two looks at its log
_LINES = 30


def logs(settings: Settings, name: str) -> str:
    """The last lines of what a task printed."""
    state = one_of(Workspace.existing(settings.workspace), name)
    return "\n".join([f"{state.key}: {cell(state)}", *(_last_lines(state.log) or ["it has printed nothing yet"])])


def follow(settings: Settings, name: str) -> None:
    """Print the last lines of a task and what it adds, until it has ended."""
    place = Workspace.existing(settings.workspace)
    state = one_of(place, name)
    log, looked = state.log, time.monotonic()
    print("\n".join(_last_lines(log)), flush=True)
    position = log.stat().st_size if log.exists() else 0
    while True:
        if log.exists():
            with log.open("rb") as file:
                file.seek(position)
                text = file.read()
            position += len(text)
            sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()
        if not state.live:
            print(f"{state.key}: {cell(state)}" + (f": {state.reason}" if state.reason else ""))
            return
        time.sleep(_FOLLOW)
        if time.monotonic() - looked > _EVERY:  # not at every look at the file: it may be a call to SLURM
            looked = time.monotonic()
            try:
                state = next(new for new in states(place) if new.key == state.key)
            except UserError as error:
                print(f"{error}; asking again", file=sys.stderr, flush=True)


def _last_lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65536))
        return file.read().decode(errors="replace").splitlines()[-_LINES:]
