"""From records to what people read: the workspace's boards, the claims, and the repository's published records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leaderboards import boards, claims, plots, published
from repro import records
from repro.errors import UserError, unknown
from repro.recipes import find
from repro.settings import Settings, require_writable
from repro.tracks import tracks
from repro.workspace import Workspace

PICTURE = "efficiency.png"


def write_boards(place: Workspace) -> list[str]:
    """Write the workspace's boards from its records; returns a line for each file that is no record."""
    found, faults = records.read_all(place.records)
    built = boards.build(found, claims.load(), lambda r: f"../records/{records.file_name(dict(r))}", picture=PICTURE)
    for name, text in built.items():
        records.write_atomic(place.boards / name, text)
    plots.plot_efficiency(found, place.boards / PICTURE)
    return faults


def report(settings: Settings) -> str:
    """Write the boards anew; returns what to print."""
    require_writable(settings.workspace)
    place = Workspace(settings.workspace)
    faults = write_boards(place)
    lines = [f"passed over: {fault}" for fault in faults]
    return "\n".join([*lines, f"boards written to {place.boards} (begin with {place.boards / 'index.md'})"])


def check(settings: Settings, paper: str | None) -> str:
    """Every claim with its verdict, from the workspace's records and the published ones."""
    known = claims.load()
    if paper is not None:
        papers = {claim.paper for claim in known}
        if paper not in papers:
            raise unknown("paper", paper, papers)
        known = [claim for claim in known if claim.paper == paper]
    found, faults = records.read_all(Workspace(settings.workspace).records)
    here = {record["fingerprint"] for record in found}
    found += [record for record in published.load_published() if record["fingerprint"] not in here]
    lines = [f"passed over: {fault}" for fault in faults]
    return "\n".join([*lines, boards.claims_table(known, found)])


def publish(settings: Settings, methods: Sequence[str] | None, track: str | None) -> str:
    """Copy records into `leaderboards/records/` and rebuild the repository's boards."""
    target = published.FOLDER
    if not (target.parent / ".git").exists():
        raise UserError(f"publish changes the repository, and {target.parent} is none; run it in a clone")
    if track is not None and track not in tracks():
        raise unknown("track", track, tracks())
    found, faults = records.read_all(Workspace(settings.workspace).records)
    imported = {f"{r['method']}:{r['variant']}": (r["method"], r["variant"]) for r in found if r["kind"] == "import"}
    arms = {imported[name] if name in imported else _arm(name) for name in methods or []}
    chosen = [
        record
        for record in found
        if (not arms or (record["method"], record["variant"]) in arms) and track in (None, record["track"])
    ]
    if not chosen:
        raise UserError(f"no record in {Workspace(settings.workspace).records} fits; see python -m repro status")
    new = sum(records.write(target / "records", record)[1] for record in chosen)
    changed = published.rebuild()
    lines = [f"passed over: {fault}" for fault in faults]
    lines.append(f"{new} records published, {len(chosen) - new} were there; boards changed: {_names(changed)}")
    return "\n".join(lines)


def _arm(name: str) -> tuple[str, str]:
    info, variant = find(name)
    return info.name, variant


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths) or "none"
