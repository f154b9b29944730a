"""`status`: runs x tasks as a table, and what there is to say of those that are not done."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.plan import kinds
from repro.run.task_states import WORDS, cell, run_of, states
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal import text as words

if TYPE_CHECKING:
    from slurm.states import TaskState

_EVERY = 5.0  # seconds between two looks of --watch


def watch(settings: Settings) -> None:
    """Print the table anew every few seconds until nothing is queued or running any more."""
    terminal = sys.stdout.isatty()
    text, live = _status(settings)
    while True:
        print(f"\033[H\033[2J{text}" if terminal else f"{text}\n", flush=True)
        if not live:
            return
        time.sleep(_EVERY)
        try:
            text, live = _status(settings)
        except UserError as error:  # SLURM is busy for a while: no reason to end a night's watch
            text = f"{error}; asking again"


def status(settings: Settings) -> str:
    """Runs x stages as a table, and what there is to say about those that are not done."""
    return _status(settings)[0]


def _status(settings: Settings) -> tuple[str, bool]:
    place = Workspace.existing(settings.workspace)
    found = states(place)
    count = len(records.known_fingerprints(place.records))
    lines = [table(found), ""] if found else ["no task was started yet", ""]
    lines.append(f"{count} records in {place.records}")
    return "\n".join(lines), any(state.live for state in found)


def table(found: Sequence[TaskState]) -> str:
    """The table of `status`."""
    cells: dict[str, dict[str, str]] = {}
    others = []
    for state in found:
        if state.task.stage in kinds.tasks():
            cells.setdefault(run_of(state), {})[state.task.stage] = cell(state)
        else:
            others.append(f"{state.key}: {cell(state)}")
    stages = [stage for stage in kinds.tasks() if any(stage in row for row in cells.values())]
    lines = [
        words.table([[run, *(row.get(stage, "") for stage in stages)] for run, row in cells.items()], ["run", *stages])
    ]
    lines += ["", *others] if others else [""]
    counts = Counter(WORDS.get(state.state, state.state) for state in found)
    lines.append(", ".join(f"{number} {word}" for word, number in counts.items()))
    told: dict[tuple[str, str], list[TaskState]] = {}
    for state in found:
        if not state.live and state.reason:
            told.setdefault((WORDS.get(state.state, state.state), state.reason), []).append(state)
    for (word, reason), members in told.items():
        names = members[0].key if len(members) == 1 else f"{len(members)} tasks ({members[0].key}, ...)"
        lines.append(f"{word}: {names}: {reason}")
    if any(state.lost for state in found):
        lines.append("the whole log: python -m repro logs TASK-RUN; to do them again: python -m repro retry")
    return "\n".join(lines)
