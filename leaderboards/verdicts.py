"""Verdicts: what the records say of a claim, always at a named track and with its n.

Only records of our own count, never imported ones. The unit of replication is a pre-training, so n counts seeds. A
claim against a baseline is tested on pairs: same seed, data, protocol, network, as many tuning trials, and either as
many epochs and the same batch (equal epochs) or as many operations of training within 10 % (equal compute). Tests are
one-sided t-tests at 5 % and, for sameness, two one-sided tests (TOST) against the claim's frozen margin; where their
spread comes from says `statistics.py`. Within a family of claims they are Holm's. Costs are compared as logarithms; one
that lies within its margin is no difference. With so few seeds a difference that is not shown is `underpowered`, not
absent. An arm whose seeds ran twice or whose tuning trials are not recorded decides nothing.

A claim's own setting is one of its network, epochs, batch, data and protocol, the values of the protocol as they stand;
where no source tells one of these, nothing counts as it. All else at its own track tests the direction alone, where
`proxies` allows it, and leaves the claim's own setting `not run`.

    number       reproduced | below | above | underpowered
    gain         the same at the claim's own setting, or opposite; elsewhere it counts as a direction
    direction    holds | opposite | no difference | underpowered
    cost_ratio   reproduced | below | above | underpowered
    any          no verdict (embedded, or n too small) | not run | incomparable
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from leaderboards import statistics
from leaderboards.arms import Arm, Arms
from leaderboards.claims import NO_TRACK, Claim, arm_name, tracks_of
from leaderboards.reading import OURS, Record, entry
from leaderboards.recipes import unlike
from leaderboards.setting import Setting
from leaderboards.statistics import ALPHA, Mean, holm
from leaderboards.suite import Protocols, Suite

PROTOCOLS = "protocols.json"
"""File of this package: the named protocols as they stand."""

# Test sets so small that no number of pre-trainings helps: 57 pictures, 162 queries.
TOO_SMALL = {("mini", "detection"), ("mini", "segmentation"), ("mini", "reid")}
EPOCHS, COMPUTE = "equal epochs", "equal compute"
HEADLINE = 10  # pairs that a verdict needs at the small tracks before it may be quoted without them
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
    lacks: str = ""  # of the direction alone, at the claim's own track: what its own setting has otherwise

    @property
    def place(self) -> str:
        """`mini`, `mini, equal compute`, `direction at cifar`: what its outcome is said of."""
        return _place(self.track, self.basis, self.lacks)


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
    lacks: str  # as a verdict's


@dataclass(frozen=True)
class _Found:
    """What there is to test a claim on."""

    arm: Arm  # the method's
    lacks: str  # what the claim's own setting has otherwise; "" at that setting
    total: int  # seeds that are there; the first ones, as many as the claim froze, are used
    mean: Mean | None
    rests_on: tuple[Used, ...]

    @property
    def own(self) -> bool:
        return not self.lacks


class _NoTest(Exception):
    """There is nothing to test: the outcome, and why."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


def verdict(claim: Claim, known: Arms, track: str, basis: str = EPOCHS) -> Verdict:
    """The verdict on one claim at one track, tested alone."""
    return judge([claim], known, track, basis)[0]


def two_bases(claim: Claim) -> bool:
    """Whether the claim compares accuracies, which training for as long or for as much may change."""
    return bool(claim.baseline) and claim.evaluation != "cost"


def judge(claims: Sequence[Claim], known: Arms, track: str, basis: str = EPOCHS) -> list[Verdict]:
    """Verdicts on all claims at one track, in their order; Holm's correction runs over each family.

    A claim of the family that this track could test but has not yet counts in the correction all the same, so that it
    makes no difference in which order the runs were done. `basis` makes a difference where `two_bases` says so.
    """
    kinds = [_kind(claim, known.suite) for claim in claims]
    every = {
        kind: [arm for arm in known.of(kind) if arm.trust == OURS and arm.setting.track == track] for kind in {*kinds}
    }
    found = [
        _sample(claim, every[kind], track, basis if two_bases(claim) else "")
        for claim, kind in zip(claims, kinds, strict=True)
    ]
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
    decided = []
    for item in found:
        if isinstance(item, _Sample):
            name, members = item.claim.id, families[item.claim.family]
            key = "up" if item.claim.kind in ("gain", "direction") else "same"
            still_open = max(1, len(members) - len(shown[key] & {*members} - {name}))
            passed = {key for key, names in shown.items() if name in names}
            decided.append(_decide(item, p[name], passed, track, len(members), still_open))
        else:
            decided.append(item)
    return decided


