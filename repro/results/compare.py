"""`repro compare`: two arms seed by seed, over the workspace's records and the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from statistics import fmean

from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import same_operations, times_operations
from leaderboards.curves import Curve, at_epoch, by_seed, watched
from leaderboards.paired_arms import Difference, Pair, apart, difference, fairest, no_ratio, unequal
from leaderboards.reason_words import tuned_words
from leaderboards.record_fields import OURS, TRUST
from leaderboards.statistics import paired
from repro.errors import UserError, nearest, unknown
from repro.plan import tracks
from repro.results import find_records
from repro.results.suite import suite
from repro.settings import Settings
from repro.terminal import text

_UNFAIR = "none: not a fair comparison"
_WHOSE = {OURS: "our own runs"}  # of records, by their trust
_CHOICE = "write a number of epochs after @, or at least the first six letters of a recipe's hash"


@dataclass(frozen=True)
class _Choice:
    """An arm as people name it: `byol`, `byol@15` (epochs), `byol@f9fbd8` (recipe)."""

    words: str
    name: str
    epochs: int | None = None
    recipe: str = ""

    @staticmethod
    def of(words: str) -> _Choice:
        name, at, which = words.partition("@")
        if not name.strip():
            raise UserError(f"'{words}' names no method; write NAME or NAME:VARIANT, with @EPOCHS or @RECIPE to choose")
        if at and len(which) >= 6:
            return _Choice(words, name, recipe=which)
        if at and not which.isdecimal():
            raise UserError(f"{words}: {_CHOICE}")
        return _Choice(words, name, epochs=int(which) if at else None)

    def fits(self, arm: Arm) -> bool:
        return (
            arm.name == self.name and self.epochs in (None, arm.setting.epochs) and arm.recipe.startswith(self.recipe)
        )

    def require(self, known: Sequence[Arm], track: str) -> None:
        """Raises UserError where no arm fits, with the names that are most like it."""
        if any(map(self.fits, known)):
            return
        there, what = sorted({arm.name for arm in known}), "names"
        if self.name in there:
            mine = [arm for arm in known if arm.name == self.name]
            epochs = sorted({arm.setting.epochs for arm in mine if arm.setting.epochs is not None})
            choices = [str(number) for number in epochs if not self.recipe] or sorted({arm.recipe[:6] for arm in mine})
            listed = [f"{self.name}@{choice}" for choice in choices]
            near = nearest(self.words, listed)
        else:
            method = self.name.partition(":")[0]
            listed = [name for name in there if name.partition(":")[0] == method]
            near = nearest(self.name, there)
            if not listed:
                listed, what = [name for name in there if ":" not in name], "methods"
        hint = f"did you mean '{near}'? " if near else ""
        hint += f"{what} with records: {', '.join(listed)}; " if listed else ""
        raise UserError(f"no records of '{self.words}' on {track}", f"{hint}--track NAME looks at another track")


def compare(first: str, second: str, track: str, settings: Settings, trust: Sequence[str] = ()) -> str:
    """Two arms seed by seed in every evaluation that both have, with the mean difference and its 95 % interval.

    first, second: `NAME[:VARIANT]`, with `@EPOCHS` or `@RECIPE` where there are several; else those that may best be
    held against each other.  trust: of which records too, beside our own.
    """
    track = tracks.find(track).name
    choices = _Choice.of(first), _Choice.of(second)
    if first == second:
        raise UserError(f"{first} and {first} are the same; say which two: NAME@EPOCHS or NAME@RECIPE, of {first}")
    for name in trust:
        if name not in TRUST:
            raise unknown("trust", name, TRUST)
    evaluations = suite().evaluations
    every_record, faults = find_records.everything(settings)
    found = Arms((record for record in every_record if record["track"] == track), suite())

    def trusted(every: Sequence[Arm]) -> list[Arm]:
        return [arm for arm in every if arm.trust in (OURS, *trust)]

    known = {name: trusted(found.of(evaluation.kind)) for name, evaluation in evaluations.items()}
    seen = trusted(watched(found.of("pretrain")))
    there = [*seen, *(arm for arms in known.values() for arm in arms)]
    for choice in choices:
        choice.require(there, track)
    left, right = choices
    rows: dict[tuple[str, ...], list[list[str]]] = {}  # by what the two arms are
    pairs: dict[tuple[str, ...], Pair] = {}
    different: list[str] = []
    for name, evaluation in evaluations.items():
        every = known[name]
        sides = [arm for arm in every if left.fits(arm)], [arm for arm in every if right.fits(arm)]
        pair = fairest(*sides, methodcaller("values", evaluation.metrics[0]))
        if pair is None:
            if all(sides):
                different.append(name)
            continue
        heading = _heading(*pair)
        pairs.setdefault(heading, pair)
        for metric in evaluation.metrics:
            item = difference(name, metric, pair)
            rows.setdefault(heading, []).extend(_rows(item) if item else [])
    looked = fairest(filter(left.fits, seen), filter(right.fits, seen), by_seed)
    if not rows and not looked:
        raise UserError(f"{first} and {second} share no evaluation on {track} with the same data, protocol and seed")
    head = ["at " + track, "seed", first, second, f"{first} - {second}", "95 % interval (fixed n)"]
    costs = {heading: _costs(first, second, *pair) for heading, pair in pairs.items()}
    parts = {heading: [text.table(rows[heading], head), *costs[heading]] for heading in rows}
    if looked:
        parts.setdefault(_heading(*looked), []).append(_curves(first, second, *looked))
    texts = ["\n\n".join(["\n".join(heading), *part]) for heading, part in parts.items()]
    why = "both have records, but under different protocols or data, or of other seeds"
    passed = ["\n".join(f"skipped: {fault}" for fault in faults)] if faults else []
    place = "\n".join([f"track {track} (another one: --track NAME)", *_others(choices, there)])
    return "\n\n".join([*passed, place, *texts, *(f"{evaluation}: {why}" for evaluation in different)])


def _others(choices: Sequence[_Choice], known: Sequence[Arm]) -> list[str]:
    """`byol was trained for 8, 14 or 24 epochs; choose with byol@14`, of those that were named without a choice."""
    lines = []
    for choice in choices:
        here = [arm for arm in known if arm.name == choice.name and arm.setting.drawn is not None]
        there = [str(epochs) for epochs in sorted({arm.setting.epochs or 0 for arm in here}) if epochs]
        if choice.words == choice.name and len(there) > 1:
            listed = f"{', '.join(there[:-1])} or {there[-1]}"
            lines.append(f"{choice.name} was trained for {listed} epochs; choose with {choice.name}@{there[-1]}")
    return lines


def _heading(a: Arm, b: Arm) -> tuple[str, ...]:
    """What two arms are, a line each; where they are unlike, first that they are and last in what."""
    lines = [
        f"{arm.name}: pre-training on {arm.setting.trained_on}, {arm.setting.network},"
        f" epochs {arm.setting.epochs or '-'}, batch {arm.setting.batch or '-'}, recipe {arm.recipe[:6] or '-'},"
        f" tuning {tuned_words(arm.tuning, by_hand=False) if arm.tuning else '-'}, {_WHOSE.get(arm.trust, arm.trust)}"
        for arm in (a, b)
    ]
    if a.setting.drawn is None:
        lines.append("an older setup of mini: all seeds share one training subset, so no verdict counts these runs")
    differ = ["tuning" if key == "trials" else key for key in unequal(a, b)]
    differ += ["the number of runs a seed has"] if a.flag or b.flag else []
    if not differ:
        return tuple(lines)
    if _equal_compute(a, b):
        return (*lines, f"equal compute: {times_operations(a, b):.2f} times the operations, and other epochs")
    *others, last = differ
    listed = f"{', '.join(others)} and {last}" if others else last
    told = f"Not a fair comparison: the two differ in {listed}."
    return (told, *lines, f"in detail: {'; '.join(apart(a, b))}")


def _equal_compute(a: Arm, b: Arm) -> bool:
    """Whether two arms differ in their epochs alone, and took as many operations as verdicts call equal."""
    return set(unequal(a, b)) == {"epochs"} and not (a.flag or b.flag) and same_operations(a, b)


def _curves(first: str, second: str, a: Arm, b: Arm) -> str:
    """The k-NN monitor of two arms' pre-trainings: each seed's curve, and their differences at the same epochs.

    No differences where the trainings are of other lengths: the middle of a long one's schedule is no short one's end.
    """
    left, right = by_seed(a), by_seed(b)
    seeds = sorted(left.keys() & right.keys())
    values = [look.top1 for side in (left, right) for seed in seeds for look in side[seed]]
    courses = [
        [
            name,
            str(seed),
            text.sparkline([look.top1 for look in curve], min(values), max(values)),
            f"{curve[0].top1:.2f} to {curve[-1].top1:.2f}",
            f"{curve[0].epochs:.3g} to {curve[-1].epochs:.3g}",
            text.duration(curve[-1].device_s),
            f"{curve[-1].flops / 1e12:.4g}",
        ]
        for name, side in ((first, left), (second, right))
        for seed in seeds
        for curve in [side[seed]]
    ]
    head = ["k-NN on training images", "seed", "curve", "percent", "epochs", "device time", "TFLOP"]
    lines = [text.table(courses, head)]
    about = "k-NN on training images: a monitor, not a test score; interpolated linearly between checks"
    if a.setting.epochs != b.setting.epochs:
        return "\n".join([*lines, f"{about}; epoch by epoch not compared, as the schedules end at different epochs"])
    fair, sides = not apart(a, b), ({s: left[s] for s in seeds}, {s: right[s] for s in seeds})
    rows = [
        row
        for epochs in sorted({look.epochs for seed in seeds for look in left[seed]})
        if (row := _at(epochs, *sides, fair))
    ]
    if rows:
        lines += [
            "",
            text.table(rows, ["after epochs", first, second, f"{first} - {second}", "95 % interval (fixed n)"]),
        ]
    return "\n".join([*lines, about])


def _at(epochs: float, left: Mapping[int, Curve], right: Mapping[int, Curve], fair: bool) -> list[str] | None:
    """Both sides' means and their difference after so many epochs; None where a curve does not go there.

    fair: whether the difference is the methods' alone; else it has no interval.
    """
    found = [{seed: at_epoch(curve, epochs) for seed, curve in side.items()} for side in (left, right)]
    ours, theirs = ({seed: look.top1 for seed, look in side.items() if look} for side in found)
    if not len(ours) == len(theirs) == len(left):
        return None
    means = [sum(side.values()) / len(side) for side in (ours, theirs)]
    gap = paired(ours, theirs)
    sure = "{:+.2f} to {:+.2f}".format(*gap.interval) if gap.n > 1 and fair else "" if fair else _UNFAIR
    return [f"{epochs:.3g}", *(f"{mean:.2f}" for mean in means), f"{gap.value:+.2f}", sure]


def _costs(first: str, second: str, a: Arm, b: Arm) -> list[str]:
    """Operations and time of the two arms' pre-trainings of the same seeds, and their ratio where it may be given."""
    seeds = a.records.keys() & b.records.keys()
    shown = [
        ("TFLOP", 1e12, a.training("flops"), b.training("flops"), ""),
        ("CPU seconds", 1.0, a.cpu_time(), b.cpu_time(), ""),
        ("seconds", 1.0, a.training("device_s"), b.training("device_s"), no_ratio(a, b, seeds)),
    ]
    rows = []
    for label, unit, *sides, hindered in shown:
        ours, theirs = ([cost for seed, cost in side.items() if seed in seeds] for side in sides)
        if ours and theirs:
            means = [fmean(cost) / unit for cost in (ours, theirs)]
            ratio = f"{means[0] / means[1]:.2f}" if means[1] and not hindered else "-"
            why = f"no ratio: {hindered}" if hindered else ""
            rows.append([label, *(f"{mean:.4g}" for mean in means), ratio, why])
    heads = ["training, mean over seeds", first, second, f"{first} / {second}", ""]
    return [text.table(rows, heads)] if rows else []


def _rows(item: Difference) -> list[list[str]]:
    where = f" ({item.ours.setting.data}: too small to count)" if item.ours.setting.too_small else ""
    what, seeds = f"{item.evaluation} {item.metric}{where}", item.seeds
    left, right = item.ours.values(item.metric), item.theirs.values(item.metric)
    rows = [
        [what, str(seed), f"{left[seed]:.2f}", f"{right[seed]:.2f}", f"{left[seed] - right[seed]:+.2f}", ""]
        for seed in seeds
    ]
    if item.mean:
        values = [sum(side[seed] for seed in seeds) / len(seeds) for side in (left, right)]
        sure = item.interval if not item.apart or _equal_compute(item.ours, item.theirs) else _UNFAIR
        rows.append([what, "mean", *(f"{value:.2f}" for value in values), f"{item.mean.value:+.2f}", sure])
    return rows
