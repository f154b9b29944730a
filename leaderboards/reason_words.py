"""What a reason says in words: why a claim was not put to the test, or what an arm has otherwise than stated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leaderboards.claim_arms import EPOCHS
from leaderboards.reasons import (
    Deviation,
    EpochsFirst,
    Flagged,
    MachinesApart,
    NoKey,
    NoRecord,
    NotKnown,
    NoTrack,
    NotTrainedOn,
    NoValue,
    NoVerdicts,
    OlderSetup,
    OperationsApart,
    OtherTracks,
    OtherValues,
    Reason,
    SettingsApart,
    SmallTestSet,
    Training,
    TuningApart,
)
from leaderboards.tuning import Tuning

_UNKNOWN = "the paper's setting is unknown, so we cannot rerun it"


def unrepeatable(why: Reason) -> str:
    """Why no run can have the paper's setting, in short: without the parts that are not known."""
    return _UNKNOWN if isinstance(why, NotKnown) else f"the paper's setting cannot be tested: {reason(why)}"


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
        case NotKnown(keys, assumption):
            unless = f", unless one assumes {assumption}" if assumption else ""
            return f"{_UNKNOWN} (not known: {', '.join(keys)}){unless}"
        case NotTrainedOn(data):
            return f"no track pre-trains on {data}"
        case NoKey(arm, key):
            return f"the recipe of {arm} lacks {key}, which this setting changes"
        case EpochsFirst():
            return f"it is tested when {EPOCHS} is decided"
        case SmallTestSet(arm, data):
            return f"{arm} was run only on {', '.join(data)}, whose test set is too small for a verdict"
        case OlderSetup(pairs):
            what = {0: "older runs do", 1: "1 older pair does"}.get(pairs, f"{pairs} older pairs do")
            return f"{what} not count, as all seeds shared one training subset"
        case OtherTracks(tracks):
            return f"the claim can be tested on {', '.join(tracks)}"
        case NoRecord(arm, baseline, kind):
            return f"no {kind} record of {'the baseline ' if baseline else ''}{arm}"
        case NoValue(arm, what):
            return f"the records of {arm} have no {what}"
        case Flagged(arm, flag):
            return f"{arm}: {flag}, so there is no verdict"
        case SettingsApart(arm, baseline, key, ours, theirs):
            never = "no two records agree in data, protocol, network, epochs and batch together"
            apart = f"{key} {_listed(ours)} against {_listed(theirs)}" if key else never
            return f"{arm} and {baseline} share no setting: {apart}"
        case OperationsApart(nearest, tolerance):
            listed = " and ".join(map(_operations, nearest))
            return f"no two trainings of this network with equal operations (within {tolerance:.0%}); nearest: {listed}"
        case TuningApart(ours, theirs):
            if not (ours and theirs):
                return "tuning trials not recorded"
            by_hand = not any(tuning.procedure for tuning in (*ours, *theirs))
            what = "tuning trials differ" if by_hand else "tuning differs"
            return f"{what}, {' against '.join(tuned_words(side, by_hand) for side in (ours, theirs))}"
        case MachinesApart(machines):
            return f"costs were measured on {' and '.join(machines)}"
        case NoVerdicts():
            raise AssertionError("says the whole sentence, not the end of one")


def tuned_words(found: Sequence[Tuning], by_hand: bool) -> str:
    """`procedure P1-0a1b2c`, `1, 3 trials by hand`; by_hand: it is said that these are trials."""
    procedures = [f"procedure {one}" for one in dict.fromkeys(tuning.procedure for tuning in found) if one]
    numbers = ", ".join(dict.fromkeys(str(tuning.trials) for tuning in found if not tuning.procedure))
    hand = numbers if by_hand else f"{numbers} trial{'' if numbers == '1' else 's'} by hand"
    return " and ".join([*procedures, *([hand] if numbers else [])])


def _operations(training: Training) -> str:
    epochs = f"{training.epochs} epoch{'' if training.epochs == 1 else 's'}"
    amount = f"{training.flops:.3g} in {epochs}" if training.flops else "(not recorded)"
    return f"{training.arm} {amount}"


def _listed(values: frozenset[object]) -> str:
    numbers = sorted(value for value in values if isinstance(value, int))
    return ", ".join([*map(str, numbers), *sorted(str(value) for value in values if not isinstance(value, int))])