def both(claims: Sequence[Claim], known: Arms, track: str) -> dict[str, list[Verdict]]:
    """By claim, the verdict at equal epochs and, where it can differ and there is one, that at equal compute.

    Where these are of the direction alone, though at the claim's own track, its own setting follows: it was not run. A
    claim that holds at equal epochs and not at equal compute says so in its first sentence.
    """
    found = {item.claim: [item] for item in judge(claims, known, track)}
    comparing = [claim for claim in claims if two_bases(claim)]
    for compute in judge(comparing, known, track, COMPUTE):
        epochs = found[compute.claim][0]
        if epochs.outcome != "not run" or compute.outcome != "not run":
            found[compute.claim] = [_qualified(epochs, compute), compute]
    for name, (first, *others) in found.items():
        if first.lacks:
            sentence = f"not run at {track}, own setting: {first.lacks}"
            found[name] = [first, *others, Verdict(name, track, "not run", sentence)]
    return found


def _qualified(epochs: Verdict, compute: Verdict) -> Verdict:
    taken_back = ("opposite", "no difference", "underpowered", "below")
    if epochs.outcome in ("holds", "reproduced", "above") and compute.outcome in taken_back:
        return replace(epochs, sentence=f"{epochs.sentence}; only at equal epochs: at equal compute {compute.outcome}")
    return epochs


# ---------------------------------------------------------------------------------------------------------- the numbers


def _kind(claim: Claim, suite: Suite) -> str:
    """The kind of record that tests this claim."""
    return "pretrain" if claim.evaluation == "cost" else suite.kind_of(claim.evaluation)


def _sample(claim: Claim, every: list[Arm], track: str, basis: str) -> _Sample | Verdict:
    """The numbers that this claim is tested on at this track, or the verdict that there are none.

    every: the arms of the kind of record that tests this claim
    """
    if track == "embedded":
        return Verdict(claim.id, track, "no verdict", "no verdicts at this track (embedded)", basis=basis)
    try:
        found = _numbers(claim, every, track, basis)
    except _NoTest as reason:
        sentence = f"{reason.outcome} at {_place(track, basis)}: {reason}"
        return Verdict(claim.id, track, reason.outcome, sentence, basis=basis)
    mean = found.mean
    n = mean.n if mean else found.total
    lacks = found.lacks if track == claim.track else ""
    at = _place(track, basis, lacks)
    if (track, claim.evaluation) in TOO_SMALL:
        why = f"no test, as its test set is too small for {claim.metric}, however many seeds"
        sentence = f"{_said('underpowered', at)} ({_counted(claim, n)}): {why}"
        return Verdict(claim.id, track, "underpowered", sentence, n, basis=basis, rests_on=found.rests_on, lacks=lacks)
    if mean is None or n < claim.n:
        what = "pre-trainings" if claim.kind == "number" else "pairs"
        count = "n = 1" if n == 1 else f"n = {n} of the {claim.n} {what} that this claim froze"
        gap = _shown(claim, mean.value) if mean else None
        sentence = f"{count}, {_said('no verdict', at)}" + _measured(claim, gap, found.own)
        return Verdict(
            claim.id, track, "no verdict", sentence, n, gap, basis=basis, rests_on=found.rests_on, lacks=lacks
        )
    margin = claim.margin if found.own else claim.proxies[track]
    return _Sample(
        claim=claim,
        own=found.own,
        margin=math.log1p(margin) if claim.evaluation == "cost" else margin,
        mean=mean,
        target=0.0 if claim.value is None else math.log(claim.value) if claim.kind == "cost_ratio" else claim.value,
        where=_where(claim, found.arm, found.total, basis),
        basis=basis,
        rests_on=found.rests_on,
        lacks=lacks,
    )


