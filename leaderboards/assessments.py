"""Claims with the verdicts on them: what the records say of each claim so far, and the words of both views."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from leaderboards.arms import Arms
from leaderboards.claim_arms import COMPUTE, EPOCHS
from leaderboards.claims import COST, MECHANISM, NO_TRACK, TRACKS, VERIFIED, Claim, counted, tracks_of, with_forms
from leaderboards.explanations import explanations
from leaderboards.reason_words import reasons_why
from leaderboards.reasons import NoTrack, OlderSetup, Reason
from leaderboards.references import references
from leaderboards.suite import Suite
from leaderboards.testable import hindrance, members, tracks_of_form, unreachable
from leaderboards.verdicts import INCOMPARABLE, NOT_RUN, UNTESTABLE, Verdict, judge
from leaderboards.wording import Finding, brief, departing, finding, headline, outcome, unit

_LAPTOP = "mini"  # the track whose pairs take a laptop minutes
PAPERS = "the paper's setting"
"""Head of the outcomes in the network, epochs, batch, data and protocol that a claim states."""


@dataclass(frozen=True)
class Assessment:
    """A claim, what the records say of it, and the words that both views print."""

    claim: Claim
    verdicts: list[Verdict]
    about: str
    source: str
    test: str
    family: str  # with how many claims it shares its error rate, in words
    untestable: bool  # whether no run can test it, at any track
    why: list[str]  # what its parts add, a sentence for each track at which any was tested
    out_of_reach: Reason | None  # why no run can have the paper's setting

    @property
    def answered(self) -> list[Verdict]:
        """The verdicts that rest on records."""
        return [verdict for verdict in self.verdicts if verdict.outcome not in (NOT_RUN, UNTESTABLE)]

    @property
    def first(self) -> Verdict | None:
        """By which the claim is counted: from records, at equal epochs, at the smallest track; None without one."""
        return next((one for one in self.answered if one.basis != COMPUTE and not one.form), None)

    @property
    def result(self) -> str:
        """Its outcome, where claims are counted."""
        return self.first.outcome if self.first else UNTESTABLE if self.untestable else NOT_RUN

    @property
    def command(self) -> str:
        """The command that runs its next pairs where that takes a laptop some hours; "" where it is decided there."""
        here = [verdict for verdict in self.verdicts if verdict.track == _LAPTOP and not verdict.form]
        if _LAPTOP not in self.claim.proxies or self.untestable or (here and all(one.decided for one in here)):
            return ""
        return f"python -m repro settle {self.claim.id} --track {_LAPTOP} --budget 3h"

    @property
    def findings(self) -> list[Finding]:
        """What each verdict that rests on records says."""
        return [finding(verdict) for verdict in self.answered]

    @property
    def background(self) -> list[str]:
        """The background of all findings, a line each: first what all share, then `mini: ...` of single ones."""
        told = [found for found in self.findings if found.background]
        shared = [said for said in (told[0].background if told else []) if all(said in one.background for one in told)]
        return shared + [f"{one.place}: {said}" for one in told for said in one.background if said not in shared]

    @property
    def open(self) -> list[str]:
        """What each of the other verdicts says: not run, or cannot be tested, and why."""
        return [headline(verdict) for verdict in self.verdicts if verdict not in self.answered]

    @property
    def brief(self) -> list[str]:
        """What those that rest on records say, without the statistics."""
        return [brief(verdict) for verdict in self.answered]

    @property
    def departures(self) -> list[str]:
        """In what the method's recipe is not that of the claim's own track, in full."""
        return list(dict.fromkeys(words for verdict in self.answered if (words := departing(verdict))))

    @property
    def outcomes(self) -> str:
        """Each verdict in a few words."""
        return "; ".join(map(outcome, self.verdicts))


def _verdicts(claims: Sequence[Claim], known: Arms, track: str) -> dict[str, list[Verdict]]:
    """Verdicts by claim at one track, for the claims that the track can test."""
    return judge([claim for claim in claims if track in tracks_of(claim)], known, track)


def _said(claim: Claim, verdicts: Mapping[str, Mapping[str, list[Verdict]]], suite: Suite) -> list[Verdict]:
    """What there is to say of a claim: at its own track always, elsewhere where it was run, or only could be."""
    found = [verdict for track in tracks_of(claim) for verdict in verdicts[track][claim.id]]
    for track in tracks_of_form(claim, suite):
        beside = verdicts[track][claim.as_published.id]
        found += [replace(verdict, form=claim.form) for verdict in beside if verdict.arms and not verdict.own]
    said = [
        verdict
        for verdict in found
        if verdict.track == claim.track or verdict.outcome != NOT_RUN or verdict.basis == COMPUTE or _older(verdict)
    ]
    smallest = next((track for track in TRACKS if track in claim.proxies), "")
    if smallest and all(verdict.outcome == UNTESTABLE for verdict in said):  # else it would seem that no run could
        return verdicts[smallest][claim.id][:1] + said
    if claim.track == NO_TRACK and not said:
        return [Verdict(claim, NO_TRACK, UNTESTABLE, reasons=(NoTrack(claim.data),))]
    return said


def _older(verdict: Verdict) -> bool:
    """Whether there are pairs that no longer count."""
    return any(isinstance(why, OlderSetup) for why in verdict.reasons)


def assess(claims: Sequence[Claim], known: Arms) -> list[Assessment]:
    """Each claim with its verdicts, in their order.

    claims: all of them, as a family shares an error rate; choose afterwards.
    """
    verdicts = {track: _verdicts(with_forms(claims), known, track) for track in TRACKS}
    shared = {track: _sharing(claims, known.suite, track) for track in TRACKS}
    return [_assessment(claim, verdicts, shared, known.suite, _why(claim, claims, verdicts)) for claim in claims]


def _why(claim: Claim, claims: Sequence[Claim], verdicts: Mapping[str, Mapping[str, list[Verdict]]]) -> list[str]:
    """What the parts of a claim add, by the claims that name it as their parent."""

    def of(one: Claim) -> dict[str, Sequence[Verdict]]:
        return {track: verdicts[track][one.id] for track in tracks_of(one)}

    parts = [(part, of(part)) for part in claims if part.parent == claim.id]
    return explanations(claim, of(claim), parts) if parts else []


def _sharing(claims: Sequence[Claim], suite: Suite, track: str) -> dict[str, int]:
    """By id of a claim that is tested on a track, how many share its error rate there."""
    return {claim.id: len(found) for found in members(claims, suite, track).values() for claim in found}


def claims_table(found: Sequence[Assessment]) -> str:
    """Claims as a plain table for the terminal: what is stated, and the outcomes so far."""
    from tabulate import tabulate

    rows = [
        [
            item.claim.id,
            item.claim.stated,
            f"{item.claim.evaluation} on {item.claim.data}",
            item.claim.verified,
            item.outcomes,
        ]
        for item in found
    ]
    heads = ["claim", "stated", "where", "verified", "verdicts"]
    return str(tabulate(rows, heads, tablefmt="simple", disable_numparse=True, maxcolwidths=[None] * 4 + [48]))


def outcomes_by_basis(item: Assessment) -> dict[str, str]:
    """A claim in one row: what it states, its outcomes at equal epochs, equal compute and in the paper's setting."""
    columns: dict[str, list[str]] = {EPOCHS: [], COMPUTE: [], PAPERS: []}
    for verdict in item.verdicts:
        own_track = verdict.track == item.claim.track and not verdict.lacks and not item.out_of_reach
        at_home = verdict.own or verdict.track == NO_TRACK or own_track
        columns[PAPERS if at_home else verdict.basis or EPOCHS].append(outcome(verdict))
    if item.out_of_reach and not columns[PAPERS]:
        columns[PAPERS].append(UNTESTABLE)
    claim = item.claim
    return {"claim": claim.id, "stated": claim.stated, **{name: "; ".join(said) for name, said in columns.items()}}


