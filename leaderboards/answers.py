"""A line for each claim of a paper that a run can test, at equal epochs and compute: for the report and the front page.

What no run can test, numbers that a paper states of its own setting, and our own claims on why are left to the list of
claims.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from leaderboards.assessments import PAPERS, Assessment
from leaderboards.cells import signed
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import COST, COSTS, INTERACTION, MECHANISM, TO_ACCURACY, Claim, of_learning, shown
from leaderboards.learning import costs_to_accuracy, usable_curves
from leaderboards.needs import Need, budget
from leaderboards.reason_words import reasons_why, unrepeatable
from leaderboards.reasons import EpochsFirst, NoRecord
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
from leaderboards.wording import SAME_RUNS, evidence_words, levels, pairs_words, tested_margin, times_cost, unit

NOT_TESTED = "waits for equal epochs"  # of equal compute, as long as equal epochs is not decided
MARKS = {
    HOLDS: ("yes", "●"),
    REPRODUCED: ("yes", "●"),
    OPPOSITE: ("no", "▼"),
    ABOVE: ("apart", "△"),
    BELOW: ("apart", "▽"),
    NO_DIFFERENCE: ("same", "="),
    UNDECIDED: ("open", "◐"),
    INCOMPARABLE: ("none", "×"),
    NOT_RUN: ("none", "□"),
    NOT_TESTED: ("none", "□"),
    UNTESTABLE: ("none", "–"),
    NONE: ("none", "–"),
}
"""Outcome -> (class of its colour, shape): each can be told without the other."""
_EVALUATIONS = {
    "knn": "k-NN",
    "linear": "linear probe",
    "finetune": "fine-tuning",
    "reid": "re-ID",
}
_NO_RUN = "no run yet"
_FIRST = ("yes", "no", "same", "apart", "open", "none")  # the order of answers within a paper


@dataclass(frozen=True)
class Said:
    """A verdict as a reader sees it at once."""

    word: str
    look: str  # see MARKS
    shape: str
    difference: str = ""  # `+3.6 points`, `0.77 times the operations`
    amount: str = ""  # its number alone, `+3.6` or `0.77`; of AP with its unit
    cost: str = ""  # of which cost, `operations`; "" of accuracies
    levels: str = ""  # what both sides reach on average, `43.3 against 41.6`
    between: str = ""  # ends of its 95 % interval for a fixed number of pairs, `+2.1 to +5.1`
    pairs: str = ""  # `3 pairs`
    evidence: str = ""  # `evidence 7.3 of 40 that it is better` of what is not decided yet
    same_runs: str = ""  # `the same runs` at equal compute as at equal epochs, and their operations if these differ
    margin: str = ""  # `1.5 points`, of `no difference`
    remarks: tuple[str, ...] = ()  # `fragile`, why it is incomparable, what else it costs
    verdict: Verdict | None = None  # None where equal compute was not run

    @property
    def notes(self) -> tuple[str, ...]:
        """The margin of `no difference`, and the remarks."""
        return (f"within the margin of {self.margin}", *self.remarks) if self.margin else self.remarks

    @property
    def mean(self) -> float | None:
        """Mean difference in points or AP; None for costs, and for sides that cannot be compared."""
        verdict = self.verdict
        return verdict.gap if verdict and not self.cost and verdict.outcome != INCOMPARABLE else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of that mean; None without one, and for a single pair."""
        evidence = self.verdict.evidence if self.verdict else None
        return evidence.mean.interval if self.mean is not None and evidence and evidence.mean.n > 1 else None

    @property
    def drawable(self) -> bool:
        """Whether it is a difference with an interval, or a single pair; equal compute before its test has neither."""
        return self.interval is not None or (self.mean is not None and self.verdict is not None and self.verdict.n == 1)

    @property
    def n(self) -> str:
        """`3 pairs, evidence 7.3 of 40 that it is better`."""
        return ", ".join(filter(None, (self.pairs, self.evidence, *self.notes, self.same_runs)))

    @property
    def by_pair(self) -> str:
        """`pairs, seeds 0 to 2: +0.5, -0.1, +0.9`; of costs their ratios."""
        verdict = self.verdict
        if verdict is None or verdict.evidence is None or self.same_runs:
            return ""
        seeds, values = verdict.series.seeds, verdict.evidence.values
        listed = (f"{shown(verdict.claim, one):.2f}" if self.cost else signed(one, 1).text for one in values)
        which = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        return f"pairs, {which}: {', '.join(listed)}"

    @property
    def about(self) -> str:
        """Both sides, the interval, pairs and evidence: what stands in brackets behind the difference."""
        between = f"95 % interval {self.between}" if self.between else ""
        return "; ".join(filter(None, (self.levels, between, self.n)))


