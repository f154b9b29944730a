"""The plan: runs x stages as a graph of jobs, made without torch and without reading a picture.

    arms x seeds -> [pretrain] -> [features -> knn, linear | reid] , [finetune] , [detection]

Brackets are processes (nodes): the evaluations of the frozen encoder share one, since importing torch costs more than
most of them. A job has a fingerprint (spec, seed, data, parents, reachable code) and leaves one record of that
fingerprint; it is cached when that record exists.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval import protocols
from repro import fingerprint, recipes, records, tracks
from repro.data import catalogue
from repro.data.entries import entry_of
from repro.data.types import MissingData
from repro.errors import UserError, unknown
from repro.settings import Settings
from repro.workspace import Workspace
from slurm.graph import Graph, Node, Resources

SUITES = {
    "quick": ("knn", "linear"),
    "full": ("knn", "linear", "finetune", "detection", "segmentation", "reid"),
}
EVALUATIONS = SUITES["full"]
FROZEN = ("features", "knn", "linear", "reid")  # kinds that share one process
_STAGE = {
    "pretrain": "repro.stages.pretrain",
    "features": "repro.stages.frozen",
    "knn": "repro.stages.frozen",
    "linear": "repro.stages.frozen",
    "reid": "repro.stages.frozen",
    "finetune": "repro.stages.finetune",
    "detection": "repro.stages.detection",
}
_USES = {
    "pretrain": ("repro.schedules",),
    "features": ("eval.features",),
    "knn": ("eval.knn",),
    "linear": ("eval.linear",),
    "reid": ("eval.features", "eval.reid"),
    "finetune": ("eval.finetune",),
    "detection": ("eval.detection",),
}
TARGET = "repro.jobs:run"


@dataclass(frozen=True)
class Request:
    """What the user asked for: the same for `run`, `plan` and `status`."""

    methods: tuple[str, ...]
    track: str = "embedded"
    evaluations: tuple[str, ...] = SUITES["full"]
    seeds: tuple[int, ...] = (0,)
    data: str | None = None  # a data set of the catalogue, or a folder of pictures
    overrides: tuple[str, ...] = ()  # "table.key=value"


@dataclass(frozen=True)
class Job:
    """One node of the plan; what a stage gets to do its work, as plain values."""

    kind: str
    method: str
    variant: str
    module: str
    track: str
    seed: int
    spec: dict[str, Any]
    parents: tuple[str, ...]  # fingerprints
    fingerprint: str
    seconds: float  # estimate
    cached: bool
    missing: str = ""  # why it could not run: the data that is not there

    @property
    def arm(self) -> str:
        """`aps` or `aps:flip_aware`."""
        return self.method + (f":{self.variant}" if self.variant else "")

    @property
    def node(self) -> str:
        """The process that it runs in."""
        return "frozen" if self.kind in FROZEN else self.kind

    @property
    def label(self) -> str:
        """How messages name it: `knn aps seed 0`."""
        return f"{self.kind} {self.arm} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Jobs in an order in which they can run."""

    request: Request
    track: tracks.Track
    jobs: tuple[Job, ...]
    faults: tuple[str, ...] = ()  # records of the workspace that cannot be read
    recipes: Mapping[str, recipes.Recipe] = field(default_factory=dict)

    def by_fingerprint(self) -> dict[str, Job]:
        """Jobs by fingerprint."""
        return {job.fingerprint: job for job in self.jobs}

    def to_do(self) -> list[Job]:
        """The jobs without a record, and those whose output was lost and is needed."""
        return [job for job in self.jobs if not job.cached]


