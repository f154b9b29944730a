"""Verdicts: what the records say of a claim, always at a named track and with its n.

The unit of replication is a pre-training, so n counts seeds. A claim against a baseline is tested on pairs: same seed,
data, protocol, network, epochs and batch, as many tuning trials. Tests are one-sided t-tests at 5 % and, for sameness,
two one-sided tests (TOST) against the claim's frozen margin; within a family of claims they are Holm's. Costs are
compared as logarithms. With so few seeds a difference that is not shown is `underpowered`, not absent.

    number       reproduced | below | above | underpowered
    gain         the same at the claim's own setting, or opposite; elsewhere it counts as a direction
    direction    holds | opposite | no difference | underpowered
    cost_ratio   reproduced | below | above | underpowered
    any          no verdict (embedded, or n too small) | not run | incomparable
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leaderboards.arms import Arm, Record, arms, entry, kind_of
from leaderboards.claims import NO_TRACK, Claim, arm_name, tracks_of

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05
# Test sets so small that no number of pre-trainings helps: 57 pictures, 162 queries.
TOO_SMALL = {("mini", "detection"), ("mini", "segmentation"), ("mini", "reid")}


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim at one track."""

    claim: str
    track: str
    outcome: str
    sentence: str  # outcome, track and n first; complete without the other fields
    n: int = 0  # pairs, or for a number pre-trainings
    gap: float | None = None  # measured: difference in favour of the claim, value, or cost ratio
    resolvable: float | None = (
        None  # the smallest mean difference that this test would have shown, in the unit of `gap`
    )
    p: float | None = None  # of the test that the outcome rests on, not corrected for the family


@dataclass(frozen=True)
class _Sample:
    """The numbers that a claim is tested on."""

    claim: Claim
    own: bool  # at the claim's own setting
    margin: float  # points, or log of a ratio
    values: tuple[float, ...]  # one a seed: differences in favour of the claim, values, or logs of cost ratios
    target: float  # where the stated value lies on that scale
    where: str  # the setting in words


