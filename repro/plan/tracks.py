"""The tracks: the scales at which everything runs, read from tracks.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from eval import protocols
from repro.errors import unknown


@dataclass(frozen=True)
class Resources:
    """What one task asks for."""

    cpus: int
    gpus: int
    memory_gb: float
    minutes: int


@dataclass(frozen=True)
class Track:
    """One table of tracks.toml, whose head explains the keys."""

    name: str
    summary: str
    classification: str
    detection: str
    reid: str
    size: int
    stored: int
    reid_size: tuple[int, int]
    limit: int
    device: str
    disk_gb: float
    units_per_second: float
    comparable: str
    usual_protocol: str
    resources: Mapping[str, Resources]
    protocols: Mapping[str, str] = field(default_factory=dict)
    protocols_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def protocol(self, kind: str, arch: str = "") -> str:
        """The protocol of an evaluation of such networks ("resnet", "vit") where none is asked for."""
        stated = self.protocols_of.get(arch, {}).get(kind) or self.protocols.get(kind)
        known = protocols.names(kind)
        return stated or (self.usual_protocol if self.usual_protocol in known else known[0])


@cache
def tracks() -> dict[str, Track]:
    """Every track by name, smallest first."""
    raw = tomllib.loads(files("repro.plan").joinpath("tracks.toml").read_text(encoding="utf-8"))
    return {
        name: Track(
            name=name,
            **{
                **table,
                "reid_size": tuple(table["reid_size"]),
                "resources": {key: Resources(**value) for key, value in table["resources"].items()},
            },
        )
        for name, table in raw.items()
    }


def find(name: str) -> Track:
    """The track of that name; UserError with the nearest valid one."""
    if name not in tracks():
        raise unknown("track", name, tracks())
    return tracks()[name]
