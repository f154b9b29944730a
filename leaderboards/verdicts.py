"""Verdicts: what the records say of a claim, always at a named track and with its n.

Only records of our own count, never imported ones. The unit of replication is a pre-training, so n counts seeds. A
claim against a baseline is tested on pairs: same seed, data, protocol, network, as many tuning trials, and either as
many epochs and the same batch (equal epochs) or as many operations of training within 10 % (equal compute). Tests are
one-sided t-tests at 5 % and, for sameness, two one-sided tests (TOST) against the claim's frozen margin; where their
spread comes from says `statistics.py`. Within a family of claims they are Holm's. Costs are compared as logarithms.
With so few seeds a difference that is not shown is `underpowered`, not absent.

    number       reproduced | below | above | underpowered
    gain         the same at the claim's own setting, or opposite; elsewhere it counts as a direction
    direction    holds | opposite | no difference | underpowered
    cost_ratio   reproduced | below | above | underpowered
    any          no verdict (embedded, or n too small) | not run | incomparable
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from leaderboards import statistics
from leaderboards.arms import OURS, Arm, Record, Setting, arms, entry, kind_of, unlike
from leaderboards.claims import NO_TRACK, Claim, arm_name, tracks_of
from leaderboards.statistics import Mean, holm

# Test sets so small that no number of pre-trainings helps: 57 pictures, 162 queries.
TOO_SMALL = {("mini", "detection"), ("mini", "segmentation"), ("mini", "reid")}
EPOCHS, COMPUTE = "equal epochs", "equal compute"
SAME_COMPUTE = 0.1  # operations of two trainings that count as equal differ by no more than this fraction


@dataclass(frozen=True)
class Used:
    """The records of one arm that a verdict was computed from, by seed."""

    arm: str  # registry name
    records: Mapping[int, Record]


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
    basis: str = ""  # of a comparison of accuracies: equal epochs or equal compute
    needed: int | None = None  # pairs that would show the claimed effect with a power of 80 %
    rests_on: tuple[Used, ...] = ()  # what it was computed from: the method's, then the baseline's


@dataclass(frozen=True)
class _Sample:
    """The numbers that a claim is tested on."""

    claim: Claim
    own: bool  # at the claim's own setting
    margin: float  # points, or log of a ratio
    mean: Mean  # of differences in favour of the claim, of values, or of logs of cost ratios
    target: float  # where the stated value lies on that scale
    where: str  # the setting in words
    basis: str
    rests_on: tuple[Used, ...]


@dataclass(frozen=True)
class _Found:
    """What there is to test a claim on."""

    arm: Arm  # the method's
    own: bool  # of the claim's own setting
    total: int  # seeds that are there; the first ones, as many as the claim froze, are used
    mean: Mean | None
    rests_on: tuple[Used, ...]


class _NoTest(Exception):
    """There is nothing to test: the outcome, and why."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


def verdict(claim: Claim, records: Iterable[Record], track: str, basis: str = EPOCHS) -> Verdict:
    """The verdict on one claim at one track, tested alone.

    records: plain dicts of all kinds and tracks; pre-trainings among them tell network, epochs and operations.
    """
    return judge([claim], records, track, basis)[0]


def two_bases(claim: Claim) -> bool:
    """Whether the claim compares accuracies, which training for as long or for as much may change."""
    return bool(claim.baseline) and claim.evaluation != "cost"


