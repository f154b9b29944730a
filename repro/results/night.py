"""What one GPU can settle in one night: comparisons that the papers' claims make, and how many pairs of them fit.

A pair is one seed of both arms, trained alike. A comparison that does not get enough pairs with the epochs of the
method's recipe may with fewer, which tests the claim's direction at that length. Facts here, words in night_words.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards.claims import INTERACTION, MECHANISM, Claim, arm_name, counted, of_training, tracks_of
from repro.errors import UserError
from repro.plan import footprint, kinds, registry
from repro.plan.builder import make
from repro.plan.cards import Card, cards
from repro.plan.planned import Plan, PlannedJob
from repro.plan.request import Request, parse_overrides
from repro.results import find_records, rerun
from repro.settings import Settings
from repro.store.job import Recipe

PAIRS = 6  # with fewer hardly any difference is shown
MOST = 9  # with as many a difference of 1.5 standard deviations mostly is
HOURS, LONGEST = 10.0, 8760  # of a night: by default, and at most
LEAST_EPOCHS = 20  # of a shortened pre-training: less tells little
_PROBES = (100, 200)  # epochs at which plans are made, to tell what an epoch takes
_RESERVED = 0.95  # of the memory as sold is what a process gets


@dataclass(frozen=True)
class Memory:
    """Of an arm's pre-training on the card.

    gb: peak of a process, as the recipe is or with the parts that fit.  recorded: by a record, else estimated.
    parts: passes an update (`pretrain.accumulate`) with which it fits; 0: those of the recipe.
    rows: that pass at a time.  negatives: see `registry.negatives`.
    least: the smallest card that holds it, "" for none.  bf16_fits: in bf16 it would, where the recipe says fp32.
    """

    gb: float
    recorded: bool
    fits: bool
    parts: int
    rows: int
    negatives: str
    least: str = ""
    bf16_fits: bool = False


@dataclass(frozen=True)
class Arm:
    """Seconds of one seed: of its pre-training fixed and by the epoch, of the other jobs by kind.

    priced_by: what those of the pre-training are from.
    """

    name: str
    fixed: float
    epoch: float
    others: dict[str, float]
    priced_by: str
    memory: Memory

    def seconds(self, epochs: int) -> float:
        return self.fixed + self.epoch * epochs


@dataclass(frozen=True)
class Comparison:
    """Two arms that claims compare by the same evaluations.

    epochs: of the method's recipe.  warmup: the longest of the two.  evaluations: to ask for.
    batch: that both are to have, 0 where their recipes agree.
    """

    arm: Arm
    baseline: Arm
    claims: tuple[str, ...]
    evaluations: tuple[str, ...]
    epochs: int
    warmup: int
    batch: int

    @property
    def arms(self) -> tuple[Arm, Arm]:
        return self.arm, self.baseline

    @property
    def fits(self) -> bool:
        """Whether both fit, trained alike: one accumulates only where the other may, too."""
        alike = not self.parts or all(arm.memory.negatives == "none" for arm in self.arms)
        return alike and all(arm.memory.fits for arm in self.arms)

    @property
    def parts(self) -> int:
        """See Memory."""
        return max(arm.memory.parts for arm in self.arms)

    def hours(self, epochs: int = 0) -> float:
        """Of one pair, by default with the recipe's epochs."""
        return hours([self], epochs or self.epochs)

    def affordable(self, budget: float) -> int:
        """Epochs at which so many hours are enough for PAIRS pairs; 0 where the evaluations alone take longer."""
        return _affordable([self], budget)


@dataclass(frozen=True)
class Night:
    """comparisons: the cheapest first.  chosen: those that the command does, at so many epochs and pairs.

    absent: arms that claims of the named methods are compared with and that are not named, with the claims.
    """

    card: Card
    hours: float
    comparisons: tuple[Comparison, ...]
    chosen: tuple[Comparison, ...] = ()
    epochs: int = 0
    pairs: int = 0
    plan: Plan | None = None  # of the command
    absent: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def shortened(self) -> bool:
        return any(one.epochs != self.epochs for one in self.chosen)