class _NoTest(Exception):
    """There is nothing to test: the outcome, and why."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


@dataclass(frozen=True)
class _Evidence:
    """One-sided p-values of a sample, and where its next value would lie."""

    mean: float
    resolvable: float
    up: float  # mean above 0
    down: float  # mean below 0
    null: float  # mean within the margin of 0
    same: float  # mean within the margin of the target
    low: float  # 95 % prediction interval of one further value
    high: float


def verdict(claim: Claim, records: Iterable[Record], track: str) -> Verdict:
    """The verdict on one claim at one track, tested alone.

    records: plain dicts of all kinds and tracks; pre-trainings among them tell network and epochs.
    """
    return judge([claim], records, track)[0]


def judge(claims: Sequence[Claim], records: Iterable[Record], track: str) -> list[Verdict]:
    """Verdicts on all claims at one track, in their order; Holm's correction runs over each family.

    A claim of the family that this track could test but has not yet counts in the correction all the same, so that it
    makes no difference in which order the runs were done.
    """
    records = [record for record in records if record["track"] == track]
    every = {
        kind: [arm for arm in arms(records, kind) if not arm.imported] for kind in {_kind(claim) for claim in claims}
    }
    found = [_sample(claim, every[_kind(claim)], track) for claim in claims]
    evidence = {item.claim.id: _weigh(item) for item in found if isinstance(item, _Sample)}
    families: dict[str, list[str]] = defaultdict(list)
    for claim in claims:
        if track in tracks_of(claim):
            families[claim.family].append(claim.id)
    shown: dict[str, set[str]] = {key: set() for key in ("up", "down", "null", "same")}
    for members in families.values():
        for key, passed in shown.items():
            p = [getattr(evidence[name], key) if name in evidence else 1.0 for name in members]
            passed.update(name for name, reject in zip(members, holm(p), strict=True) if reject)
    return [
        item
        if isinstance(item, Verdict)
        else _decide(
            item,
            evidence[item.claim.id],
            {key for key, passed in shown.items() if item.claim.id in passed},
            track,
            len(families[item.claim.family]),
        )
        for item in found
    ]


# ---------------------------------------------------------------------------------------------------------- the numbers


def _kind(claim: Claim) -> str:
    """The kind of record that tests this claim."""
    return "pretrain" if claim.evaluation == "cost" else kind_of(claim.evaluation)


def _sample(claim: Claim, every: list[Arm], track: str) -> _Sample | Verdict:
    """The numbers that this claim is tested on at this track, or the verdict that there are none.

    every: the arms of the kind of record that tests this claim
    """
    if track == "embedded":
        return Verdict(claim.id, track, "no verdict", "no verdicts at this track (embedded)")
    try:
        arm, by_seed, own = _numbers(claim, every, track)
    except _NoTest as reason:
        return Verdict(claim.id, track, reason.outcome, f"{reason.outcome} at {track}: {reason}")
    values = [by_seed[seed] for seed in sorted(by_seed)]
    n = len(values)
    if (track, claim.evaluation) in TOO_SMALL:
        sentence = f"underpowered at {track}: its test set is too small for {claim.metric}, however many seeds"
        return Verdict(claim.id, track, "underpowered", sentence, n)
    if n < claim.n:
        what = "pre-trainings" if claim.kind == "number" else "pairs"
        count = "n = 1" if n == 1 else f"n = {n} of the {claim.n} {what} that this claim froze"
        gap = _shown(claim, sum(values) / n) if n else None
        sentence = f"{count}, no verdict at {track}" + _measured(claim, gap, own)
        return Verdict(claim.id, track, "no verdict", sentence, n, gap)
    margin = claim.margin if own else claim.proxies[track]
    return _Sample(
        claim=claim,
        own=own,
        margin=math.log1p(margin) if claim.evaluation == "cost" else margin,
        values=tuple(values[: claim.n]),
        target=0.0 if claim.value is None else math.log(claim.value) if claim.kind == "cost_ratio" else claim.value,
        where=_place(claim, arm, n),
    )


def _numbers(claim: Claim, every: list[Arm], track: str) -> tuple[Arm, dict[int, float], bool]:
    """(an arm that was measured, the values to test by seed, whether they are of the claim's own setting)."""
    if claim.track == NO_TRACK and not claim.proxies:
        raise _NoTest("not run", f"no track runs {claim.data}")
    if track not in tracks_of(claim):
        raise _NoTest("incomparable", f"the claim can be put to the test at {', '.join(tracks_of(claim))}")
    ours = [arm for arm in every if arm.name == claim.arm]
    if not ours:
        raise _NoTest("not run", f"no record of {claim.arm}")
    if claim.kind == "number":
        fitting = [arm for arm in ours if not differences(claim, arm)]
        if not fitting:
            raise _NoTest("incomparable", "; ".join(differences(claim, ours[0])))
        arm = max(fitting, key=lambda a: (len(a.values(claim.metric)), a.label))
        return arm, arm.values(claim.metric), True
    theirs = [arm for arm in every if arm.name == claim.baseline_arm]
    if not theirs:
        raise _NoTest("not run", f"no record of the baseline {claim.baseline_arm}")
    return _paired(claim, ours, theirs, track)


def _paired(claim: Claim, ours: list[Arm], theirs: list[Arm], track: str) -> tuple[Arm, dict[int, float], bool]:
    """As `_numbers`, from the two arms that share a setting: the claim's own if there is one, else the fullest."""
    pairs = [(a, b) for a in ours for b in theirs if a.setting == b.setting]
    if not pairs:
        why = f"{claim.arm} and {claim.baseline_arm} share no setting: {_apart(ours, theirs)}"
        raise _NoTest("incomparable", why)
    exact = [pair for pair in pairs if not differences(claim, pair[0])]
    if not exact and track not in claim.proxies:
        raise _NoTest("incomparable", "; ".join(differences(claim, pairs[0][0])))
    read = _reader(claim, bool(exact))
    arm, other = max(exact or pairs, key=lambda pair: _preference(pair, read))
    if arm.trials() != other.trials():
        counts = " against ".join(", ".join(map(str, a.trials())) or "no" for a in (arm, other))
        raise _NoTest("incomparable", f"tuning trials differ, {counts}")
    left, right = read(arm), read(other)
    if claim.evaluation == "cost":
        machines = {_machine(a.records[seed]) for a, found in ((arm, left), (other, right)) for seed in found}
        if len(machines) > 1:
            raise _NoTest("incomparable", f"costs were measured on {' and '.join(sorted(machines))}")
    return arm, {seed: _compare(claim, left[seed], right[seed]) for seed in left.keys() & right.keys()}, bool(exact)


def _place(claim: Claim, arm: Arm, n: int) -> str:
    """The setting of a test in words."""
    setting = arm.setting
    words = [setting.source if setting.source != "-" else setting.data, setting.network]
    if setting.epochs:
        words.append(f"{setting.epochs} epochs")
    if claim.evaluation != "cost":
        words.append(f"protocol {setting.protocol}")
    if n > claim.n:
        words.append(f"{n - claim.n} further seeds not used, n was frozen")
    return ", ".join(words)


def _reader(claim: Claim, own: bool) -> Callable[[Arm], dict[int, float]]:
    """How this claim's metric is read from an arm, by seed.

    Choosing an epoch on the test set is part of some papers' own settings; it is no part of ours.
    """
    if claim.evaluation == "cost":
        return lambda arm: {seed: cost for seed, cost in arm.costs(claim.metric).items() if cost > 0}
    metric = claim.metric if own else claim.metric.removesuffix("_best_on_test")
    return lambda arm: arm.values(metric)


def _preference(pair: tuple[Arm, Arm], read: Callable[[Arm], dict[int, float]]) -> tuple[int, int, str]:
    """Most pairs first, then the longest schedule; never by the values themselves."""
    a, b = pair
    return len(read(a).keys() & read(b).keys()), a.setting.epochs or 0, f"{a.setting}{a.label}{b.label}"


def _compare(claim: Claim, ours: float, theirs: float) -> float:
    if claim.kind == "cost_ratio":
        return math.log(ours / theirs)
    sign = 1 if claim.better == "higher" else -1
    return sign * (math.log(ours / theirs) if claim.evaluation == "cost" else ours - theirs)


def _machine(record: Record) -> str:
    return f"{entry(record, 'provenance', 'device') or '-'}, {entry(record, 'provenance', 'threads') or '-'} threads"


def differences(claim: Claim, arm: Arm) -> list[str]:
    """In what an arm differs from the claim's own setting, in words."""
    setting, found = arm.setting, []

    def differ(what: str, is_: object, stated: object) -> None:
        found.append(f"{what} {is_}, the claim's is {stated}")

    if setting.track != claim.track:
        differ("track", setting.track, claim.track)
    if setting.data != claim.data:
        differ("data", setting.data, claim.data)
    if claim.backbone and setting.network != claim.backbone:
        differ("network", setting.network, claim.backbone)
    if claim.epochs and not claim.epochs[0] <= (setting.epochs or 0) <= claim.epochs[1]:
        differ("epochs", setting.epochs, "-".join(str(edge) for edge in dict.fromkeys(claim.epochs)))
    if claim.batch and setting.batch != claim.batch:
        differ("batch", setting.batch, claim.batch)
    if claim.evaluation != "cost" and setting.protocol != claim.protocol:
        differ("protocol", setting.protocol, claim.protocol)
    return found


def _apart(ours: list[Arm], theirs: list[Arm]) -> str:
    """The first thing in which two arms differ that no record shares."""
    for key in ("data", "manifest", "protocol", "protocol_hash", "network", "epochs", "batch"):
        left = {getattr(arm.setting, key) for arm in ours}
        right = {getattr(arm.setting, key) for arm in theirs}
        if not left & right:
            return f"{key} {_listed(left)} against {_listed(right)}"
    return "data, protocol, network, epochs and batch agree one by one but never together"


def _listed(values: set[object]) -> str:
    return ", ".join(sorted(str(value) for value in values))


# ------------------------------------------------------------------------------------------------------------ the tests


def _weigh(sample: _Sample) -> _Evidence:
    import numpy as np
    from scipy import stats

    values = np.asarray(sample.values, dtype=np.float64)
    n, mean, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    error = sd / math.sqrt(n)
    t = float(stats.t.ppf(0.975, n - 1))
    reach = t * sd * math.sqrt(1 + 1 / n)
    return _Evidence(
        mean=mean,
        resolvable=float(stats.t.ppf(1 - ALPHA, n - 1)) * error,
        up=above(values, 0.0),
        down=above(-values, 0.0),
        null=tost(values, 0.0, sample.margin),
        same=tost(values, sample.target, sample.margin),
        low=mean - reach,
        high=mean + reach,
    )


def above(values: np.ndarray, bound: float) -> float:
    """One-sided p-value of the t-test that the mean lies above `bound`. Values without spread decide for themselves."""
    import numpy as np
    from scipy import stats

    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return 0.0 if values.mean() > bound else 1.0
    return float(stats.ttest_1samp(values, bound, alternative="greater").pvalue)


def tost(values: np.ndarray, target: float, margin: float) -> float:
    """p-value of two one-sided t-tests that the mean lies within `margin` of `target`."""
    return max(above(values, target - margin), above(-values, -target - margin))


def holm(p: Sequence[float]) -> list[bool]:
    """Which hypotheses of a family Holm's step-down procedure rejects at ALPHA."""
    rejected = [False] * len(p)
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] >= ALPHA / (len(p) - rank):
            break
        rejected[index] = True
    return rejected


