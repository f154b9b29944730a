"""What a verdict says in words: its headline and details, the headline with what takes it back, its outcome alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from leaderboards.claim_arms import COMPUTE, EPOCHS, SAME_COMPUTE
from leaderboards.claims import (
    COST,
    COSTS,
    INTERACTION,
    MECHANISM,
    NO_TRACK,
    TO_ACCURACY,
    TRAINING,
    Claim,
    counted,
    of_learning,
    of_training,
    shown,
    tuning_matters,
)
from leaderboards.deviations import main
from leaderboards.reason_words import reason, reasons_why, tuned_words
from leaderboards.reasons import Deviation, EpochsFirst, NotKnown, NoVerdicts, TuningApart
from leaderboards.record_fields import Record, lab_of
from leaderboards.setting import value_words
from leaderboards.tuning import fewer
from leaderboards.verdicts import (
    DOWN,
    INCOMPARABLE,
    NULL,
    OVER,
    SAME,
    UNDECIDED,
    UNDER,
    UP,
    Evidence,
    Verdict,
    two_bases,
)

POINTS = "points"
SAME_RUNS = "the same runs"
_SAME_RUNS_AS = f"{SAME_RUNS} as at {EPOCHS}, as their operations differ by less than {100 * SAME_COMPUTE:g} %"


def headline(verdict: Verdict) -> str:
    """Outcome, track, n and the measured difference; or why there is no test."""
    return _measured(verdict) if _tested(verdict) else _untested(verdict)


@dataclass(frozen=True)
class Finding:
    """A verdict in words."""

    place: str  # `mini, equal compute`
    headline: str  # the outcome, and what was measured
    certainty: list[str]  # how sure that is, what takes part of it back, what it cost
    background: list[str]  # the evidence of each test, and where and with which recipes it was measured

    @property
    def details(self) -> list[str]:
        """All but the headline."""
        return [*self.certainty, *self.background]


def finding(verdict: Verdict) -> Finding:
    """A verdict in words; without a test only its headline."""
    if not _tested(verdict):
        return Finding(place(verdict), headline(verdict), [], [])
    evidence = verdict.evidence
    if verdict.same_runs:
        said = f"{_said(verdict)}{_count(verdict)}: {_SAME_RUNS_AS}"
        return Finding(place(verdict), said, _older(verdict), _tests(verdict, evidence) if evidence else [])
    return Finding(
        place(verdict),
        headline(verdict),
        [
            *(_certainty(verdict, evidence) if evidence else []),
            *(["this cost does not vary by chance: it is compared without a test"] if counted(verdict.claim) else []),
            *_taken_back(verdict),
            *_effort(verdict),
            *_left_out(verdict),
            *_older(verdict),
        ],
        [
            *(_tests(verdict, evidence) if evidence else []),
            *(_for_these_recipes(verdict) if evidence else []),
            _where(verdict),
            *_pictures(verdict),
            *_departing(verdict),
            *sources(verdict),
        ],
    )


def brief(verdict: Verdict) -> str:
    """The headline, with what takes part of it back."""
    taken_back = [*_taken_back(verdict), *_older(verdict)] if _tested(verdict) else []
    return "; ".join([headline(verdict), *taken_back])


def _tested(verdict: Verdict) -> bool:
    return not verdict.reasons and bool(verdict.evidence or verdict.rests_on)


def outcome(verdict: Verdict) -> str:
    """A verdict in a few words: `holds on mini, equal compute (n = 6)`."""
    if verdict.track == NO_TRACK:
        return verdict.outcome
    if verdict.outcome == UNDECIDED:
        return f"{UNDECIDED} on {place(verdict)}" + (f" ({so_far(verdict)})" if so_far(verdict) else "")
    return f"{verdict.outcome} on {place(verdict)}" + (f" (n = {verdict.n})" if verdict.n else "")


def place(verdict: Verdict) -> str:
    """`mini`, `mini, equal compute`, `cifar, direction only`: what its outcome is said of."""
    return _track(verdict) + (f", {COMPUTE}" if verdict.basis == COMPUTE else "")


def _track(verdict: Verdict) -> str:
    """Its place, but for equal epochs or compute."""
    where = f"{verdict.track}, direction only" if verdict.lacks else verdict.track
    return where + (f", {verdict.claim.form_name} ({verdict.form})" if verdict.form else "")


def departing(verdict: Verdict) -> str:
    """In what the method's recipe is not that of the claim's own track, in full, or ""."""
    claim, listed = verdict.claim, ", ".join(map(_departure, verdict.departs))
    return f"{claim.arm} on {verdict.track} differs from its recipe of {claim.track}: {listed}" if listed else ""


def _said(verdict: Verdict) -> str:
    """`holds on mini`, `holds on cifar, direction only`."""
    return f"{verdict.outcome} on {place(verdict)}"


# ------------------------------------------------------------------------------------------------------- without a test


def _untested(verdict: Verdict) -> str:
    claim = verdict.claim
    match verdict.reasons:
        case (NoVerdicts(),):
            return f"no verdicts on {verdict.track}: it shows whether a method learns, not whether a claim holds"
        case (EpochsFirst(),):
            so_far = f"{_gap(verdict)[2:]}, in {pairs_words(claim, verdict.n)}" if verdict.n else "no pair yet"
            found = _SAME_RUNS_AS if verdict.same_runs else so_far
            return f"{COMPUTE} on {_track(verdict)}: {found}; {reason(EpochsFirst())}"
        case (TuningApart() as apart,) if verdict.outcome == INCOMPARABLE and verdict.n:
            unfair = "so only the method with fewer trials could be shown to be better"
            return f"{_said(verdict)} ({_counted(claim, verdict.n)}): {reason(apart)}, {unfair}{_gap(verdict)}"
        case ():
            return f"{_said(verdict)} ({_counted(claim, verdict.n)})" + "".join(f"; {w}" for w in _left_out(verdict))
        case reasons:
            said = any(isinstance(why, NotKnown) for why in reasons)  # that it is the paper's setting
            own = ", the paper's setting" if verdict.own and not said else ""
            at = "" if verdict.track == NO_TRACK else f" on {place(verdict)}{own}"
            return f"{verdict.outcome}{at}: {reasons_why(reasons)}"


# ---------------------------------------------------------------------------------------------------------- with a test


def _measured(verdict: Verdict) -> str:
    """`holds on mini (n = 6 pairs): aps 2.10 points above moco_v3 in finetune top1`; `, fragile` where it is so.

    `not decided yet on mini (3 pairs, evidence 7.3 of 40 that it is better): ...`.
    """
    if verdict.outcome == UNDECIDED:
        return f"{_said(verdict)} ({so_far(verdict)}){_gap(verdict)}"
    return f"{_said(verdict)}{_count(verdict)}{_gap(verdict)}"


def _count(verdict: Verdict) -> str:
    """` (n = 6 pairs, fragile)`."""
    fragile = ", fragile" if verdict.evidence and verdict.evidence.fragile else ""
    return f" ({_counted(verdict.claim, verdict.n)}{fragile})" if verdict.n else ""


def so_far(verdict: Verdict) -> str:
    """`3 pairs, evidence 7.3 of 40 that it is better`."""
    if verdict.evidence is None and not verdict.n:
        return ""
    same = SAME_RUNS if verdict.evidence is None and verdict.same_runs else ""
    return ", ".join(filter(None, [pairs_words(verdict.claim, verdict.n), evidence_words(verdict), same]))


def evidence_words(verdict: Verdict) -> str:
    """`evidence 7.3 of 40 that it is better`; "" where none is counted."""
    evidence = verdict.evidence
    if evidence is None:
        return ""
    if verdict.n < 2:  # its evidence is 1, whatever the pair says
        return "too few to test"
    near = evidence.nearest
    side = f" {_side(verdict, near)}" if evidence.by_test[near] > 1 else ""
    return f"evidence {_number(evidence.by_test[near])} of {evidence.takes[near]:g}{side}"


def _side(verdict: Verdict, test: str) -> str:
    """What the evidence of a test is for: `that it is worse`."""
    claim, evidence = verdict.claim, verdict.evidence
    cost = claim.evaluation == COST
    within = f" of more than {tested_margin(verdict, evidence)}" if evidence else ""
    band = f" {claim.value:g} ± {tested_margin(verdict, evidence)}" if evidence and claim.value is not None else ""
    return {
        UP: "that it takes less" if cost else "that it is better",
        DOWN: "that it takes more" if cost else "that it is worse",
        NULL: f"that there is no difference{within}",
        SAME: f"that it is within{band}",
        OVER: f"that it is above{band}",
        UNDER: f"that it is below{band}",
    }[test]


def _number(evidence: float) -> str:
    """`7.3`, `412`, `3.1e+05`."""
    return f"{evidence:.1f}" if evidence < 100 else f"{evidence:.0f}" if evidence < 1e5 else f"{evidence:.1e}"


def _counted(claim: Claim, n: int) -> str:
    """`n = 3 pairs`."""
    return f"n = {pairs_words(claim, n)}"


def pairs_words(claim: Claim, n: int) -> str:
    """`3 pairs`, `1 pre-training`."""
    return f"{n} {'pre-training' if claim.kind == 'number' else 'pair'}{'' if n == 1 else 's'}"


def _gap(verdict: Verdict) -> str:
    """`: aps 2.10 points above moco_v3 in finetune top1 on CIFAR-10 (the claim is about CIFAR-100)`."""
    claim, gap = verdict.claim, verdict.gap
    if gap is None:
        return ""
    what = f"{claim.evaluation} {claim.metric_read(verdict.own)}{_on(verdict)}"
    if claim.evaluation == TRAINING:
        what = f"training {claim.metric}"
    if claim.kind == "number":
        return f": {claim.arm} reaches {what} {gap:.2f}, the paper states {claim.value:g}"
    if of_learning(claim):
        times = f"{gap:.2f} times as many {COSTS[TO_ACCURACY[claim.metric]]} as {claim.baseline_arm}"
        return f": {claim.arm} needs {times} to reach the same accuracy"
    if claim.evaluation == COST:
        return (
            f": {claim.arm} takes {gap:.2f} times the {COSTS.get(claim.metric, claim.metric)} of {claim.baseline_arm}"
        )
    side = "above" if (gap >= 0) == (claim.better == "higher") else "below"
    if claim.kind == INTERACTION:
        further = f"{abs(gap):.2f} {unit(claim)} further {side} {claim.baseline_arm} in {what}"
        few, many = sorted(claim.lengths[verdict.track])
        return f": {claim.arm} {further} after {few} epochs than after {many}"
    reached = f" ({levels(verdict)})" if levels(verdict) else ""
    return f": {claim.arm} {abs(gap):.2f} {unit(claim)} {side} {claim.baseline_arm}{reached} in {what}"


def _on(verdict: Verdict) -> str:
    """` on CIFAR-10`, and what the claim is about where that is something else."""
    if verdict.setting is None:
        return ""
    here, stated = verdict.setting.data_name, verdict.claim.data_name
    return f" on {here}" + (f" (the claim is about {stated})" if here not in (stated, verdict.claim.data) else "")


def _certainty(verdict: Verdict, evidence: Evidence) -> list[str]:
    """The interval, why the verdict is fragile, and trainings that collapsed."""
    claim, parts = verdict.claim, []
    if evidence.mean.n > 1:
        low, high = sorted(shown(claim, edge) for edge in evidence.mean.interval)
        parts.append(f"95 % interval (fixed n): {low:.2f} to {high:.2f}")
    for test in evidence.signs_apart:
        parts.append(f"fragile: a sign test of the same pairs does not show {_side(verdict, test)}")
    for test, found in evidence.by_checks.items():
        of = f"evidence {_number(found)} of {evidence.takes[test]:g}"
        parts.append(
            f"fragile: the checks during the trainings, without straight lines between them, do not show"
            f" {_side(verdict, test)} ({of})"
        )
    for arm, seeds in evidence.collapsed.items():
        parts.append(f"collapsed: {arm} {_seeds(seeds)}, still counted")
    return parts


def _tests(verdict: Verdict, evidence: Evidence) -> list[str]:
    """The evidence of each test, beside what it takes; nothing of a single pair."""
    if evidence.mean.n < 2:
        return []
    tests = "; ".join(
        f"{_number(found)} of {evidence.takes[test]:g} {_side(verdict, test)}"
        for test, found in evidence.by_test.items()
    )
    of = _family(verdict.claim, evidence.family)
    return [f"evidence (e-values): {tests}" + (f" (Holm correction over {of})" if evidence.family > 1 else "")]


def _family(claim: Claim, claims: int) -> str:
    """The claims that share its error rate: `the paper's 4 testable claims`."""
    if claim.kind == MECHANISM:
        return f"our own {claims} testable claims about the paper"
    return (
        f"the paper's {claims} testable claims" if claim.family == claim.paper else f"{claims} claims: {claim.family}"
    )


def _for_these_recipes(verdict: Verdict) -> list[str]:
    """Where tuning matters: how both recipes were tuned, as other recipes may compare otherwise."""
    claim, apart = verdict.claim, verdict.tuning
    if not claim.baseline or not tuning_matters(claim):
        return []
    if apart is None:
        return [f"for these recipes, both tuned alike ({tuned_words(verdict.arms[0].tuning, by_hand=False)})"]
    better = claim.arm if fewer(apart.ours, apart.theirs) else claim.baseline_arm
    may = f"so only {better}, which had fewer trials, can be shown to be better"
    known = claim.kind != INTERACTION and (fewer(apart.ours, apart.theirs) or fewer(apart.theirs, apart.ours))
    return [f"for these recipes; {reason(apart)}: {may if known else 'so nothing can be shown'}"]


def _left_out(verdict: Verdict) -> list[str]:
    """The seeds that are there and do not enter."""
    found = []
    if verdict.series.other_code:
        found.append(f"without {_seeds(verdict.series.other_code)}: other training code")
    if verdict.series.waiting:
        found.append(f"without {_seeds(verdict.series.waiting)}: an earlier seed is missing")
    return found


def sources(verdict: Verdict, whose: Callable[[Record], str] = lab_of) -> list[str]:
    """Whose records a verdict rests on, where others' are among them: `records from this lab (seed 0) and ...`.

    whose: where a record comes from; "" for this lab.
    """
    by_lab: dict[str, set[int]] = {}
    for used in verdict.rests_on:
        for seed, record in used.records.items():
            by_lab.setdefault(whose(record), set()).add(seed)
    if not any(by_lab):
        return []
    said = [f"{lab or 'this lab'} ({_seeds(sorted(by_lab[lab]))})" for lab in sorted(by_lab)]
    return [f"records from {' and '.join(said)}"]


def _seeds(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 3, 4`."""
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _departing(verdict: Verdict) -> list[str]:
    """In what of its form the method is not as on the claim's own track; or nothing."""
    if not verdict.departs:
        return []
    found = [_departure(departure) for departure in verdict.departs if main(departure)]
    data = verdict.setting.data_name if verdict.setting else verdict.claim.data_name
    if data not in (verdict.claim.data_name, verdict.claim.data):
        found = [f"data {data} instead of {verdict.claim.data_name}", *found]
    recipe = f"the recipe of {verdict.claim.papers_track}"
    said = f"main differences from {recipe}: {', '.join(found)}" if found else f"differs from {recipe}"
    return [f"{said}; all differences below"]