@dataclass(frozen=True)
class Beside:
    """What was found of the paper's own form of a claim, or on another track."""

    name: str  # `the paper's temperature (t1)`, `on cifar`, `the paper's setting`
    form: str  # `t1`; "" of another track
    said: Said

    @property
    def words(self) -> str:
        """`the paper's temperature (t1): holds, +3.9 points, 8 pairs`."""
        said = self.said
        numbers = [said.same_runs] if said.same_runs else [said.difference, said.pairs]
        return f"{self.name}: {', '.join(filter(None, (said.word, *numbers)))}"


@dataclass(frozen=True)
class Answer:
    """One claim: what it says, and what was found at equal epochs and at equal compute; None where nothing is."""

    claim: Claim
    where: str  # track
    epochs: Said | None
    compute: Said | None
    beside: tuple[Beside, ...]  # what was found of the paper's own form, and decided on other tracks
    beside_compute: tuple[Beside, ...]  # likewise at equal compute
    own: bool  # whether it was tested in the paper's own setting
    missing: str  # what it would take, in words
    ahead: str  # the largest track that could test it and the price there, `cifar: about 280 GPU-hours`, or ""
    idle: str = ""  # of what was not run: why, or where it can be tested, `can be tested on mini`

    @property
    def verdict(self) -> Verdict | None:
        """That at equal epochs, or of a claim without these two the only one; None where there is none."""
        return self.epochs.verdict if self.epochs else None

    @property
    def mean(self) -> float | None:
        """Mean difference in `unit`s at equal epochs; None for costs, and for sides that cannot be compared."""
        return self.epochs.mean if self.epochs else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of that mean; None without one, and for a single pair."""
        return self.epochs.interval if self.epochs else None

    @property
    def drawn(self) -> list[Said]:
        """What has a difference to be drawn: at equal epochs, and at equal compute where that took other runs."""
        return [one for one in (self.epochs, self.compute) if one and not one.same_runs and one.drawable]

    @property
    def unit(self) -> str:
        """`points` or `AP`."""
        return unit(self.claim)

    @property
    def title(self) -> str:
        """What was tested, in a few words: `better than MoCo-v3 (baseline: our choice)`."""
        return self.claim.title + " (baseline: our choice)" * self.claim.stand_in

    @property
    def evaluation(self) -> str:
        """`linear probe`; "" of a claim on costs."""
        name = self.claim.evaluation
        return "" if name == COST else _EVALUATIONS.get(name, name)

    @property
    def tested(self) -> str:
        """What was tested: `mini: linear probe on CIFAR-10, against byol`; of a gain also that its size was not."""
        claim, verdict = self.claim, self.verdict
        if verdict is None or verdict.setting is None:
            return self.where
        what = self.evaluation or "cost of training"
        if claim.kind == INTERACTION:
            what += " after {} and {} epochs".format(*sorted(claim.lengths[self.where]))
        against = f", against {claim.baseline_arm}{' (our choice)' * claim.stand_in}" if claim.baseline else ""
        size = "; only whether it is better, not by how much" if claim.kind == "gain" and not verdict.own else ""
        return f"{self.where}: {what} on {verdict.setting.data_name}{against}{size}"

    @property
    def claimed(self) -> float | None:
        """The difference that the paper states, in `unit`s."""
        return self.claim.value if self.claim.kind == "gain" else None


def answers(papers: Mapping[str, Sequence[Assessment]], needed: Iterable[Need] = ()) -> dict[str, list[Answer]]:
    """By paper, its comparative claims that a run can test, those with an answer first.

    needed: what would decide them on larger tracks.
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


def by_title(found: Mapping[str, Sequence[Answer]]) -> dict[str, Sequence[Answer]]:
    """The same by what the papers call their methods."""
    return {claims[0].claim.paper_title: claims for claims in found.values() if claims}


def _order(answer: Answer) -> int:
    return _FIRST.index(answer.epochs.look) if answer.epochs else len(_FIRST)


