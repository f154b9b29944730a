"""The end of a run: boards, the one table, and on a cluster the task that does both when all others have ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from leaderboards.record_fields import entry
from repro.data.data_sets import FOLDER
from repro.errors import UserError
from repro.plan import tracks
from repro.plan.tracks import Track
from repro.results import find_records
from repro.results.boards import write_boards
from repro.results.suite import suite
from repro.run import task_states
from repro.store import records
from repro.store.workspace import Workspace


def collate(workspace: str, track: str, fingerprints: Sequence[str], keys: Sequence[str]) -> dict[str, list[str]]:
    """Write the boards, print the table and what is not done of these tasks; returns their keys by state."""
    place = Workspace(Path(workspace))
    finish(fingerprints, tracks.find(track), place)
    have = records.known_fingerprints(place.records)
    print(f"\n{sum(known[:12] in have for known in fingerprints)} of {len(fingerprints)} jobs have their records")
    try:
        found = task_states.states(place)
    except UserError as error:  # a machine that may run jobs but not ask for them
        print(f"{error}; python -m repro status on a login node says what is not done")
        return {}
    left: dict[str, list[str]] = {}
    for state in found:
        if state.key in keys and state.state != "done":
            left.setdefault(state.state, []).append(state.key)
            print(f"{state.state}: {state.key}: {state.reason} (log: {state.log})")
    print("to do them again: python -m repro retry" if left else f"all {len(keys)} tasks are done")
    return left


def finish(fingerprints: Collection[str], track: Track, place: Workspace) -> None:
    """Write the boards and print the one table of the runs with these fingerprints."""
    from leaderboards.controls import Controls
    from leaderboards.summary import summarise
    from repro.results.control_commands import commands

    write_boards(place)
    wanted = set(fingerprints)
    here = records.read_all(place.records)[0]
    mine = [record for record in here if record["fingerprint"] in wanted]
    if mine:
        claims = find_records.every_claim()
        controls = Controls(here, find_records.published_records()[0], suite(), claims)
        said = summarise(mine, claims, suite(), controls)
        print(f"\n{said.table}\n")
        print(*said.lines, sep="\n")
        for command in commands(said.lacking):
            print(f"to fill gaps (-): {command}")
        own = any(str(entry(record, "provenance", "data", "name")).startswith(FOLDER) for record in mine)
        print(f"comparable with the papers: {'no: own images' if own else track.comparable}")
    print(f"boards:  {place.boards / 'index.md'}, to look at in a browser: {place.boards / 'report.html'}")
    print(f"records: {place.records}")
