"""From records to arms: what may be averaged, and what may stand beside what.

An arm is one method and variant under one recipe, with one record for each seed. Two records of the same seed are never
averaged: they come from different code or settings, so they become different arms, and both are flagged.

Of a record this room reads `kind`, `method`, `variant`, `track`, `seed`, `fingerprint`, `parents`, `protocol`
(name, hash), `metrics`, `cost`, `provenance` (data, device, trials, date, source_hash, trust) and, of a pre-training,
`details.recipe` (tables `network` and `pretrain`). An evaluation finds its pre-training through `parents`; where that
is not at hand, network, epochs and cost of training show as "-". A missing entry stops nothing.

An arm may descend from an import instead: weights of a file (`details.file`). It has a network, but nothing is known of
what it cost, so it stands on the boards of its evaluations alone, flagged, and no claim is tested on it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leaderboards.claims import TRACKS, arm_name

Record = Mapping[str, Any]
Protocols = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Evaluation -> name -> `hash` and `values` of a protocol as it stands."""

MAIN_METRICS: Mapping[str, tuple[str, ...]] = {
    "knn": ("top1",),
    "linear": ("top1",),
    "finetune": ("top1",),
    "detection": ("bbox_AP",),
    "segmentation": ("segm_AP",),
    "reid": ("rank1", "mAP"),
    "reid_finetune": ("rank1", "mAP"),
}
"""Evaluation -> the metrics that it is known by; the first one sorts its board."""

CONTROLS = ("random", "supervised")
"""Methods that show what no pre-training, or one with labels, reaches: nothing that a method competes with."""
ORIGINS = ("pretrain", "import")
"""Kinds of record that an arm begins with."""
OURS = "ours"
TRUST = {
    OURS: "measured by this program from a pre-training of its own",
    "author": "made with the authors' weights or by their hands",
    "self-reported": "somebody's own number, not measured by this program",
}
"""How far a record is ours (`provenance.trust`; without it: ours). Verdicts rest on ours alone."""

_SECONDS_TO_TELL = 5  # of a training: the start of a shorter one would tell
_ROUNDING = 0.002  # seconds: costs are rounded to thousandths
_VIT = {(192, 12): "T", (384, 12): "S", (768, 12): "B", (1024, 24): "L", (1280, 32): "H"}


@dataclass(frozen=True)
class Setting:
    """What two numbers must share before they may be compared. Numbers of different scopes never share a table."""

    track: str
    data: str
    source: str  # the data set in words
    manifest: str
    protocol: str
    protocol_hash: str
    network: str
    epochs: int | None
    batch: int | None
    changed: str = field(default="", compare=False, repr=False)  # what `named` says; the hash decides

    @property
    def scope(self) -> tuple[int, str, str, str, str, str, str]:
        """The part that a whole table shares: track (smallest first), data and protocol."""
        order = TRACKS.index(self.track) if self.track in TRACKS else len(TRACKS)
        return (order, self.track, self.data, self.source, self.manifest, self.protocol, self.protocol_hash)


