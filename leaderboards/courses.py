"""Pictures of training: the k-NN monitor, what evaluations that train reach by epoch, spread and loss of logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from leaderboards import panels, plots
from leaderboards.arms import Arm
from leaderboards.boards import Content
from leaderboards.claims import place_of
from leaderboards.curves import MONITOR, average, by_seed
from leaderboards.drawing import COLOURS, DASHES
from leaderboards.panels import Curves, course
from leaderboards.pictured import Roles, names
from leaderboards.pictures import Scene
from leaderboards.plots import Line
from leaderboards.record_fields import Record, entry, number

History = Sequence[Mapping[str, Any]]
Points = list[tuple[float, float]]
_Read = Callable[[Mapping[str, Any]], float | None]

# A line of a history may hold accuracies under these names; of the terms of a loss it holds one or more.
_ACCURACIES = ("split_top1", "top1")


def _loss(line: Mapping[str, Any]) -> float | None:
    terms = [value for key in line if key.startswith("loss") and (value := number(line, key)) is not None]
    return sum(terms) if terms else None


def _accuracy(line: Mapping[str, Any]) -> float | None:
    return next((value for name in _ACCURACIES if (value := number(line, name)) is not None), None)


_SHARED: tuple[tuple[str, bool, _Read], ...] = (
    ("held-out accuracy (%)", False, _accuracy),
    ("std_z (1 = uniform)", True, lambda line: number(line, "std_z")),
    ("std_features (1 = uniform)", True, lambda line: number(line, "std_features")),
)
"""What arms may be compared in: label, whether 0 is part of the scale, how a line is read."""
_LOSS = "training loss"


def monitors(content: Content, roles: Roles) -> list[Scene]:
    """How fast the methods learn: the k-NN monitor against operations so far, a scene for each table of the monitor."""
    groups: dict[tuple[object, ...], list[Arm]] = defaultdict(list)
    for arm in content.watched:
        groups[arm.setting.scope].append(arm)
    scenes = []
    for arms in sorted(groups.values(), key=lambda found: place_of(found[0].setting.track)):
        looks = {arm: average(list(by_seed(arm).values())) for arm in arms}
        arms = [arm for arm in arms if looks[arm]]
        if not arms:
            continue
        paid = all(looks[arm][-1].flops for arm in arms)
        unit, label, _ = plots.COSTS["flops"] if paid else (1.0, "epochs", "")
        points = {arm: [((k.flops if paid else k.epochs) / unit, k.top1) for k in looks[arm]] for arm in arms}
        seeds = {arm: by_seed(arm) for arm in arms}
        axis = (f"{label}, so far" if paid else label, MONITOR)
        scenes.append(_scene(arms[0].setting.words, Curves("k-NN monitor", axis, points, seeds), content, roles))
    return scenes


def shared(content: Content, histories: Mapping[str, History], roles: Roles) -> list[Scene]:
    """Accuracy of evaluations that train, and the spread in logs of pre-trainings, over epochs: means over seeds."""
    scenes = []
    for kind in content.known.kinds:
        groups: dict[tuple[object, ...], list[Arm]] = defaultdict(list)
        for arm in content.known.current(kind):
            groups[arm.setting.scope].append(arm)
        for arms in groups.values():
            for label, zero, read in _SHARED:
                by_arm = {arm: found for arm in arms if (found := _by_seed(arm, histories, read))}
                points = {arm: mean for arm, found in by_arm.items() if len(mean := _mean(found)) > 1}
                if points:
                    title = _title(kind, content)
                    words = f"{title}, {next(iter(points)).setting.words}"
                    curves = Curves(f"{title}, {label}", ("epochs", label), points, by_arm, zero)
                    scenes.append(_scene(words, curves, content, roles))
    return sorted(scenes, key=lambda scene: scene.rank)


def losses(content: Content, histories: Mapping[str, History]) -> list[Scene]:
    """The training loss of every arm that was pre-trained, a picture an arm: losses of methods cannot be compared."""
    found: dict[str, Scene] = {}
    by_track: dict[str, list[Arm]] = defaultdict(list)
    for arm in content.known.current("pretrain"):
        by_track[arm.setting.track].append(arm)
    called = [pair for arms in by_track.values() for pair in names(arms, content.known.suite).items()]
    for arm, name in called:
        if curves := _by_seed(arm, histories, _loss):
            track = arm.setting.track
            seeds = [
                Line(f"seed {seed}", points, f"seed {seed}: {course(points)}", *_look(number))
                for number, (seed, points) in enumerate(curves.items())
            ]
            under, within = f"{track}: {arm.setting.data}", plots.extent([seeds])
            drawing = plots.lines(f"{name}: pre-training", under, ("epochs", _LOSS), seeds, within, height=150)
            found.setdefault(track, Scene(track, rank=place_of(track))).first.append(drawing)
    return sorted(found.values(), key=lambda scene: scene.rank)


def _scene(words: str, curves: Curves, content: Content, roles: Roles) -> Scene:
    first, more = panels.drawn(curves, roles, content.claims)
    return Scene(words, first, more=more, rank=place_of(next(iter(curves.points)).setting.track))


def _look(number: int) -> tuple[str, str]:
    """Colour and dash of one line of many."""
    return f"k{number % len(COLOURS)}", DASHES[number // len(COLOURS) % len(DASHES)]


def _mean(found: Mapping[int, Points]) -> Points:
    """The mean over seeds where every one has a point."""
    tables = [{round(x, 6): y for x, y in points} for points in found.values()]
    common = sorted(set.intersection(*map(set, tables)))
    return [(x, fmean(table[x] for table in tables)) for x in common]


def _by_seed(arm: Arm, histories: Mapping[str, History], read: _Read) -> dict[int, Points]:
    """The (epochs done, value) points of an arm's jobs, for the seeds that have some."""
    found = {
        seed: _points(record, _history(record, histories.get(record["fingerprint"], ())), read)
        for seed, record in sorted(arm.records.items())
    }
    return {seed: points for seed, points in found.items() if points}


def _history(record: Record, logged: History) -> History:
    """What is known of the course of a job: lines that have an epoch each."""
    kept = entry(record, "details", "history")
    lines = kept if isinstance(kept, list) and kept else logged
    return [line for line in lines if isinstance(line, Mapping) and number(line, "epoch") is not None]


def _points(record: Record, history: History, read: _Read) -> Points:
    """(epochs done, value) of each line of a history that has the value.

    A log of a pre-training counts updates, many an epoch; where it does not, a line stands for a whole epoch.
    """
    epochs = number(entry(record, "details", "recipe", "pretrain"), "epochs")
    updates = number(record.get("cost"), "updates")
    points = []
    for line in history:
        value, done = read(line), number(line, "updates")
        if value is not None:
            share = epochs / updates if epochs and updates else 0.0
            points.append((done * share if done is not None and share else float(line["epoch"]), value))
    return points


def _title(kind: str, content: Content) -> str:
    known = content.known.suite.evaluations
    return known[kind].title if kind in known else "Pre-training"