def _answer(item: Assessment, needed: Sequence[Need]) -> Answer:
    seen = [verdict for verdict in item.answered if not verdict.form]
    first = item.first
    here = [verdict for verdict in seen if first is None or verdict.track == first.track]
    of_compute = [verdict for verdict in here if verdict.basis == COMPUTE]
    second = next((verdict for verdict in of_compute if verdict.arms or verdict.outcome == INCOMPARABLE), None)
    where = first.track if first else second.track if second else ""
    compute = in_brief(second) if second else _without_equal_compute(first) if not of_compute else None
    paper, larger = _at_own_track(needed), _larger(needed)
    following = larger or paper
    ahead = f"{following.track}: {budget(following)}" if following else ""
    shown = (first, second)
    others = [v for v in item.answered if v not in shown and _adds(v, where)]
    beside = tuple(_beside(verdict, where) for verdict in others if verdict.basis != COMPUTE)
    at_compute = tuple(_beside(verdict, where) for verdict in others if verdict.basis == COMPUTE)
    in_its_setting = any(verdict.own and verdict.evidence is not None for verdict in item.answered)
    missing = _missing(item, seen, paper, larger)
    idle = "" if first else _idle(item)
    epochs = in_brief(first) if first else None
    return Answer(item.claim, where, epochs, compute, beside, at_compute, in_its_setting, missing, ahead, idle)


def _adds(verdict: Verdict, where: str) -> bool:
    """Whether a verdict is of the paper's own form, decided or not, or decided on another track than is shown."""
    if verdict.form:
        return verdict.gap is not None
    return verdict.decided and (verdict.track != where or verdict.own)


def _beside(verdict: Verdict, where: str) -> Beside:
    form = f"{verdict.claim.form_name} ({verdict.form})" if verdict.form else ""
    track = f"on {verdict.track}" if verdict.track != where else ""
    paper = PAPERS if verdict.own else ""
    name = ", ".join(filter(None, (paper, form, track)))
    return Beside(name, verdict.form, in_brief(verdict))


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
    remarks = (f"the method took {times:.2f} times the operations",) if times else ()
    return Said(NOT_RUN, *MARKS[NOT_RUN], remarks=remarks)


def in_brief(verdict: Verdict) -> Said:
    """A verdict as a reader sees it at once."""
    plain = verdict.outcome.partition(",")[0]
    look, shape = MARKS[plain]
    remarks, margin, same = [], "", ""
    if verdict.gap is not None and verdict.claim.metric == "epochs_to_accuracy" and (also := _operations_too(verdict)):
        remarks.append(also)
    if verdict.claim.metric == "flops" and (times := times_cost(verdict, "cpu_s")):
        remarks.append(f"CPU time {times:.2f} times")
    if plain == NO_DIFFERENCE and verdict.evidence:
        margin = tested_margin(verdict, verdict.evidence)
    if verdict.evidence and verdict.evidence.fragile:
        remarks.append("fragile")
    if verdict.outcome == INCOMPARABLE and verdict.reasons:
        remarks = [reasons_why(verdict.reasons)]
    if verdict.older_recipe:
        remarks.append("older recipe")
    if verdict.same_runs:
        times = verdict.times
        same = SAME_RUNS + (f" ({times:.2f} times the operations)" if times and f"{times:.2f}" != "1.00" else "")
    word = verdict.outcome
    if verdict.reasons == (EpochsFirst(),) and not verdict.same_runs:
        word, (look, shape) = NOT_TESTED, MARKS[NOT_TESTED]
    return Said(
        word,
        look,
        shape,
        difference=_difference(verdict),
        amount=_amount(verdict),
        cost=_cost(verdict.claim),
        levels=levels(verdict),
        between=_between(verdict),
        pairs=pairs_words(verdict.claim, verdict.n) if verdict.n and verdict.outcome != INCOMPARABLE else "",
        evidence=evidence_words(verdict) if word == UNDECIDED else "",
        same_runs=same,
        margin=margin,
        remarks=tuple(remarks),
        verdict=verdict,
    )


def _difference(verdict: Verdict) -> str:
    """`+3.6 points`, `0.77 times the operations to the same accuracy`."""
    claim = verdict.claim
    if verdict.gap is None:
        return ""
    if claim.evaluation == COST:
        times = f"{_amount(verdict)} times the {_cost(claim)}"
        if of_learning(claim):
            return f"{times} to the same accuracy"
        return times + " for as many epochs" * (claim.metric == "flops")
    further = ""
    if claim.kind == INTERACTION:
        further = " more after {} epochs than after {}".format(*sorted(claim.lengths[verdict.track]))
    return f"{signed(verdict.gap, 1).text} {unit(claim)}{further}"


def _amount(verdict: Verdict) -> str:
    """`+3.6` points, `+3.6 AP`, `0.77` times the cost; "" where nothing was measured."""
    claim = verdict.claim
    if verdict.gap is None:
        return ""
    if claim.evaluation == COST:
        return f"{verdict.gap:.2f}"
    return signed(verdict.gap, 1).text + (f" {unit(claim)}" if unit(claim) != "points" else "")


