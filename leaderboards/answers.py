"""The first screen of the report: one line for each claim of a paper that a run can test, at equal epochs and compute.

What no run can test, numbers that a paper states of its own setting, and our own claims on why are left to the list of
claims.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from leaderboards.assessments import PAPERS, Assessment
from leaderboards.cells import signed
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import COST, COSTS, MECHANISM, TO_ACCURACY, Claim, of_learning, shown
from leaderboards.learning import costs_to_accuracy, usable_curves
from leaderboards.needs import Need, budget
from leaderboards.reason_words import reasons_why, unrepeatable
from leaderboards.reasons import NoRecord
from leaderboards.verdicts import (
    ABOVE,
    BELOW,
    HOLDS,
    INCOMPARABLE,
    NO_DIFFERENCE,
    NONE,
    NOT_RUN,
    OPPOSITE,
    REPRODUCED,
    UNDECIDED,
    UNTESTABLE,
    Verdict,
    two_bases,
)
from leaderboards.wording import SAME_RUNS, evidence_words, pairs_words, unit

MARKS = {
    HOLDS: ("yes", "●"),
    REPRODUCED: ("yes", "●"),
    OPPOSITE: ("no", "▼"),
    ABOVE: ("apart", "△"),
    BELOW: ("apart", "▽"),
    NO_DIFFERENCE: ("same", "="),
    UNDECIDED: ("open", "◐"),
    INCOMPARABLE: ("none", "×"),
    NOT_RUN: ("none", "○"),
    UNTESTABLE: ("none", "–"),
    NONE: ("none", "–"),
}
"""Outcome -> (class of its colour, shape): each can be told without the other."""
_FIRST = ("yes", "no", "same", "apart", "open", "none")  # the order of answers within a paper


@dataclass(frozen=True)
class Said:
    """A verdict as a reader sees it at once."""

    word: str
    look: str  # see MARKS
    shape: str
    difference: str  # `+3.6 points`, `0.77 times the operations`, or ""
    between: str  # ends of its 95 % interval for a fixed number of pairs, `+2.1 to +5.1`, or ""
    pairs: str  # `3 pairs`, or ""
    evidence: str  # `evidence 7.3 of 40 that it is better` of what is not decided yet, or ""
    notes: tuple[str, ...]  # `fragile`, why it is incomparable, what else it costs
    verdict: Verdict

    @property
    def n(self) -> str:
        """`3 pairs, evidence 7.3 of 40 that it is better`."""
        return ", ".join(filter(None, (self.pairs, self.evidence, *self.notes)))

    @property
    def about(self) -> str:
        """The interval, then number of pairs and evidence: what stands in brackets behind the difference."""
        return "; ".join(filter(None, (f"95 % interval {self.between}" if self.between else "", self.n)))


@dataclass(frozen=True)
class Answer:
    """One claim: what it says, and what was found at equal epochs and at equal compute; None where nothing is."""

    claim: Claim
    where: str  # track
    epochs: Said | None
    compute: Said | None
    missing: str  # what it would take, in words
    ahead: str  # the next larger test and its price, `cifar: about 280 GPU-hours`, or ""

    @property
    def mean(self) -> float | None:
        """Mean difference in points, of the verdict at equal epochs; None for costs."""
        return self.epochs.verdict.gap if self.epochs and self.claim.evaluation != COST else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of that mean; None for a single pair."""
        evidence = self.epochs.verdict.evidence if self.epochs else None
        if evidence is None or self.claim.evaluation == COST or evidence.mean.n < 2:
            return None
        return evidence.mean.interval

    @property
    def place(self) -> str:
        """Where it was tested, with the data: `mini: CIFAR-10`; of a stated gain also that its size was not."""
        setting = self.epochs.verdict.setting if self.epochs else None
        only = " (better or not)" if self.epochs and self.claim.kind == "gain" and not self.epochs.verdict.own else ""
        return f"{self.where}: {setting.data_name}{only}" if setting else self.where

    @property
    def claimed(self) -> float | None:
        """The difference that the paper states, in points."""
        return self.claim.value if self.claim.kind == "gain" else None


def answers(papers: Mapping[str, Sequence[Assessment]], needed: Iterable[Need] = ()) -> dict[str, list[Answer]]:
    """By paper, its comparative claims that a run can test, those with an answer first.

    needed: what would decide them at larger tracks.
    """
    by_claim: dict[str, list[Need]] = defaultdict(list)
    for need in needed:
        by_claim[need.claim.id].append(need)
    found = {}
    for paper, items in papers.items():
        shown = [
            _answer(item, by_claim[item.claim.id])
            for item in items
            if item.claim.kind not in ("number", MECHANISM) and not item.untestable
        ]
        found[paper] = sorted(shown, key=_order)
    return found


def _order(answer: Answer) -> int:
    return _FIRST.index(answer.epochs.look) if answer.epochs else len(_FIRST)


def _answer(item: Assessment, needed: Sequence[Need]) -> Answer:
    seen = [verdict for verdict in item.answered if not verdict.form]
    first = item.first
    beside = [verdict for verdict in seen if first is None or verdict.track == first.track]
    second = next((verdict for verdict in beside if verdict.basis == COMPUTE and verdict.arms), None)
    where = first.track if first else second.track if second else ""
    lacking = not any(verdict.basis == COMPUTE for verdict in beside)  # else it was looked for and is incomparable
    compute = _said(second) or (_without_equal_compute(first) if lacking else None)
    own, larger = _own(needed), _larger(needed)
    following = larger or own
    ahead = f"{following.track}: {budget(following)}" if following else ""
    return Answer(item.claim, where, _said(first), compute, _missing(item, seen, own, larger), ahead)