def _numbers(claim: Claim, every: list[Arm], track: str, basis: str) -> _Found:
    """Raises _NoTest where nothing fits the claim."""
    if claim.track == NO_TRACK and not claim.proxies:
        raise _NoTest("not run", f"no track runs {claim.data}")
    if track not in tracks_of(claim):
        raise _NoTest("incomparable", f"the claim can be put to the test at {', '.join(tracks_of(claim))}")
    ours = _unflagged(claim.arm, every, "no record of")
    if claim.kind == "number":
        fitting = [arm for arm in ours if not differences(claim, arm)]
        if not fitting:
            raise _NoTest("not run", _least([differences(claim, arm) for arm in ours]))
        arm = max(fitting, key=lambda a: (len(a.values(claim.metric)), a.label))
        values = arm.values(claim.metric)
        frozen = sorted(values)[: claim.n]
        mean = statistics.own([values[seed] for seed in frozen], "own spread") if frozen else None
        return _Found(arm, "", len(values), mean, (_used(arm, frozen),))
    theirs = _unflagged(claim.baseline_arm, every, "no record of the baseline")
    arm, other, lacks = _pair(claim, ours, theirs, track, basis)
    own = not lacks
    read = _reader(claim, own)
    left, right = read(arm), read(other)
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return _Found(arm, lacks, 0, None, ())
    peers = [a for a in every if a.setting.scope == arm.setting.scope and a not in (arm, other) and not a.flag]
    table = [read(a) for a in peers] if claim.evaluation != "cost" else []
    frozen = seeds[: claim.n]
    scaled = [
        {seed: _scale(claim, value) for seed, value in found.items() if seed in frozen}
        for found in (left, right, *table)
    ]
    mean = statistics.paired(scaled[0], scaled[1], scaled[2:])
    return _Found(arm, lacks, len(seeds), mean, (_used(arm, frozen), _used(other, frozen)))


def _unflagged(name: str, every: list[Arm], none: str) -> list[Arm]:
    """The arms of this name that may decide something; raises _NoTest, in these words, where there is none."""
    found = [arm for arm in every if arm.name == name]
    kept = [arm for arm in found if not arm.flag]
    if not found:
        raise _NoTest("not run", f"{none} {name}")
    if not kept:
        raise _NoTest("incomparable", f"{name}: {found[0].flag}")
    return kept


def _least(found: Iterable[list[str]]) -> str:
    """Of several lists of differences the shortest, in words."""
    shortest: list[str] = min(found, key=len)
    return "; ".join(shortest)


def _used(arm: Arm, seeds: Sequence[int]) -> Used:
    return Used(arm.name, {seed: arm.records[seed] for seed in seeds})


def _pair(claim: Claim, ours: list[Arm], theirs: list[Arm], track: str, basis: str) -> tuple[Arm, Arm, str]:
    """The two arms to compare, and what the claim's own setting has otherwise: "" where they are of it.

    At equal epochs they share a setting: the claim's own if there is one, else the fullest. At equal compute they share
    all of it but epochs and batch, and took as many operations.
    """
    alike = [(a, b) for a in ours for b in theirs if _timeless(a) == _timeless(b)]
    if basis == COMPUTE:
        pairs = [pair for pair in alike if _log_ratio(*pair) <= math.log1p(SAME_COMPUTE)]
        if not pairs:
            nearest = min(alike or [(ours[0], theirs[0])], key=lambda pair: _log_ratio(*pair))
            listed = " and ".join(f"{arm.name} {_operations(arm)}" for arm in nearest)
            why = f"no two trainings of as many operations within {SAME_COMPUTE:.0%}: {listed}"
            raise _NoTest("not run", "; ".join(filter(None, [why, _trials_apart(alike)])))
    else:
        pairs = [(a, b) for a in ours for b in theirs if a.setting == b.setting]
        if not pairs:
            why = f"{claim.arm} and {claim.baseline_arm} share no setting: {_apart(ours, theirs)}"
            raise _NoTest("incomparable", "; ".join(filter(None, [why, _trials_apart(alike)])))
    exact = [pair for pair in pairs if not _pair_differences(claim, pair, basis)]
    if not exact and track not in claim.proxies:
        raise _NoTest("not run", _least(_pair_differences(claim, pair, basis) for pair in pairs))
    read = _reader(claim, bool(exact))
    arm, other = max(exact or pairs, key=lambda pair: _preference(pair, read))
    if why := _trials_apart([(arm, other)]):
        raise _NoTest("incomparable", why)
    if claim.evaluation == "cost":
        machines = {_machine(a.records[seed]) for a in (arm, other) for seed in read(a)}
        if len(machines) > 1:
            raise _NoTest("incomparable", f"costs were measured on {' and '.join(sorted(machines))}")
    return arm, other, "; ".join(_pair_differences(claim, (arm, other), basis))