def _departure(departure: Deviation) -> str:
    """`ranks scaled instead of literal`."""
    key = departure.what.partition(".")[2]
    return f"{key} {value_words(departure.run)} instead of {value_words(departure.stated)}"


def _taken_back(verdict: Verdict) -> list[str]:
    """That training for as much takes the outcome back; or nothing."""
    there = verdict.at_equal_compute
    return [f"only at {EPOCHS}: at {COMPUTE} {there}"] if there else []


def _where(verdict: Verdict) -> str:
    """The setting of a test."""
    claim, setting = verdict.claim, verdict.setting
    assert setting is not None
    words = [setting.source if setting.source != "-" else setting.data, setting.network]
    if claim.kind == INTERACTION:
        words.append(f"{' and '.join(map(str, sorted(claim.lengths[verdict.track])))} epochs")
    elif setting.epochs:
        words.append(f"{setting.epochs} epoch{'' if setting.epochs == 1 else 's'}")
        if verdict.basis == COMPUTE:
            words[-1] += f" of {claim.arm}, {verdict.arms[1].setting.epochs} of {claim.baseline_arm}"
    if not of_training(claim):
        words.append(f"protocol {setting.protocol}")
    return ", ".join(words)


def _pictures(verdict: Verdict) -> list[str]:
    """Of which training pictures it speaks, where not of all; or nothing."""
    setting = verdict.setting
    return [f"{setting.pictures}, the test set is the same for all"] if setting and setting.drawn else []


