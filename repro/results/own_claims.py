"""Claims on a user's own method: that it is better than each of the methods that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leaderboards.claims import NO_TRACK, Claim
from leaderboards.verdicts import NO_VERDICTS
from repro.errors import UserError, unknown
from repro.plan import kinds, registry, tracks


def told(
    method: str | None, against: Sequence[str], evaluation: str, margin: float, named: Sequence[str]
) -> dict[str, Any]:
    """What `claims_of` needs, as plain values that any process understands; {} where claims of papers are meant.

    named: claims or a paper, which are none of the user's own. UserError where the two are mixed.
    """
    if method is None:
        if against:
            raise UserError("--against goes with --method")
        return {}
    if named:
        raise UserError(f"give either --method or claims, not both; leave out {named[0]}")
    mine, *theirs = (registry.spelled(registry.adopt(name)) for name in (method, *against))
    return {"method": mine, "against": theirs, "evaluation": evaluation, "margin": margin}


def claims_of(method: str, against: Sequence[str], track: str, evaluation: str, margin: float) -> tuple[Claim, ...]:
    """A claim for each of the methods to be beaten; they share one error rate.

    method: a registered name, or a recipe file.  against: names.  margin: what counts as no difference, in points.

    Raises:
        UserError: no such method, track or evaluation, a method against itself, or a margin that is none.
    """
    place = tracks.find(track)
    if place.name == NO_VERDICTS:
        others = ", ".join(name for name in tracks.tracks() if name != NO_VERDICTS)
        raise UserError(f"--track {track} only shows whether a method learns, without verdicts; choose {others}")
    if not against:
        raise UserError("--method needs the methods to compare it with: --against byol simclr")
    known = kinds.evaluations()
    if evaluation not in known:
        raise UserError(f"--eval: {unknown('evaluation', evaluation, known)}")
    if not 0 < margin < 100:
        raise UserError(f"--margin {margin:g}: what counts as no difference must be between 0 and 100 points")
    arms = [registry.adopt(name) for name in dict.fromkeys((method, *against))]
    mine, *theirs = dict.fromkeys(arms)
    if not theirs or method in against:
        raise UserError(f"--against {mine}: a method cannot be compared with itself")
    (name, variant), metric = _parts(mine), known[evaluation].metrics[0]
    role = kinds.KINDS[known[evaluation].kind].data or "classification"
    return tuple(
        Claim(
            id=f"{mine}-over-{other}".replace(":", "-"),
            paper="your method",
            citation="your method",
            statement=f"{mine} is better than {other}.",
            kind="direction",
            method=name,
            variant=variant,
            baseline=_parts(other)[0],
            baseline_variant=_parts(other)[1],
            evaluation=evaluation,
            metric=metric,
            data=getattr(place, role),
            source="given on the command line",
            verified="read",
            track=NO_TRACK,
            margin=margin,
            family=f"your method {mine}",
            proxies={place.name: margin},
        )
        for other in theirs
    )


def _parts(arm: str) -> tuple[str, str]:
    name, _, variant = arm.partition(":")
    return name, variant
