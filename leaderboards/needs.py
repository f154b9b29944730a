"""What would decide a claim on a larger track: how many pairs, what they take, and what that assumes.

Assumed are the true difference and the spread of the differences from pair to pair. The difference is the paper's;
where it states none, twice the margin, as a margin is at most half of what a paper states. A number is taken to be as
stated. The spread is measured: of the claim itself where it has ENOUGH pairs, else the median of the claims by the
same evaluation, on that track, else where there are most; if that is the claim alone, its own. With more training
pictures results spread less, so half and a quarter of it are shown beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from leaderboards import evalues, power
from leaderboards.assessments import PAPERS, Assessment
from leaderboards.cells import Row, words
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import COST, NO_TRACK, Claim, counted, tracks_of
from leaderboards.suite import Price, Suite
from leaderboards.testable import hindrance, members, unreachable
from leaderboards.verdicts import Verdict
from leaderboards.wording import POINTS, unit

_TIMES = {"number": 1 / math.sqrt(2)}
"""Kinds that are not of one difference of two runs -> spread over that of one, if runs are independent."""
SHARES = (1.0, 0.5, 0.25)
"""Of the assumed spread: what is shown."""
FEWEST, ENOUGH = 3, 5  # pairs of which a spread is taken for the median of claims, and by itself
ASSUMED, ASSUMED_COST = 1.0, math.log1p(0.05)
"""Spread where nothing is measured: points, and of a cost the logarithm of the ratio."""


@dataclass(frozen=True)
class Spread:
    """Standard deviation from pair to pair, on the scale of the test, and where it is from."""

    value: float
    track: str = ""  # at which it was measured; "": it is assumed
    pairs: int = 0  # of the claim itself; 0: it is the median of other claims
    claims: int = 0  # so many
    times: float = 1.0  # by how much it is taken larger than theirs, see _TIMES


@dataclass(frozen=True)
class Seen:
    """The spread of a claim's differences as records show it."""

    claim: Claim
    track: str
    pairs: int
    spread: float


@dataclass(frozen=True)
class Need:
    """What decides a claim on a track with a probability of power.POWER."""

    claim: Claim
    track: str
    own: bool  # in the claim's own setting; else its direction alone
    takes: float  # evidence, with which the first claim of its family is decided
    price: Price
    apart: float | None  # the true difference that is assumed, on the scale of the test
    within: float | None  # in its place the margin round a stated value, which is assumed to be the true one
    spread: Spread | None  # None, as the two above: a cost without chance, of which one run is enough
    pairs: tuple[int | None, ...]  # with these shares of the spread; None: more than power.MOST

    @property
    def hours(self) -> tuple[float | None, ...]:
        """Of all these pairs."""
        return tuple(None if n is None else n * self.price.hours for n in self.pairs)


def needs(found: Sequence[Assessment], suite: Suite, spreads: Sequence[Assessment] | None = None) -> list[Need]:
    """Of every claim, what would decide it where suite.price knows what a pair takes; not where it is decided.

    spreads: the claims by the records that show how much differences vary; by default the same.
    """
    claims = [item.claim for item in found]
    families = {track: members(claims, suite, track) for track in {t for claim in claims for t in tracks_of(claim)}}
    seen = measured(found if spreads is None else spreads)
    return [
        need(item.claim, track, own, price, len(families[track].get(item.claim.family, ())), seen)
        for item in found
        for track, own in settings(item.claim, suite)
        if not _decided(item.verdicts, track, own)
        if (price := suite.price(item.claim, track, own)) is not None
    ]


def settings(claim: Claim, suite: Suite) -> list[tuple[str, bool]]:
    """(track, whether in the claim's own setting) of the tests that runs can make, the smallest track first."""
    found = [(track, False) for track in tracks_of(claim) if track in claim.proxies]
    found = [(track, own) for track, own in found if hindrance(claim, suite, track) is None]
    return found + ([(claim.track, True)] if claim.track != NO_TRACK and unreachable(claim, suite) is None else [])