# ------------------------------------------------------------------------------------------------------------ the words


def _decide(sample: _Sample, evidence: _Evidence, shown: set[str], track: str, family: int) -> Verdict:
    """`shown` names the fields of the evidence that hold after the correction for a family of that size."""
    claim = sample.claim
    outside = "above" if evidence.low > sample.target else "below" if evidence.high < sample.target else ""
    beyond = outside if abs(evidence.mean - sample.target) > sample.margin else ""
    if claim.kind == "direction" or (claim.kind == "gain" and not sample.own):
        order = [("up", "holds"), ("down", "opposite"), ("null", "no difference")]
    elif claim.kind == "gain":
        order = [("same", "reproduced"), ("down", "opposite"), ("", beyond), ("up", "holds")]
    else:
        order = [("same", "reproduced"), ("", beyond)]
    key, outcome = next(
        ((key, word) for key, word in order if word and (key in shown or not key)), ("", "underpowered")
    )
    n = len(sample.values)
    gap = _shown(claim, evidence.mean)
    unit = "pre-trainings" if claim.kind == "number" else "pairs"
    relative = claim.evaluation == "cost"
    resolvable = math.expm1(evidence.resolvable) * 100 if relative else evidence.resolvable
    p = getattr(evidence, key) if key else None
    parts = [f"{outcome} at {track} (n = {n} {unit})" + _measured(claim, gap, sample.own)]
    if resolvable > 0:
        parts.append(f"a mean difference of {_digits(resolvable)} {_unit(claim)} could be resolved")
    if outcome == "underpowered":
        parts.append("neither a difference nor sameness is shown")
    elif not resolvable:
        parts.append("the seeds do not differ")
    elif p is None:
        parts.append("95 % prediction interval")
    else:
        test = "paired t" if key in ("up", "down") else "TOST"
        parts.append(f"{test}, p = {p:.2g}" + (f", Holm over {family} claims" if family > 1 else ""))
    if outcome == "holds" and evidence.mean < sample.margin and not relative:
        parts.append(f"but less than the {sample.margin:g} points that count as a difference")
    return Verdict(
        claim=claim.id,
        track=track,
        outcome=outcome,
        sentence="; ".join([*parts, sample.where]),
        n=n,
        gap=gap,
        resolvable=resolvable,
        p=p,
    )


