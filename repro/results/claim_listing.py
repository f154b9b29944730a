"""`repro claims`: what the papers assert, with the verdicts so far."""

from __future__ import annotations

from collections.abc import Mapping

from leaderboards import assessments, claims
from leaderboards.arms import Arms
from leaderboards.reading import OF_EMBEDDED
from leaderboards.unknown_names import UnknownName
from leaderboards.verdicts import NO_VERDICTS, OUTCOMES, Verdict
from repro.errors import UserError, unknown
from repro.plan import kinds
from repro.results import find_records
from repro.results.suite import suite
from repro.settings import Settings


def listing(settings: Settings, wanted: Mapping[str, str], outcome: str | None = None) -> str:
    """The claims that fit, with their verdicts so far, from the workspace's records and the published ones.

    wanted: as for `leaderboards.claims.select`.  outcome: of a verdict; with a track, of one on that track.
    """
    every = find_records.every_claim()
    if wanted.get("track") == NO_VERDICTS:
        others = ", ".join(track for track in claims.TRACKS if track != NO_VERDICTS)
        raise UserError(f"--track {NO_VERDICTS}: no claim is tested on {NO_VERDICTS}; choose from {others}")
    try:
        chosen = {claim.id for claim in claims.select(every, **wanted)}
    except UnknownName as error:
        raise UserError(str(error)) from None
    found, faults = find_records.everything(settings)
    items = assessments.assess(every, Arms(found, suite()))
    if outcome is not None:
        reached = {verdict.outcome for item in items for verdict in item.verdicts}
        if outcome not in {*reached, *OUTCOMES}:
            raise unknown("verdict", outcome, OUTCOMES, f"valid: {', '.join(map(repr, OUTCOMES))}")
    shown = [
        item
        for item in items
        if item.claim.id in chosen
        and (outcome is None or any(v.outcome == outcome for v in item.verdicts if _at(v, wanted.get("track"))))
    ]
    lines = [f"skipped: {fault}" for fault in faults]
    lines += [assessments.claims_table(shown)] if shown else []
    lines += ["", f"{len(shown)} of {len(every)} claims; python -m repro claims ID explains one"]
    if any(record["track"] == NO_VERDICTS for record in found):
        lines.append(OF_EMBEDDED)
    return "\n".join(lines)


def _at(verdict: Verdict, track: str | None) -> bool:
    return track is None or verdict.track == track


def papers_by_protocol() -> dict[tuple[str, str], list[str]]:
    """By kind and name of a protocol, the papers whose claims are made under it."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for claim in find_records.every_claim():
        if claim.protocol and not claims.of_training(claim):
            kind = kinds.evaluations()[claim.evaluation].kind
            found.setdefault((kind, claim.protocol), {})[claim.paper] = None
    return {key: list(papers) for key, papers in found.items()}