def hours(of: Iterable[Comparison], epochs: int) -> float:
    """One seed of all these comparisons by one command: what they share is done once, all arms are judged alike."""
    together = list(of)
    arms = {arm.name: arm for one in together for arm in one.arms}.values()
    done = set(kinds.of_evaluations(tuple(name for one in together for name in one.evaluations)))
    done |= {"features"} if any(kinds.find(name).needs == "features" for name in done) else set()
    return sum(arm.seconds(epochs) + sum(arm.others.get(name, 0.0) for name in done) for arm in arms) / 3600


def _affordable(of: Sequence[Comparison], budget: float) -> int:
    arms = {arm.name: arm for one in of for arm in one.arms}
    left = budget * 3600 / PAIRS - 3600 * hours(of, 0)
    return max(0, int(left / sum(arm.epoch for arm in arms.values())))


def checked(hours: float) -> float:
    """These hours of a night; UserError for none, or more than LONGEST."""
    if not 0 < hours <= LONGEST:
        raise UserError(f"--night {hours:g}: hours must be above 0 and at most {LONGEST}, a year")
    return hours


def of(planned: Plan, settings: Settings, budget: float) -> Night | None:
    """The night of that many hours for the methods of a plan; None where no claim compares any of them on its track."""
    if planned.card is None or planned.request.processes > 1 or planned.request.checkpoint:
        return None
    every = [claim for claim in find_records.every_claim() if _testable(claim, planned)]
    named = set(_recipes(planned))
    grouped: dict[tuple[str, str, bool], list[Claim]] = {}
    absent: dict[str, int] = {}
    for claim in every:
        lacking = {claim.arm, claim.baseline_arm} - named
        if not lacking:
            grouped.setdefault((claim.arm, claim.baseline_arm, _on_frozen(claim)), []).append(claim)
        elif lacking == {claim.baseline_arm}:
            absent[claim.baseline_arm] = absent.get(claim.baseline_arm, 0) + 1
    if not grouped and not absent:
        return None
    arms = _arms(planned, settings, {name for pair in grouped for name in pair[:2]}) if grouped else {}
    found = [_comparison(planned, arms, *pair[:2], claims) for pair, claims in grouped.items()]
    night = Night(planned.card, budget, tuple(sorted(found, key=Comparison.hours)), absent=absent)
    return _chosen(night, planned, settings)


def _recipes(planned: Plan) -> dict[str, Recipe]:
    """The recipes by the names of the arms, whatever the user called them (rotation_aux:byol is rotation_aux)."""
    found = {name: registry.find(name) for name in planned.recipes}
    return {arm_name(info.name, variant): planned.recipes[name] for name, (info, variant) in found.items()}


def _testable(claim: Claim, planned: Plan) -> bool:
    """Whether the plan's pictures and evaluations can test a paper's claim on its track, by pairs of one length.

    Costs that are counted (operations, memory) need no pairs: one run of either arm tells them.
    """
    track = planned.track
    wanted = of_training(claim) or claim.evaluation in planned.request.evaluations
    here = {job.spec["data"]["name"] for job in planned.jobs if "data" in job.spec}
    return (
        bool(claim.baseline)
        and claim.kind not in (MECHANISM, INTERACTION)
        and not counted(claim)
        and wanted
        and track.name in tracks_of(claim)
        and (track.name in claim.proxies or claim.data in here)
    )


def _on_frozen(claim: Claim) -> bool:
    return of_training(claim) or not kinds.find(kinds.evaluations()[claim.evaluation].kind).trains


def _comparison(planned: Plan, arms: dict[str, Arm], name: str, baseline: str, claims: Sequence[Claim]) -> Comparison:
    asked = {claim.evaluation for claim in claims if not of_training(claim)} or {rerun.ANY}
    pretrain = [_recipes(planned)[arm]["pretrain"] for arm in (name, baseline)]
    return Comparison(
        arms[name],
        arms[baseline],
        tuple(claim.id for claim in claims),
        tuple(kind for kind in kinds.evaluations() if kind in asked),
        pretrain[0]["epochs"],
        max(table["warmup_epochs"] for table in pretrain),
        0 if pretrain[0]["batch"] == pretrain[1]["batch"] else pretrain[0]["batch"],
    )