def _unit(claim: Claim) -> str:
    if claim.evaluation == "cost":
        return "%"
    return "AP" if claim.metric.startswith(("bbox_", "segm_")) else "points"


def _shown(claim: Claim, value: float) -> float:
    """From the scale of the test to that of the reader: a ratio of costs for their logarithm."""
    if claim.evaluation != "cost":
        return value
    return math.exp(value if claim.kind == "cost_ratio" or claim.better == "higher" else -value)


def _measured(claim: Claim, gap: float | None, own: bool) -> str:
    """`: aps 2.10 points above moco_v3 in finetune top1`."""
    if gap is None:
        return ""
    metric = claim.metric if own else claim.metric.removesuffix("_best_on_test")
    what = f"{claim.evaluation} {metric}"
    ours = arm_name(claim.method, claim.variant)
    if claim.kind == "number":
        return f": {ours} reaches {what} {_digits(gap)}, stated {claim.value:g}"
    if claim.evaluation == "cost":
        return f": {ours} takes {gap:.2f} times the {metric} of {claim.baseline_arm}"
    side = "above" if (gap >= 0) == (claim.better == "higher") else "below"
    return f": {ours} {_digits(abs(gap))} {_unit(claim)} {side} {claim.baseline_arm} in {what}"


def _digits(value: float) -> str:
    return f"{value:.2f}"
