"""The whole recipe of a run: what the recipe files state, in layers, and what must hold of it.

A recipe file states differences. The whole recipe is made of, later over earlier: methods/defaults.toml with the
network of the track, then the file's defaults, its track, its variant, its variant on that track, what tuning found
(tuning.py), and `--set`. A recipe with a `base` (an auxiliary task over another method) starts from the whole recipe of
that method instead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from leaderboards.tuning import alike
from repro.errors import UserError, unknown
from repro.plan import tuning
from repro.plan.registry import TABLES, MethodInfo, Tables, Variant, find, negatives
from repro.plan.tables import toml
from repro.stages import schedules
from repro.store.job import Recipe

PRECISIONS = ("fp32", "bf16")
EXCHANGES = ("full", "bf16", "fp16")  # repro.stages.exchange.TYPES, without torch
_CHOICES = {
    "optimizer": ("adamw", "sgd", "lars"),
    "lars_form": ("moco_v3", "solo", "openselfsup"),
    "precision": PRECISIONS,
    "exchange": EXCHANGES,
    "schedule": schedules.SHAPES,
    "schedule_clock": schedules.CLOCKS,
    "cosine_start": schedules.STARTS,
}
_TYPES: Mapping[type, tuple[str, str]] = {  # in words: one, and several
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
}
_DIVISION = {"batch", "devices", "accumulate"}
_LEAST = {
    "epochs": 0,
    "batch": 1,
    "devices": 1,
    "accumulate": 1,
    "lr": 0,
    "base_batch": 1,
    "weight_decay": 0,
    "warmup_epochs": 0,
    "clip_norm": 0,
    "clip_adaptive": 0,
}


def _same_type(new: Any, old: Any) -> bool:
    if isinstance(old, float):
        return isinstance(new, int | float) and not isinstance(new, bool)
    if isinstance(old, list) and isinstance(new, list) and old:
        return all(_same_type(item, old[0]) for item in new)
    return type(new) is type(old)


def _type(value: Any) -> str:
    """What kind of value it is: `an integer`, `a list of numbers`."""
    if isinstance(value, list):
        return f"a list of {_TYPES.get(type(value[0]), ('', 'other values'))[1]}" if value else "a list"
    return _TYPES.get(type(value), (type(value).__name__, ""))[0]


def merge(base: Recipe, change: Mapping[str, Any], where: str, *, new: bool = False) -> Recipe:
    """`base` with the values of `change`.

    new: whether its table [method] may bring keys of its own.

    UserError for another type, a number that is not finite, or a key that `base` lacks.
    """
    for table, values in change.items():
        if table not in base:
            raise UserError(f"{where}: {unknown('table', table, base)}")
        for key, value in values.items():
            if not _finite(value):
                raise UserError(f"{where}: {table}.{key} = {value!r} must be finite")
            if new and table == "method" and key not in base[table]:
                base[table][key] = copy.deepcopy(value)
                continue
            if key not in base[table]:
                raise UserError(f"{where}: {unknown(f'key in [{table}]', key, base[table])}")
            old = base[table][key]
            if not _same_type(value, old):
                raise UserError(f"{where}: {table}.{key} = {value!r} must be {_type(old)} (its default is {old!r})")
            base[table][key] = float(value) if isinstance(old, float) else value
    return base


def _finite(value: Any) -> bool:
    """Whether a value, or a list of them, holds no infinite number and none that is nan."""
    return all(map(_finite, value)) if isinstance(value, list) else not isinstance(value, float) or math.isfinite(value)


@cache
def _shared() -> Mapping[str, Any]:
    """methods/defaults.toml."""
    source = files("methods").joinpath("defaults.toml")
    return toml(source.read_bytes(), source)


def _layers(info: MethodInfo, variant: str, track: str) -> list[tuple[str, Mapping[str, Any]]]:
    """What the recipe file states for this variant and track, the weakest first."""
    change = info.variants[variant] if variant else Variant()
    stated: list[tuple[str, Tables]] = [
        (f"{info.source}: tracks.{track}", info.tracks.get(track, {})),
        (f"{info.source}: variants.{variant}", change.tables),
        (f"{info.source}: variants.{variant}.tracks.{track}", change.tracks.get(track, {})),
    ]
    return [(where, {key: table for key, table in tables.items() if key != tuning.TABLE}) for where, tables in stated]


def _whole(info: MethodInfo, variant: str, track: str, arch: str | None) -> Recipe:
    """The recipe before `--set`; `arch`: the network that `--set` asks for."""
    layers = _layers(info, variant, track)
    if base := info.base_of(variant):
        other, its_variant = find(base)
        recipe = _whole(other, its_variant, track, arch)
        recipe["base"] = {"name": base, "module": other.module}
    else:
        shared = _shared()
        stated = [change.get("network", {}).get("arch") for _, change in (("", info.defaults), *layers)]
        kind = next((a for a in (arch, *reversed(stated)) if a), shared["network"]["arch"])
        if not isinstance(kind, str) or kind not in shared["networks"]:
            raise unknown("network.arch", str(kind), shared["networks"])
        network = {**shared["network"], "arch": kind}
        own = shared["networks"][kind]
        network |= {key: value for key, value in own.items() if key != "tracks"} | own["tracks"].get(track, {})
        recipe = {"method": {}, "network": network, "pretrain": dict(shared["pretrain"])}
    merge(recipe, info.defaults, f"{info.source}: defaults", new=True)
    for where, change in layers:
        merge(recipe, change, where)
    return recipe


def resolve(
    info: MethodInfo,
    variant: str,
    track: str,
    overrides: Mapping[str, Mapping[str, Any]],
    *,
    tuned: bool = True,
) -> Recipe:
    """The whole recipe of a run: tables method, network, pretrain, and base (name, module) for an auxiliary task.

    tuned: with what tuning made of it; else what it begins with.
    """
    arch = overrides.get("network", {}).get("arch")
    recipe = _whole(info, variant, track, arch if isinstance(arch, str) else None)
    if tuned and (found := tuning.section(info, variant, track)):
        merge(recipe, found.point.values(recipe), "tuned")
    merge(recipe, {t: overrides[t] for t in TABLES if t in overrides}, "--set")
    pretrain = recipe["pretrain"]
    for key, choices in _CHOICES.items():
        if pretrain[key] not in choices:
            raise unknown(f"pretrain.{key}", str(pretrain[key]), choices)
    for key, least in _LEAST.items():
        if pretrain[key] < least:
            raise UserError(f"pretrain.{key} = {pretrain[key]}: must be at least {least}")
    for key in ("mean", "std"):
        given = recipe["method"].get(key, [])
        numbers = isinstance(given, list) and all(isinstance(one, int | float) for one in given)
        if not numbers or len(given) not in (0, 3):
            raise UserError(f"method.{key} = {given!r}: must be three numbers, or [] for the data set's own")
    if any(not value > 0 for value in recipe["method"].get("std", [])):
        raise UserError(f"method.std = {recipe['method']['std']}: pixels are divided by these, so they must be above 0")
    _check_batch(info, variant, pretrain)
    return recipe


def require_parts(info: MethodInfo, variant: str, pretrain: Mapping[str, Any], ranks: int) -> None:
    """UserError where a pre-training by that many ranks would be another than by one, or cannot be."""
    name = info.name + (f":{variant}" if variant else "")
    if ranks == 1 and pretrain["exchange"] != "full":
        raise UserError(
            f"{name}: pretrain.exchange = {pretrain['exchange']}, but a single rank sends no gradients; use --processes"
            " 2 or more, or leave it out"
        )
    rows = pretrain["batch"] // pretrain["accumulate"]
    if rows % ranks:
        raise UserError(
            f"--processes {ranks}: {name} has {rows} images per micro-batch (pretrain.batch / pretrain.accumulate),"
            f" which are not {ranks} equal parts; choose a divisor of {rows}"
        )
    devices = pretrain["devices"]
    if negatives(info, variant) == "per_device" and devices % ranks:
        raise UserError(
            f"--processes {ranks}: the negatives of {name} come from one device (pretrain.devices = {devices}), and a"
            f" rank holds whole devices; choose a divisor of {devices}, or change where negatives come from with"
            f" --set pretrain.devices={ranks}"
        )


def require_full_batch(info: MethodInfo, variant: str, pretrain: Mapping[str, Any], pictures: int) -> None:
    """UserError where the training pictures do not fill one batch. pictures: 0 where their number is not known."""
    if 0 < pictures < pretrain["batch"]:
        raise UserError(
            f"{info.name + (f':{variant}' if variant else '')}: {pictures} training images do not fill a batch of"
            f" {pretrain['batch']}; choose a smaller one with --set pretrain.batch=N, or more images"
        )


def _check_batch(info: MethodInfo, variant: str, pretrain: Mapping[str, Any]) -> None:
    """devices x rows of a device x accumulate = batch; accumulation must not change what a sample is held against."""
    batch, devices, accumulate = (pretrain[key] for key in ("batch", "devices", "accumulate"))
    name = info.name + (f":{variant}" if variant else "")
    if batch % (devices * accumulate):
        raise UserError(
            f"{name}: pretrain.batch = {batch} is not {devices} devices x {accumulate} micro-batches x whole images;"
            f" choose a multiple of {devices * accumulate} with --set pretrain.batch=N"
        )
    if accumulate > 1 and negatives(info, variant) == "global":
        raise UserError(
            f"{name}: pretrain.accumulate = {accumulate}, but its negatives are those of the whole batch, and"
            " accumulation would change them; use more devices, or a smaller pretrain.batch with accumulate = 1"
        )


def tuned_by(info: MethodInfo, variant: str, track: str, recipe: Recipe) -> str:
    """The procedure by which a recipe of this arm was tuned, or "".

    "" also where the recipe that was tuned has changed since, or where this one has other values of [pretrain], but for
    its length, or other crops than were found.
    """
    found = tuning.section(info, variant, track)
    if found is None or not alike(recipe, resolve(info, variant, track, {})):
        return ""
    begun = resolve(*tuning.root(info, variant), track, {}, tuned=False)
    return found.procedure if tuning.hash_of(without_neutral(begun)) == found.recipe else ""


def may_be_refused(stated: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `--set` states what a method may refuse when built: of [pretrain], how a batch is divided."""
    return bool(stated.keys() & {"method", "network"} or stated.get("pretrain", {}).keys() & _DIVISION)


def neutral() -> Mapping[str, Mapping[str, Any]]:
    """Table -> key -> the value at which the key changes nothing, as methods/defaults.toml states it."""
    found: Mapping[str, Mapping[str, Any]] = _shared().get("neutral", {})
    return found


def without_neutral(recipe: Recipe) -> Recipe:
    """The recipe without the keys that stand at their neutral value: one that never had them is the same."""
    return {
        table: {key: value for key, value in values.items() if neutral().get(table, {}).get(key, ...) != value}
        for table, values in recipe.items()
    }