@dataclass(frozen=True)
class Arm:
    """Records that differ in nothing but their seed."""

    method: str
    variant: str
    setting: Setting
    recipe: str  # hash of the resolved recipe
    label: str  # tells this arm from others that print alike: a recipe, code or record hash, or ""
    records: Mapping[int, Record]  # by seed
    origins: Mapping[int, Record]  # their pre-trainings, as far as they are at hand
    flag: str  # what a reader must know, or ""
    imported: bool = False  # trained elsewhere: the weights of a file
    trust: str = OURS  # see TRUST; records of different trust are never averaged

    @property
    def name(self) -> str:
        """`method` or `method:variant`."""
        return arm_name(self.method, self.variant)

    @property
    def control(self) -> bool:
        """Whether it is there to be held against, and is no method itself."""
        return self.method in CONTROLS

    @property
    def told_apart(self) -> str:
        """What a reader needs beside the name: label and, where it is not ours, trust; or ""."""
        return ", ".join(word for word in (self.label, self.trust if self.trust != OURS else "") if word)

    def values(self, metric: str) -> dict[int, float]:
        """Metric by seed, for the seeds that have it."""
        return _present(self.records, lambda record: number(record.get("metrics"), metric))

    def costs(self, key: str) -> dict[int, float]:
        """Cost of these jobs by seed, for the seeds that have it."""
        return _present(self.records, lambda record: cost_of(record, key))

    def training(self, key: str) -> dict[int, float]:
        """Cost of the pre-trainings behind them by seed, for the seeds that have it: of an import nothing is known."""
        return {} if self.imported else _present(self.origins, lambda record: cost_of(record, key))

    @property
    def devices(self) -> str:
        """What its pre-trainings ran on, in words; "" where none is at hand."""
        return ", ".join(
            sorted({str(entry(origin, "provenance", "device") or "-") for origin in self.origins.values()})
        )

    @property
    def on_cpu(self) -> bool:
        """Whether all pre-trainings behind them ran on a CPU, so that their CPU time says something."""
        devices = [str(entry(origin, "provenance", "device") or "") for origin in self.origins.values()]
        return bool(devices) and all(device.startswith("CPU") for device in devices)

    def cpu_time(self) -> dict[int, float]:
        """CPU seconds of the pre-trainings on a CPU by seed: what other work on the machine leaves alone.

        `cpu_s` and `wall_s` are of one of a job's processes, `device_s` is of all of them: it counts times the cores
        that the one kept busy.
        """
        busy = {seed: _cores(origin) for seed, origin in self.origins.items()} if self.on_cpu else {}
        return {seed: time * cores for seed, time in self.training("device_s").items() if (cores := busy.get(seed))}

    @property
    def cpu_share(self) -> float | None:
        """Which part of the cores that its trainings asked for they got, 0 to 1; None on another device or unknown."""
        shares = []
        for origin in self.origins.values() if self.on_cpu else ():
            threads = entry(origin, "provenance", "threads") or 1
            cores = _cores(origin)
            if cores and entry(origin, "cost", "wall_s") * threads >= _SECONDS_TO_TELL:
                shares.append(cores / threads)
        return min(1.0, sum(shares) / len(shares)) if shares else None

    @property
    def newest(self) -> str:
        """Date of its last record, or ""."""
        return max(str(entry(record, "provenance", "date") or "") for record in self.records.values())

    @property
    def trained(self) -> str:
        """Date of its last pre-training, or ""."""
        return max((str(entry(origin, "provenance", "date") or "") for origin in self.origins.values()), default="")

    def trials(self) -> list[int]:
        """Tuning trials spent on this arm, one entry a distinct count."""
        origins = () if self.imported else self.origins.values()
        found = (entry(record, "provenance", "trials") for record in origins)
        return sorted({count for count in found if isinstance(count, int)})

    @property
    def tuned(self) -> str:
        """The same in words, "-" where no count is recorded."""
        return ", ".join(map(str, self.trials())) or "-"


def _cores(origin: Record) -> float | None:
    """The cores that a training kept busy, on average; None where the record does not say."""
    cpu, wall = cost_of(origin, "cpu_s"), cost_of(origin, "wall_s")
    return cpu / wall if cpu and wall else None


def _flat(arm: Arm) -> dict[str, Any]:
    """The recipe of an arm as `table.key` -> value."""
    tables = entry(next(iter(arm.origins.values()), {}), "details", "recipe") or {}
    return {
        f"{table}.{key}": value
        for table, values in tables.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
    }


def unlike(a: Arm, b: Arm) -> int:
    """In how many keys that both recipes have they differ: what two arms should share, beside their setting."""
    left, right = _flat(a), _flat(b)
    return sum(left[key] != right[key] for key in left.keys() & right.keys())


def superseded(found: Iterable[Arm]) -> list[Arm]:
    """The arms whose method and variant was trained again later in the same setting, by another recipe."""
    newest: dict[Any, tuple[str, str]] = {}
    found = list(found)
    for arm in found:
        key = arm.method, arm.variant, arm.setting, arm.trust
        newest[key] = max(newest.get(key, ("", "")), (arm.trained, arm.recipe))
    return [a for a in found if newest[a.method, a.variant, a.setting, a.trust][1] != a.recipe]


