"""The first screen of the report: one line for each claim of a paper that a run can test, at equal epochs and compute.

What no run can test, numbers that a paper states of its own setting, and our own claims on why are left to the list of
claims.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from leaderboards.assessments import PAPERS, Assessment
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import COST, MECHANISM, TO_ACCURACY, Claim, of_learning
from leaderboards.needs import Need, budget
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
)

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
_COSTS = {
    "flops": "operations",
    "epochs": "epochs",
    "updates": "updates",
    "device_s": "training time",
    "peak_device_memory_mb": "memory",
}
"""Metric of a cost -> what it is called."""
_FIRST = ("yes", "no", "same", "apart", "open", "none")  # the order of answers within a paper


@dataclass(frozen=True)
class Said:
    """A verdict as a reader sees it at once."""

    word: str
    look: str  # see MARKS
    shape: str
    n: str  # `3 pairs, evidence 7.3 of 40`, `superseded`, or ""
    difference: str  # `+3.6 points`, `0.77 times the operations`, or ""
    verdict: Verdict


@dataclass(frozen=True)
class Answer:
    """One claim: what it says, and what was found at equal epochs and at equal compute; None where nothing is."""

    claim: Claim
    where: str  # track
    epochs: Said | None
    compute: Said | None
    missing: str  # what it would take, in words
    priced: bool  # whether that says hours, which rest on assumptions

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """Mean and 95 % interval in points, of the verdict at equal epochs; None for costs and a single pair."""
        evidence = self.epochs.verdict.evidence if self.epochs else None
        if evidence is None or self.claim.evaluation == COST or evidence.mean.n < 2:
            return None
        return evidence.mean.value, *evidence.mean.interval

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller for what is decided, then for what is nearer to it."""
        evidence = self.epochs.verdict.evidence if self.epochs else None
        near = evidence.by_test[evidence.nearest] / evidence.takes[evidence.nearest] if evidence else 0.0
        return _order(self), -near

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
    said = [verdict for verdict in item.verdicts if not verdict.form]
    seen = [verdict for verdict in said if verdict.outcome not in (NOT_RUN, UNTESTABLE)]
    first = next((verdict for verdict in seen if verdict.basis != COMPUTE), None)
    beside = [verdict for verdict in seen if first is None or verdict.track == first.track]
    second = next((verdict for verdict in beside if verdict.basis == COMPUTE and verdict.arms), None)
    where = first.track if first else second.track if second else ""
    return Answer(item.claim, where, _said(first), _said(second), _missing(item, seen, needed), bool(needed))


def _said(verdict: Verdict | None) -> Said | None:
    if verdict is None:
        return None
    plain = verdict.outcome.partition(",")[0]
    look, shape = MARKS[plain]
    evidence, n = verdict.evidence, ""
    if verdict.n:
        n = f"{verdict.n} pair{'' if verdict.n == 1 else 's'}"
        if verdict.outcome == UNDECIDED and evidence:
            near = evidence.nearest
            n += f", evidence {evidence.by_test[near]:.1f} of {evidence.takes[near]:g}"
        if evidence and evidence.fragile:
            n += ", fragile"
    if verdict.superseded:
        n += ", superseded" if n else "superseded"
    return Said(verdict.outcome, look, shape, n, _difference(verdict), verdict)


def _difference(verdict: Verdict) -> str:
    if verdict.gap is None:
        return ""
    if verdict.claim.evaluation == COST:
        metric = verdict.claim.metric
        return f"{verdict.gap:.2f} times the {_COSTS.get(TO_ACCURACY.get(metric, metric), 'cost')}" + (
            " to the same accuracy" if of_learning(verdict.claim) else ""
        )
    return f"{round(verdict.gap, 1) + 0.0:+.1f} points"  # no "-0.0"


def _missing(item: Assessment, seen: Sequence[Verdict], needed: Sequence[Need]) -> str:
    """What it would take: `the paper's setting (imagenet) takes about 2,500 to 4,000 GPU-hours`."""
    claim, own = item.claim, next((need for need in needed if need.own), None)
    direction = next((need for need in reversed(needed) if not need.own), None)
    parts = [] if seen else ["no run yet"]
    if own:
        parts.append(f"{PAPERS} ({own.track}) takes {budget(own)}")
    if direction:
        parts.append(f"its direction at {direction.track} takes {budget(direction)}")
    elif not seen and claim.proxies:
        parts.append(f"its direction can be tested at {', '.join(claim.proxies)}")
    if item.out_of_reach:
        parts.append(f"{PAPERS} cannot be repeated")
    elif not own and not any(verdict.own for verdict in seen):
        parts.append(f"{PAPERS} ({claim.data} at {claim.track}) was not run")
    return "; ".join(parts)


def so_far(papers: Mapping[str, Sequence[Answer]]) -> str:
    """How often each outcome at equal epochs: `of 32 testable claims that compare methods: 1 holds, 31 not run`."""
    found = sorted((one for shown in papers.values() for one in shown), key=_order)
    outcomes = Counter(one.epochs.word if one.epochs else NOT_RUN for one in found)
    listed = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    return f"of {len(found)} testable claims that compare methods: {listed}"


def stale(found: Iterable[Answer]) -> bool:
    """Whether any verdict among them is superseded."""
    return any(said.verdict.superseded for one in found for said in (one.epochs, one.compute) if said)


def scale(found: Iterable[Answer]) -> float:
    """Points from 0 to the end of the axis that all intervals share."""
    ends = [abs(end) for answer in found for end in (*(answer.interval or ()), answer.claimed or 0.0)]
    return next(limit for limit in (2, 5, 10, 15, 20, 50, 100) if limit >= min(max(ends, default=2.0), 100))