def need(claim: Claim, track: str, own: bool, price: Price, family: int, seen: Sequence[Seen]) -> Need:
    """What decides one claim there.

    family: claims that share its error rate.  seen: spreads that were measured.
    """
    takes = evalues.first_takes(family)
    if counted(claim):
        return Need(claim, track, own, takes, price, None, None, None, (1,))
    spread, margin = _spread(claim, track, seen), claim.margin if own else claim.proxies[track]
    margin = math.log1p(margin) if claim.evaluation == COST else margin
    stated = claim.kind in ("number", "cost_ratio")  # held against what is stated, else against 0
    apart = None if stated else claim.value if claim.kind == "gain" else 2 * margin
    pairs = tuple(
        power.pairs_for_band(margin / (share * spread.value), takes)
        if apart is None
        else power.pairs_for_difference(apart / (share * spread.value), takes)
        for share in SHARES
    )
    return Need(claim, track, own, takes, price, apart, margin if stated else None, spread, pairs)


def _spread(claim: Claim, track: str, seen: Sequence[Seen]) -> Spread:
    """The spread that is assumed: that of the claim, else of others by the same evaluation, else a stated one."""
    mine = [item for item in seen if item.claim.id == claim.id and item.pairs >= ENOUGH]
    if mine:
        best = max(mine, key=lambda item: (item.track == track, item.pairs))
        return Spread(best.spread, best.track, pairs=best.pairs)
    alike = [item for item in seen if _scale(item.claim) == _scale(claim) and item.claim.kind not in _TIMES]
    if not alike:
        return Spread(ASSUMED_COST if claim.evaluation == COST else ASSUMED)
    places = [item.track for item in alike]
    where = max(dict.fromkeys(places), key=lambda place: (place == track, places.count(place)))
    there = [item for item in alike if item.track == where]
    if [item.claim.id for item in there] == [claim.id]:
        return Spread(there[0].spread, where, pairs=there[0].pairs)
    found = [item.spread for item in there]
    times = _TIMES.get(claim.kind, 1.0)
    return Spread(times * median(found), where, claims=len(found), times=times)


def _scale(claim: Claim) -> tuple[str, str]:
    """What two claims share whose spreads may stand for each other."""
    return claim.evaluation, claim.metric if claim.evaluation == COST else ""


def measured(found: Iterable[Assessment]) -> list[Seen]:
    """The spreads of differences that records show, at equal epochs, of FEWEST pairs or more."""
    return [
        Seen(item.claim, verdict.track, verdict.n, verdict.evidence.mean.sd)
        for item in found
        if item.claim.baseline
        for verdict in item.verdicts
        if verdict.basis != COMPUTE and not verdict.form and verdict.evidence
        if verdict.n >= FEWEST and verdict.evidence.mean.sd > 0
    ]


def _decided(verdicts: Iterable[Verdict], track: str, own: bool) -> bool:
    """Whether its question is answered there, at equal epochs."""
    here = [v for v in verdicts if v.track == track and v.own == own and v.basis != COMPUTE and not v.form]
    return any(verdict.decided for verdict in here)


# --------------------------------------------------------------------------------------------------------------- words

INTRO = (
    f"How many pairs and hours decide a claim with a probability of {100 * power.POWER:.0f} %. Example: `9 / 7 / 6`"
    " pairs. 9 pairs are needed if the differences vary from pair to pair as much as assumed, 7 if half as much, 6"
    " if a quarter as much: with more training images results vary less. This spread was measured where its"
    " brackets say. A claim about one number needs single runs, not pairs; a run is assumed to vary less than a"
    " difference of two (times 0.71). The assumed difference is the paper's. If the paper states none, it is twice"
    " the claim's margin. A number is assumed to be as stated, within its margin. `better or not`: it is only tested"
    " whether the method is better. The counts are from simulations with normally distributed differences. Spread:"
    " standard deviation of the differences. Evidence: what the first claim of a family needs; the others need less."
    " Hours are the plan's estimates for the named card, from records, calibration or constants (rough). They are"
    " for equal epochs; equal compute comes on top."
)
"""How to read `rows`."""
LIFTED = ("card",)