def judge(claims: Sequence[Claim], records: Iterable[Record], track: str, basis: str = EPOCHS) -> list[Verdict]:
    """Verdicts on all claims at one track, in their order; Holm's correction runs over each family.

    A claim of the family that this track could test but has not yet counts in the correction all the same, so that it
    makes no difference in which order the runs were done. `basis` makes a difference where `two_bases` says so.
    """
    records = [record for record in records if record["track"] == track]
    every = {
        kind: [arm for arm in arms(records, kind) if arm.trust == OURS] for kind in {_kind(claim) for claim in claims}
    }
    found = [_sample(claim, every[_kind(claim)], track, basis if two_bases(claim) else "") for claim in claims]
    families: dict[str, list[str]] = defaultdict(list)
    for claim in claims:
        if track in tracks_of(claim):
            families[claim.family].append(claim.id)
    p = {item.claim.id: _tests(item) for item in found if isinstance(item, _Sample)}
    shown: dict[str, set[str]] = {key: set() for key in _TESTS}
    for members in families.values():
        for key, passed in shown.items():
            values = [p[name][key] if name in p else 1.0 for name in members]
            passed.update(name for name, reject in zip(members, holm(values), strict=True) if reject)
    return [
        item
        if isinstance(item, Verdict)
        else _decide(
            item,
            p[item.claim.id],
            {key for key, passed in shown.items() if item.claim.id in passed},
            track,
            len(families[item.claim.family]),
        )
        for item in found
    ]


def both(claims: Sequence[Claim], records: Iterable[Record], track: str) -> dict[str, list[Verdict]]:
    """By claim, the verdict at equal epochs and, where it can differ and either was run, the one at equal compute.

    A claim that holds at equal epochs and not at equal compute says so in its first sentence.
    """
    records = list(records)
    found = {item.claim: [item] for item in judge(claims, records, track)}
    comparing = [claim for claim in claims if two_bases(claim)]
    for compute in judge(comparing, records, track, COMPUTE):
        epochs = found[compute.claim][0]
        if epochs.n or compute.n:
            found[compute.claim] = [_qualified(epochs, compute), compute]
    return found


def _qualified(epochs: Verdict, compute: Verdict) -> Verdict:
    taken_back = ("opposite", "no difference", "underpowered", "below")
    if epochs.outcome in ("holds", "reproduced", "above") and compute.outcome in taken_back:
        return replace(epochs, sentence=f"{epochs.sentence}; only at equal epochs: at equal compute {compute.outcome}")
    return epochs


# ---------------------------------------------------------------------------------------------------------- the numbers


def _kind(claim: Claim) -> str:
    """The kind of record that tests this claim."""
    return "pretrain" if claim.evaluation == "cost" else kind_of(claim.evaluation)


def _sample(claim: Claim, every: list[Arm], track: str, basis: str) -> _Sample | Verdict:
    """The numbers that this claim is tested on at this track, or the verdict that there are none.

    every: the arms of the kind of record that tests this claim
    """
    if track == "embedded":
        return Verdict(claim.id, track, "no verdict", "no verdicts at this track (embedded)", basis=basis)
    at = f"{track}, {basis}" if basis == COMPUTE else track
    try:
        found = _numbers(claim, every, track, basis)
    except _NoTest as reason:
        return Verdict(claim.id, track, reason.outcome, f"{reason.outcome} at {at}: {reason}", basis=basis)
    mean = found.mean
    n = mean.n if mean else found.total
    if (track, claim.evaluation) in TOO_SMALL:
        sentence = f"underpowered at {at}: its test set is too small for {claim.metric}, however many seeds"
        return Verdict(claim.id, track, "underpowered", sentence, n, basis=basis, rests_on=found.rests_on)
    if mean is None or n < claim.n:
        what = "pre-trainings" if claim.kind == "number" else "pairs"
        count = "n = 1" if n == 1 else f"n = {n} of the {claim.n} {what} that this claim froze"
        gap = _shown(claim, mean.value) if mean else None
        sentence = f"{count}, no verdict at {at}" + _measured(claim, gap, found.own)
        return Verdict(claim.id, track, "no verdict", sentence, n, gap, basis=basis, rests_on=found.rests_on)
    margin = claim.margin if found.own else claim.proxies[track]
    return _Sample(
        claim=claim,
        own=found.own,
        margin=math.log1p(margin) if claim.evaluation == "cost" else margin,
        mean=mean,
        target=0.0 if claim.value is None else math.log(claim.value) if claim.kind == "cost_ratio" else claim.value,
        where=_place(claim, found.arm, found.total, basis),
        basis=basis,
        rests_on=found.rests_on,
    )


