"""The end of a run: boards, the one table, and on a cluster the task that does both when all others have ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

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
    from leaderboards.summary import suite_table

    write_boards(place)
    wanted = set(fingerprints)
    mine = [record for record in records.read_all(place.records)[0] if record["fingerprint"] in wanted]
    if mine:
        print()
        print(suite_table(mine, find_records.every_claim(), suite()))
        print(f"\ncomparable with the papers: {track.comparable}")
    print(f"boards:  {place.boards / 'index.md'}, to look at in a browser: {place.boards / 'report.html'}")
    print(f"records: {place.records}")