def _pair_differences(claim: Claim, pair: tuple[Arm, Arm], basis: str) -> list[str]:
    """In what either arm differs from the claim's own setting; at equal compute the baseline takes its own time."""
    but = ("epochs", "batch") if basis == COMPUTE else ()
    return list(dict.fromkeys([*differences(claim, pair[0]), *differences(claim, pair[1], but)]))


def _trials_apart(pairs: list[tuple[Arm, Arm]]) -> str:
    """That of none of these pairs both arms are known to be tuned alike, in words; or ""."""
    if not pairs or any(_tuned_alike(*pair) for pair in pairs):
        return ""
    counts = [sorted({count for arm in side for count in arm.trials()}) for side in zip(*pairs, strict=True)]
    if not all(counts):
        return "tuning trials not recorded"
    return "tuning trials differ, " + " against ".join(", ".join(map(str, found)) for found in counts)


def _tuned_alike(a: Arm, b: Arm) -> bool:
    return bool(a.trials()) and a.trials() == b.trials()


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


def _where(claim: Claim, arm: Arm, seeds: int, basis: str) -> str:
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
        _tuned_alike(a, b),
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
    """In what an arm differs from the claim's own setting, in words; what no source or record tells differs.

    but: what is passed over: "protocol", "epochs", "batch", "recipe", "data of pre-training".
    """
    setting, found = arm.setting, []

    def differ(what: str, is_: object, stated: object) -> None:
        if what not in but:
            found.append(f"{what} {is_}, the claim's is {stated}")

    if setting.track != claim.track:
        differ("track", setting.track, claim.track)
    if setting.data != claim.data:
        differ("data", setting.data, claim.data)
    if not claim.backbone or setting.network != claim.backbone:
        differ("network", setting.network, claim.backbone or "not known")
    if not claim.epochs or not claim.epochs[0] <= (setting.epochs or 0) <= claim.epochs[1]:
        span = "-".join(str(edge) for edge in dict.fromkeys(claim.epochs or ()))
        differ("epochs", setting.epochs, span or "not known")
    if not claim.batch or setting.batch != claim.batch:
        differ("batch", setting.batch, claim.batch or "not known")
    kind = arm.kind
    if claim.evaluation != "cost" and "protocol" not in but:
        found += protocol_differences(arm, kind, claim.protocol, claim.changes.get(kind, {}))
    trained = {entry(origin, "provenance", "data", "name") for origin in arm.origins.values()}
    if claim.pretrain_data and trained != {claim.pretrain_data}:
        differ("data of pre-training", _listed(trained), claim.pretrain_data)
    origin = next(iter(arm.origins.values()), {})
    for table, values in claim.changes.items() if "recipe" not in but else ():
        for key, stated in values.items() if table != kind else ():
            run = entry(origin, "details", "recipe", table, key)
            if run != stated:
                differ(f"{table}.{key}", _recorded(run), stated)
    return found