def _own(needed: Iterable[Need]) -> Need | None:
    """What the claim needs in the paper's setting."""
    return next((need for need in needed if need.own), None)


def _larger(needed: Sequence[Need]) -> Need | None:
    """What it needs at the largest track that tests its direction."""
    return next((need for need in reversed(needed) if not need.own), None)


def _without_equal_compute(first: Verdict | None) -> Said | None:
    """`not run`, and how many operations the method takes at equal epochs, where that decided a claim on accuracy."""
    if first is None or not first.decided or not two_bases(first.claim):
        return None
    times = first.times
    notes = (f"the method took {times:.2f} times the operations",) if times else ()
    return Said(NOT_RUN, *MARKS[NOT_RUN], "", "", "", "", notes, first)


def _said(verdict: Verdict | None) -> Said | None:
    if verdict is None:
        return None
    look, shape = MARKS[verdict.outcome.partition(",")[0]]
    pairs = pairs_words(verdict.claim, verdict.n) if verdict.n else ""
    weight = evidence_words(verdict) if verdict.outcome == UNDECIDED else ""
    notes = []
    if verdict.gap is not None and verdict.claim.metric == "epochs_to_accuracy" and (also := _operations_too(verdict)):
        notes.append(also)
    if verdict.evidence and verdict.evidence.fragile:
        notes.append("fragile")
    if verdict.outcome == INCOMPARABLE and verdict.reasons:
        pairs, notes = "", [reasons_why(verdict.reasons)]
    if verdict.same_runs:
        times = verdict.times
        notes.append(SAME_RUNS + (f": the method took {times:.2f} times the operations" if times else ""))
    if verdict.older_recipe:
        notes.append("older recipe")
    difference, between = _difference(verdict), _between(verdict)
    return Said(verdict.outcome, look, shape, difference, between, pairs, weight, tuple(notes), verdict)


def _difference(verdict: Verdict) -> str:
    if verdict.gap is None:
        return ""
    if verdict.claim.evaluation == COST:
        metric = verdict.claim.metric
        times = f"{verdict.gap:.2f} times the {COSTS.get(TO_ACCURACY.get(metric, metric), 'cost')}"
        if of_learning(verdict.claim):
            return f"{times} to the same accuracy"
        return times + " for as many epochs" * (metric == "flops")
    return f"{signed(verdict.gap, 1).text} {unit(verdict.claim)}"


def _operations_too(verdict: Verdict) -> str:
    """`0.97 times the operations`: what fewer epochs cost, as an epoch of one method may cost more."""
    ours, theirs = (usable_curves(arm) for arm in verdict.arms[:2])
    left, right = costs_to_accuracy(ours, theirs, "flops_to_accuracy")
    seeds = [seed for seed in verdict.series.seeds if seed in left]
    if not seeds:
        return ""
    return f"{geometric_mean(left[seed] / right[seed] for seed in seeds):.2f} times the operations"


def _between(verdict: Verdict) -> str:
    """`0.38 to 0.71`; "" with a single pair."""
    evidence, claim = verdict.evidence, verdict.claim
    if evidence is None or evidence.mean.n < 2:
        return ""
    ends = sorted(shown(claim, edge) for edge in evidence.mean.interval)
    words = (f"{end:.2f}" if claim.evaluation == COST else signed(end, 1).text for end in ends)
    return " to ".join(words)


def _missing(item: Assessment, seen: Sequence[Verdict], own: Need | None, direction: Need | None) -> str:
    """What it would take: `the paper's setting (imagenet) takes about 2,500 to 4,000 GPU-hours`."""
    claim = item.claim
    parts = [] if seen else [_why_not_run(item)]
    better = "takes less" if claim.evaluation == COST else "is better"
    if own:
        parts.append(f"{PAPERS} ({own.track}) takes {budget(own)}")
    if direction:
        parts.append(f"next test: whether it {better} at {direction.track}, {budget(direction)}")
    elif not seen and claim.proxies:
        parts.append(f"whether it {better} can be tested at {', '.join(claim.proxies)}")
    if item.out_of_reach:
        parts.append(unrepeatable(item.out_of_reach))
    elif not own and not any(verdict.own for verdict in seen):
        parts.append(f"{PAPERS} ({claim.data} at {claim.track}) was not run")
    return "; ".join(parts)


def _why_not_run(item: Assessment) -> str:
    """`no run yet`, or why the records that are there do not count."""
    here = [v for v in item.verdicts if v.outcome == NOT_RUN and v.basis != COMPUTE and not v.form]
    reasons = [why for verdict in here for why in verdict.reasons if not isinstance(why, NoRecord)]
    return reasons_why(reasons[:1]) if reasons else "no run yet"


def scale(found: Iterable[Answer]) -> float:
    """Points from 0 to the end of the axis that all drawings share; intervals may be wider."""
    ends = [abs(end) for answer in found for end in (answer.mean or 0.0, answer.claimed or 0.0)]
    return next(limit for limit in (2, 5, 10, 15, 20, 50, 100) if limit >= min(max(ends, default=2.0), 100))