def recipes_apart(found: Sequence[Arm]) -> list[str]:
    """A line for every name under which recipes stand in a table that differ in more than the epochs of its column.

    `Recipes of byol, the newest first: f9fbd8: pretrain.lr 0.3, ...; 718553 (superseded): pretrain.lr 0.5, ...`
    """
    old = superseded(found)
    groups: dict[tuple[str, str], dict[str, Arm]] = defaultdict(dict)
    for arm in found:
        groups[arm.name, arm.trust].setdefault(arm.recipe, arm)
    lines = []
    for (name, _), by_recipe in sorted(groups.items()):
        several = sorted(by_recipe.values(), key=lambda arm: (arm.trained, arm.recipe), reverse=True)
        flat = {arm.recipe: _flat(arm) for arm in several}
        keys = dict.fromkeys(key for values in flat.values() for key in values)
        differing = [key for key in keys if len({_said(values.get(key)) for values in flat.values()}) > 1]
        if set(differing) - {"pretrain.epochs"}:
            parts = [
                f"{arm.recipe[:6] or '-'}{' (superseded)' if arm in old else ''}:"
                f" {', '.join(f'{key} {_said(flat[arm.recipe].get(key))}' for key in differing)}"
                for arm in several
            ]
            lines.append(f"Recipes of {name}, the newest first: {'; '.join(parts)}.")
    return lines


def _said(value: object) -> str:
    return "-" if value is None else _word(value)


def last_attempt_only(record: Record) -> bool:
    """Whether `wall_s` and `cpu_s` are of its last attempt alone: less than its device time, which is of all.

    So it was recorded of trainings that were resumed, before jobs kept the seconds of all their attempts.
    """
    wall, device = (number(record.get("cost"), key) for key in ("wall_s", "device_s"))
    processes = entry(record, "provenance", "processes") or 1
    return wall is not None and device is not None and wall < device / processes - _ROUNDING


def cost_of(record: Record, key: str) -> float | None:
    """A cost of a job, None where it is not known of all its attempts."""
    known = key not in ("wall_s", "cpu_s") or not last_attempt_only(record)
    return number(record.get("cost"), key) if known else None


