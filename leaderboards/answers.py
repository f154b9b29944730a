"""The first screen of the report: one line for each claim of a paper that a run can test, at equal epochs and compute.

What no run can test, numbers that a paper states of its own setting, and our own claims on why are left to the list of
claims.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from leaderboards.assessments import PAPERS, Assessment
from leaderboards.cells import signed
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import COST, COSTS, MECHANISM, TO_ACCURACY, Claim, of_learning, shown
from leaderboards.learning import costs_to_accuracy, usable_curves
from leaderboards.needs import Need, budget
from leaderboards.reason_words import reasons_why, unrepeatable
from leaderboards.reasons import NoRecord
from leaderboards.statistics import own
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
from leaderboards.wording import SAME_RUNS, evidence_words, levels, pairs_words, unit

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
_APART = 0.005  # from 1, which two decimals show of a ratio
_FIRST = ("yes", "no", "same", "apart", "open", "none")  # the order of answers within a paper


@dataclass(frozen=True)
class Said:
    """A verdict as a reader sees it at once."""

    word: str
    look: str  # see MARKS
    shape: str
    difference: str  # `+3.6 points`, `0.77 times the operations`, or ""
    levels: str  # what both sides reach on average, `43.3 against 41.6`, or ""
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
        """Both sides, the interval, pairs and evidence: what stands in brackets behind the difference."""
        between = f"95 % interval {self.between}" if self.between else ""
        return "; ".join(filter(None, (self.levels, between, self.n)))


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
    def tested(self) -> str:
        """What was tested: `mini: linear on CIFAR-10, against byol`; of a stated gain also that its size was not."""
        verdict = self.epochs.verdict if self.epochs else None
        if verdict is None or verdict.setting is None:
            return self.where
        what = "cost of training" if self.claim.evaluation == COST else self.claim.evaluation
        against = f", against {self.claim.baseline_arm}" if self.claim.baseline else ""
        size = "; the size is not tested" if self.claim.kind == "gain" and not verdict.own else ""
        return f"{self.where}: {what} on {verdict.setting.data_name}{against}{size}"

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
    paper, larger = _at_own_track(needed), _larger(needed)
    following = larger or paper
    ahead = f"{following.track}: {budget(following)}" if following else ""
    return Answer(item.claim, where, _said(first), compute, _missing(item, seen, paper, larger), ahead)


def _at_own_track(needed: Iterable[Need]) -> Need | None:
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
    return Said(NOT_RUN, *MARKS[NOT_RUN], "", "", "", "", "", notes, first)


def _said(verdict: Verdict | None) -> Said | None:
    if verdict is None:
        return None
    plain = verdict.outcome.partition(",")[0]
    look, shape = MARKS[plain]
    pairs = pairs_words(verdict.claim, verdict.n) if verdict.n else ""
    weight = evidence_words(verdict) if verdict.outcome == UNDECIDED else ""
    notes = []
    if verdict.gap is not None and verdict.claim.metric == "epochs_to_accuracy" and (also := _operations_too(verdict)):
        notes.append(also)
    if plain == NO_DIFFERENCE and verdict.evidence:
        notes.append(f"margin {shown(verdict.claim, verdict.evidence.margin):g} {unit(verdict.claim)}")
    if verdict.evidence and verdict.evidence.fragile:
        notes.append("fragile")
    if verdict.outcome == INCOMPARABLE and verdict.reasons:
        pairs, notes = "", [reasons_why(verdict.reasons)]
    if verdict.same_runs:
        times = verdict.times
        apart = times and abs(times - 1) >= _APART
        notes.append(SAME_RUNS + (f" ({times:.2f} times the operations)" if apart else ""))
    if verdict.older_recipe:
        notes.append("older recipe")
    numbers = _difference(verdict), levels(verdict), _between(verdict)
    return Said(verdict.outcome, look, shape, *numbers, pairs, weight, tuple(notes), verdict)


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
    """`0.97 times the operations (0.69 to 1.37)`: what fewer epochs cost, as an epoch of one method may cost more."""
    ours, theirs = (usable_curves(arm) for arm in verdict.arms[:2])
    left, right = costs_to_accuracy(ours, theirs, "flops_to_accuracy")
    logs = [math.log(left[seed] / right[seed]) for seed in verdict.series.seeds if seed in left]
    if not logs:
        return ""
    mean = own(logs)
    ends = " ({:.2f} to {:.2f})".format(*map(math.exp, mean.interval)) if mean.n > 1 else ""
    return f"{math.exp(mean.value):.2f} times the operations{ends}"


def _between(verdict: Verdict) -> str:
    """`0.38 to 0.71`; "" with a single pair."""
    evidence, claim = verdict.evidence, verdict.claim
    if evidence is None or evidence.mean.n < 2:
        return ""
    ends = sorted(shown(claim, edge) for edge in evidence.mean.interval)
    words = (f"{end:.2f}" if claim.evaluation == COST else signed(end, 1).text for end in ends)
    return " to ".join(words)


def _missing(item: Assessment, seen: Sequence[Verdict], paper: Need | None, direction: Need | None) -> str:
    """What it would take: `the paper's setting (imagenet) takes about 2,500 to 4,000 GPU-hours`."""
    claim = item.claim
    parts = [] if seen else [_why_not_run(item)]
    better = "takes less" if claim.evaluation == COST else "is better"
    if paper:
        parts.append(f"{PAPERS} ({paper.track}) takes {budget(paper)}")
    if direction:
        parts.append(f"next test: whether it {better} at {direction.track}, {budget(direction)}")
    elif not seen and claim.proxies:
        parts.append(f"whether it {better} can be tested at {', '.join(claim.proxies)}")
    if item.out_of_reach:
        parts.append(unrepeatable(item.out_of_reach))
    elif not paper and not any(verdict.own for verdict in seen):
        parts.append(f"{PAPERS} ({claim.data} at {claim.track}) was not run")
    return "; ".join(parts)


def _why_not_run(item: Assessment) -> str:
    """`no run yet`, or why the records that are there do not count."""
    here = [v for v in item.verdicts if v.outcome == NOT_RUN and v.basis != COMPUTE and not v.form]
    reasons = [why for verdict in here for why in verdict.reasons if not isinstance(why, NoRecord)]
    return reasons_why(reasons[:1]) if reasons else "no run yet"


def scale(found: Iterable[Answer]) -> float:
    """Points from 0 to the end of the axis that all drawings share; intervals and single pairs may lie beyond."""
    ends = [abs(end) for answer in found if answer.interval for end in (answer.mean or 0.0, answer.claimed or 0.0)]
    return next(limit for limit in (2, 5, 10, 15, 20, 50, 100) if limit >= min(max(ends, default=2.0), 100))


def summary(found: Sequence[Answer]) -> str:
    """How many of these comparisons have which outcome at equal epochs and at equal compute, in two sentences."""
    at_epochs = _counted(answer.epochs.word if answer.epochs else NOT_RUN for answer in found)
    tested = [answer.compute for answer in found if answer.compute and answer.compute.verdict.evidence is not None]
    at_compute = f" At equal compute {_counted(said.word for said in tested)}." if tested else ""
    own = sum(bool(answer.epochs and answer.epochs.verdict.own) for answer in found)
    return (
        f"From the abstracts we derived {len(found)} comparisons that can be tested. At equal epochs {at_epochs}."
        f"{at_compute} {own or 'None'} of them {'was' if own < 2 else 'were'} tested in the paper's own setting."
    )


def _counted(outcomes: Iterable[str]) -> str:
    """`8 hold, 16 not decided yet`."""
    counted = Counter(outcome.partition(",")[0] for outcome in outcomes)
    order = list(MARKS)
    said = {HOLDS: "hold"}
    return ", ".join(f"{counted[word]} {said.get(word, word)}" for word in sorted(counted, key=order.index))
