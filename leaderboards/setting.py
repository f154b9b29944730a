"""Settings: what two numbers must share before they may be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from leaderboards.claims import TRACKS
from leaderboards.record_fields import Record, drawn_of, entry
from leaderboards.suite import Suite

_VIT = {(192, 12): "T", (384, 12): "S", (768, 12): "B", (1024, 24): "L", (1280, 32): "H"}

_LONG = 60  # characters of a protocol's changes: more have no room in a title
_TOO_SMALL = ("coco-mini", "vehicle-reid-market")  # older data sets: 57 pictures, 162 queries


@dataclass(frozen=True)
class Setting:
    """What two numbers must share before they may be compared. Numbers of different scopes never share a table."""

    track: str
    data: str
    source: str = field(compare=False, repr=False)  # the data set in words, which may change
    manifest: str
    protocol: str
    protocol_hash: str
    network: str
    epochs: int | None
    batch: int | None
    trained_on: str  # the data set of the pre-training, "-" where that is not at hand or was not ours
    drawn: int | None = 0  # training pictures that each seed draws; 0: all are used; None: older, all seeds share some
    changed: str = field(default="", compare=False, repr=False)  # against the protocol of that name; the hash decides
    unknown: bool = field(default=False, compare=False, repr=False)  # whether no protocol of today has that hash

    @property
    def place(self) -> str:
        """What all numbers of a table share, beside the track: `CIFAR-10 (JPEG copy), protocol mini`."""
        short = self.changed if len(self.changed) <= _LONG else "other values"
        if not self.changed and self.unknown:
            short = f"values {self.protocol_hash[:8]}"
        protocol = f", protocol {self.protocol}" + (f" ({short})" if short else "")
        subset = "" if self.drawn == 0 else f", {self.pictures}"
        return (self.source if self.source != "-" else self.data) + (protocol if self.protocol != "-" else "") + subset

    @property
    def too_small(self) -> bool:
        """Whether its test set is so small that no verdict counts its records."""
        return self.data in _TOO_SMALL

    @property
    def data_name(self) -> str:
        """Its data set in words, without which copy of it was used: `CIFAR-10`, `scenes composed of CIFAR-10`."""
        return re.sub(r" \([^)]*\)", "", self.source if self.source != "-" else self.data)

    @property
    def pictures(self) -> str:
        """Which training pictures were used, in words."""
        if self.drawn is None:
            return "one subset of the training images for all seeds"
        return f"{self.drawn:,} training images drawn for each seed" if self.drawn else "all training images"

    @property
    def other_values(self) -> str:
        """A sentence with the protocol's values where `place` has no room for them, or ""."""
        return f"Protocol {self.protocol} here: {self.changed}." if len(self.changed) > _LONG else ""

    @property
    def words(self) -> str:
        """Track and place: `mini: CIFAR-10 (JPEG copy), protocol mini`."""
        return f"{self.track}: {self.place}"

    @cached_property
    def text(self) -> str:
        """All of it in a text, to sort by."""
        return str(self)

    def of_own_pictures(self, prefix: str) -> bool:
        """Whether it was trained or tested on a user's own pictures. prefix: see `Suite.own`."""
        return _is_own(self.data, prefix) or _is_own(self.trained_on, prefix)

    @cached_property
    def scope(self) -> tuple[int, str, str, str, str, str, bool, int]:
        """The part that a whole table shares: track (smallest first), data, protocol and choice of the pictures."""
        order = TRACKS.index(self.track) if self.track in TRACKS else len(TRACKS)
        chosen = self.drawn is None, self.drawn or 0
        return (order, self.track, self.data, self.manifest, self.protocol, self.protocol_hash, *chosen)


def network_name(network: object) -> str:
    """A network as papers name it where they do: `ViT-S/16`, `ResNet-18`; else `ViT 128x6/4`; "-" for none."""
    if not isinstance(network, Mapping):
        return "-"
    depth = network.get("depth")
    if network.get("arch") == "resnet":
        width = network.get("width", 64)
        return f"ResNet-{depth}" + ("" if width == 64 else f" w{width}")
    if network.get("arch") == "vit":
        letter = _VIT.get((network.get("dim", 0), depth or 0))
        return (
            f"ViT-{letter}/{network.get('patch')}"
            if letter
            else f"ViT {network.get('dim')}x{depth}/{network.get('patch')}"
        )
    return str(network.get("arch", "-"))