# ------------------------------------------------------------------------------------------------------------- one arm


def _arms(planned: Plan, settings: Settings, names: Iterable[str]) -> dict[str, Arm]:
    """What the named arms take, from plans at two numbers of epochs."""
    request = dataclasses.replace(planned.request, methods=tuple(sorted(names)), seeds=(0,))
    if rerun.ANY not in request.evaluations:
        request = dataclasses.replace(request, evaluations=(*request.evaluations, rerun.ANY))
    probes = []
    for epochs in _PROBES:
        made = make(_with(request, f"pretrain.epochs={epochs}"), settings)
        by_arm: dict[str, list[PlannedJob]] = {}
        for job in made.jobs:
            by_arm.setdefault(job.arm, []).append(job)
        probes.append(by_arm)
    return {name: _arm(planned, name, probes[0][name], probes[1][name]) for name in request.methods}


def _arm(planned: Plan, name: str, short: Sequence[PlannedJob], long: Sequence[PlannedJob]) -> Arm:
    first, second = (next(job for job in jobs if job.kind == "pretrain") for jobs in (short, long))
    epoch = (second.seconds - first.seconds) / (_PROBES[1] - _PROBES[0])
    others: dict[str, float] = {}
    for job in short:
        others[job.kind] = others.get(job.kind, 0.0) + job.seconds
    fixed = max(0.0, first.seconds - epoch * _PROBES[0])
    return Arm(name, fixed, epoch, others, first.priced_by, _memory(planned, name, first.memory_gb))


