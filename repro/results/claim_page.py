"""`repro claims ID`: one claim, our test of it, the verdicts so far, and what would complete them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leaderboards import assessments, claims
from leaderboards.arms import Arms
from leaderboards.claim_arms import COMPUTE, EPOCHS
from leaderboards.claims import MECHANISM, NO_TRACK, VERIFIED, Claim, of_training
from leaderboards.references import references
from leaderboards.testable import first_takes, tracks_of_form
from leaderboards.verdicts import Verdict
from repro.data.data_sets import entry_of
from repro.data.origins import ORIGINS
from repro.results import find_records
from repro.results.claim_commands import wanting
from repro.results.suite import suite
from repro.settings import Settings
from repro.terminal import text


def explain(settings: Settings, name: str) -> str:
    """One claim: what it says and where, our test of it, the verdicts so far, and what would complete them."""
    claim = find_records.find_claim(name)
    found, faults = find_records.everything(settings)
    known = Arms(found, suite())
    (item,) = (item for item in assessments.assess(find_records.every_claim(), known) if item.claim.id == claim.id)
    spread = f"{claim.spread:g} over {claim.spread_n} runs" if claim.spread is not None else "none stated"
    conditions = [
        ["paper", claim.citation],
        ["source", f"{claim.source} ({VERIFIED[claim.verified]})"],
        ["kind", f"{claim.kind}: {claim.stated}"],
        ["std over seeds (paper)", spread],
        ["evaluation", f"{claim.evaluation} {claim.metric} on {claim.data}"],
        *([key, _said(claim, key)] for key in _stated(claim)),
        *([f"epochs on {track}", " and ".join(map(str, epochs))] for track, epochs in claim.lengths.items()),
        *([["it could be tested by assuming", claim.assumption]] if claim.assumption else []),
        *([["explains", claim.parent]] if claim.parent else []),
        *([f"{table}.{key}", value] for table, values in claim.changes.items() for key, value in values.items()),
        *([["pre-trained on", claim.pretrain_data]] if claim.pretrain_data else []),
        *([["note", claim.note]] if claim.note else []),
    ]
    lines = [f"skipped: {fault}" for fault in faults]
    lines += [f"{claim.id}: {claim.statement}", "", *_listed(conditions)]
    rows = {row.id: row for row in references()}
    reported = [row for row in rows.values() if row.id in claim.references]
    if reported:
        lines += ["", "reported numbers"]
        for row in reported:
            lines += text.wrapped(row.words, "  ", "    ")
            for other in row.conflicts:
                lines += text.wrapped(f"also reported: {rows[other].words}", "    ", "      ")
    against = f" and {claim.baseline_arm}" if claim.baseline else ""
    what = "pre-trainings" if claim.kind == "number" else "pairs of pre-trainings with the same seed"
    lines += [
        "",
        *text.wrapped(
            f"test: {claim.arm}{against}, {'one run' if claims.counted(claim) else what}; {item.family}", "", "  "
        ),
        *(
            f"  {track}, {'setting of the paper' if own else 'better or not'}:"
            f" margin {assessments.margin_words(claim, margin)}"
            for track, own, margin in _tests(claim)
        ),
        "",
        "verdicts so far",
        *_verdicts(item),
    ]

    def takes(one: Claim, track: str) -> float:
        return first_takes(one, find_records.every_claim(), suite(), track)

    def lacks(one: Claim, track: str, own: bool) -> list[str]:
        first, compute = (_so_far(one, item.verdicts, track, own, basis) for basis in (EPOCHS, COMPUTE))
        return wanting(one, known, track, own, first, takes(one, track), compute)

    lacking = [line for track, own, _ in _tests(claim) for line in lacks(claim, track, own)]
    for track in tracks_of_form(claim, suite()):
        first, *others = lacks(claim.as_published, track, False) or [""]
        lacking += [f"{claim.form_name} ({claim.form}), {first}", *others] if first else []
    if any(verdict.n for verdict in item.verdicts) and lacking:
        lacking.append("new seeds join the existing ones only if the same code trains them")
    for name in sorted({word for line in lacking for word in re.findall(r'data\.\w+="([^"]+)"', line)}):
        entry = entry_of(name)
        if ORIGINS[entry.origin].download(entry, settings.where) is None:
            lacking.append(f"repro cannot download {name}: without that --set, pairs on other images start again")
    if claim.track == NO_TRACK and claim.kind != MECHANISM:
        lacking.insert(0, f"setting of the paper: no track runs {claim.data}")
    return "\n".join(
        [*lines, "", "needed next", *(f"  {line}" for line in lacking or ["nothing: the claim is decided"])]
    )


def _verdicts(item: assessments.Assessment) -> list[str]:
    """Each verdict with its details below it, then how the recipe differs and what the parts add."""
    found = []
    for one in item.findings:
        found += text.wrapped(one.headline, "  ", "    ")
        found += [line for detail in one.details for line in text.wrapped(detail, "    - ", "      ")]
    others = [*item.open, *item.departures, *(f"why: {words}" for words in item.why)]
    return [*found, *(line for words in others for line in text.wrapped(words, "  ", "    "))]


def _so_far(claim: Claim, found: Sequence[Verdict], track: str, own: bool, basis: str) -> Verdict | None:
    """The verdict of a test at equal epochs or at equal compute, as far as there is one."""
    there = (verdict for verdict in found if verdict.track == track)
    here = [verdict for verdict in there if (verdict.basis == COMPUTE) == (basis == COMPUTE)]
    return next((verdict for verdict in here if verdict.own == own and verdict.claim.id == claim.id), None)


def _stated(claim: Claim) -> list[str]:
    """What there is to say of its own setting: a claim of our own has none."""
    keys = claims.SETTING if claim.kind != MECHANISM else ()
    return [key for key in keys if key != "protocol" or not of_training(claim)]


def _said(claim: Claim, key: str) -> str:
    value = getattr(claim, key)
    if key == "epochs":
        value = claim.epochs_span
    return str(value) if value else "not known"


def _listed(rows: Sequence[Sequence[object]]) -> list[str]:
    width = max(len(str(row[0])) for row in rows)
    return [line for key, value in rows for line in text.wrapped(str(value), f"  {key!s:{width}}  ", " " * (width + 4))]


def _tests(claim: Claim) -> list[tuple[str, bool, float]]:
    """(track, whether it is the claim's own setting, margin) of every test of a claim, the smallest track first."""
    own = [(claim.track, True, claim.margin)] if claim.track != NO_TRACK else []
    return [(track, False, claim.proxies[track]) for track in claims.TRACKS if track in claim.proxies] + own
