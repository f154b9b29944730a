"""From records to arms: what may be averaged, and what may stand beside what.

An arm is one method and variant under one recipe, with one record for each seed. Two records of the same seed are never
averaged: they come from different code or settings, so they become different arms, and both are flagged.

An arm may descend from an import instead: weights of a file (`details.file`). It has a network, but nothing is known of
what it cost, so it stands on the boards of its evaluations alone, flagged, and no claim is tested on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from leaderboards.claims import arm_name
from leaderboards.neutral_keys import alike, digest, options
from leaderboards.record_fields import (
    COUNTED,
    OURS,
    Record,
    cost_of,
    entry,
    lab_of,
    number,
    origin_of,
    trust_of,
)
from leaderboards.setting import Setting, own_pictures, setting_of
from leaderboards.suite import Suite
from leaderboards.tuning import Tuning, tunings

UNTRAINED = "random"
PIXELS = "pixels"
"""The control method, and the kind of network that is none: the pixels themselves."""
CONTROLS = (UNTRAINED, "supervised")
"""Methods that show what no pre-training, or one with labels, reaches: nothing that a method competes with."""

_SECONDS_TO_TELL = 5  # of a training: the start of a shorter one would tell


@dataclass(frozen=True, eq=False)
class Arm:
    """Records that differ in nothing but their seed. Two arms are the same where their records are."""

    method: str
    variant: str
    setting: Setting
    recipe: str  # hash of the resolved recipe, without keys at their neutral value
    options: Mapping[str, Any]  # the recipe of its pre-trainings as `table.key` -> value; {} where not at hand
    label: str  # tells this arm from others that print alike: pictures, a recipe, code or record hash, or ""
    records: Mapping[int, Record]  # by seed
    origins: Mapping[int, Record]  # their pre-trainings, as far as they are at hand
    flag: str  # what a reader must know, or ""
    imported: bool = False  # trained elsewhere: the weights of a file
    trust: str = OURS  # see TRUST; of records of different trust only those of COUNTED are averaged: they count as ours
    tuning: tuple[Tuning, ...] = ()  # how its recipe was found; () where it is not recorded
    _read: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict, repr=False)  # numbers by seed, once

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """Of its records, by seed."""
        return tuple(str(record["fingerprint"]) for _, record in sorted(self.records.items()))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Arm) and self.fingerprints == other.fingerprints)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.fingerprints)

    @cached_property
    def name(self) -> str:
        """`method` or `method:variant`."""
        return arm_name(self.method, self.variant)

    @cached_property
    def kind(self) -> str:
        """The kind of its records."""
        return str(next(iter(self.records.values()))["kind"])

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
        return self._once("metric", metric, self.records, lambda record: number(record.get("metrics"), metric))

    def costs(self, key: str) -> dict[int, float]:
        """Cost of these jobs by seed, for the seeds that have it."""
        return self._once("cost", key, self.records, lambda record: cost_of(record, key))

    def training(self, key: str) -> dict[int, float]:
        """Cost of the pre-trainings behind them by seed, for the seeds that have it: of an import nothing is known."""
        origins = {} if self.imported else self.origins
        return self._once("training", key, origins, lambda record: cost_of(record, key))

    def _once(
        self, what: str, key: str, records: Mapping[int, Record], read: Callable[[Record], float | None]
    ) -> dict[int, float]:
        if (what, key) not in self._read:
            found = {seed: read(record) for seed, record in records.items()}
            self._read[what, key] = {seed: value for seed, value in found.items() if value is not None}
        return self._read[what, key]

    @cached_property
    def labs(self) -> list[str]:
        """The other labs that some of its records come from."""
        return sorted({lab for record in self.records.values() if (lab := lab_of(record))})

    @cached_property
    def devices(self) -> str:
        """What its pre-trainings ran on, in words; "" where none is at hand."""
        return ", ".join(
            sorted({str(entry(origin, "provenance", "device") or "-") for origin in self.origins.values()})
        )

    @cached_property
    def on_cpu(self) -> bool:
        """Whether all pre-trainings behind them ran on a CPU, so that their CPU time says something."""
        devices = [str(entry(origin, "provenance", "device") or "") for origin in self.origins.values()]
        return bool(devices) and all(device.startswith("CPU") for device in devices)

    @cached_property
    def operations(self) -> float | None:
        """Operations of its pre-trainings, forward and backward: their mean, None where they are not recorded."""
        found = [value for value in self.training("flops").values() if value > 0]
        return sum(found) / len(found) if found else None

    def cpu_time(self) -> dict[int, float]:
        """CPU seconds of the pre-trainings on a CPU by seed: what other work on the machine leaves alone.

        `cpu_s` and `wall_s` are of one of a job's processes, `device_s` is of all of them: it counts times the cores
        that the one kept busy.
        """
        busy = {seed: _cores(origin) for seed, origin in self.origins.items()} if self.on_cpu else {}
        return {seed: time * cores for seed, time in self.training("device_s").items() if (cores := busy.get(seed))}

    @cached_property
    def cpu_shares(self) -> dict[int, float]:
        """By seed which part of the cores that its training asked for it got, 0 to 1; where that is known, on a CPU."""
        shares = {}
        for seed, origin in self.origins.items() if self.on_cpu else ():
            threads = entry(origin, "provenance", "threads") or 1
            cores = _cores(origin)
            if cores and entry(origin, "cost", "wall_s") * threads >= _SECONDS_TO_TELL:
                shares[seed] = min(1.0, cores / threads)
        return shares

    @property
    def cpu_share(self) -> float | None:
        """Their mean; None where there is none."""
        return fmean(self.cpu_shares.values()) if self.cpu_shares else None

    @property
    def standing(self) -> tuple[int, str]:
        """Of several arms of one name the largest stands for it: most seeds, then the newest training."""
        return len(self.records), self.trained

    @property
    def newest(self) -> str:
        """Date of its last record, or ""."""
        return max(str(entry(record, "provenance", "date") or "") for record in self.records.values())

    @property
    def trained(self) -> str:
        """Date of its last pre-training, or ""."""
        return max((str(entry(origin, "provenance", "date") or "") for origin in self.origins.values()), default="")

    @property
    def tuned(self) -> str:
        """How it was tuned in words: a procedure, a number of trials by hand, or "-" where it is not recorded."""
        return ", ".join(dict.fromkeys(map(str, self.tuning))) or "-"


def _cores(origin: Record) -> float | None:
    """The cores that a training kept busy, on average; None where the record does not say."""
    cpu, wall = cost_of(origin, "cpu_s"), cost_of(origin, "wall_s")
    return cpu / wall if cpu and wall else None


_Same = tuple[str, str, Setting, str]  # method, variant, setting, trust
_Groups = dict[tuple[_Same, str], list[Record]]  # by that and by recipe


class Arms:
    """Records and the arms that they make up, each kind computed once.

    records: plain dicts of all kinds, seeds and tracks: the pre-trainings among them say what the others come from.
        They may stand in any order, and a fingerprint counts once.
    """

    def __init__(self, records: Iterable[Record], suite: Suite) -> None:
        self.suite = suite
        ordered = sorted(records, key=lambda record: (record["seed"], record["fingerprint"]))
        self._records = {record["fingerprint"]: record for record in ordered}
        self._own = own_pictures(self._records.values(), suite.own)
        self._kinds: dict[str, list[Record]] = defaultdict(list)
        for record in self._records.values():
            self._kinds[record["kind"]].append(record)
        self._origins: dict[str, Record | None] = {}
        self._recipes: dict[str, str] = {}  # of pre-trainings: many evaluations come from one
        self._options: dict[str, Mapping[str, Any]] = {}  # by recipe
        self._settings: dict[tuple[Setting, str], Setting] = {}  # one object for all that are equal
        self._grouped: dict[str, _Groups] = {}
        self._found: dict[str, list[Arm]] = {}
        self._current: dict[str, list[Arm]] = {}
        self._superseded: dict[str, list[Arm]] = {}

    @property
    def records(self) -> list[Record]:
        """By seed, then by fingerprint."""
        return list(self._records.values())

    @property
    def kinds(self) -> list[str]:
        """The kinds of record that are there."""
        return sorted(self._kinds)

    def of(self, kind: str) -> list[Arm]:
        """The arms of one kind of record, in a fixed order; within an arm every seed counts once."""
        if kind not in self._found:
            self._found[kind] = self._arms(self._groups(kind))
        return self._found[kind]

    def current(self, kind: str) -> list[Arm]:
        """`of` without what a newer recipe has superseded, and without arms of one subset for all seeds."""
        if kind not in self._current:
            self._split(kind)
        return self._current[kind]

    def superseded(self, kind: str) -> list[Arm]:
        """The arms whose method and variant was trained again later, by another recipe.

        That is any other recipe in the same setting, and for the same network on the track the recipe of today. And
        those of one subset for all seeds: no run makes such any more.
        """
        if kind not in self._superseded:
            self._split(kind)
        return self._superseded[kind]

    def _split(self, kind: str) -> None:
        groups = self._groups(kind)
        newest: dict[_Same, tuple[str, str]] = {}
        for (same, recipe), group in groups.items():
            newest[same] = max(newest.get(same, ("", "")), (self._trained(group), recipe))
        kept = {
            (same, recipe): group
            for (same, recipe), group in groups.items()
            if newest[same][1] == recipe and same[2].drawn is not None and not self._outdated(same, recipe, group)
        }
        self._current[kind] = self._arms(kept)
        self._superseded[kind] = self._arms({key: group for key, group in groups.items() if key not in kept})

    def _trained(self, group: Iterable[Record]) -> str:
        """Date of the last training that these records come from, or ""."""
        return max(str(entry(self._origin(record) or {}, "provenance", "date") or "") for record in group)

    def _outdated(self, same: _Same, recipe: str, group: Iterable[Record]) -> bool:
        """Whether this is another recipe than today's, which the same network was trained by later on this track."""
        method, variant, setting, trust = same
        later = self._of_today.get((method, variant, setting.track, setting.network, trust), "") > self._trained(group)
        return later and not self._is_of_today(same, recipe)

    @cached_property
    def _of_today(self) -> dict[tuple[str, str, str, str, str], str]:
        """When the recipe that a track has today was last trained, by method, variant, track, network and trust."""
        found: dict[tuple[str, str, str, str, str], str] = {}
        for (same, recipe), group in self._groups("pretrain").items():
            if self._is_of_today(same, recipe):
                method, variant, setting, trust = same
                key = method, variant, setting.track, setting.network, trust
                found[key] = max(found.get(key, ""), self._trained(group))
        return found

    def _is_of_today(self, same: _Same, recipe: str) -> bool:
        method, variant, setting, _ = same
        now = self.suite.recipe(arm_name(method, variant), setting.track)
        return not now or alike(self._options[recipe], options(now, self.suite.neutral))

    def _origin(self, record: Record) -> Record | None:
        mark = record["fingerprint"]
        if mark not in self._origins:
            self._origins[mark] = origin_of(record, self._records)
        return self._origins[mark]

    def _groups(self, kind: str) -> _Groups:
        if kind not in self._grouped:
            self._grouped[kind] = self._group(kind)
        return self._grouped[kind]

    def _group(self, kind: str) -> _Groups:
        groups: _Groups = defaultdict(list)
        for record in self._kinds.get(kind, ()):
            origin = self._origin(record)
            recipe = entry(origin or record, "details", "recipe")
            read = setting_of(record, origin, self.suite, self._own)
            setting = self._settings.setdefault((read, read.changed), read)
            trust = trust_of(record, origin)
            same = record["method"], record["variant"] or "", setting, OURS if trust in COUNTED else trust
            groups[same, self._recipe(origin or record, recipe)].append(record)
        return groups

    def _recipe(self, holder: Record, recipe: object) -> str:
        mark = holder["fingerprint"]
        if mark not in self._recipes:
            found = self._recipes[mark] = digest(recipe, self.suite.neutral)
            if found not in self._options:
                self._options[found] = options(recipe, self.suite.neutral)
        return self._recipes[mark]

    def _arms(self, groups: _Groups) -> list[Arm]:
        alike = Counter(same for same, _ in groups)
        pictures: dict[object, set[str]] = defaultdict(set)  # that encoders of one table were trained on
        for (_, _, setting, _), _ in groups:
            pictures[setting.scope].add(setting.trained_on)
        found = []
        for (same, recipe), group in groups.items():
            method, variant, setting, trust = same
            label = f"recipe {recipe[:6]}" if alike[same] > 1 else ""
            known = setting.trained_on != "-" and len(pictures[setting.scope] - {"-"}) > 1
            on = f"trained on {setting.trained_on}" if known else ""
            for part, mark, flag in _once_each(group):
                origins = {record["seed"]: origin for record in part if (origin := self._origin(record)) is not None}
                files = {str(entry(o, "details", "file")) for o in origins.values() if o["kind"] == "import"}
                flags = [*(f"not trained here: weights of {file}" for file in sorted(files)), flag]
                found.append(
                    Arm(
                        method=method,
                        variant=variant,
                        setting=setting,
                        recipe=recipe,
                        options=self._options[recipe] if origins else {},
                        label=", ".join(word for word in (on, label, mark) if word),
                        records={record["seed"]: record for record in part},
                        origins=origins,
                        flag="; ".join(filter(None, flags)),
                        imported=bool(files),
                        trust=trust,
                        tuning=()
                        if files
                        else tunings(arm_name(method, variant), setting.track, origins.values(), self.suite),
                    )
                )
        return sorted(found, key=lambda arm: (arm.setting.scope, arm.name, arm.setting.text, arm.label, arm.trust))


def _once_each(group: list[Record]) -> list[tuple[list[Record], str, str]]:
    """Parts of a group in which no seed occurs twice, each with its mark and its flag."""
    seeds = [record["seed"] for record in group]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if not twice:
        return [(group, "", "")]
    several = len(twice) > 1
    which = f"seeds {', '.join(map(str, twice))} each have" if several else f"seed {twice[0]} has"
    flag = f"{which} several runs; we do not choose one"

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
