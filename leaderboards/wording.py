"""What a verdict says in words: its sentence, that without the statistics, and its outcome alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from leaderboards.claim_arms import COMPUTE, EPOCHS
from leaderboards.claims import COST, NO_TRACK, Claim
from leaderboards.reasons import (
    Deviation,
    Flagged,
    MachinesApart,
    NoRecord,
    NoTrack,
    NoVerdicts,
    OperationsApart,
    OtherTracks,
    OtherValues,
    Reason,
    SettingsApart,
    SmallTestSet,
    Training,
    TrialsApart,
)
from leaderboards.verdicts import DOWN, NO_VERDICTS, NULL, SAME, UP, Evidence, Verdict

OF_EMBEDDED = (
    f"At {NO_VERDICTS} a number says whether a method learns anything: how far it is above the same network untrained"
    " (`random`, `random:vit`, `random:vit_mean` for `mae`). It does not say how good the method is beside another one"
    " or beside its paper. Digits are easy: raw pixels (`random:pixels`) are hard to beat."
)
"""What can be read from numbers of the track at which no verdict is given."""


def sentence(verdict: Verdict) -> str:
    """Outcome, track and n first, then how sure that is and where it was measured; complete without anything else."""
    evidence = verdict.evidence
    if evidence is None:
        return _untested(verdict)
    first, last = _trifling(verdict, evidence), _taken_back(verdict)
    return "; ".join([_measured(verdict), *_statistics(verdict, evidence), *first, _where(verdict, evidence), *last])


def brief(verdict: Verdict) -> str:
    """The same without the statistics, but with what takes part of it back."""
    evidence = verdict.evidence
    if evidence is None:
        return _untested(verdict)
    return "; ".join([_measured(verdict), *_trifling(verdict, evidence), *_taken_back(verdict)])


def outcome(verdict: Verdict) -> str:
    """A verdict in a few words: `holds at mini, equal compute (n = 3)`."""
    if verdict.track == NO_TRACK:
        return verdict.outcome
    return f"{verdict.outcome} at {place(verdict)}" + (f" (n = {verdict.n})" if verdict.n else "")


def place(verdict: Verdict) -> str:
    """`mini`, `mini, equal compute`, `direction at cifar`: what its outcome is said of."""
    where = f"direction at {verdict.track}" if verdict.lacks else verdict.track
    return where + (f", {COMPUTE}" if verdict.basis == COMPUTE else "")


def _said(verdict: Verdict) -> str:
    """`holds at mini`, `holds for the direction at cifar`."""
    return f"{verdict.outcome} {'for the' if verdict.lacks else 'at'} {place(verdict)}"


# ------------------------------------------------------------------------------------------------------- without a test


def _untested(verdict: Verdict) -> str:
    claim = verdict.claim
    match verdict.reasons:
        case (NoVerdicts(),):
            return f"no verdicts at {verdict.track}: it shows whether a method learns, not whether a claim holds"
        case (SmallTestSet(metric),):
            why = f"no test, as its test set is too small for {metric}, however many seeds"
            return f"{_said(verdict)} ({_counted(claim, verdict.n)}): {why}"
        case ():
            what = "pre-trainings" if claim.kind == "number" else "pairs"
            of = "" if verdict.n == 1 else f" of the {claim.n} {what} that this claim froze"
            return f"n = {verdict.n}{of}, {_said(verdict)}{_gap(verdict)}"
        case reasons:
            own = ", own setting" if verdict.own else ""
            at = "" if verdict.track == NO_TRACK else f" at {place(verdict)}{own}"
            return f"{verdict.outcome}{at}: {reasons_why(reasons)}"


def reasons_why(reasons: Iterable[Reason]) -> str:
    """All of several reasons."""
    return "; ".join(map(reason, reasons))


def reason(why: Reason) -> str:
    """Why a claim was not put to the test, or one thing that an arm has otherwise than stated."""
    match why:
        case Deviation(what, run, stated, whose):
            return f"{what} {_listed(run) if isinstance(run, frozenset) else run}, {whose} is {stated}"
        case OtherValues(protocol, fingerprint, changed):
            also = f"; changed: {changed}" if changed else ""
            return f"protocol {protocol} with other values ({fingerprint[:8]}{also})"
        case NoTrack(data):
            return f"no track runs {data}"
        case OtherTracks(tracks):
            return f"the claim can be put to the test at {', '.join(tracks)}"
        case NoRecord(arm, baseline):
            return f"no record of {'the baseline ' if baseline else ''}{arm}"
        case Flagged(arm, flag):
            return f"{arm}: {flag}"
        case SettingsApart(arm, baseline, key, ours, theirs):
            never = "data, protocol, network, epochs and batch agree one by one but never together"
            apart = f"{key} {_listed(ours)} against {_listed(theirs)}" if key else never
            return f"{arm} and {baseline} share no setting: {apart}"
        case OperationsApart(nearest, tolerance):
            listed = " and ".join(map(_operations, nearest))
            return f"no two trainings of as many operations within {tolerance:.0%}: {listed}"
        case TrialsApart(ours, theirs):
            if not (ours and theirs):
                return "tuning trials not recorded"
            return f"tuning trials differ, {', '.join(map(str, ours))} against {', '.join(map(str, theirs))}"
        case MachinesApart(machines):
            return f"costs were measured on {' and '.join(machines)}"
        case SmallTestSet() | NoVerdicts():
            raise AssertionError("says the whole sentence, not the end of one")


def _operations(training: Training) -> str:
    amount = f"{training.flops:.3g} in {training.epochs} epochs" if training.flops else "(not recorded)"
    return f"{training.arm} {amount}"


def _listed(values: frozenset[object]) -> str:
    numbers = sorted(value for value in values if isinstance(value, int))
    return ", ".join([*map(str, numbers), *sorted(str(value) for value in values if not isinstance(value, int))])


# ---------------------------------------------------------------------------------------------------------- with a test


def _measured(verdict: Verdict) -> str:
    """`holds at mini (n = 3 pairs, no headline): aps 2.10 points above moco_v3 in finetune top1`."""
    count = _counted(verdict.claim, verdict.n) + ("" if verdict.quotable else ", no headline")
    return f"{_said(verdict)} ({count}){_gap(verdict)}"


def _counted(claim: Claim, n: int) -> str:
    """`n = 3 pairs`."""
    unit = "pre-training" if claim.kind == "number" else "pair"
    return f"n = {n} {unit}" + ("" if n == 1 else "s")


def _gap(verdict: Verdict) -> str:
    """`: aps 2.10 points above moco_v3 in finetune top1`."""
    claim, gap = verdict.claim, verdict.gap
    if gap is None:
        return ""
    what = f"{claim.evaluation} {claim.metric_read(verdict.own)}"
    if claim.kind == "number":
        return f": {claim.arm} reaches {what} {gap:.2f}, stated {claim.value:g}"
    if claim.evaluation == COST:
        return f": {claim.arm} takes {gap:.2f} times the {claim.metric} of {claim.baseline_arm}"
    side = "above" if (gap >= 0) == (claim.better == "higher") else "below"
    return f": {claim.arm} {abs(gap):.2f} {_unit(claim)} {side} {claim.baseline_arm} in {what}"


def _statistics(verdict: Verdict, evidence: Evidence) -> list[str]:
    """How sure the outcome is."""
    claim = verdict.claim
    after = f" after Holm over {evidence.family} claims" if evidence.family > 1 else ""
    parts = []
    if evidence.resolvable > 0:
        parts.append(f"a mean difference of {evidence.resolvable:.2f} {_unit(claim)} could be resolved{after}")
    parts.append(_tested(verdict, evidence))
    if evidence.resolvable > 0:
        parts.append(evidence.mean.how)
    if evidence.needed:
        parts.append(f"{evidence.needed} pairs show {_effect(verdict, evidence)} four times in five{after}")
    return parts


def _tested(verdict: Verdict, evidence: Evidence) -> str:
    """`one-sided t, p = 0.018, Holm over 4 claims`, and where nothing is shown what was tried."""
    if verdict.outcome == "underpowered":
        return _undecided(verdict, evidence)
    if evidence.p is None:
        return "95 % prediction interval"
    used = "one-sided t" if evidence.shows in (UP, DOWN) else f"TOST within {_margin(verdict, evidence)}"
    return (
        f"{used}, p = {evidence.p:.2g}{_corrected(evidence)}"
        if evidence.resolvable
        else f"{used}: the seeds do not differ"
    )


def _undecided(verdict: Verdict, evidence: Evidence) -> str:
    claim, p = verdict.claim, evidence.p_values
    compares = claim.kind in ("gain", "direction")
    size = NULL if compares and not (claim.kind == "gain" and verdict.own) else SAME
    asked = f" where {evidence.level:.2g} is asked for" if evidence.family > 1 and p[UP] < p[DOWN] else ""
    apart = f"one-sided t, p = {min(p[UP], p[DOWN]):.2g}{asked}, and " if compares else ""
    return (
        f"neither a difference nor sameness is shown: {apart}TOST within {_margin(verdict, evidence)},"
        f" p = {p[size]:.2g}{_corrected(evidence)}"
    )


def _corrected(evidence: Evidence) -> str:
    return f", Holm over {evidence.family} claims" if evidence.family > 1 else ""


def _trifling(verdict: Verdict, evidence: Evidence) -> list[str]:
    """That a difference is shown, but a small one; or nothing."""
    return [f"but less than the {_margin(verdict, evidence)} that count as a difference"] if evidence.trifling else []


def _taken_back(verdict: Verdict) -> list[str]:
    """That training for as much takes the outcome back; or nothing."""
    there = verdict.at_equal_compute
    return [f"only at {EPOCHS}: at {COMPUTE} {there}"] if there else []


def _where(verdict: Verdict, evidence: Evidence) -> str:
    """The setting of a test."""
    claim, setting = verdict.claim, evidence.setting
    words = [setting.source if setting.source != "-" else setting.data, setting.network]
    if setting.epochs:
        words.append(f"{setting.epochs} epochs" + (f" of {claim.arm}" if verdict.basis == COMPUTE else ""))
    if claim.evaluation != COST:
        words.append(f"protocol {setting.protocol}")
    if evidence.seeds > claim.n:
        words.append(f"{evidence.seeds - claim.n} further seeds not used, n was frozen")
    return ", ".join(words)


def _effect(verdict: Verdict, evidence: Evidence) -> str:
    """The difference that the test should be able to show."""
    claimed = verdict.claim.value
    return f"the claimed {claimed:g} points" if claimed else f"a difference of {evidence.margin:g} points"


def _margin(verdict: Verdict, evidence: Evidence) -> str:
    """The margin as the claim's file has it: points, or percent of a cost."""
    margin = math.expm1(evidence.margin) * 100 if verdict.claim.evaluation == COST else evidence.margin
    return f"{margin:g} {_unit(verdict.claim)}"


def _unit(claim: Claim) -> str:
    if claim.evaluation == COST:
        return "%"
    return "AP" if claim.metric.startswith(("bbox_", "segm_")) else "points"