def _numbers(claim: Claim, every: list[Arm], track: str, basis: str) -> _Found:
    """Raises _NoTest where nothing fits the claim."""
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
        values = arm.values(claim.metric)
        frozen = sorted(values)[: claim.n]
        mean = statistics.own([values[seed] for seed in frozen], "own spread") if frozen else None
        return _Found(arm, True, len(values), mean, (_used(arm, frozen),))
    theirs = [arm for arm in every if arm.name == claim.baseline_arm]
    if not theirs:
        raise _NoTest("not run", f"no record of the baseline {claim.baseline_arm}")
    arm, other, own = _pair(claim, ours, theirs, track, basis)
    read = _reader(claim, own)
    left, right = read(arm), read(other)
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return _Found(arm, own, 0, None, ())
    peers = [a for a in every if a.setting.scope == arm.setting.scope and a not in (arm, other) and not a.flag]
    table = [read(a) for a in peers] if claim.evaluation != "cost" else []
    frozen = seeds[: claim.n]
    scaled = [
        {seed: _scale(claim, value) for seed, value in found.items() if seed in frozen}
        for found in (left, right, *table)
    ]
    mean = statistics.paired(scaled[0], scaled[1], scaled[2:])
    return _Found(arm, own, len(seeds), mean, (_used(arm, frozen), _used(other, frozen)))


def _used(arm: Arm, seeds: Sequence[int]) -> Used:
    return Used(arm.name, {seed: arm.records[seed] for seed in seeds})


def _pair(claim: Claim, ours: list[Arm], theirs: list[Arm], track: str, basis: str) -> tuple[Arm, Arm, bool]:
    """The two arms to compare, and whether that is the claim's own setting.

    At equal epochs they share a setting: the claim's own if there is one, else the fullest. At equal compute they share
    all of it but epochs and batch, and took as many operations.
    """
    if basis == COMPUTE:
        alike = [(a, b) for a in ours for b in theirs if _timeless(a) == _timeless(b)]
        pairs = [pair for pair in alike if _log_ratio(*pair) <= math.log1p(SAME_COMPUTE)]
        if not pairs:
            nearest = min(alike or [(ours[0], theirs[0])], key=lambda pair: _log_ratio(*pair))
            listed = " and ".join(f"{arm.name} {_operations(arm)}" for arm in nearest)
            raise _NoTest("not run", f"no two trainings of as many operations within {SAME_COMPUTE:.0%}: {listed}")
    else:
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
    if claim.evaluation == "cost":
        machines = {_machine(a.records[seed]) for a in (arm, other) for seed in read(a)}
        if len(machines) > 1:
            raise _NoTest("incomparable", f"costs were measured on {' and '.join(sorted(machines))}")
    return arm, other, bool(exact)


def _timeless(arm: Arm) -> Setting:
    return replace(arm.setting, epochs=None, batch=None)


def _flops(arm: Arm) -> float | None:
    """Operations of the arm's pre-trainings, forward and backward: their mean."""
    found = [value for value in arm.training("flops").values() if value > 0]
    return sum(found) / len(found) if found else None


def _log_ratio(a: Arm, b: Arm) -> float:
    """How far apart two arms' operations of training are, as |log| of their ratio; infinite where not recorded."""
    left, right = _flops(a), _flops(b)
    return math.inf if left is None or right is None else abs(math.log(left / right))


def _operations(arm: Arm) -> str:
    flops = _flops(arm)
    return f"{flops:.3g} in {arm.setting.epochs} epochs" if flops else "(not recorded)"


def _place(claim: Claim, arm: Arm, seeds: int, basis: str) -> str:
    """The setting of a test in words."""
    setting = arm.setting
    words = [setting.source if setting.source != "-" else setting.data, setting.network]
    if setting.epochs:
        words.append(f"{setting.epochs} epochs" + (f" of {arm.name}" if basis == COMPUTE else ""))
    if claim.evaluation != "cost":
        words.append(f"protocol {setting.protocol}")
    if seeds > claim.n:
        words.append(f"{seeds - claim.n} further seeds not used, n was frozen")
    return ", ".join(words)