def parse_overrides(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`["pretrain.epochs=2"]` -> `{"pretrain": {"epochs": 2}}`; a value is read as TOML, else as a bare word."""
    tables = (*recipes.TABLES, *protocols.KINDS, "data")
    parsed: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        table, dot, key = name.strip().partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: write it as table.key=value, for example --set pretrain.epochs=2")
        if table == "segmentation":
            raise UserError(f"--set {text}: boxes and masks come from one Mask R-CNN; write detection.{key}")
        if table not in tables:
            raise UserError(f"--set {text}: {unknown('table', table, tables)}")
        try:
            parsed.setdefault(table, {})[key] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            parsed.setdefault(table, {})[key] = value.strip()
    return parsed


def _evaluations(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in EVALUATIONS:
            raise unknown("evaluation", name, EVALUATIONS)
    return tuple(name for name in EVALUATIONS if name in names)


def _data_names(track: tracks.Track, request: Request, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The data sets of this plan by role, with the limit on training pictures."""
    keys: dict[str, Any] = {
        "classification": track.classification,
        "detection": track.detection,
        "reid": track.reid,
        "limit": track.limit,
    }
    if request.data is not None:
        if Path(request.data).is_dir():
            keys["classification"] = f"folder:{Path(request.data).resolve()}"
        elif "/" in request.data:
            raise UserError(f"--data {request.data}: no such folder")
        else:
            keys["classification"] = request.data
        keys["limit"] = 0
    for key, value in stated.items():
        if key not in keys:
            raise UserError(f"--set data.{key}: {unknown('key', key, keys)}")
        if type(value) is not type(keys[key]):
            raise UserError(f"--set data.{key}={value}: must be {type(keys[key]).__name__}, as {keys[key]!r} is")
        keys[key] = value
    for role in ("classification", "detection", "reid"):
        catalogue.require_kind(keys[role], role)
    return keys


@dataclass
class _Builder:
    """Collects the jobs of all runs."""

    settings: Settings
    track: tracks.Track
    request: Request
    done: Mapping[str, records.Record]
    data: Mapping[str, Any]
    stated: Mapping[str, Mapping[str, Any]]
    jobs: dict[str, Job] = field(default_factory=dict)
    _manifests: dict[str, tuple[str, str]] = field(default_factory=dict)

    def manifest(self, role: str) -> tuple[str, str]:
        """(manifest hash, why it is missing) of the data set in that role."""
        name = self.data[role]
        if name not in self._manifests:
            try:
                self._manifests[name] = catalogue.manifest_of(name, self.settings.where), ""
            except MissingData as error:
                self._manifests[name] = "", str(error)
        return self._manifests[name]

    def protocol(self, kind: str) -> protocols.Protocol:
        """The protocol of an evaluation: the one stated, the data set's own or the track's, as overridden."""
        stated = dict(self.stated.get(kind, {}))
        own = entry_of(self.data[kind]).protocol if kind in self.data else ""
        name = str(stated.pop("protocol", own or self.track.protocols[kind]))
        try:
            protocol = protocols.load(kind, name, stated)
        except ValueError as error:
            raise UserError(f"--set {error}" if kind in self.stated else str(error)) from None
        if isinstance(protocol, protocols.DetectionProtocol) and protocol.masks:
            data = self.data["detection"]
            if not catalogue.has_masks(data):
                raise UserError(
                    f"data set '{data}' has no masks, which detection protocol '{name}' needs;"
                    f" leave the choice out or take --set detection.protocol={own}"
                )
        return protocol

    def add(
        self,
        kind: str,
        info: recipes.MethodInfo,
        variant: str,
        seed: int,
        role: str,
        spec: dict[str, Any],
        parents: tuple[str, ...] = (),
        seconds: float | None = None,
    ) -> str:
        """One more job; returns its fingerprint."""
        manifest, missing = self.manifest(role)
        spec = {**spec, "data": {"name": self.data[role], "manifest": manifest, "limit": self.data["limit"]}}
        if kind in protocols.KINDS:
            protocol = self.protocol(kind)
            spec["protocol"] = {"name": protocol.name, "values": protocols.values(protocol)}
        code = [_STAGE[kind], *_USES[kind]]
        if kind == "pretrain":
            code.append(info.module.rpartition(":")[0])
            if base := spec["recipe"].get("base"):
                code.append(base["module"].rpartition(":")[0])
        mark = fingerprint.digest(
            {
                "kind": kind,
                "method": info.name,
                "variant": variant,
                "track": self.track.name,
                "seed": seed,
                "spec": spec,
                "parents": sorted(parents),
                "code": fingerprint.source_hash(*code),
            }
        )
        self.jobs[mark] = Job(
            kind=kind,
            method=info.name,
            variant=variant,
            module=info.module,
            track=self.track.name,
            seed=seed,
            spec=spec,
            parents=parents,
            fingerprint=mark,
            seconds=self.track.seconds[kind] if seconds is None else seconds,
            cached=mark in self.done,
            missing=missing,
        )
        return mark

    def run(self, info: recipes.MethodInfo, variant: str, seed: int, recipe: recipes.Recipe) -> None:
        """The jobs of one run: one method, variant and seed with its evaluations."""
        wanted = self.request.evaluations
        track = self.track
        pictures = self.data["limit"] or catalogue.train_pictures(self.data["classification"], self.settings.where)
        units = pictures * recipe["pretrain"]["epochs"] * recipes.relative_cost(info, variant)
        sizes = {"size": track.size, "stored": track.stored}
        spec = {**sizes, "recipe": recipe, "threads": track.resources["pretrain"].cpus}
        parent = self.add(
            "pretrain", info, variant, seed, "classification", spec, seconds=10 + units / track.units_per_second
        )
        threads = {"threads": track.resources["frozen"].cpus}
        for kind in ("knn", "linear"):
            if kind in wanted:
                protocol = self.protocol(kind)
                assert isinstance(protocol, protocols.Features)
                transform = {
                    k: list(v) if isinstance(v, tuple) else v for k, v in protocols.transform(protocol).items()
                }
                spec = {**sizes, **threads, "transform": transform}
                cache = self.add("features", info, variant, seed, "classification", spec, (parent,))
                self.add(kind, info, variant, seed, "classification", threads, (cache,))
        if "reid" in wanted:
            spec = {"reid_size": list(track.reid_size), **threads}
            self.add("reid", info, variant, seed, "reid", spec, (parent,))
        if "finetune" in wanted:
            spec = {**sizes, "threads": track.resources["finetune"].cpus}
            self.add("finetune", info, variant, seed, "classification", spec, (parent,))
        data = self.data["detection"]
        if "segmentation" in wanted and "detection" not in wanted and not catalogue.has_masks(data):
            raise UserError(f"data set '{data}' has no masks to judge segmentation by; take --eval detection")
        if {"detection", "segmentation"} & set(wanted):
            spec = {"threads": track.resources["detection"].cpus}
            seconds = self.detection_seconds(recipe["network"])
            self.add("detection", info, variant, seed, "detection", spec, (parent,), seconds)

    def detection_seconds(self, network: Mapping[str, Any]) -> float:
        """The track's figure, which is for its own protocol and a convolutional network, times the pixels trained on.

        A ViT of N tokens and D channels spends 24 N D^2 operations a block on its layers and 4 N^2 D on attention.
        """

        def pixels(protocol: protocols.Protocol) -> float:
            assert isinstance(protocol, protocols.DetectionProtocol)
            return float(_detector_pictures(protocol) * protocol.short_side * protocol.long_side)

        protocol = self.protocol("detection")
        own = protocols.load("detection", self.track.protocols["detection"])
        assert isinstance(protocol, protocols.DetectionProtocol)
        seconds = self.track.seconds["detection"] * pixels(protocol) / pixels(own)
        if network["arch"] != "vit":
            return seconds
        tokens = protocol.short_side * protocol.long_side / network["patch"] ** 2
        return seconds * (1 + tokens / (6 * network["dim"]))


def _detector_pictures(protocol: protocols.DetectionProtocol) -> int:
    """Training pictures that a detector and its check on a few see, those of forward passes alone counted a third."""
    return protocol.batch * (protocol.iterations + protocol.overfit_iterations + protocol.precise_norm // 3)


def make(request: Request, settings: Settings) -> Plan:
    """The plan of a request. Raises UserError for unknown names, keys and types; missing data is noted in the jobs."""
    track = tracks.find(request.track)
    stated = parse_overrides(request.overrides)
    names = [name for name in request.methods if name != "all"]
    if "all" in request.methods:
        names = [*names, *(name for name in recipes.methods() if name not in names)]
    if not names:
        raise UserError("name at least one method, for example --method aps (python -m repro methods lists them)")
    if any(seed < 0 for seed in request.seeds):
        raise UserError("--seed: seeds are whole numbers from 0")
    found, faults = records.read_all(Workspace(settings.workspace).records)
    request = Request(
        methods=tuple(names),
        track=request.track,
        evaluations=_evaluations(request.evaluations),
        seeds=request.seeds,
        data=request.data,
        overrides=request.overrides,
    )
    data = _data_names(track, request, stated.get("data", {}))
    builder = _Builder(settings, track, request, records.by_fingerprint(found), data, stated)
    resolved: dict[str, recipes.Recipe] = {}
    for name in names:
        info, variant = recipes.find(name)
        resolved[name] = recipes.resolve(info, variant, track.name, stated)
        for seed in dict.fromkeys(request.seeds):
            builder.run(info, variant, seed, resolved[name])
    jobs = _with_lost_outputs(tuple(builder.jobs.values()), Workspace(settings.workspace))
    return Plan(request, track, jobs, tuple(faults), resolved)


def merge(plans: Sequence[Plan]) -> Plan:
    """Plans of one track as one: what they share is done once."""
    jobs = {job.fingerprint: job for planned in plans for job in planned.jobs}
    faults = dict.fromkeys(fault for planned in plans for fault in planned.faults)
    return dataclasses.replace(plans[0], jobs=tuple(jobs.values()), faults=tuple(faults))


def _with_lost_outputs(jobs: tuple[Job, ...], place: Workspace) -> tuple[Job, ...]:
    """A job whose record is there but whose encoder or features are not is to do again if a job to do needs them."""
    needed: set[str] = set()
    checked = []
    for job in reversed(jobs):  # children stand behind their parents
        if job.cached and job.fingerprint in needed and not place.has_output(job.kind, job.fingerprint):
            job = dataclasses.replace(job, cached=False)
        if not job.cached:
            needed.update(job.parents)
        checked.append(job)
    return tuple(reversed(checked))


def graph(plan: Plan, settings: Settings) -> Graph:
    """The processes that do what is missing, with their dependencies."""
    groups: dict[tuple[str, str], list[Job]] = {}
    by_mark = plan.by_fingerprint()

    def root(job: Job) -> str:
        while job.parents:
            job = by_mark[job.parents[0]]
        return job.fingerprint

    for job in plan.to_do():
        groups.setdefault((root(job), job.node), []).append(job)
    nodes = []
    # The longest first: whoever fills two cores with them is done sooner.
    longest = sorted(groups.items(), key=lambda group: -sum(job.seconds for job in group[1]))
    for (origin, stage), jobs in longest:
        need = plan.track.resources[stage]
        after = (node_key(by_mark[origin], "pretrain"),) if stage != "pretrain" else ()
        nodes.append(
            Node(
                key=node_key(by_mark[origin], stage),
                target=TARGET,
                args={"workspace": str(settings.workspace.resolve()), "jobs": [as_args(job, settings) for job in jobs]},
                resources=Resources(
                    cpus=need.cpus, gpus=need.gpus, nodes=1, memory_gb=need.memory_gb, minutes=need.minutes
                ),
                after=tuple(parent for parent in after if (origin, "pretrain") in groups),
                stage=stage,
            )
        )
    return Graph(nodes)


def node_key(origin: Job, stage: str) -> str:
    """`frozen-aps-s0-0123abcd`: the process of a stage of the run that begins with `origin`."""
    return f"{stage}-{origin.arm.replace(':', '-')}-{origin.track}-s{origin.seed}-{origin.fingerprint[:8]}"


def as_args(job: Job, settings: Settings) -> dict[str, Any]:
    """A job as the plain values that its process gets."""
    root = settings.data_root
    return {
        "kind": job.kind,
        "method": job.method,
        "variant": job.variant,
        "module": job.module,
        "track": job.track,
        "seed": job.seed,
        "spec": job.spec,
        "parents": list(job.parents),
        "fingerprint": job.fingerprint,
        "data_root": str(root.resolve()) if root else None,
    }
