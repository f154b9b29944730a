"""What the user asks for, read from the words of the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UserError, unknown
from repro.plan import kinds, protocol_files
from repro.plan.registry import TABLES


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights that takes the place of a pre-training; read and checked before the plan is made."""

    name: str  # of the arm
    path: Path
    sha256: str
    layout: str  # whose keys it has
    part: str  # what stands before them
    network: Mapping[str, Any]  # table [network]
    normalise: str  # where mean and std come from: "imagenet" | "data" | "file" | "given"
    mean: tuple[float, ...]  # empty for "data"
    std: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """What the user asked for: the same for `run`, `plan` and `status`."""

    methods: tuple[str, ...]
    track: str = "embedded"
    evaluations: tuple[str, ...] = kinds.suites()["full"]
    seeds: tuple[int, ...] = (0,)
    data: str | None = None  # the name of a data set, or a folder of pictures
    overrides: tuple[str, ...] = ()  # "table.key=value"
    protocols: tuple[str, ...] = ()  # "kind=name,name"
    checkpoint: Checkpoint | None = None  # then no method is pre-trained
    processes: int = 1  # ranks that share each pre-training


def parse_overrides(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`["pretrain.epochs=2"]` -> `{"pretrain": {"epochs": 2}}`; a value is read as TOML, else as a bare word."""
    tables = (*TABLES, *kinds.judged(), "data")
    parsed: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        table, dot, key = name.strip().partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: write it as table.key=value, for example --set pretrain.epochs=2")
        if kind := _shared(table):
            raise UserError(f"--set {text}: boxes and masks come from one Mask R-CNN; write {kind}.{key}")
        if table not in tables:
            raise UserError(f"--set {text}: {unknown('table', table, tables)}")
        try:
            parsed.setdefault(table, {})[key] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            parsed.setdefault(table, {})[key] = value.strip()
    return parsed


def parse_protocols(texts: Iterable[str], evaluations: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`["linear=fast,glnet"]` -> `{"linear": ("fast", "glnet")}`, of evaluations that are asked for."""
    wanted = kinds.of_evaluations(tuple(evaluations))
    parsed: dict[str, tuple[str, ...]] = {}
    for text in texts:
        kind, _, names = (part.strip() for part in text.partition("="))
        found = tuple(dict.fromkeys(name for name in map(str.strip, names.split(",")) if name))
        if not found:
            raise UserError(f"--protocol {text}: write it as EVALUATION=NAME, for example --protocol linear=glnet")
        if shared := _shared(kind):
            raise UserError(f"--protocol {text}: boxes and masks come from one Mask R-CNN; write {shared}={names}")
        if kind not in kinds.judged():
            raise UserError(f"--protocol {text}: {unknown('evaluation', kind, kinds.judged())}")
        for name in found:
            if name not in protocol_files.names(kind):
                raise UserError(f"--protocol {text}: {unknown(f'{kind} protocol', name, protocol_files.names(kind))}")
        if kind in parsed:
            raise UserError(
                f"--protocol {text}: {kind} is given twice; write {kind}={','.join((*parsed[kind], *found))}"
            )
        if kind not in wanted:
            raise UserError(f"--protocol {text}: {kind} is not among the evaluations asked for; add it to --eval")
        parsed[kind] = found
    return parsed


def ordered(evaluations: Sequence[str]) -> tuple[str, ...]:
    """These evaluations in the order of the boards; UserError for one that there is not."""
    known = kinds.evaluations()
    for name in evaluations:
        if name not in known:
            raise UserError(f"--eval: {unknown('evaluation', name, known)}")
    return tuple(name for name in known if name in evaluations)


def _shared(name: str) -> str:
    """The kind of job that an evaluation is read from which is no kind itself, or ""."""
    known = kinds.evaluations()
    return known[name].kind if name in known and name not in kinds.KINDS else ""