def rows(found: Iterable[Need]) -> list[Row]:
    """A row for each."""
    return [
        {
            "claim": words(need.claim.id),
            "at": words(place(need)),
            "evidence (first claim)": words("-" if need.spread is None else f"{need.takes:g}"),
            "assumed": words(assumed(need)),
            "spread": words(_spread_words(need)),
            "hours per pair": words(f"{about(need.price.hours)} ({', '.join(need.price.sources)})"),
            "pairs": words(" / ".join(_counts(need))),
            need.price.unit: words(" / ".join(_hours(need))),
            "card": words(need.price.card or "-"),
        }
        for need in found
    ]


def place(need: Need) -> str:
    """`imagenet, the paper's setting`, `cifar, better or not`."""
    return f"{need.track}, {PAPERS if need.own else 'better or not'}"


def budget(need: Need) -> str:
    """`about 2,500 to 4,500 GPU-hours`, `about 5 GPU-minutes`: with the smallest spread shown, and with the largest."""
    if all(hours is not None and hours < 1 for hours in need.hours):
        minutes = dict.fromkeys(f"{max(1, round(60 * (hours or 0)))}" for hours in (need.hours[-1], need.hours[0]))
        return f"about {' to '.join(minutes)} {need.price.unit.replace('hours', 'minutes')}"
    hours = _hours(need, "over ")
    span = " to ".join(dict.fromkeys((hours[-1], hours[0])))
    return f"{'' if span.startswith('over') else 'about '}{span} {need.price.unit}"


def about(hours: float) -> str:
    """Two digits: `1,900`, `46`, `0.35`."""
    return f"{float(f'{hours:.2g}'):,.0f}" if hours >= 9.95 else f"{hours:.2g}"


def _counts(need: Need) -> list[str]:
    return [f">{power.MOST}" if n is None else str(n) for n in need.pairs]


def _hours(need: Need, over: str = ">") -> list[str]:
    most = power.MOST * need.price.hours
    return [f"{over}{about(most)}" if hours is None else about(hours) for hours in need.hours]


def assumed(need: Need) -> str:
    """`+2.4 points (paper)`, `21 % (twice the margin)`, `98.2 ± 0.5`, `0.75 ± 10 %`: the difference or the value."""
    claim, cost = need.claim, need.claim.evaluation == COST
    if need.within is not None:
        return f"{claim.value:g} ± {_points(need.within, cost)}"
    if need.apart is None:
        return "-"
    sign, source = "" if cost else "+", "paper" if claim.kind == "gain" else "twice the margin"
    one = need.apart == 1 and unit(claim) == POINTS
    return f"{sign}{_points(need.apart, cost)}{'' if cost else ' point' if one else ' ' + unit(claim)} ({source})"


def _points(value: float, cost: bool) -> str:
    return f"{math.expm1(value):.0%}".replace("%", " %") if cost else f"{value:g}"


def _spread_words(need: Need) -> str:
    """`1.65 (mini, 3 pairs)`, `1.49 (mini, median of 8 claims)`, `1 (not measured)`."""
    spread = need.spread
    if spread is None:
        return "-"
    value = f"{spread.value:.2f}" if need.claim.evaluation != COST else f"{_points(spread.value, cost=True)}"
    if not spread.track:
        return f"{value} (not measured)"
    if spread.pairs:
        return f"{value} ({spread.track}, {spread.pairs} pairs)"
    others = f"median of {spread.claims} claims" if spread.claims > 1 else "another claim"
    times = "" if spread.times == 1.0 else f", times {spread.times:.2f}"
    return f"{value} ({spread.track}, {others}{times})"
