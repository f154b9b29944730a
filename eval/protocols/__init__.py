"""The named protocols of every kind of evaluation: where they stand, how they are loaded and hashed.

A kind is a dataclass (`knn.py`: what a protocol of it holds, and the suite's own choice as defaults) and a TOML file
beside it (`knn.toml`: a table a name, with differences from the defaults; no key may be unknown). Names:

    embedded, mini, cifar, imagenet   the suite's own for the track of that name
    fast                              the suite's own where a track has none
    coco_mini, vehicles               the suite's own for those data sets on the track `mini`
    others                            a paper's own, where nothing else is said

    >>> load("knn", "fast", {"temperature": 0.1}).temperature
    0.1
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeVar

from eval.protocols.base import Protocol
from eval.tables import nearest

P = TypeVar("P", bound=Protocol)


@dataclass(frozen=True)
class ProtocolTable:
    """The protocols of one kind of evaluation.

    source: the TOML file, a table for each name.
    """

    protocol: type[Protocol]
    source: Path | Traversable

    @functools.cached_property
    def named(self) -> Mapping[str, Mapping[str, Any]]:
        """By name what each states, in the order of the file."""
        return tomllib.loads(self.source.read_text(encoding="utf-8"))


def _kinds() -> dict[str, ProtocolTable]:
    """A kind for every module of this folder that has a TOML file of its name beside it."""
    found = {}
    for module in iter_modules(__path__):
        source = files("eval.protocols").joinpath(f"{module.name}.toml")
        if source.is_file():
            known = vars(import_module(f"{__name__}.{module.name}")).values()
            own = next(one for one in known if isinstance(one, type) and vars(one).get("kind") == module.name)
            found[module.name] = ProtocolTable(own, source)
    return found


KINDS: dict[str, ProtocolTable] = _kinds()
"""The kinds of evaluation that have protocols."""


def names(evaluation: str) -> tuple[str, ...]:
    """The named protocols of an evaluation, in the order of the file; ValueError for an unknown one."""
    return tuple(_table(evaluation).named)


def load(evaluation: str, name: str, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """The protocol `name` of `evaluation`, some fields replaced.

    Lists of TOML become tuples and an int serves where a float is due; anything else of another type, an unknown
    evaluation, name or key, and a value out of range is a ValueError of one line.
    """
    table = _table(evaluation)
    if name not in table.named:
        raise ValueError(f"no {evaluation} protocol {name!r}{nearest(name, table.named)}")
    return table.protocol.build(name, {**table.named[name], **(overrides or {})})


def load_as(kind: type[P], name: str, overrides: Mapping[str, Any] | None = None) -> P:
    """`load` of the evaluation whose protocols are of this class."""
    loaded = load(kind.kind, name, overrides)
    assert isinstance(loaded, kind)
    return loaded


def hashed(evaluation: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of a protocol those that its hash is of: without later fields at their default.

    So a record that was left before there was such a field, and one that is left today, have the same hash.
    """
    fields = dataclasses.fields(_table(evaluation).protocol)
    later = {field.name: field.default for field in fields if field.metadata.get("later")}
    return {key: value for key, value in stated.items() if key not in later or value != later[key]}


def _table(evaluation: str) -> ProtocolTable:
    if evaluation not in KINDS:
        raise ValueError(f"no evaluation {evaluation!r}{nearest(evaluation, KINDS)}")
    return KINDS[evaluation]