def _effort(verdict: Verdict) -> list[str]:
    """Of a comparison of accuracies: what the method's trainings took beside those of the baseline; or nothing."""
    if not two_bases(verdict.claim) or len(verdict.arms) < 2:
        return []
    claim, said = verdict.claim, []
    for cost in ("flops", "updates", "cpu_s"):
        times = times_cost(verdict, cost)
        said += [f"{times:.2f} times the {COSTS[cost]}"] if times else []
    listed = " and ".join(filter(None, [", ".join(said[:-1]), *said[-1:]]))
    return [f"{claim.arm} took {listed} of {claim.baseline_arm}"] if said else []


def times_cost(verdict: Verdict, cost: str) -> float | None:
    """How many times that cost of the baseline's trainings the method's took, a mean over shared seeds; or None.

    CPU time only where both trained on CPUs of one kind.
    """
    if len(verdict.arms) < 2:
        return None
    first, second = verdict.arms[:2]
    if cost == "cpu_s" and not (first.on_cpu and second.on_cpu and first.devices == second.devices):
        return None
    ours, theirs = first.training(cost), second.training(cost)
    shared = verdict.series.seeds or sorted(ours.keys() & theirs.keys())
    times = [ours[seed] / theirs[seed] for seed in shared if ours.get(seed) and theirs.get(seed)]
    return fmean(times) if times else None