def _assessment(
    claim: Claim,
    verdicts: Mapping[str, Mapping[str, list[Verdict]]],
    shared: Mapping[str, Mapping[str, int]],
    suite: Suite,
    why: list[str],
) -> Assessment:
    known = {row.id: row for row in references()}
    told = [row.words for mark in claim.references if (row := known.get(mark))]
    reported = f"; reported: {'; '.join(told)}" if told else ""
    directions = ", ".join(
        f"{margin_words(claim, claim.proxies[track])} on {track}" for track in TRACKS if track in claim.proxies
    )
    family = _family(claim, shared)
    margins = f"margin {margin_words(claim, claim.margin)} in {PAPERS}" + (
        f"; better or not: {directions}" if directions else ""
    )
    from_whom = f"source ({VERIFIED[claim.verified]}): {claim.source}{reported}"
    if claim.kind == MECHANISM:
        margins, from_whom = f"margin {directions}", f"{VERIFIED[claim.verified]}; it helps to explain {claim.parent}"
    return Assessment(
        claim,
        _said(claim, verdicts, suite),
        about=f"{'we ask' if claim.kind == MECHANISM else 'claimed'}: {claim.stated};"
        f" {claim.evaluation} {claim.metric} on {claim.data}{_setting_words(claim)}",
        source=from_whom,
        test=f"test: {margins}; {family}",
        family=family,
        untestable=all(hindrance(claim, suite, track) for track in tracks_of(claim)),
        why=why,
        out_of_reach=unreachable(claim, suite),
    )


