"""Where records are looked up: those of the workspace and the published ones, by what a cell links to, by method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from leaderboards import claim_files, published, record_files
from leaderboards.claims import Claim
from repro.errors import UserError, nearest, shortened, unknown
from repro.plan import registry
from repro.plan.tracks import tracks
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record
from repro.store.workspace import Workspace

_SHORTEST = 6  # digits of a fingerprint that may be told from a name


def everything(settings: Settings) -> tuple[list[Record], list[str]]:
    """The records of the workspace and the published ones, each once; and a line for whatever holds none.

    UserError where the workspace is not there. Who has none yet need not name one: the published ones do then.
    """
    found, faults = records.read_all(read_from(settings).records)
    others, damaged = published_records()
    here = records.by_fingerprint(found)
    return found + [record for record in others if record["fingerprint"] not in here], faults + damaged


def read_from(settings: Settings) -> Workspace:
    """The workspace, whose records are read beside the published ones; see `everything`."""
    named = settings.workspace != Settings.workspace
    return Workspace.existing(settings.workspace) if named else Workspace(settings.workspace)


def published_records() -> tuple[list[Record], list[str]]:
    """The repository's records, and a line for each of its lines that holds none."""
    return records.read_published(published.records_folder(published.FOLDER))


def find(cell: str, found: Sequence[Record]) -> Record:
    """The record that a cell is made of.

    cell: what it links to (a file of the workspace, or a published file and a fingerprint after #), its file's name in
    a workspace, or the beginning of its fingerprint.

    Raises:
        UserError: none of them, or several.
    """
    name = PurePath(cell).name
    start = name.partition("#")[2] or cell
    matching = [
        record
        for record in found
        if records.file_name(record) == name or (len(start) >= _SHORTEST and record["fingerprint"].startswith(start))
    ]
    if not matching:
        known = [PurePath(record_files.address(r)).name if "#" in name else records.file_name(r) for r in found]
        mend = f"give a record link from a board (file.jsonl#hash), or {_SHORTEST} or more digits of a fingerprint"
        raise unknown("record", name, known or ["(there is none)"], mend)
    if len(matching) > 1:
        raise UserError(f"{len(matching)} fingerprints begin with {cell}", "give more digits")
    return matching[0]


def choose(found: Sequence[Record], methods: Sequence[str] | None, track: str | None) -> list[Record]:
    """The records of these methods (NAME, NAME:VARIANT or NAME:imported) and of this track; None for all of them."""
    if track is not None and track not in tracks():
        raise unknown("track", track, tracks())
    imported = {f"{r['method']}:{r['variant']}": (r["method"], r["variant"]) for r in found if r["kind"] == "import"}
    wanted = {imported[name] if name in imported else _named(name) for name in methods or []}
    return [
        record
        for record in found
        if (not wanted or (record["method"], record["variant"]) in wanted) and track in (None, record["track"])
    ]


def _named(name: str) -> tuple[str, str]:
    info, variant = registry.find(name)
    return info.name, variant


def with_ancestors(chosen: Sequence[Record], every: Sequence[Record]) -> list[Record]:
    """The chosen records and the pre-trainings that they come from."""
    by_fingerprint = records.by_fingerprint(every)
    found = {record["fingerprint"]: record for record in chosen}
    todo = list(chosen)
    while todo:
        for parent in todo.pop().get("parents") or ():
            if parent in by_fingerprint and parent not in found:
                found[parent] = by_fingerprint[parent]
                todo.append(by_fingerprint[parent])
    return list(found.values())


def every_claim() -> list[Claim]:
    """Every claim.

    UserError, one line with the file, where a file of claims or the references are not in order, or a claim names a
    method that is not registered.
    """
    try:
        found = claim_files.load(suite())
    except ValueError as error:
        raise UserError(str(error)) from None
    for claim in found:
        for arm in filter(None, (claim.arm, claim.baseline_arm)):
            try:
                registry.find(arm)
            except UserError as error:
                raise UserError(f"claims/{claim.paper}.toml: claim '{claim.id}': {error}") from None
    return found


def find_claim(name: str) -> Claim:
    """The claim of that id, or of which that is the paper's own form.

    Raises:
        UserError: no such claim, with the nearest one, or those of the paper that the id begins with.
    """
    known = {claim.id: claim for claim in every_claim()}
    name = next((claim.id for claim in known.values() if claim.form and claim.as_published.id == name), name)
    if name in {claim.paper for claim in known.values()}:
        raise UserError(f"{name} is a paper, not a claim", f"python -m repro claims --paper {name} lists its claims")
    if name not in known:
        same = [claim for one, claim in known.items() if one.partition("-")[0] == name.partition("-")[0]]
        listed = "python -m repro claims lists them"
        if same and not nearest(name, known):
            paper, ids = same[0].paper, [claim.id for claim in same]
            listed = f"claims of {paper}: {shortened(ids, 6)}; python -m repro claims --paper {paper} lists them"
        raise unknown("claim", name, known, listed)
    return known[name]


def claims_of(wanted: Sequence[str], paper: str | None) -> list[Claim]:
    """The claims of these ids, each once, or those of a paper; of every paper for "all".

    Raises:
        UserError: both or neither is given, or there is no such claim or paper.
    """
    if bool(wanted) == bool(paper):
        raise UserError("say which claims: their ids, --paper NAME or --paper all; python -m repro claims lists them")
    if wanted:
        return list({claim.id: claim for claim in map(find_claim, wanted)}.values())
    every = every_claim()
    papers = sorted({claim.paper for claim in every})
    if paper != "all" and paper not in papers:
        raise UserError(f"--paper {paper}: no such paper; valid: all, {', '.join(papers)}")
    return [claim for claim in every if paper in ("all", claim.paper)]