def levels(verdict: Verdict) -> str:
    """What both arms of a comparison of accuracies reach, on average over its pairs: `43.3 against 41.6`; or ""."""
    seeds = verdict.series.seeds
    if not two_bases(verdict.claim) or len(verdict.arms) < 2 or not seeds:
        return ""
    metric = verdict.claim.metric_read(verdict.own)
    ours, theirs = (arm.values(metric) for arm in verdict.arms[:2])
    if not all(seed in ours and seed in theirs for seed in seeds):
        return ""
    return " against ".join(f"{fmean(values[seed] for seed in seeds):.1f}" for values in (ours, theirs))


def _older(verdict: Verdict) -> list[str]:
    """That its runs are of an older recipe; or nothing."""
    return ["measured with an older recipe"] if verdict.older_recipe else []


def tested_margin(verdict: Verdict, evidence: Evidence) -> str:
    """The margin as the claim's file has it: points, or percent of a cost."""
    margin = math.expm1(evidence.margin) * 100 if verdict.claim.evaluation == COST else evidence.margin
    return f"{margin:g} {unit(verdict.claim)}"


def unit(claim: Claim) -> str:
    """Of its margin."""
    if claim.evaluation == COST:
        return "%"
    return "AP" if claim.metric.startswith(("bbox_", "segm_")) else POINTS