def own_pictures(records: Iterable[Record], prefix: str) -> dict[str, tuple[str, str]]:
    """Name and source of own pictures by manifest, as the first record of them has them.

    A folder that was moved or renamed holds the same pictures: its numbers stay in one table.
    prefix: how their names begin (`Suite.own`).
    """
    found: dict[str, tuple[str, str]] = {}
    for record in records:
        name, source, manifest = _pictures(record)
        if _is_own(name, prefix) and manifest != "-":
            found.setdefault(manifest, (name, source))
    return found


def _is_own(name: str, prefix: str) -> bool:
    return bool(prefix) and name.startswith(prefix)


def _pictures(record: Record | None) -> tuple[str, str, str]:
    """Name, source and manifest of a record's pictures, each "-" where it says nothing."""
    stated = _table(entry(record, "provenance", "data")) if record else {}
    name, source, manifest = (str(stated.get(key) or "-") for key in ("name", "source", "manifest"))
    return name, source, manifest


def setting_of(record: Record, origin: Record | None, suite: Suite, own: Mapping[str, tuple[str, str]]) -> Setting:
    """The setting of a record that comes from this pre-training or import (None: it is not at hand).

    suite: `changed` says in what the record's protocol differs from the one of its name there.
    own: see `own_pictures`.
    """
    name, source, manifest = _pictures(record)
    name, source = own.get(manifest, (name, source)) if _is_own(name, suite.own) else (name, source)
    protocol = _table(record.get("protocol"))
    recipe = entry(origin or record, "details", "recipe")
    tables = recipe if isinstance(recipe, Mapping) else {}
    trained_on, _, of = _pictures(origin if origin and origin["kind"] == "pretrain" else None)
    trained_on = own.get(of, (trained_on, ""))[0] if _is_own(trained_on, suite.own) else trained_on
    named = suite.protocols.get(record["kind"], {})
    epochs, batch = (entry(tables, "pretrain", key) for key in ("epochs", "batch"))
    return Setting(
        track=str(record["track"]),
        data=name,
        source=source,
        manifest=manifest,
        protocol=str(protocol.get("name") or "-"),
        protocol_hash=str(protocol.get("hash") or "-"),
        network=network_name(tables.get("network")),
        epochs=epochs if isinstance(epochs, int) else None,
        batch=batch if isinstance(batch, int) else None,
        trained_on=trained_on,
        drawn=_drawn(record, origin, suite),
        changed=_changed(protocol, named),
        unknown=bool(protocol.get("hash")) and protocol["hash"] not in {other["hash"] for other in named.values()},
    )


def _drawn(record: Record, origin: Record | None, suite: Suite) -> int | None:
    """`Setting.drawn`: of the pre-training, or of the pictures judged on where the weights are of a file."""
    seen = origin if origin and origin["kind"] == "pretrain" else record
    drawn = drawn_of(seen)
    if drawn is None and _pictures(seen)[0] in suite.one_subset.get(str(record["track"]), ()):
        return None
    return drawn or 0


def _table(value: object) -> Mapping[str, Any]:
    """A table of a record, empty where it is none."""
    return value if isinstance(value, Mapping) else {}


def _changed(protocol: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> str:
    """`epochs 20, crop_scale none`, or "". named: the protocols of that kind as they stand.

    What was called otherwise then, and is a named protocol now, is not changed: that one's name is said. A protocol
    that lacks options of today is an older version; the two do not compare.
    """
    known, then = named.get(str(protocol.get("name"))), protocol.get("values")
    if not known or not then or protocol.get("hash") == known["hash"]:
        return ""
    for name, other in named.items():
        if protocol.get("hash") == other["hash"]:
            return f"now called {name}"
    now = known["values"]
    words = [f"{key} {value_words(value)}" for key, value in then.items() if key not in now or now[key] != value]
    if now.keys() - then.keys():
        words.append("older version")
    return ", ".join(words)


def value_words(value: Any) -> str:
    """A value of a protocol or recipe as people read it: `on`, `0.08 1`, `none` for an empty list."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(value_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