def _memory(planned: Plan, name: str, recorded_gb: float) -> Memory:
    """Whether an arm fits on the card, and in how many parts an update must be where the negatives allow it."""
    assert planned.card is not None
    info, variant = registry.find(name)
    recipe, card = _recipes(planned)[name], planned.card
    pretrain, negatives = recipe["pretrain"], registry.negatives(info, variant)
    stated = pretrain["precision"]
    passes, size = registry.kept_passes(info, variant), planned.track.size

    now, room = pretrain["accumulate"], _RESERVED * card.memory_gb

    def estimate(accumulate: int, on: Card, wanted: str = stated) -> float:
        changed = {**recipe, "pretrain": {**pretrain, "accumulate": accumulate}}
        return footprint.pretraining(changed, size, passes, on.precision(wanted), pictures(planned), on.memory_gb)

    recorded = recorded_gb > 0 and card.precision(stated) == stated
    whole = recorded_gb if recorded else estimate(now, card)
    rows = pretrain["batch"] // now
    if whole <= room:
        return Memory(whole, recorded, True, 0, rows, negatives)
    for parts in _parts(pretrain, negatives):
        if (part := estimate(parts, card)) <= room:
            return Memory(part, False, True, parts, pretrain["batch"] // parts, negatives)
    holds = (other for other in cards().values() if estimate(now, other) <= _RESERVED * other.memory_gb)
    least = min(holds, key=lambda other: other.memory_gb, default=None)
    halved = estimate(now, card, "bf16") <= room
    return Memory(whole, recorded, False, 0, rows, negatives, least.title if least else "", halved)


def _parts(pretrain: dict[str, int], negatives: str) -> list[int]:
    """Numbers of micro-batches, more than the recipe's, that leave alone what a sample is held against."""
    batch, now = pretrain["batch"], pretrain["accumulate"]
    if negatives == "none":
        return [parts for parts in range(now + 1, batch // 2 + 1) if batch % (parts * pretrain["devices"]) == 0]
    return []


def pictures(planned: Plan) -> int:
    """Training pictures of a plan, as its pre-trainings are in proportion to."""
    for job in planned.jobs:
        epochs = job.recipe["pretrain"]["epochs"] if job.kind == "pretrain" else 0
        if epochs:
            return round(job.amount / epochs)
    return 0


# ---------------------------------------------------------------------------------------------------------- the choice


def _chosen(night: Night, planned: Plan, settings: Settings) -> Night:
    """What one command can do in the night: what gets PAIRS pairs as it stands, else as much as possible shortened."""
    fitting = [one for one in night.comparisons if one.fits]
    # One command has one setting for all its arms.
    fitting = [one for one in fitting if (one.parts, one.batch) == (fitting[0].parts, fitting[0].batch)]
    whole: list[Comparison] = []
    for one in fitting:
        together = [*whole, one]
        if one.epochs == together[0].epochs and PAIRS * hours(together, one.epochs) <= night.hours:
            whole = together
    if whole:
        return _settled(night, planned, settings, whole, whole[0].epochs)
    if epochs_are_set(planned):
        return night
    while fitting:
        epochs = min(_affordable(fitting, night.hours), *(one.epochs for one in fitting))
        if epochs >= LEAST_EPOCHS:
            return _settled(night, planned, settings, fitting, epochs)
        fitting.remove(max(fitting, key=lambda one: _dearness(one, fitting)))
    return night


def epochs_are_set(planned: Plan) -> bool:
    """Whether the user says how many epochs: then no pre-training is made shorter."""
    return "epochs" in parse_overrides(planned.request.overrides).get("pretrain", {})


def _dearness(one: Comparison, of: Sequence[Comparison]) -> float:
    """Hours a claim that leaving a comparison out of these saves."""
    rest = [other for other in of if other is not one]
    return (hours(of, LEAST_EPOCHS) - hours(rest, LEAST_EPOCHS)) / len(one.claims)


def _settled(night: Night, planned: Plan, settings: Settings, chosen: Sequence[Comparison], epochs: int) -> Night:
    """The night with its command, which is planned as it stands: what is there already costs nothing."""
    pairs = min(MOST, max(PAIRS, int(night.hours / hours(chosen, epochs))))
    done = dataclasses.replace(night, chosen=tuple(chosen), epochs=epochs, pairs=pairs)
    made = make(request(done, planned), settings)
    if made.seconds > night.hours * 3600 and done.shortened:  # by what whole epochs and shared work leave over
        fewer = int(done.epochs * night.hours * 3600 / made.seconds)
        done = dataclasses.replace(done, epochs=min(fewer, done.epochs - 1))
        made = make(request(done, planned), settings)
    return dataclasses.replace(done, plan=made)


def request(night: Night, planned: Plan) -> Request:
    """What the command of the night asks for."""
    arms = dict.fromkeys(arm.name for one in night.chosen for arm in one.arms)
    asked = {name for one in night.chosen for name in one.evaluations}
    first = planned.request.seeds[0]
    made = dataclasses.replace(
        planned.request,
        methods=tuple(arms),
        evaluations=tuple(name for name in kinds.evaluations() if name in asked),
        seeds=tuple(range(first, first + night.pairs)),
    )
    return _with(made, *changes(night, planned))


def changes(night: Night, planned: Plan) -> list[str]:
    """What `--set` of the command changes of the recipes."""
    recipes = _recipes(planned)
    found = [recipes[arm.name]["pretrain"] for one in night.chosen for arm in one.arms]
    wanted = {"epochs": night.epochs}
    if batch := night.chosen[0].batch:
        wanted["batch"] = batch
    if parts := night.chosen[0].parts:
        wanted["accumulate"] = parts
    if max(one.warmup for one in night.chosen) > night.epochs // 4:
        wanted["warmup_epochs"] = night.epochs // 10
    told = [f"pretrain.{key}={value}" for key, value in wanted.items() if any(t[key] != value for t in found)]
    if any(night.card.precision(table["precision"]) != table["precision"] for table in found):
        told.append("pretrain.precision=fp32")
    return told


def _with(request: Request, *more: str) -> Request:
    """The request with further changes, which come after what it says itself."""
    return dataclasses.replace(request, overrides=(*request.overrides, *more))
