"""The registry of methods. Registration is the recipe file, so nothing here imports torch.

A recipe is found in three places: the package `methods.recipes`, the entry-point group `repro.methods` (the entry
point names a package or module whose folder holds `recipes/*.toml` or `*.toml`), and a path given as `--method
FILE.toml`, whose module may be a file beside it. A name that is found twice is an error, never a silent overwrite.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from repro.errors import UserError, unknown
from repro.plan.tables import Maybe, Number, Text, toml, typed
from repro.plan.tracks import tracks
from repro.store.records import NAME

LONGEST = 60  # characters of a method's or variant's name: a file's name, which has both, may have 255

TABLES = ("method", "network", "pretrain")
NEGATIVES = ("global", "per_device", "none")
Role = Literal["method", "baseline", "control"]
Values = Mapping[str, Any]
Tables = Mapping[str, Values]  # by the names in TABLES
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named change of a method, as its recipe file states it."""

    summary: Text = ""
    base: Annotated[str | None, Meta(description="a text")] = None  # None: the method's
    relative_cost: Maybe = None  # likewise
    kept_passes: Maybe = None  # likewise
    method: Values = field(default_factory=dict)
    network: Values = field(default_factory=dict)
    pretrain: Values = field(default_factory=dict)
    tracks: Mapping[str, Tables] = field(default_factory=dict)

    @property
    def tables(self) -> Tables:
        """What it changes on every track."""
        return {table: getattr(self, table) for table in TABLES}


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What the registry knows of a method without importing it: a recipe file, whose keys are the fields."""

    name: Text
    module: Text  # "package.module:Class"
    role: Role
    title: Text
    paper: Text
    arxiv: Text = ""
    relative_cost: Number = 2.0  # passes of the backbone for one picture of one epoch, both ways; for estimates only
    # Of those, the ones that one update keeps for its backward pass, in passes of whole pictures; None: relative_cost.
    kept_passes: Maybe = None
    negatives: Text = ""  # one of NEGATIVES; "" with a base, whose it then has
    base: Text = ""  # the method that it is an auxiliary task of, or ""
    defaults: Tables
    tracks: Mapping[str, Tables] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    source: str  # the recipe file

    def base_of(self, variant: str) -> str:
        """The method that a variant builds on, "" for none."""
        own = self.variants[variant].base if variant else None
        return self.base if own is None else own


def _parse(text: bytes, source: str) -> MethodInfo:
    info = typed(MethodInfo, toml(text, source), source, source=source)
    if not info.base and info.negatives not in NEGATIVES:
        raise UserError(
            f"{source}: key 'negatives' says where negatives come from; it must be one of {', '.join(NEGATIVES)}"
        )
    for name in (info.name, *info.variants):
        if not re.fullmatch(NAME, name) or len(name) > LONGEST:
            raise UserError(
                f"{source}: the name {name!r:.80} cannot be part of a file name; use letters of English, digits, _, ."
                f" and -, a letter or digit first, at most {LONGEST} characters"
            )
        if name == "all" or name.endswith(".toml"):
            raise UserError(f"{source}: the name '{name}' has a meaning of its own in --method; choose another")
    for stated in (info.tracks, *(variant.tracks for variant in info.variants.values())):
        for track in stated:
            if track not in tracks():
                raise UserError(f"{source}: {unknown('track', track, tracks())}")
    for table in info.defaults:
        if table not in TABLES:
            raise UserError(f"{source}: defaults: {unknown('table', table, TABLES)}")
    return info


def _recipe_texts() -> Iterator[tuple[bytes, str]]:
    for item in sorted(files("methods").joinpath("recipes").iterdir(), key=lambda p: p.name):
        if item.name.endswith(".toml"):
            yield item.read_bytes(), f"methods/recipes/{item.name}"
    for point in entry_points(group="repro.methods"):
        spec = find_spec(point.value.split(":")[0])
        if spec is None or spec.origin is None:
            raise UserError(f"entry point '{point.name}' of group repro.methods names no module: {point.value}")
        folder = Path(spec.origin).parent
        for path in sorted({*folder.glob("*.toml"), *folder.glob("recipes/*.toml")}):
            yield path.read_bytes(), str(path)


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
            raise UserError(
                f"no recipe file {path}", "give the path of a .toml file, or a name from python -m repro methods"
            )
        info = _parse(path.read_bytes(), str(path.resolve()))
        name, _, kind = info.module.partition(":")
        beside = path.resolve().parent / f"{name}.py"
        if beside.is_file():  # a method of one's own is two files in a folder, and no package
            info = dataclasses.replace(info, module=f"{beside}:{kind}")
        if info.name in methods():
            raise UserError(f"{path}: the name '{info.name}' is taken by {methods()[info.name].source}; rename it")
    elif head in methods():
        info = methods()[head]
    elif head in _given:
        return find(spelled(name))
    else:
        raise unknown("method", head, methods())
    if variant == info.base:  # a wrapper's default base, by its name
        variant = ""
    if variant and variant not in info.variants:
        raise unknown(f"variant of {info.name}", variant, info.variants or ["(it has none)"])
    return info, variant


_given: dict[str, str] = {}  # of methods that were given as a file: the file by their name


def adopt(name: str) -> str:
    """The arm that this is the name of; where it is a recipe file, `find` knows it by its own name from now on."""
    info, variant = find(name)
    head = name.partition(":")[0]
    if head.endswith(".toml"):
        _given[info.name] = str(Path(head).resolve())
    return info.name + (f":{variant}" if variant else "")


def spelled(arm: str) -> str:
    """How any process may call an arm: by its name, or by its recipe file where that was adopted."""
    head, colon, variant = arm.partition(":")
    return f"{_given[head]}{colon}{variant}" if head in _given else arm


def negatives(info: MethodInfo, variant: str) -> str:
    """Where negatives come from: global (the whole batch), per_device (one device) or none."""
    base = info.base_of(variant)
    return negatives(*find(base)) if base else info.negatives


def relative_cost(info: MethodInfo, variant: str) -> float:
    """Forward + backward passes of the backbone for one picture of one epoch; with a base, on top of the base's."""
    stated = info.variants[variant].relative_cost if variant else None
    own = info.relative_cost if stated is None else stated
    base = info.base_of(variant)
    return own + (relative_cost(*find(base)) if base else 0.0)


def kept_passes(info: MethodInfo, variant: str) -> float:
    """Passes of whole pictures that one update keeps for its backward pass; with a base, on top of the base's."""
    change = info.variants[variant] if variant else Variant()
    stated = (change.kept_passes, change.relative_cost, info.kept_passes, info.relative_cost)
    own = next(passes for passes in stated if passes is not None)
    base = info.base_of(variant)
    return own + (kept_passes(*find(base)) if base else 0.0)