def protocol_differences(
    arm: Arm, kind: str, name: str, changes: Mapping[str, object], whose: str = "the claim's"
) -> list[str]:
    """In what an arm was judged otherwise than under the named protocol as it stands, with these values changed."""
    setting = arm.setting
    if setting.protocol != name:
        return [f"protocol {setting.protocol}, {whose} is {name or 'not known'}"]
    known = _protocols().get(kind, {}).get(name, {})
    if not changes and setting.protocol_hash != known.get("hash"):
        changed = f"; changed: {setting.changed}" if setting.changed else ""
        return [f"protocol {name} with other values ({setting.protocol_hash[:8]}{changed})"]
    if not changes:
        return []
    stated = {**known.get("values", {}), **changes}
    judged = entry(next(iter(arm.records.values())), "protocol", "values") or {}
    return [
        f"{kind}.{key} {_recorded(judged.get(key))}, {whose} is {value}"
        for key, value in stated.items()
        if judged.get(key) != value
    ]


@cache
def _protocols() -> Protocols:
    found: Protocols = json.loads(files("leaderboards").joinpath(PROTOCOLS).read_text(encoding="utf-8"))
    return found


def _recorded(value: object) -> object:
    return "not recorded" if value is None else value


@dataclass(frozen=True)
class Missing:
    """Pre-trainings of one arm that a test of a claim still lacks."""

    arm: str  # registry name
    seeds: tuple[int, ...]
    like: Arm | None  # what is there of it, which they are to join
    beside: Arm | None  # else what is there of the other arm, whose setting they are to share


def missing(claim: Claim, known: Arms, track: str, own: bool) -> list[Missing]:
    """What the test of a claim at one track lacks, arm by arm; nothing where the frozen n is there.

    own: the test at the claim's own setting; else that of its direction, at the setting of which there is most.
    """
    names = [claim.arm, *([claim.baseline_arm] if claim.baseline else [])]
    here = [arm for arm in known.of(_kind(claim, known.suite)) if arm.setting.track == track and arm.name in names]
    every = [arm for arm in here if arm.trust == OURS and not arm.imported]
    fitting = [arm for arm in every if not own or not differences(claim, arm)]
    read = _reader(claim, own)
    by_setting: dict[Setting, dict[str, Arm]] = defaultdict(dict)
    for arm in fitting:
        by_name = by_setting[arm.setting]
        if arm.name not in by_name or len(read(arm)) > len(read(by_name[arm.name])):
            by_name[arm.name] = arm
    chosen = max(by_setting.values(), key=lambda found: sum(len(read(arm)) for arm in found.values()), default={})
    has = {name: set(read(chosen[name])) if name in chosen else set() for name in names}
    there = sorted(set().union(*has.values()), key=lambda seed: (-sum(seed in its for its in has.values()), seed))
    fresh = (seed for seed in range(len(there) + claim.n) if seed not in there)
    wanted = [*there, *fresh][: claim.n]
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
    numbers = sorted(value for value in values if isinstance(value, int))
    return ", ".join([*map(str, numbers), *sorted(str(value) for value in values if not isinstance(value, int))])


# ------------------------------------------------------------------------------------------------------------ the tests

_TESTS = ("up", "down", "null", "same")


def _tests(sample: _Sample) -> dict[str, float]:
    """p-values: the mean lies above 0, below 0, within the margin of 0, within the margin of the stated value."""
    mean = sample.mean
    p = (mean.above(0.0), mean.below(0.0), mean.within(0.0, sample.margin), mean.within(sample.target, sample.margin))
    return dict(zip(_TESTS, p, strict=True))


# ------------------------------------------------------------------------------------------------------------ the words


def _place(track: str, basis: str, lacks: str = "") -> str:
    return (f"direction at {track}" if lacks else track) + (f", {basis}" if basis == COMPUTE else "")


def _said(outcome: str, place: str) -> str:
    """`holds at mini`, `holds for the direction at cifar`."""
    return f"{outcome} for the {place}" if place.startswith("direction") else f"{outcome} at {place}"