def _family(claim: Claim, shared: Mapping[str, Mapping[str, int]]) -> str:
    """With how many claims it shares an error rate: `family rotation_aux, testable claims: 3 on mini`."""
    if counted(claim):
        return "a cost that does not vary by chance, so in no family"
    found = [f"{shared[track][claim.id]} on {track}" for track in TRACKS if claim.id in shared[track]]
    listed = ", ".join(found)
    return f"family {claim.family}, testable claims: {listed}" if found else "in no family, as it cannot be tested"


def tally(found: Iterable[Assessment]) -> str:
    """How many claims have each outcome, those tested first: `holds: 1, not decided yet: 2, not run: 11`."""
    outcomes = Counter(item.result for item in found)
    return ", ".join(f"{outcome}: {outcomes[outcome]}" for outcome in by_outcome(outcomes)) or "none"


def by_outcome(found: Iterable[str]) -> list[str]:
    """Outcomes, each once: verdicts first, then why there is none."""
    last = (INCOMPARABLE, NOT_RUN, UNTESTABLE)
    return sorted(set(found), key=lambda outcome: (last.index(outcome) if outcome in last else -1, outcome))


def counts(found: Iterable[Assessment]) -> list[dict[str, str]]:
    """All claims by kind, counted once each by their outcome at equal epochs; a row for each kind that there is."""
    kinds: dict[str, list[Assessment]] = {}
    for item in found:
        stated = "state the accuracy of a method" if item.claim.kind == "number" else "compare methods"
        kind = "our own, on why methods work" if item.claim.kind == MECHANISM else f"of the papers, that {stated}"
        kinds.setdefault(kind, []).append(item)
    every = by_outcome([item.result for items in kinds.values() for item in items])
    return [
        {"claims": kind, "number": str(len(items)), **{one: str(of[one] or "-") for one in every}}
        for kind, items in sorted(kinds.items())
        if (of := Counter(item.result for item in items))
    ]


def older_recipes(found: Iterable[Assessment]) -> bool:
    """Whether any verdict among them was measured with an older recipe."""
    return any(verdict.older_recipe for item in found for verdict in item.verdicts)


def untestable(found: Sequence[Assessment]) -> str:
    """How many of these claims cannot be tested, and which, by the reason; "" for none."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for item in found:
        if item.untestable:
            why = next((v.reasons for v in item.verdicts if v.outcome == UNTESTABLE), ())
            by_reason[reasons_why(why)].append(item.claim.id)
    number = sum(map(len, by_reason.values()))
    listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
    return f"{number} of these {len(found)} claims cannot be tested: {listed}." if number else ""


def margin_words(claim: Claim, margin: float) -> str:
    """`1.2 points`, `10 %` of a cost."""
    one = margin == 1 and unit(claim) == "points"
    return f"{100 * margin if claim.evaluation == COST else margin:g} {'point' if one else unit(claim)}"


def _setting_words(claim: Claim) -> str:
    words = [f"pre-trained on {claim.pretrain_data}" if claim.pretrain_data else "", claim.backbone]
    if claim.epochs:
        words.append(f"{claim.epochs_span} epochs")
    if claim.batch:
        words.append(f"batch {claim.batch}")
    if claim.protocol:
        words.append(f"protocol {claim.protocol}")
    words += [f"{table}.{key} = {value}" for table, values in claim.changes.items() for key, value in values.items()]
    for track, epochs in claim.lengths.items():
        words.append(f"{' and '.join(map(str, epochs))} epochs on {track}")
    if claim.unknown:
        words.append(f"not known: {', '.join(claim.unknown)}")
    said = ", ".join(word for word in words if word)
    return f", {said}" if said else ""
