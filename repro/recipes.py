"""The registry of methods. Registration is the recipe file, so nothing here imports torch.

A recipe is found in three places: the package `methods.recipes`, the entry-point group `repro.methods` (the entry
point names a package or module whose folder holds `recipes/*.toml` or `*.toml`), and a path given as `--method
FILE.toml`. A name that is found twice is an error, never a silent overwrite.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repro import schedules
from repro.errors import UserError, unknown

TABLES = ("method", "network", "pretrain")
ROLES = ("method", "baseline", "control")
OPTIMIZERS = ("adamw", "sgd", "lars")
PRECISIONS = ("fp32", "bf16")
_CHOICES = {
    "optimizer": OPTIMIZERS,
    "precision": PRECISIONS,
    "schedule": schedules.SHAPES,
    "schedule_clock": schedules.CLOCKS,
    "cosine_start": schedules.STARTS,
}
_LEAST = {"epochs": 0, "batch": 1, "lr": 0, "base_batch": 1, "weight_decay": 0, "warmup_epochs": 0}
_KEYS = {"name", "module", "role", "title", "paper", "arxiv", "relative_cost", "defaults", "tracks", "variants"}

Recipe = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class MethodInfo:
    """What the registry knows of a method without importing it."""

    name: str
    module: str  # "package.module:Class"
    role: str  # method | baseline | control
    title: str
    paper: str
    arxiv: str
    relative_cost: float  # forward + backward passes of the backbone for one picture of one epoch; for estimates only
    defaults: Mapping[str, Mapping[str, Any]]
    tracks: Mapping[str, Mapping[str, Mapping[str, Any]]]
    variants: Mapping[str, Mapping[str, Any]]
    source: str  # the recipe file


def _parse(text: str, source: str) -> MethodInfo:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not valid TOML ({error})") from None
    for key in raw:
        if key not in _KEYS:
            raise UserError(f"{source}: {unknown('key', key, _KEYS)}")
    for key in ("name", "module", "role", "title", "paper", "defaults"):
        if key not in raw:
            raise UserError(f"{source}: key '{key}' is missing")
    if raw["role"] not in ROLES:
        raise UserError(f"{source}: {unknown('role', raw['role'], ROLES)}")
    defaults = raw["defaults"]
    for table in TABLES:
        defaults.setdefault(table, {})
    info = MethodInfo(
        name=raw["name"],
        module=raw["module"],
        role=raw["role"],
        title=raw["title"],
        paper=raw["paper"],
        arxiv=raw.get("arxiv", ""),
        relative_cost=float(raw.get("relative_cost", 2.0)),
        defaults=defaults,
        tracks=raw.get("tracks", {}),
        variants=raw.get("variants", {}),
        source=source,
    )
    for track, change in info.tracks.items():
        _merge(copy.deepcopy(dict(defaults)), change, f"{source}: tracks.{track}")
    for variant, change in info.variants.items():
        tables = {k: v for k, v in change.items() if k not in ("summary", "tracks")}
        _merge(copy.deepcopy(dict(defaults)), tables, f"{source}: variants.{variant}")
    return info


def _same_type(new: Any, old: Any) -> bool:
    if isinstance(old, float):
        return isinstance(new, int | float) and not isinstance(new, bool)
    if isinstance(old, list) and isinstance(new, list) and old:
        return all(_same_type(item, old[0]) for item in new)
    return type(new) is type(old)


def _merge(base: Recipe, change: Mapping[str, Any], where: str) -> Recipe:
    """`base` with the values of `change`; a key that `base` lacks, or another type, is an error."""
    for table, values in change.items():
        if table not in base:
            raise UserError(f"{where}: {unknown('table', table, base)}")
        for key, value in values.items():
            if key not in base[table]:
                raise UserError(f"{where}: {unknown(f'key in [{table}]', key, base[table])}")
            old = base[table][key]
            if not _same_type(value, old):
                raise UserError(
                    f"{where}: {table}.{key} = {value!r} must be {type(old).__name__}, as its default {old!r} is"
                )
            base[table][key] = float(value) if isinstance(old, float) else value
    return base


def _recipe_texts() -> Iterator[tuple[str, str]]:
    for item in sorted(files("methods").joinpath("recipes").iterdir(), key=lambda p: p.name):
        if item.name.endswith(".toml"):
            yield item.read_text(encoding="utf-8"), f"methods/recipes/{item.name}"
    for point in entry_points(group="repro.methods"):
        spec = find_spec(point.value.split(":")[0])
        if spec is None or spec.origin is None:
            raise UserError(f"entry point '{point.name}' of group repro.methods names no module: {point.value}")
        folder = Path(spec.origin).parent
        for path in sorted({*folder.glob("*.toml"), *folder.glob("recipes/*.toml")}):
            yield path.read_text(encoding="utf-8"), str(path)


@cache
def methods() -> dict[str, MethodInfo]:
    """Every registered method by name."""
    found: dict[str, MethodInfo] = {}
    for text, source in _recipe_texts():
        info = _parse(text, source)
        if info.name in found:
            raise UserError(f"method '{info.name}' is registered twice: {found[info.name].source} and {source}")
        found[info.name] = info
    return found


def find(name: str) -> tuple[MethodInfo, str]:
    """`aps`, `aps:flip_aware` or `path/to/recipe.toml[:variant]` -> (method, variant or '')."""
    head, _, variant = name.partition(":")
    if head.endswith(".toml"):
        path = Path(head)
        if not path.is_file():
            raise UserError(f"no recipe file {path}")
        info = _parse(path.read_text(encoding="utf-8"), str(path.resolve()))
        if info.name in methods():
            raise UserError(f"{path}: the name '{info.name}' is taken by {methods()[info.name].source}; rename it")
    elif head in methods():
        info = methods()[head]
    else:
        raise unknown("method", head, methods())
    if variant and variant not in info.variants:
        raise unknown(f"variant of {info.name}", variant, info.variants or ["(it has none)"])
    return info, variant


def resolve(info: MethodInfo, variant: str, track: str, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe that a run uses: defaults <- track <- variant <- variant on that track <- overrides."""
    recipe: Recipe = {table: dict(info.defaults[table]) for table in TABLES}
    _merge(recipe, info.tracks.get(track, {}), f"{info.source}: tracks.{track}")
    if variant:
        change = info.variants[variant]
        own = {table: change[table] for table in TABLES if table in change}
        _merge(recipe, own, f"{info.source}: variants.{variant}")
        on_track = change.get("tracks", {}).get(track, {})
        _merge(recipe, on_track, f"{info.source}: variants.{variant}.tracks.{track}")
    _merge(recipe, {t: overrides[t] for t in TABLES if t in overrides}, "--set")
    for key, choices in _CHOICES.items():
        if recipe["pretrain"].get(key, choices[0]) not in choices:
            raise unknown(f"pretrain.{key}", str(recipe["pretrain"][key]), choices)
    for key, least in _LEAST.items():
        if recipe["pretrain"].get(key, least) < least:
            raise UserError(f"pretrain.{key} = {recipe['pretrain'][key]}: must be at least {least}")
    return recipe
