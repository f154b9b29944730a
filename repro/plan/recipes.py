"""The registry of methods. Registration is the recipe file, so nothing here imports torch.

A recipe is found in three places: the package `methods.recipes`, the entry-point group `repro.methods` (the entry
point names a package or module whose folder holds `recipes/*.toml` or `*.toml`), and a path given as `--method
FILE.toml`, whose module may be a file beside it. A name that is found twice is an error, never a silent overwrite.

A recipe states differences. The whole one is made of, later over earlier: methods/defaults.toml with the network of
the track, then the recipe's defaults, its track, its variant, its variant on that track, and `--set`. A recipe with a
`base` (an auxiliary task over another method) starts from the whole recipe of that method instead.
"""

from __future__ import annotations

import copy
import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repro.errors import UserError, unknown
from repro.stages import schedules
from repro.store.job import Recipe

TABLES = ("method", "network", "pretrain")
ROLES = ("method", "baseline", "control")
OPTIMIZERS = ("adamw", "sgd", "lars")
PRECISIONS = ("fp32", "bf16")
NEGATIVES = ("global", "per_device", "none")
_CHOICES = {
    "optimizer": OPTIMIZERS,
    "lars_form": ("moco_v3", "solo", "openselfsup"),
    "precision": PRECISIONS,
    "schedule": schedules.SHAPES,
    "schedule_clock": schedules.CLOCKS,
    "cosine_start": schedules.STARTS,
}
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
_KEYS = {
    "name",
    "module",
    "role",
    "title",
    "paper",
    "arxiv",
    "negatives",
    "base",
    "relative_cost",
    "defaults",
    "tracks",
    "variants",
}
_OF_VARIANT = {"summary", "base", "relative_cost", "tracks"}


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
    negatives: str  # global | per_device | none; "" with a base, whose it then has
    base: str  # the method that it is an auxiliary task of, or ""
    defaults: Mapping[str, Mapping[str, Any]]
    tracks: Mapping[str, Mapping[str, Mapping[str, Any]]]
    variants: Mapping[str, Mapping[str, Any]]
    source: str  # the recipe file

    def base_of(self, variant: str) -> str:
        """The method that a variant builds on, "" for none."""
        return str(self.variants[variant].get("base", self.base)) if variant else self.base


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
    if "base" not in raw and raw.get("negatives") not in NEGATIVES:
        raise UserError(
            f"{source}: key 'negatives' must say over which rows a sample meets its negatives: {', '.join(NEGATIVES)}"
        )
    for variant, change in raw.get("variants", {}).items():
        for key in change:
            if key not in _OF_VARIANT and key not in TABLES:
                raise UserError(f"{source}: variants.{variant}: {unknown('key', key, (*_OF_VARIANT, *TABLES))}")
    for table in raw["defaults"]:
        if table not in TABLES:
            raise UserError(f"{source}: defaults: {unknown('table', table, TABLES)}")
    return MethodInfo(
        name=raw["name"],
        module=raw["module"],
        role=raw["role"],
        title=raw["title"],
        paper=raw["paper"],
        arxiv=raw.get("arxiv", ""),
        relative_cost=float(raw.get("relative_cost", 2.0)),
        negatives=raw.get("negatives", ""),
        base=raw.get("base", ""),
        defaults=raw["defaults"],
        tracks=raw.get("tracks", {}),
        variants=raw.get("variants", {}),
        source=source,
    )


def _same_type(new: Any, old: Any) -> bool:
    if isinstance(old, float):
        return isinstance(new, int | float) and not isinstance(new, bool)
    if isinstance(old, list) and isinstance(new, list) and old:
        return all(_same_type(item, old[0]) for item in new)
    return type(new) is type(old)


def merge(base: Recipe, change: Mapping[str, Any], where: str, *, new: bool = False) -> Recipe:
    """`base` with the values of `change`; another type, or a key that `base` lacks (unless `new`), is an error."""
    for table, values in change.items():
        if table not in base:
            raise UserError(f"{where}: {unknown('table', table, base)}")
        for key, value in values.items():
            if new and key not in base[table]:
                base[table][key] = copy.deepcopy(value)
                continue
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
        name, _, kind = info.module.partition(":")
        beside = path.resolve().parent / f"{name}.py"
        if beside.is_file():  # a method of one's own is two files in a folder, and no package
            info = dataclasses.replace(info, module=f"{beside}:{kind}")
        if info.name in methods():
            raise UserError(f"{path}: the name '{info.name}' is taken by {methods()[info.name].source}; rename it")
    elif head in methods():
        info = methods()[head]
    else:
        raise unknown("method", head, methods())
    if variant == info.base:  # a wrapper's default base, by its name
        variant = ""
    if variant and variant not in info.variants:
        raise unknown(f"variant of {info.name}", variant, info.variants or ["(it has none)"])
    return info, variant


