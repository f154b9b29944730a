"""The first screen of the report: one line for each claim of a paper that a run can test, at equal epochs and compute.

What no run can test, numbers that a paper states of its own setting, and our own claims on why are left to the list of
claims.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from leaderboards.wording import POINTS, pairs_words, so_far, unit

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
    n: str  # `3 pairs, evidence 7.3 of 40 that it is better`, why it is incomparable, or ""
    difference: str  # `+3.6 points`, `0.77 times the operations`, or ""
    between: str  # `95 % interval +2.1 to +5.1` of the difference, for a fixed number of pairs, or ""
    verdict: Verdict

    @property
    def about(self) -> str:
        """The interval, then number of pairs and evidence: what stands in brackets behind the difference."""
        return "; ".join(filter(None, (self.between, self.n)))


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
    def place(self) -> str:
        """Where it was tested, with the data: `mini: CIFAR-10`; of a stated gain also that its size was not."""
        setting = self.epochs.verdict.setting if self.epochs else None
        only = " (better or not)" if self.epochs and self.claim.kind == "gain" and not self.epochs.verdict.own else ""
        return f"{self.where}: {setting.data_name}{only}" if setting else self.where

    @property
    def measured(self) -> bool:
        """Whether there is a result: records that could be compared."""
        return self.epochs is not None and self.epochs.verdict.outcome != INCOMPARABLE

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
    seen = [verdict for verdict in item.answered if not verdict.form]
    first = item.first
    beside = [verdict for verdict in seen if first is None or verdict.track == first.track]
    second = next((verdict for verdict in beside if verdict.basis == COMPUTE and verdict.arms), None)
    where = first.track if first else second.track if second else ""
    lacking = not any(verdict.basis == COMPUTE for verdict in beside)  # else it was looked for and is incomparable
    compute = _said(second) or (_without_equal_compute(first) if lacking else None)
    return Answer(item.claim, where, _said(first), compute, _missing(item, seen, needed), bool(needed))


def _without_equal_compute(first: Verdict | None) -> Said | None:
    """`not run`, and how many operations the method takes at equal epochs, where that decided a claim on accuracy."""
    if first is None or not first.decided or not two_bases(first.claim):
        return None
    times = first.times
    n = f"the method took {times:.2f} times the operations" if times else ""
    return Said(NOT_RUN, *MARKS[NOT_RUN], n, "", "", first)


def _said(verdict: Verdict | None) -> Said | None:
    if verdict is None:
        return None
    plain = verdict.outcome.partition(",")[0]
    look, shape = MARKS[plain]
    evidence, n = verdict.evidence, ""
    if verdict.n:
        n = so_far(verdict) if verdict.outcome == UNDECIDED else pairs_words(verdict.claim, verdict.n)
        if evidence and evidence.fragile:
            n += ", fragile"
    if verdict.outcome == INCOMPARABLE and verdict.reasons:
        n = reasons_why(verdict.reasons)
    if verdict.same_runs:
        times = verdict.times
        n += "" if verdict.outcome == UNDECIDED and evidence is None else ", the same runs"  # `so_far` says it there
        n += f": the method took {times:.2f} times the operations" if times else ""
    if verdict.older_recipe:
        n += f"{', ' if n else ''}older recipe"
    return Said(verdict.outcome, look, shape, n, _difference(verdict), _between(verdict), verdict)


def _difference(verdict: Verdict) -> str:
    if verdict.gap is None:
        return ""
    if verdict.claim.evaluation == COST:
        metric = verdict.claim.metric
        times = f"{verdict.gap:.2f} times the {COSTS.get(TO_ACCURACY.get(metric, metric), 'cost')}"
        if of_learning(verdict.claim):
            also = _operations_too(verdict) if metric == "epochs_to_accuracy" else ""
            return f"{times} to the same accuracy{also}"
        return times + " for as many epochs" * (metric == "flops")
    return f"{signed(verdict.gap, 1).text} {unit(verdict.claim)}"


def _operations_too(verdict: Verdict) -> str:
    """`, 0.97 times the operations`: what fewer epochs cost, as an epoch of one method may cost more."""
    ours, theirs = (usable_curves(arm) for arm in verdict.arms[:2])
    left, right = costs_to_accuracy(ours, theirs, "flops_to_accuracy")
    seeds = [seed for seed in verdict.series.seeds if seed in left]
    if not seeds:
        return ""
    return f", {geometric_mean(left[seed] / right[seed] for seed in seeds):.2f} times the operations"


def _between(verdict: Verdict) -> str:
    """`95 % interval 0.38 to 0.71`, for a fixed number of pairs; "" with a single one."""
    evidence, claim = verdict.evidence, verdict.claim
    if evidence is None or evidence.mean.n < 2:
        return ""
    ends = sorted(shown(claim, edge) for edge in evidence.mean.interval)
    words = (f"{end:.2f}" if claim.evaluation == COST else signed(end, 1).text for end in ends)
    return f"95 % interval {' to '.join(words)}"


def _missing(item: Assessment, seen: Sequence[Verdict], needed: Sequence[Need]) -> str:
    """What it would take: `the paper's setting (imagenet) takes about 2,500 to 4,000 GPU-hours`."""
    claim, own = item.claim, next((need for need in needed if need.own), None)
    direction = next((need for need in reversed(needed) if not need.own), None)
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


def telling(found: Sequence[Answer]) -> list[Answer]:
    """Of a paper's claims with a verdict from records: the nearest to a decision on accuracy, and on cost."""
    return [min(group, key=lambda one: one.rank) for group in _measured(found).values() if group]