def _reader(claim: Claim, own: bool) -> Callable[[Arm], dict[int, float]]:
    """How this claim's metric is read from an arm, by seed.

    Choosing an epoch on the test set is part of some papers' own settings; it is no part of ours.
    """
    if claim.evaluation == "cost":
        return lambda arm: {seed: cost for seed, cost in arm.costs(claim.metric).items() if cost > 0}
    metric = claim.metric if own else claim.metric.removesuffix("_best_on_test")
    return lambda arm: arm.values(metric)


def _preference(pair: tuple[Arm, Arm], read: Callable[[Arm], dict[int, float]]) -> tuple[bool, int, int, int, str, str]:
    """Equal tuning, then most pairs, likest recipes, longest schedule, newest records: never by the values."""
    a, b = pair
    return (
        a.trials() == b.trials(),
        len(read(a).keys() & read(b).keys()),
        -unlike(a, b),
        a.setting.epochs or 0,
        min(a.newest, b.newest),
        f"{a.setting}{a.label}{b.label}",
    )


def _scale(claim: Claim, value: float) -> float:
    """A value on the scale of which differences are tested; larger speaks for the claim, but for a stated ratio."""
    sign = 1 if claim.better == "higher" or claim.kind == "cost_ratio" else -1
    return sign * (math.log(value) if claim.evaluation == "cost" else value)


def _machine(record: Record) -> str:
    return f"{entry(record, 'provenance', 'device') or '-'}, {entry(record, 'provenance', 'threads') or '-'} threads"


def differences(claim: Claim, arm: Arm, but: Collection[str] = ()) -> list[str]:
    """In what an arm differs from the claim's own setting, in words.

    but: what is passed over: "protocol", "epochs", "batch", "data of pre-training".
    """
    setting, found = arm.setting, []

    def differ(what: str, is_: object, stated: object) -> None:
        if what not in but:
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
        differ("protocol", setting.protocol, claim.protocol or "not known")
    trained = {entry(origin, "provenance", "data", "name") for origin in arm.origins.values()}
    if claim.pretrain_data and trained != {claim.pretrain_data}:
        differ("data of pre-training", _listed(trained), claim.pretrain_data)
    for table, values in claim.changes.items():
        for key, stated in values.items():
            run = _setting_of(arm, table, key)
            if run is not None and run != stated:
                differ(f"{table}.{key}", run, stated)
    return found


def _setting_of(arm: Arm, table: str, key: str) -> object:
    """A value of the arm's recipe or protocol, None where its records do not say."""
    record = next(iter(arm.records.values()))
    if table == record["kind"]:
        return entry(record, "protocol", "values", key)
    origin = next(iter(arm.origins.values()), None)
    return entry(origin, "details", "recipe", table, key) if origin else None


@dataclass(frozen=True)
class Missing:
    """Pre-trainings of one arm that a test of a claim still lacks."""

    arm: str  # registry name
    seeds: tuple[int, ...]
    like: Arm | None  # what is there of it, which they are to join
    beside: Arm | None  # else what is there of the other arm, whose setting they are to share


def missing(claim: Claim, records: Iterable[Record], track: str, own: bool) -> list[Missing]:
    """What the test of a claim at one track lacks, arm by arm; nothing where the frozen n is there.

    own: the test at the claim's own setting; else that of its direction, at the setting of which there is most.
    """
    here = [record for record in records if record["track"] == track]
    names = [claim.arm, *([claim.baseline_arm] if claim.baseline else [])]
    every = [arm for arm in arms(here, _kind(claim)) if arm.trust == OURS and not arm.imported and arm.name in names]
    fitting = [arm for arm in every if not own or not differences(claim, arm)]
    read = _reader(claim, own)
    by_setting: dict[Setting, dict[str, Arm]] = defaultdict(dict)
    for arm in fitting:
        there = by_setting[arm.setting]
        if arm.name not in there or len(read(arm)) > len(read(there[arm.name])):
            there[arm.name] = arm
    chosen = max(by_setting.values(), key=lambda found: sum(len(read(arm)) for arm in found.values()), default={})
    has = {name: set(read(chosen[name])) if name in chosen else set() for name in names}
    known = sorted(set().union(*has.values()), key=lambda seed: (-sum(seed in its for its in has.values()), seed))
    fresh = (seed for seed in range(len(known) + claim.n) if seed not in known)
    wanted = [*known, *fresh][: claim.n]
    return [
        Missing(
            arm=name,
            seeds=tuple(sorted(set(wanted) - has[name])),
            like=chosen.get(name),
            beside=next((arm for other, arm in chosen.items() if other != name), None),
        )
        for name in names
        if set(wanted) - has[name]
    ]


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

