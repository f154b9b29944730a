"""The named protocols of every kind of evaluation: where they stand, how they are loaded and hashed.

A kind is a dataclass (`knn.py`: what a protocol of it holds, and the suite's own choice as defaults) and a TOML file
beside it (`knn.toml`: a table a name, with differences from the defaults; no key may be unknown). Names:

    embedded, mini, cifar, imagenet   the suite's own for the track of that name
    fast                              the suite's own where a track has none
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
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from eval.protocols.base import Features, Protocol
from eval.protocols.detection import DetectionProtocol
from eval.protocols.finetune import FinetuneProtocol
from eval.protocols.knn import KnnProtocol
from eval.protocols.linear import LinearProtocol
from eval.protocols.reid import ReidProtocol
from eval.protocols.reid_finetune import ReidFinetuneProtocol
from eval.tables import nearest

__all__ = [
    "KINDS",
    "DetectionProtocol",
    "Features",
    "FinetuneProtocol",
    "KnnProtocol",
    "LinearProtocol",
    "Protocol",
    "ProtocolTable",
    "ReidFinetuneProtocol",
    "ReidProtocol",
    "hashed",
    "load",
    "names",
    "register",
]


@dataclass(frozen=True)
class ProtocolTable:
    """The protocols of one kind of evaluation.

    source: the TOML file, a table for each name; None = the one of that kind in this folder.
    """

    protocol: type[Protocol]
    source: Path | Traversable | None = None

    @functools.cached_property
    def named(self) -> Mapping[str, Mapping[str, Any]]:
        """By name what each states, in the order of the file."""
        source = self.source or files("eval.protocols").joinpath(f"{self.protocol.kind}.toml")
        return tomllib.loads(source.read_text(encoding="utf-8"))


KINDS: dict[str, ProtocolTable] = {
    protocol.kind: ProtocolTable(protocol)
    for protocol in (
        KnnProtocol,
        LinearProtocol,
        FinetuneProtocol,
        DetectionProtocol,
        ReidProtocol,
        ReidFinetuneProtocol,
    )
}
"""The kinds of evaluation in the order in which they are listed everywhere; `register` adds what stands elsewhere."""


def register(table: ProtocolTable) -> None:
    """Make a further kind known; ValueError where one of that name is."""
    kind = table.protocol.kind
    if KINDS.setdefault(kind, table) != table:
        raise ValueError(f"evaluation {kind!r} is registered twice: {KINDS[kind].protocol} and {table.protocol}")


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