def _measured(found: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The claims with a result, by what they are about."""
    tested = [one for one in found if one.measured]
    return {
        "Accuracy": [one for one in tested if one.claim.evaluation != COST],
        "Cost": [one for one in tested if one.claim.evaluation == COST],
    }


def in_brief(found: Sequence[Answer]) -> str:
    """A paper in a sentence each for accuracy and cost, and how many more claims there are.

    `Accuracy: not decided yet at mini, +0.5 points over moco_v3 (3 pairs, ...). Cost: ...`; of several
    comparisons `Accuracy: 5 comparisons at mini; holds: 1 (+5.1 points), not decided yet: 4 (-0.2 to +1.0 points)`.
    """
    measured, said = _measured(found), []
    if not any(measured.values()):
        return f"{left(found, ())}."
    for about, group in measured.items():
        if group:
            said.append(f"{about}: {_one(group[0], about) if len(group) == 1 else _several(group)}{_at_compute(group)}")
        elif any((one.claim.evaluation == COST) == (about == "Cost") for one in found):
            said.append(f"{about}: not tested yet")
    more = left(found, [one for one in found if one.measured])
    return ". ".join([*said, *([f"Other comparisons: {more}"] if more else [])]) + "."


def _one(one: Answer, about: str) -> str:
    assert one.epochs is not None
    against = f" over {one.claim.baseline_arm}" if one.epochs.difference and about == "Accuracy" else ""
    parts = [f"{one.epochs.word} at {one.where}", one.epochs.difference + against]
    return ", ".join(filter(None, parts)) + (f" ({one.epochs.n})" if one.epochs.n else "")


def _at_compute(group: Sequence[Answer]) -> str:
    """`; at equal compute not decided yet: 2 (-0.9 to +1.6 points), not run: 1`; "" where nothing is known."""
    there = [(one, one.compute) for one in group if one.compute]
    return f"; at equal compute {_by_word(there, len(group) > 1)}" if there else ""


def _by_word(said: Iterable[tuple[Answer, Said]], counted: bool) -> str:
    """`holds: 1 (+5.1 points), not decided yet: 4 (-0.2 to +1.0 points)`.  counted: with numbers of claims."""
    by_word: dict[str, list[tuple[Answer, Said]]] = defaultdict(list)
    for answer, one in said:
        by_word[one.word].append((answer, one))
    return ", ".join(
        (f"{word}: {len(those)}" if counted else word) + (f" ({spread})" if (spread := _spread(those)) else "")
        for word, those in by_word.items()
    )


def _several(group: Sequence[Answer]) -> str:
    places = ", ".join(dict.fromkeys(one.where for one in group))
    return f"{len(group)} comparisons at {places}; {_by_word(((one, one.epochs) for one in group if one.epochs), True)}"


def ranged(found: Iterable[Answer]) -> str:
    """The smallest and the largest difference at equal epochs by unit: `-0.2 to +9.0 points, +1.0 to +1.3 AP`."""
    return _spread((one, one.epochs) for one in found if one.epochs)


def _spread(found: Iterable[tuple[Answer, Said]]) -> str:
    by_unit: dict[str, list[float]] = defaultdict(list)
    for answer, one in found:
        if one.difference and one.verdict.gap is not None and answer.claim.evaluation != COST:
            by_unit[unit(answer.claim)].append(one.verdict.gap)
    said = []
    for name, gaps in sorted(by_unit.items(), key=lambda item: item[0] != POINTS):
        ends = dict.fromkeys(signed(end, 1).text for end in (min(gaps), max(gaps)))
        said.append(f"{' to '.join(ends)} {name}")
    return ", ".join(said)


def left(found: Iterable[Answer], but: Collection[Answer]) -> str:
    """How many of these claims are not among others, by what is known: `2 with results, 1 incomparable, 3 not run`."""
    others = [one for one in found if one not in but]
    measured, tested = sum(one.measured for one in others), sum(one.epochs is not None for one in others)
    unequal = sum(one.epochs is None and one.compute is not None for one in others)
    numbers = {
        "with results": measured,
        INCOMPARABLE: tested - measured,
        "run at equal compute only": unequal,
        NOT_RUN: len(others) - tested - unequal,
    }
    return ", ".join(f"{number} {what}" for what, number in numbers.items() if number)


def scale(found: Iterable[Answer]) -> float:
    """Points from 0 to the end of the axis that all intervals share."""
    ends = [abs(end) for answer in found for end in (*(answer.interval or ()), answer.claimed or 0.0)]
    return next(limit for limit in (2, 5, 10, 15, 20, 50, 100) if limit >= min(max(ends, default=2.0), 100))