def _present(records: Mapping[int, Record], read: Callable[[Record], float | None]) -> dict[int, float]:
    found = {seed: read(record) for seed, record in records.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def kind_of(evaluation: str) -> str:
    """The kind of record that an evaluation is read from: boxes and masks come from one Mask R-CNN."""
    return "detection" if evaluation == "segmentation" else evaluation


def number(table: object, key: str) -> float | None:
    """A finite number of a table, or None."""
    value = table.get(key) if isinstance(table, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def entry(record: Record, *path: str) -> Any:
    """`entry(record, "provenance", "data", "name")`, or None where a part of the way is missing."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


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


def origin_of(record: Record, by_fingerprint: Mapping[str, Record]) -> Record | None:
    """The pre-training or import that a record descends from (itself, if it is one), None where it is not at hand."""
    todo, seen = [record], set[str]()
    while todo:
        found = todo.pop()
        if found["kind"] in ORIGINS:
            return found
        for parent in found.get("parents") or ():
            if parent in by_fingerprint and parent not in seen:
                seen.add(parent)
                todo.append(by_fingerprint[parent])
    return None


def trust_of(record: Record, origin: Record | None = None) -> str:
    """How far a record is ours. What comes from a foreign pre-training (or weights) is foreign too."""
    if origin is not None and origin["kind"] == "import":
        return "author"
    found = (str(entry(one, "provenance", "trust") or OURS) for one in (record, origin) if one is not None)
    return next((trust for trust in found if trust != OURS), OURS)


def _setting(record: Record, recipe: object) -> Setting:
    data = {key: str(entry(record, "provenance", "data", key) or "-") for key in ("name", "source", "manifest")}
    tables = recipe if isinstance(recipe, Mapping) else {}
    epochs, batch = (entry(tables, "pretrain", key) for key in ("epochs", "batch"))
    return Setting(
        track=str(record["track"]),
        data=data["name"],
        source=data["source"],
        manifest=data["manifest"],
        protocol=str(entry(record, "protocol", "name") or "-"),
        protocol_hash=str(entry(record, "protocol", "hash") or "-"),
        network=network_name(tables.get("network")),
        epochs=epochs if isinstance(epochs, int) else None,
        batch=batch if isinstance(batch, int) else None,
        changed=str(entry(record, "protocol", "changed") or ""),
    )


def named(records: Iterable[Record], protocols: Protocols) -> list[Record]:
    """The records, and in `protocol.changed` in which values each differs from the protocol whose name it has."""
    return [
        {**record, "protocol": {**record["protocol"], "changed": changed}}
        if (changed := _changed(record, protocols))
        else record
        for record in records
    ]


def _changed(record: Record, protocols: Protocols) -> str:
    """`epochs 20, crop_scale none`, or ""."""
    known = protocols.get(record["kind"], {}).get(str(entry(record, "protocol", "name")))
    then = entry(record, "protocol", "values")
    if not known or not then or entry(record, "protocol", "hash") == known["hash"]:
        return ""
    now = known["values"]
    words = [f"{key} {_word(value)}" for key, value in then.items() if key not in now or now[key] != value]
    if missing := len(now.keys() - then.keys()):
        words.append(f"recorded before {missing} of today's keys")
    return ", ".join(words)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(_word, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _digest(recipe: object) -> str:
    text = json.dumps(recipe, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if recipe else ""


def arms(records: Iterable[Record], kind: str) -> list[Arm]:
    """The arms of one kind of record, in a fixed order; within an arm every seed counts once.

    `records` holds all kinds: the pre-trainings among them say what the others come from.
    """
    records = sorted(records, key=lambda record: (record["seed"], record["fingerprint"]))
    by_fingerprint = {record["fingerprint"]: record for record in records}
    origins = {mark: origin_of(record, by_fingerprint) for mark, record in by_fingerprint.items()}
    groups: dict[tuple[str, str, Setting, str, str], list[Record]] = defaultdict(list)
    for record in by_fingerprint.values():
        if record["kind"] == kind:
            origin = origins[record["fingerprint"]]
            recipe = entry(origin or record, "details", "recipe")
            same = record["method"], record["variant"] or "", _setting(record, recipe), trust_of(record, origin)
            groups[*same, _digest(recipe)].append(record)
    alike = Counter(tuple(same) for *same, _ in groups)
    found = []
    for (method, variant, setting, trust, recipe), group in groups.items():
        label = f"recipe {recipe[:6]}" if alike[method, variant, setting, trust] > 1 else ""
        for part, mark, flag in _once_each(group):
            trained = {record["seed"]: origins[record["fingerprint"]] for record in part}
            files = sorted({str(entry(o, "details", "file")) for o in trained.values() if o and o["kind"] == "import"})
            found.append(
                Arm(
                    method=method,
                    variant=variant,
                    setting=setting,
                    recipe=recipe,
                    label=", ".join(word for word in (label, mark) if word),
                    records={record["seed"]: record for record in part},
                    origins={seed: origin for seed, origin in trained.items() if origin is not None},
                    flag="; ".join(filter(None, [*(f"not trained here: weights of {file}" for file in files), flag])),
                    imported=bool(files),
                    trust=trust,
                )
            )
    return sorted(found, key=lambda arm: (arm.setting.scope, arm.name, str(arm.setting), arm.label, arm.trust))


def called(found: Sequence[Arm]) -> list[str]:
    """Names for arms where no table says more: those of one scope that would share one get what tells them apart."""
    plain = [f"{arm.name} ({arm.told_apart})" if arm.told_apart else arm.name for arm in found]
    alike = defaultdict(list)
    for name, arm in zip(plain, found, strict=True):
        alike[name, arm.setting.scope].append(_details(arm.setting))
    names = []
    for name, arm in zip(plain, found, strict=True):
        others = alike[name, arm.setting.scope]
        apart = [
            word
            for word, same in zip(_details(arm.setting), zip(*others, strict=True), strict=True)
            if len(set(same)) > 1
        ]
        names.append(f"{name} ({', '.join(apart)})" if apart else name)
    return names


def _details(setting: Setting) -> tuple[str, str, str]:
    return f"{setting.epochs} epochs", f"batch {setting.batch}", setting.network


def _once_each(group: list[Record]) -> list[tuple[list[Record], str, str]]:
    """Parts of a group in which no seed occurs twice, each with its mark and its flag."""
    seeds = [record["seed"] for record in group]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if not twice:
        return [(group, "", "")]
    flag = f"seed {', '.join(map(str, twice))} run more than once: not averaged"

    def source(record: Record) -> str:
        return "code " + str(entry(record, "provenance", "source_hash") or "-")[:6]

    def itself(record: Record) -> str:
        return "record " + str(record["fingerprint"])[:6]

    parts = _split(group, source)
    if any(len({r["seed"] for r in part}) < len(part) for part in parts.values()):
        parts = _split(group, itself)
    return [(part, mark, flag) for mark, part in sorted(parts.items())]


def _split(group: list[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in group:
        parts[key(record)].append(record)
    return parts
