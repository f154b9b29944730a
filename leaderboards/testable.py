"""Which claims a run can test at all: the others are in no family, and are said to be so."""

from __future__ import annotations

from collections.abc import Iterable

from leaderboards import evalues
from leaderboards.claims import NO_TRACK, Claim, counted, tracks_of, with_forms
from leaderboards.reasons import NoKey, NotKnown, NoTrack, NotTrainedOn, OtherTracks, Reason
from leaderboards.suite import Suite

ABOUT = (
    "A family is all claims of one paper's abstract that can be tested on one track: a rule, not a choice by results."
    " We added claims of our own that ask why a claim holds or not: which part of a method adds what. Per paper they"
    " are a second family, so the paper's claims need no more evidence because of them. They take their margins from"
    " the claim that they explain. Most of them were chosen when three seeds of some of these methods were known;"
    " verdicts on those seeds alone are less strict than stated."
)
"""Which claims are in a family, in words."""

_OF_A_RECIPE = ("method", "network", "pretrain")


def hindrance(claim: Claim, suite: Suite, track: str) -> Reason | None:
    """Why no run on this track can test a claim, in its own setting or its direction alone; None where one can."""
    if claim.track == NO_TRACK and not claim.proxies:
        return NoTrack(claim.data)
    if track not in tracks_of(claim):
        return OtherTracks(tracks_of(claim))
    return None if track in claim.proxies else unreachable(claim, suite)


def unreachable(claim: Claim, suite: Suite, papers: bool = True) -> Reason | None:
    """Why nothing that we can run counts as the claim's own setting; None where something does.

    papers: under the paper's protocol; else under ours.
    """
    if claim.track == NO_TRACK:
        return NoTrack(claim.data)
    if claim.pretrain_data:
        return NotTrainedOn(claim.pretrain_data)
    if unknown := tuple(key for key in claim.unknown if papers or key != "protocol"):
        return NotKnown(unknown, claim.assumption)
    for name in filter(None, (claim.arm, claim.baseline_arm)):
        recipe = suite.recipe(name, claim.track)
        for table in _OF_A_RECIPE if recipe else ():
            for key in claim.changes.get(table, {}):
                if key not in recipe.get(table, {}):
                    return NoKey(name, f"{table}.{key}")
    return None


def first_takes(claim: Claim, claims: Iterable[Claim], suite: Suite, track: str) -> float:
    """The evidence that the first claim of its family takes at one track, before any of them has a pair.

    claims: all that there are; those of a paper's own form, tested beside, count too.
    """
    return evalues.first_takes(len(members(with_forms(claims), suite, track).get(claim.family, ())))


def tracks_of_form(claim: Claim, suite: Suite) -> tuple[str, ...]:
    """The smaller tracks at which the paper's own form is another recipe than the claim's arm, and is tested beside."""
    forms = claim.as_published.arm
    return tuple(t for t in claim.proxies if claim.form and suite.recipe(forms, t) != suite.recipe(claim.arm, t))


def members(claims: Iterable[Claim], suite: Suite, track: str) -> dict[str, list[Claim]]:
    """By name of a family, the claims that share its error rate at one track.

    These are all that a run can test there, whether it was run or not: so it makes no difference in which order the
    runs are done. What is compared without chance is in none.
    """
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        if not counted(claim) and hindrance(claim, suite, track) is None:
            found.setdefault(claim.family, []).append(claim)
    return found