_TESTS = ("up", "down", "null", "same")


def _tests(sample: _Sample) -> dict[str, float]:
    """p-values: the mean lies above 0, below 0, within the margin of 0, within the margin of the stated value."""
    mean = sample.mean
    p = (mean.above(0.0), mean.below(0.0), mean.within(0.0, sample.margin), mean.within(sample.target, sample.margin))
    return dict(zip(_TESTS, p, strict=True))


# ------------------------------------------------------------------------------------------------------------ the words


def _decide(sample: _Sample, p: dict[str, float], shown: set[str], track: str, family: int) -> Verdict:
    """`shown` names the tests that hold after the correction for a family of that size."""
    claim, mean = sample.claim, sample.mean
    low, high = mean.next_value()
    outside = "above" if low > sample.target else "below" if high < sample.target else ""
    beyond = outside if abs(mean.value - sample.target) > sample.margin else ""
    if claim.kind == "direction" or (claim.kind == "gain" and not sample.own):
        order = [("up", "holds"), ("down", "opposite"), ("null", "no difference")]
    elif claim.kind == "gain":
        order = [("same", "reproduced"), ("down", "opposite"), ("", beyond), ("up", "holds")]
    else:
        order = [("same", "reproduced"), ("", beyond)]
    key, outcome = next(
        ((key, word) for key, word in order if word and (key in shown or not key)), ("", "underpowered")
    )
    gap = _shown(claim, mean.value)
    unit = "pre-trainings" if claim.kind == "number" else "pairs"
    relative = claim.evaluation == "cost"
    resolvable = math.expm1(mean.resolvable) * 100 if relative else mean.resolvable
    at = f"{track}, {sample.basis}" if sample.basis == COMPUTE else track
    parts = [f"{outcome} at {at} (n = {mean.n} {unit})" + _measured(claim, gap, sample.own)]
    if resolvable > 0:
        parts.append(f"a mean difference of {_digits(resolvable)} {_unit(claim)} could be resolved")
    if outcome == "underpowered":
        parts.append("neither a difference nor sameness is shown")
    elif not resolvable:
        parts.append("the seeds do not differ")
    elif not key:
        parts.append("95 % prediction interval")
    else:
        test = "one-sided t" if key in ("up", "down") else "TOST"
        parts.append(f"{test}, p = {p[key]:.2g}" + (f", Holm over {family} claims" if family > 1 else ""))
    if resolvable > 0:
        parts.append(mean.how)
    effect, words = _claimed(sample)
    needed = mean.needed(effect) if claim.kind in ("gain", "direction") and not relative else None
    if needed:
        parts.append(f"{needed} pairs show {words} four times in five")
    if outcome == "holds" and mean.value < sample.margin and not relative:
        parts.append(f"but less than the {sample.margin:g} points that count as a difference")
    return Verdict(
        claim=claim.id,
        track=track,
        outcome=outcome,
        sentence="; ".join([*parts, sample.where]),
        n=mean.n,
        gap=gap,
        resolvable=resolvable,
        p=p[key] if key else None,
        basis=sample.basis,
        needed=needed,
        rests_on=sample.rests_on,
    )


def _claimed(sample: _Sample) -> tuple[float, str]:
    """The effect that a test should be able to show, in its unit and in words: the claimed one, else the margin."""
    if sample.claim.kind == "gain" and sample.claim.value:
        return sample.claim.value, f"the claimed {sample.claim.value:g} points"
    return sample.margin, f"a difference of {sample.margin:g} points"


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
