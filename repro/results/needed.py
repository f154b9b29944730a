"""`settle --dry-run`: what would decide claims on a track, as on the page of claims, by the prices of this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboards import needs, power
from leaderboards.arms import Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.claims import TRACKS, Claim
from leaderboards.needs import Need
from leaderboards.reason_words import reason
from leaderboards.reasons import OtherTracks, Reason
from leaderboards.suite import Price
from leaderboards.testable import hindrance, unreachable
from repro.errors import UserError
from repro.plan import cards, tracks
from repro.results import equal_tuning, find_records, pair_prices
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record
from repro.store.workspace import Workspace
from repro.terminal import text

_BELOW = (
    "The table above starts from the pairs that count; its times are clock times. This one starts from none and assumes"
    "\na true difference; its hours are the sum over all runs."
)


def told(
    claims: Sequence[Claim],
    track: str,
    settings: Settings,
    counted: Sequence[Record],
    *,
    named: bool = False,
    below: bool = False,
) -> str:
    """A row for each test of the claims on the track, their sum, and why others of them cannot be tested there.

    named: the claims were asked for by name, so that each must be testable.
    counted: published records that count beside those of the workspace: what is decided by them is left out.
    below: it stands below the table of `settle.py`, whose question is another.
    UserError for an unknown track or --card, and where the track can test none of the claims.
    """
    tracks.find(track)
    if settings.card:
        cards.find(settings.card)
    require_testable(claims, track, each=named)
    here = records.read_all(Workspace(settings.workspace).records)[0]
    every = _assessed([*here, *find_records.published_records()[0]])
    assessed = _assessed(equal_tuning.of_these_recipes([*here, *counted], track))
    found = _needs(claims, track, settings, assessed, every)
    lines = []
    if found:
        on = f", on {found[0].price.card}" if found[0].price.card else ""
        chance = any(need.spread for need in found)
        chances = f" for a decision with a probability of {100 * power.POWER:.0f} % if {_assumption(found)}"
        lines += [
            f"starting from no pairs on {track}: pairs and hours{chances if chance else ''}{on}",
            *([_BELOW] if below and chance else []),
            "",
            _table(found),
            "",
        ]
        lines += [_sum(found), "", *(text.wrapped(needs.INTRO.replace("`", "")) if chance else [])]
    known = {need.claim.id for need in found}
    decided = {
        item.claim.id
        for item in assessed
        if any(verdict.track == track and verdict.decided and not verdict.form for verdict in item.verdicts)
    }
    none = {
        claim.id: "decided at equal epochs" if claim.id in decided else "no command makes the pair" for claim in claims
    }
    left = {
        claim.id: reason(why) if (why := _hindrance(claim, track)) else none[claim.id]
        for claim in claims
        if claim.id not in known and not (below and claim.id in decided)  # of which the table above says more
    }
    lines += ["", f"left out on {track}"] if left else []
    for words in dict.fromkeys(left.values()):
        names = ", ".join(name for name in left if left[name] == words)
        lines += text.wrapped(f"{words}: {names}", "  ", "    ")
    return "\n".join(lines).lstrip("\n")


def require_testable(claims: Sequence[Claim], track: str, *, each: bool = False) -> None:
    """UserError where the track can test none of these claims: the tracks that can, or why no track can.

    each: also where it can test some of them, but not all.
    """
    for claim in claims if each else ():
        require_testable([claim], track)
    places = {place for claim in claims for place, _ in needs.settings(claim, suite())}
    if track in places:
        return
    if places:
        *others, last = (place for place in TRACKS if place in places)
        listed = f"{', '.join(others)} or {last}" if others else last
        what = f"{claims[0].id} cannot" if len(claims) == 1 else "none of these claims can"
        raise UserError(f"{what} be tested on {track}", f"use --track {listed}")
    reasons = {claim.id: reason(why) for claim in claims if (why := unreachable(claim, suite()))}
    told = [f"{', '.join(k for k in reasons if reasons[k] == why)}: {why}" for why in dict.fromkeys(reasons.values())]
    raise UserError(f"no track can test {'; '.join(told)}")


def _assumption(found: Sequence[Need]) -> str:
    """`the true difference is +2.4 points`, of several as the column assumed says."""
    if len({needs.assumed(need) for need in found}) > 1 or found[0].spread is None:
        return "the true difference is as assumed"
    what = "difference" if found[0].apart is not None else "value"
    return f"the true {what} is {needs.assumed(found[0])}"


def _hindrance(claim: Claim, track: str) -> Reason | None:
    """Why the track cannot test a claim: of one that no track can test, why that is so."""
    why = hindrance(claim, suite(), track)
    if not isinstance(why, OtherTracks):
        return why
    others = tuple(other for other in why.tracks if hindrance(claim, suite(), other) is None)
    return OtherTracks(others) if others else unreachable(claim, suite())


def _assessed(found: Sequence[Mapping[str, Any]]) -> list[Assessment]:
    """Every claim by these records; of two with one fingerprint the first counts."""
    return assess(
        find_records.every_claim(),
        Arms({record["fingerprint"]: record for record in reversed(found)}.values(), suite()),
    )


def _needs(
    claims: Sequence[Claim],
    track: str,
    settings: Settings,
    assessed: Sequence[Assessment],
    spreads: Sequence[Assessment],
) -> list[Need]:
    """Of these claims.  spreads: by all records, as it matters little for a spread which pictures they are of."""
    names = {claim.id for claim in claims}

    def price(claim: Claim, where: str, own: bool) -> Price | None:
        wanted = where == track and claim.id in names
        return pair_prices.price(claim, where, own, settings) if wanted else None

    return needs.needs(assessed, dataclasses.replace(suite(), price=price), spreads)


def _table(found: Sequence[Need]) -> str:
    rows = needs.rows(found)
    heads = [head for head in rows[0] if head not in needs.LIFTED]
    return text.table([[row[head].text for head in heads] for row in rows], heads)


def _sum(found: Sequence[Need]) -> str:
    """`all 3 tests, trainings that they share counted once: 1,200 / 900 / 800 GPU-hours (estimates)`."""
    shown = []
    for share in range(len(needs.SHARES)):
        hours, most, over = dict[str, float](), dict[str, int](), False
        for need in found:
            n = need.pairs[min(share, len(need.pairs) - 1)]
            over |= n is None
            for job, took in need.price.jobs.items():
                hours[job], most[job] = took, max(most.get(job, 0), n or power.MOST)
        shown.append(("over " if over else "") + needs.about(sum(hours[job] * most[job] for job in hours)))
    several = f"all {len(found)} tests, trainings that they share counted once" if len(found) > 1 else "this test"
    return f"{several}: {' / '.join(shown)} {found[0].price.unit} (estimates)"