def _counted(claim: Claim, n: int) -> str:
    """`n = 3 pairs`."""
    unit = "pre-training" if claim.kind == "number" else "pair"
    return f"n = {n} {unit}" + ("" if n == 1 else "s")


def _decide(sample: _Sample, p: dict[str, float], shown: set[str], track: str, family: int, still_open: int) -> Verdict:
    """`shown` names the tests that hold after the correction for a family of that size.

    still_open: its claims of which nothing is shown, this one among them: the level that this one has to meet.
    """
    claim, mean = sample.claim, sample.mean
    relative = claim.evaluation == "cost"
    low, high = mean.next_value()
    outside = "above" if low > sample.target else "below" if high < sample.target else ""
    beyond = outside if abs(mean.value - sample.target) > sample.margin else ""
    if claim.kind == "direction" or (claim.kind == "gain" and not sample.own):
        order = [("up", "holds"), ("down", "opposite"), ("null", "no difference")]
        if relative:  # costs hardly stray: any trifle would be shown
            order = [order[2], *order[:2]]
    elif claim.kind == "gain":
        order = [("same", "reproduced"), ("down", "opposite"), ("", beyond), ("up", "holds")]
    else:
        order = [("same", "reproduced"), ("", beyond)]
    key, outcome = next(
        ((key, word) for key, word in order if word and (key in shown or not key)), ("", "underpowered")
    )
    gap = _shown(claim, mean.value)
    level = ALPHA / still_open
    resolvable = math.expm1(mean.resolvable(level)) * 100 if relative else mean.resolvable(level)
    corrected = f", Holm over {family} claims" if family > 1 else ""
    after = f" after Holm over {family} claims" if family > 1 else ""
    quotable = outcome == "underpowered" or track not in ("mini", "cifar") or mean.n >= HEADLINE
    count = _counted(claim, mean.n) + ("" if quotable else ", no headline")
    said = _said(outcome, _place(track, sample.basis, sample.lacks))
    parts = [f"{said} ({count})" + _measured(claim, gap, sample.own)]
    if resolvable > 0:
        parts.append(f"a mean difference of {_digits(resolvable)} {_unit(claim)} could be resolved{after}")
    margin = f"{_margin(sample)} {_unit(claim)}"
    if outcome == "underpowered":
        compares = claim.kind in ("gain", "direction")
        size = "null" if compares and not (claim.kind == "gain" and sample.own) else "same"
        asked = f" where {level:.2g} is asked for" if family > 1 and p["up"] < p["down"] else ""
        apart = f"one-sided t, p = {min(p['up'], p['down']):.2g}{asked}, and " if compares else ""
        parts.append(
            f"neither a difference nor sameness is shown: {apart}TOST within {margin}, p = {p[size]:.2g}{corrected}"
        )
    elif not key:
        parts.append("95 % prediction interval")
    else:
        test = "one-sided t" if key in ("up", "down") else f"TOST within {margin}"
        parts.append(f"{test}, p = {p[key]:.2g}{corrected}" if resolvable else f"{test}: the seeds do not differ")
    if resolvable > 0:
        parts.append(mean.how)
    effect, words = _claimed(sample)
    needed = mean.needed(effect, level) if claim.kind in ("gain", "direction") and not relative else None
    if needed:
        parts.append(f"{needed} pairs show {words} four times in five{after}")
    if key in ("up", "down") and abs(mean.value) < sample.margin:
        parts.append(f"but less than the {margin} that count as a difference")
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
        lacks=sample.lacks,
    )


def _claimed(sample: _Sample) -> tuple[float, str]:
    """The effect that a test should be able to show, in its unit and in words: the claimed one, else the margin."""
    if sample.claim.kind in ("gain", "direction") and sample.claim.value:
        return sample.claim.value, f"the claimed {sample.claim.value:g} points"
    return sample.margin, f"a difference of {sample.margin:g} points"


def _margin(sample: _Sample) -> str:
    """The margin as the claim's file has it: points, or percent of a cost."""
    return f"{math.expm1(sample.margin) * 100:g}" if sample.claim.evaluation == "cost" else f"{sample.margin:g}"


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