@cache
def _shared() -> Mapping[str, Any]:
    """methods/defaults.toml."""
    return tomllib.loads(files("methods").joinpath("defaults.toml").read_text(encoding="utf-8"))


def _layers(info: MethodInfo, variant: str, track: str) -> list[tuple[str, Mapping[str, Any]]]:
    """What the recipe file states for this variant and track, the weakest first."""
    change = info.variants[variant] if variant else {}
    return [
        (f"{info.source}: tracks.{track}", info.tracks.get(track, {})),
        (f"{info.source}: variants.{variant}", {table: change[table] for table in TABLES if table in change}),
        (f"{info.source}: variants.{variant}.tracks.{track}", change.get("tracks", {}).get(track, {})),
    ]


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
        if kind not in shared["networks"]:
            raise unknown("network.arch", str(kind), shared["networks"])
        network = {**shared["network"], "arch": kind}
        own = shared["networks"][kind]
        network |= {key: value for key, value in own.items() if key != "tracks"} | own["tracks"].get(track, {})
        recipe = {"method": {}, "network": network, "pretrain": dict(shared["pretrain"])}
    merge(recipe, info.defaults, f"{info.source}: defaults", new=True)
    for where, change in layers:
        merge(recipe, change, where)
    return recipe


def negatives(info: MethodInfo, variant: str) -> str:
    """Over which rows a sample meets its negatives: global, per_device or none."""
    base = info.base_of(variant)
    return negatives(*find(base)) if base else info.negatives


def relative_cost(info: MethodInfo, variant: str) -> float:
    """Forward + backward passes of the backbone for one picture of one epoch; with a base, on top of the base's."""
    own = float(info.variants[variant].get("relative_cost", info.relative_cost)) if variant else info.relative_cost
    base = info.base_of(variant)
    return own + (relative_cost(*find(base)) if base else 0.0)


def resolve(info: MethodInfo, variant: str, track: str, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The whole recipe of a run: tables method, network, pretrain, and base (name, module) for an auxiliary task."""
    arch = overrides.get("network", {}).get("arch")
    recipe = _whole(info, variant, track, arch if isinstance(arch, str) else None)
    merge(recipe, {t: overrides[t] for t in TABLES if t in overrides}, "--set")
    pretrain = recipe["pretrain"]
    for key, choices in _CHOICES.items():
        if pretrain[key] not in choices:
            raise unknown(f"pretrain.{key}", str(pretrain[key]), choices)
    for key, least in _LEAST.items():
        if pretrain[key] < least:
            raise UserError(f"pretrain.{key} = {pretrain[key]}: must be at least {least}")
    for key in ("mean", "std"):
        if len(given := recipe["method"].get(key, [])) not in (0, 3):
            raise UserError(f"method.{key} = {given}: must be three numbers, or [] for the data set's own")
    _check_batch(info, variant, pretrain)
    return recipe


def require_parts(info: MethodInfo, variant: str, pretrain: Mapping[str, Any], ranks: int) -> None:
    """UserError where a pre-training by that many ranks would be another than by one, or cannot be."""
    name = info.name + (f":{variant}" if variant else "")
    rows = pretrain["batch"] // pretrain["accumulate"]
    if rows % ranks:
        raise UserError(
            f"--processes {ranks}: {name} has {rows} pictures a micro-batch (pretrain.batch / pretrain.accumulate),"
            f" which are not {ranks} equal parts; choose a divisor of {rows}"
        )
    devices = pretrain["devices"]
    if negatives(info, variant) == "per_device" and devices % ranks:
        raise UserError(
            f"--processes {ranks}: the negatives of {name} are those of one of pretrain.devices = {devices}, and a"
            f" rank holds whole ones; choose a divisor of {devices}, or change what a sample is held against with"
            f" --set pretrain.devices={ranks}"
        )


def _check_batch(info: MethodInfo, variant: str, pretrain: Mapping[str, Any]) -> None:
    """devices x rows of a device x accumulate = batch; accumulation must not change what a sample is held against."""
    batch, devices, accumulate = (pretrain[key] for key in ("batch", "devices", "accumulate"))
    name = info.name + (f":{variant}" if variant else "")
    if batch % (devices * accumulate):
        raise UserError(
            f"{name}: pretrain.batch = {batch} is not {devices} devices x {accumulate} micro-batches x whole pictures;"
            f" choose a multiple of {devices * accumulate} with --set pretrain.batch=N"
        )
    if accumulate > 1 and negatives(info, variant) == "global":
        raise UserError(
            f"{name}: pretrain.accumulate = {accumulate}, but its negatives are those of the whole batch, and"
            " accumulation would change them; use more devices, or a smaller pretrain.batch with accumulate = 1"
        )


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
