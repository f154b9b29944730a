"""Tuning by one procedure (methods/tuning.toml): whose recipe it tunes, and what it made of the recipe.

What was found stands in the recipe file, in the table `tuned` of a track, and is applied to whatever recipe the file
states: multiples of the rate, the decay and the smallest crop. Variants, and methods over a base, inherit it.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from msgspec import Meta

from leaderboards.tuning import CROPS, FREE
from repro.errors import UserError
from repro.plan import registry
from repro.plan.registry import MethodInfo
from repro.plan.tables import Number, Text, toml, typed
from repro.store.hashes import digest
from repro.store.job import Recipe

TABLE = "tuned"
_PRETRAIN = {"rate": "lr", "decay": "weight_decay"}
_WORDS = {"rate": "learning rate", "decay": "weight decay", "crop": "smallest crop"}
_Multiple = Annotated[float, Meta(gt=0, lt=sys.float_info.max)]
Multiples = Annotated[tuple[_Multiple, _Multiple, _Multiple], Meta(description="[rate, decay, crop], each above 0")]


@dataclass(frozen=True)
class Point:
    """Multiples of what a recipe states."""

    rate: float
    decay: float
    crop: float

    def __str__(self) -> str:
        changed = [f"{_WORDS[name]} x {factor:g}" for name, factor in asdict(self).items() if factor != 1]
        return ", ".join(changed) or "unchanged"

    def values(self, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """What the point changes of that recipe, by table and key; also what it multiplies by 1."""
        made: dict[str, dict[str, Any]] = {"pretrain": {}, "method": {}}
        for name, key in _PRETRAIN.items():
            made["pretrain"][key] = _times(recipe["pretrain"][key], getattr(self, name))
        if crop := recipe["method"].get(CROPS):
            smallest, largest = crop
            made["method"][CROPS] = [min(_times(smallest, self.crop), largest), largest]
        return made


def _times(value: float, factor: float) -> float:
    """The product without the last digits, which are those of the machine."""
    return float(f"{value * factor:.12g}")


@dataclass(frozen=True)
class Procedure:
    """methods/tuning.toml, whose comments explain the keys."""

    name: Text
    length: Number
    seeds: Annotated[tuple[int, ...], Meta(description="a list of whole numbers")]
    points: Annotated[tuple[Point, ...], Meta(description="a list of tables with rate, decay and crop")]
    holdout: Number
    tie: Number

    @property
    def id(self) -> str:
        """`P1-0a1b2c`: its name, and a hash of its values."""
        return f"{self.name}-{digest(asdict(self))[:6]}"

    def epochs(self, recipe: Recipe) -> int:
        """How long a point of that recipe is trained."""
        return math.ceil(recipe["pretrain"]["epochs"] * self.length)

    def chosen(self, scores: list[float]) -> int:
        """The point that is chosen: the first of those that are as good as the best. scores: a point each, or nan."""
        best = max(score for score in scores if not math.isnan(score))
        return next(place for place, score in enumerate(scores) if score >= best - self.tie)


@dataclass(frozen=True)
class Tuned:
    """The table `tuned` of a track: what the procedure made of a recipe."""

    procedure: Text
    recipe: Text  # hash of what was tuned
    chosen: Multiples
    points: Annotated[tuple[Multiples, ...], Meta(description="a list of [rate, decay, crop], each above 0")]
    scores: Annotated[tuple[tuple[float, ...], ...], Meta(description="a list of numbers per setting")]  # a seed each
    records: Annotated[tuple[tuple[str, ...], ...], Meta(description="a list of texts per setting")]  # fingerprints

    @property
    def point(self) -> Point:
        """The multiples that were chosen."""
        return Point(*self.chosen)


@cache
def procedure() -> Procedure:
    """The procedure as it stands."""
    source = files("methods").joinpath("tuning.toml")
    return typed(Procedure, toml(source.read_bytes(), source), "methods/tuning.toml")


def refuse_kept(seeds: Iterable[int]) -> None:
    """Raises UserError for a seed that is kept for tuning: its results must decide nothing."""
    if kept := set(seeds) & set(procedure().seeds):
        raise UserError(f"--seed {min(kept)}: this seed is kept for tuning; choose another")


def root(info: MethodInfo, variant: str) -> tuple[MethodInfo, str]:
    """The arm whose tuning this one has: itself, its method or its base.

    A variant is tuned by itself where it states an optimizer or a kind of network of its own: then nothing that was
    found for another one means anything.
    """
    for table in _stated(info, variant):
        if "optimizer" in table.get("pretrain", {}) or "arch" in table.get("network", {}):
            return info, variant
    if base := info.base_of(variant):
        return root(*registry.find(base))
    return info, ""


def _stated(info: MethodInfo, variant: str) -> Iterator[registry.Tables]:
    """The tables of a variant."""
    if variant:
        yield info.variants[variant].tables
        yield from info.variants[variant].tracks.values()


def section(info: MethodInfo, variant: str, track: str) -> Tuned | None:
    """What the procedure made of the recipe of this arm on that track; None where it was not tuned.

    UserError for a table that contradicts itself: a choice that is no point, or points without scores or records.
    """
    owner, its_variant = root(info, variant)
    tables = owner.variants[its_variant].tracks if its_variant else owner.tracks
    found = tables.get(track, {}).get(TABLE)
    if found is None:
        return None
    where = f"{owner.source}: {header(its_variant, track)}"
    made = typed(Tuned, found, where)
    if made.chosen not in made.points:
        raise UserError(f"{where}: chosen = {list(made.chosen)} is none of its points; tune again with --equal --write")
    if not len(made.points) == len(made.scores) == len(made.records):
        raise UserError(f"{where}: each of the points needs scores and records; tune again with --equal --write")
    if made.procedure == procedure().id:
        _require_chosen(made, where)
    return made


def _require_chosen(made: Tuned, where: str) -> None:
    """UserError where the procedure as it stands would not have chosen this by these scores."""
    steps = procedure()
    if any(len(found) != len(steps.seeds) for found in made.scores):
        raise UserError(f"{where}: each of the points needs {len(steps.seeds)} scores; tune again with --equal --write")
    means = [statistics.fmean(found) for found in made.scores]
    if all(map(math.isnan, means)):
        raise UserError(f"{where}: no point has a score of every seed; tune again with --equal --write")
    if (best := made.points[steps.chosen(means)]) != made.chosen:
        raise UserError(
            f"{where}: chosen = {list(made.chosen)}, but by its scores the procedure chooses {list(best)};"
            " tune again with --equal --write"
        )


def header(variant: str, track: str) -> str:
    """The name of the table in the recipe file."""
    return f"{f'variants.{variant}.' if variant else ''}tracks.{track}.{TABLE}"


def hash_of(recipe: Recipe) -> str:
    """Hash of a recipe as it is tuned: without what is of the machine alone."""
    counting = {key: value for key, value in recipe["pretrain"].items() if key == "epochs" or key not in FREE}
    return digest({**recipe, "pretrain": counting})[:12]
