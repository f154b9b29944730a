"""`tune --equal`: all methods of a track tuned by one procedure (methods/tuning.toml), so that none had more luck.

Each point is an ordinary run in the workspace of the trials: cached, and resumed where it was interrupted. What is
chosen comes from the records there alone; `--write` puts it into the recipe files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from leaderboards.claims import arm_name
from repro.errors import UserError
from repro.plan import recipes, registry, tuning
from repro.plan.builder import make
from repro.plan.planned import Plan, merge
from repro.plan.registry import MethodInfo
from repro.plan.request import Request, parse_overrides
from repro.plan.tuning import Point
from repro.run import execute
from repro.run.tune import apart, share_downloads
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal import text
from slurm.files import write_atomic

KIND = "linear"  # whose score decides
NO_RESULT = math.nan
_DIGITS = 12  # of a fingerprint, as in names of files


@dataclass(frozen=True)
class Trained:
    """A method at all points."""

    name: str  # as `--method` takes it
    info: MethodInfo
    variant: str
    recipe: str  # hash of what is tuned
    plans: tuple[Plan, ...]  # a point each


@dataclass(frozen=True)
class Scored:
    """What the records say of a method at all points."""

    trained: Trained
    scores: tuple[tuple[float, ...], ...]  # by point and seed; nan where a training left no result
    records: tuple[tuple[str, ...], ...]  # their fingerprints, "" where there is none

    @property
    def means(self) -> list[float]:
        """By point; nan without a result of every seed."""
        return [statistics.fmean(found) for found in self.scores]

    @property
    def chosen(self) -> int | None:
        """The point that is chosen; None where none has a result."""
        return None if all(map(math.isnan, self.means)) else tuning.procedure().chosen(self.means)


def tune(
    request: Request,
    settings: Settings,
    command: Sequence[str],
    agreed: bool = False,
    *,
    write: bool = False,
    dry: bool = False,
) -> int:
    """Train every method of `request` at every point, print scores and choices; returns the exit status.

    write: put the choices into the recipe files.  dry: print the price and run nothing.  agreed: see
    `missing_data.complete`.

    Raises:
        UserError: a method that is not tuned, or `write` with changes of the recipe, the data or the protocol.
    """
    if write and (request.overrides or request.protocols or request.data):
        raise UserError(
            "--write works only with unchanged recipes, data and protocol; leave out --set, --protocol and --data"
        )
    users, settings = settings, apart(settings)
    trained = [_trained(name, request, settings) for name in arms(request.methods, request.track)]
    planned = merge([plan for item in trained for plan in item.plans])
    steps = tuning.procedure()
    left = [job for job in planned.to_do() if job.kind == "pretrain"]
    many = f"{len(trained)} method{'' if len(trained) == 1 else 's'}"
    print(
        f"procedure {steps.id}: {many} x {len(steps.points)} settings x {len(steps.seeds)} seeds;"
        f" {len(left)} trainings left, {text.duration(planned.seconds)} of work (estimate)",
        flush=True,
    )
    if dry:
        return 0
    share_downloads(users.where.downloads, settings.where.downloads)

    def report() -> None:
        found = {record["fingerprint"]: record for record in records.read_all(Workspace(settings.workspace).records)[0]}
        scored = [_scored(item, found) for item in trained]
        print(_table(scored))
        for item in scored if write else ():
            print(_write(item, request.track))

    return execute.perform(planned, settings, command, report, agreed=agreed)


def arms(names: Sequence[str], track: str) -> list[str]:
    """The arms that are tuned by themselves where these are to be tuned. names: of methods, of variants, or "all"."""
    found: dict[str, None] = {}
    for name in names:
        if name == "all":
            found |= dict.fromkeys(_every(track))
            continue
        info, variant = registry.find(name)
        owner, its_variant = tuning.root(info, variant)
        head = name.partition(":")[0] if owner.name == info.name else owner.name  # perhaps a path
        if owner.role == "control":
            raise UserError(f"{name} is a control, and controls are not tuned; name methods, or all")
        found[arm_name(head, its_variant)] = None
    return list(found)


def _every(track: str) -> list[str]:
    """All arms of a track that are tuned by themselves."""
    found = []
    for info in registry.methods().values():
        if info.role == "control" or track not in info.tracks:
            continue
        found += [info.name] if not info.base else []
        found += [
            arm_name(info.name, variant)
            for variant, change in info.variants.items()
            if track in change.tracks and tuning.root(info, variant) == (info, variant)
        ]
    return found


def _trained(name: str, request: Request, settings: Settings) -> Trained:
    info, variant = registry.find(name)
    steps, stated = tuning.procedure(), parse_overrides(request.overrides)
    begun = recipes.resolve(info, variant, request.track, stated, tuned=False)
    if not begun["pretrain"]["epochs"]:
        raise UserError(f"{name} has 0 epochs on {request.track}: there is nothing to tune")
    usual = recipes.resolve(info, variant, request.track, stated)
    plans = []
    for point in steps.points:
        wanted = point.values(begun)
        wanted["pretrain"]["epochs"] = steps.epochs(begun)
        texts = [
            f"{table}.{key}={json.dumps(value)}"
            for table, values in wanted.items()
            for key, value in values.items()
            if usual[table][key] != value
        ]
        texts += [f"{KIND}.holdout={steps.holdout}", f"{KIND}.low_shot=[]", f"{KIND}.low_shot_shares=[]"]
        asked = dataclasses.replace(
            request,
            methods=(name,),
            evaluations=(KIND,),
            seeds=steps.seeds,
            overrides=(*request.overrides, *texts),
        )
        plans.append(make(asked, settings))
    return Trained(name, info, variant, tuning.hash_of(recipes.without_neutral(begun)), tuple(plans))


def _scored(item: Trained, found: Mapping[str, records.Record]) -> Scored:
    scores, known = [], []
    for planned in item.plans:
        judged = [found.get(job.fingerprint) for job in planned.jobs if job.kind == KIND]  # in the order of the seeds
        scores.append(tuple(score_of(record) for record in judged))
        known.append(tuple(record["fingerprint"][:_DIGITS] if record else "" for record in judged))
    return Scored(item, tuple(scores), tuple(known))


def score_of(record: records.Record | None) -> float:
    """Top-1 on held-out training pictures of the head that is best there, after the last epoch."""
    found = record["details"].get("split_top1_last_epoch") if record and "details" in record else None
    if not isinstance(found, list) or not found or not all(isinstance(score, float | int) for score in found):
        return NO_RESULT
    return round(max(found), 2)


def _table(scored: Sequence[Scored]) -> str:
    steps = tuning.procedure()
    rows, lines = [], []
    for item in scored:
        name = item.trained.name
        for place, (point, scores, mean) in enumerate(zip(steps.points, item.scores, item.means, strict=True)):
            told = [f"{score:.2f}" if not math.isnan(score) else "no result" for score in (*scores, mean)]
            rows.append([name, str(point), *told, "chosen" if place == item.chosen else ""])
        if item.chosen is None:
            lines.append(f"{name}: no setting has a result for every seed; nothing is chosen")
        elif point_words := _remarks(item, steps.points):
            lines.append(f"{name}: {point_words}")
    seeds = [f"seed {seed}" for seed in steps.seeds]
    shown = text.table(rows, ["method", "setting", *seeds, "mean", ""])
    return "\n".join(["", "linear top-1 on held-out training images", shown, *lines])


def _remarks(item: Scored, points: Sequence[Point]) -> str:
    """What a reader should know of the choice."""
    assert item.chosen is not None
    best = max(score for score in item.means if not math.isnan(score))
    remarks, chosen = [], points[item.chosen]
    if item.means[item.chosen] < best:
        remarks.append(f"{chosen} is within {tuning.procedure().tie} points of the best, and comes first in the list")
    if str(chosen) != str(points[0]):
        remarks.append(f"{chosen} is the largest change tried in this direction; a larger one may be better")
    return "; ".join(remarks)


# -------------------------------------------------------------------------------------------------- the recipe file


def _write(item: Scored, track: str) -> str:
    """Put what was chosen into the recipe file of the method; returns a line."""
    trained = item.trained
    if item.chosen is None:
        return f"{trained.name}: not written"
    source = trained.info.source
    path = Path(source) if Path(source).is_absolute() else Path(str(files("methods").parent.joinpath(source)))  # type: ignore[attr-defined]
    header = tuning.header(trained.variant, track)
    points = tuning.procedure().points
    lines = [
        f"[{header}] # written by: python -m repro tune --equal --write",
        f'procedure = "{tuning.procedure().id}"',
        f'recipe = "{trained.recipe}"',
        f"chosen = {list(astuple(points[item.chosen]))}",
        f"points = {[list(astuple(point)) for point in points]}",
        f"scores = {[list(scores) for scores in item.scores]}",
        f"records = {json.dumps(item.records)}",
    ]
    before = path.read_text(encoding="utf-8")
    after = with_table(before, header, lines)
    if not else_alike(before, after, header):
        raise UserError(
            f"{source}: [{header}] cannot be written into this file; put it there by hand:\n" + "\n".join(lines)
        )
    write_atomic(path, after)
    return f"{trained.name}: {points[item.chosen]}; written to {source}"


def with_table(written: str, header: str, table: Sequence[str]) -> str:
    """A TOML file with that table: in place of the one of this name, else behind the tables of the same track.

    table: its lines, the header first, none of them empty.
    """
    lines = written.splitlines()
    heads = [place for place, line in enumerate(lines) if line.startswith("[")]
    same = [place for place in heads if lines[place].startswith(f"[{header}]")]
    beside = [place for place in heads if lines[place].startswith(f"[{header.rpartition('.')[0]}")]
    if same:
        begin = same[0]
        after = range(begin + 1, len(lines))
        end = next((place for place in after if not lines[place].strip() or lines[place][0] in "#["), len(lines))
        return "\n".join([*lines[:begin], *table, *lines[end:]]) + "\n"
    last = (beside or heads or [len(lines) - 1])[-1]
    end = next((place for place in heads if place > last), len(lines))
    while end > last + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1  # comments there are of the next table
    between = [""] if end < len(lines) and lines[end].strip() else []
    return "\n".join([*lines[:end], "", *table, *between, *lines[end:]]) + "\n"


def else_alike(before: str, after: str, header: str) -> bool:
    """Whether two TOML files hold the same but for that table; nan is the same as nan."""
    with contextlib.suppress(tomllib.TOMLDecodeError):
        one, other = (json.dumps(_without(tomllib.loads(text), header), default=str) for text in (before, after))
        return one == other
    return False


def _without(tables: dict[str, Any], header: str) -> dict[str, Any]:
    """A TOML file's tables without that one."""
    *way, last = header.split(".")
    inner = tables
    for key in way:
        inner = inner.setdefault(key, {})
    inner.pop(last, None)
    return tables
