"""The tracks: the scales at which everything runs, read from tracks.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Annotated

from msgspec import Meta

from repro.data.types import Kind
from repro.errors import UserError, unknown
from repro.plan import protocol_files
from repro.plan.tables import Number, Text, Whole, toml, typed


@dataclass(frozen=True)
class Resources:
    """What one task asks for."""

    cpus: Whole
    gpus: Whole
    memory_gb: Number
    minutes: Whole


@dataclass(frozen=True)
class Track:
    """One table of tracks.toml, whose head explains the keys."""

    name: Text
    summary: Text
    classification: Text
    detection: Text
    reid: Text
    size: Whole
    stored: Whole
    reid_size: Annotated[tuple[int, int], Meta(description="[height, width]")]
    limit: Whole
    device: Text
    disk_gb: Number
    comparable: Text
    usual_protocol: Text
    resources: Mapping[str, Resources]
    gflops: Number = 0.0
    card: Text = ""
    stand_ins: Mapping[str, Text] = field(default_factory=dict)
    protocols: Mapping[str, Text] = field(default_factory=dict)
    protocols_of: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)

    def data_sets(self, role: str) -> tuple[str, ...]:
        """The data sets that may have the role "classification", "detection" or "reid", the preferred one first."""
        first: str = getattr(self, role)
        return (first, self.stand_ins[role]) if role in self.stand_ins else (first,)

    def need(self, task: str) -> Resources:
        """What a task of that name asks for; UserError where the track does not say it."""
        if task not in self.resources:
            raise UserError(
                f"tracks.toml: {self.name}: no resources for task '{task}'",
                f"add '{task}' to [{self.name}.resources], or give its kind `resources` in repro/plan/kinds.py",
            )
        return self.resources[task]

    def protocol(self, kind: str, arch: str = "") -> str:
        """The protocol of an evaluation of such networks ("resnet", "vit") where none is asked for."""
        stated = self.protocols_of.get(arch, {}).get(kind) or self.protocols.get(kind)
        known = protocol_files.names(kind)
        return stated or (self.usual_protocol if self.usual_protocol in known else known[0])


ROLES: tuple[Kind, ...] = ("classification", "detection", "reid")


@cache
def tracks() -> dict[str, Track]:
    """Every track by name, smallest first. UserError where tracks.toml is not in order."""
    source = files("repro.plan").joinpath("tracks.toml")
    raw = toml(source.read_bytes(), source)
    return {name: typed(Track, table, f"tracks.toml: {name}", name=name) for name, table in raw.items()}


def find(name: str) -> Track:
    """The track of that name; UserError with the nearest valid one."""
    if name not in tracks():
        raise unknown("track", name, tracks())
    return tracks()[name]