def _cost(claim: Claim) -> str:
    """`operations`; "" of a claim on accuracy."""
    return COSTS.get(TO_ACCURACY.get(claim.metric, claim.metric), "cost") if claim.evaluation == COST else ""


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
        parts.append(f"next test: whether it {better} on {direction.track}, {budget(direction)}")
    elif not seen and claim.proxies:
        parts.append(f"whether it {better} can be tested on {', '.join(claim.proxies)}")
    if item.out_of_reach:
        parts.append(unrepeatable(item.out_of_reach))
    elif not paper and not any(verdict.own for verdict in seen):
        parts.append(f"{PAPERS} ({claim.data} on {claim.track}) was not run")
    return "; ".join(parts)


def _why_not_run(item: Assessment) -> str:
    """`no run yet`, or why the records that are there do not count."""
    here = [v for v in item.verdicts if v.outcome == NOT_RUN and v.basis != COMPUTE and not v.form]
    reasons = [why for verdict in here for why in verdict.reasons if not isinstance(why, NoRecord)]
    return reasons_why(reasons[:1]) if reasons else _NO_RUN


def _idle(item: Assessment) -> str:
    """Why it was not run, in short; "" where nothing is known."""
    why, tracks = _why_not_run(item), ", ".join(item.claim.proxies)
    if why == _NO_RUN:
        return f"can be tested on {tracks}" if tracks else ""
    return why


def scale(found: Iterable[Answer]) -> float:
    """Units from 0 to the end of the axis that all drawings share; intervals and single pairs may lie beyond."""
    found = list(found)
    ends = [abs(one.mean or 0.0) for answer in found for one in answer.drawn if one.interval]
    ends += [abs(answer.claimed) for answer in found if answer.mean is not None and answer.claimed is not None]
    return next(limit for limit in (2, 5, 7, 10, 15, 20, 50, 100) if limit >= min(max(ends, default=2.0), 100))


def at_a_glance(found: Sequence[Answer]) -> list[tuple[Said, str]]:
    """A paper's answers at equal epochs by outcome, each with what has it.

    Decided ones in words, `better than MoCo-v3 (+1.5), fewer operations than MoCo-v3 (0.84 times)`; else how many.
    """
    by_word: dict[str, list[Answer]] = defaultdict(list)
    for answer in found:
        by_word[answer.epochs.word if answer.epochs else NOT_RUN].append(answer)
    glances = []
    for word in sorted(by_word, key=by_outcome):
        first = by_word[word][0].epochs
        decided = first is not None and first.verdict is not None and first.verdict.decided
        listed = ", ".join(_in_words(answer, answer.epochs) for answer in by_word[word] if answer.epochs)
        said = listed if decided else str(len(by_word[word]))
        glances.append((first or Said(NOT_RUN, *MARKS[NOT_RUN]), said))
    return glances


def _in_words(answer: Answer, said: Said) -> str:
    """`better than BYOL alone, k-NN (+3.8)`, or `... (+1.1; at equal compute opposite, -1.4)` where that differs.

    Likewise what the paper's own form found. The linear probe is not named. Of costs: `... (0.84 times)`.
    """
    evaluation = "" if answer.claim.evaluation == "linear" else answer.evaluation
    title = ", ".join(filter(None, (answer.claim.title, evaluation)))
    there = answer.compute
    apart = there is not None and there.verdict is not None and there.verdict.decided and there.word != said.word
    compute = f"; at {COMPUTE} {there.word}, {there.amount}" if there and apart else ""
    forms = "".join(
        f"; with {answer.claim.form_name} {one.said.word}, {one.said.amount}{' times' * bool(said.cost)}"
        for one in answer.beside
        if one.form and one.said.word != said.word
    )
    if not forms:
        at_compute = (one for one in answer.beside_compute if one.form and one.said.word != said.word)
        forms = "".join(f"; with {answer.claim.form_name} at {COMPUTE} {one.said.word}" for one in at_compute)
    fragile = ", fragile" if said.verdict and said.verdict.evidence and said.verdict.evidence.fragile else ""
    also = "".join(f"; {remark}" for remark in said.remarks if answer.claim.metric == "flops")  # CPU time
    return f"{title} ({said.amount}{' times' * bool(said.cost)}{also}{fragile}{compute}{forms})"


def many(number: int) -> str:
    """`1 comparison`, `32 comparisons`."""
    return f"{number} comparison{'' if number == 1 else 's'}"


def by_outcome(word: str) -> tuple[int, str]:
    """By which outcomes are listed: `holds` first."""
    return list(MARKS).index(word.partition(",")[0]), word
