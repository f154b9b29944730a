"""The plan: runs x stages as a graph of jobs, made without torch and without reading a picture.

    arms x seeds -> [pretrain] -> [features -> knn, linear | reid] , [linear on crops] , [finetune] , [detection] ,
                                  [reid_finetune]
    a checkpoint -> [import]   -> the same

Brackets are processes (nodes): the evaluations of the frozen encoder share one, since importing torch costs more than
most of them. A linear probe on random crops runs the encoder in every epoch, as long as a pre-training: it has a
process of its own, so that k-NN and re-ID need not wait for it, and what stops it stops nothing else. So has every
further protocol of an evaluation that trains the encoder. A job has a fingerprint (spec, seed, data, parents, reachable
code) and leaves one record of that fingerprint; it is cached when that record exists.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval import protocols
from repro import fingerprint, prices, recipes, records, tracks
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
EVALUATIONS = (*SUITES["full"], "reid_finetune")
FROZEN = ("features", "knn", "linear", "reid")  # kinds that share one process
_STAGE = {
    "pretrain": "repro.stages.pretrain",
    "import": "repro.stages.imported",
    "features": "repro.stages.frozen",
    "knn": "repro.stages.frozen",
    "linear": "repro.stages.frozen",
    "reid": "repro.stages.frozen",
    "finetune": "repro.stages.finetune",
    "detection": "repro.stages.detection",
    "reid_finetune": "repro.stages.reid_finetune",
}
_USES = {
    "pretrain": ("repro.schedules",),
    "import": ("repro.weights",),
    "features": ("eval.features",),
    "knn": ("eval.knn",),
    "linear": ("eval.linear", "eval.linear_crops"),
    "reid": ("eval.features", "eval.reid"),
    "finetune": ("eval.finetune",),
    "detection": ("eval.detection",),
    "reid_finetune": ("eval.reid_finetune",),
}
TARGET = "repro.jobs:run"
IMPORTED = "imported"  # the variant of every arm that was trained elsewhere: no registered arm is called so


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
    evaluations: tuple[str, ...] = SUITES["full"]
    seeds: tuple[int, ...] = (0,)
    data: str | None = None  # a data set of the catalogue, or a folder of pictures
    overrides: tuple[str, ...] = ()  # "table.key=value"
    protocols: tuple[str, ...] = ()  # "linear=fast,glnet": in place of the track's own
    checkpoint: Checkpoint | None = None  # evaluated beside the methods
    processes: int = 1  # that share the batches of a pre-training


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
    source: Path | None = None  # of an import: the file; its content is in the fingerprint, its place is not
    priced_by: str = prices.CONSTANTS  # where the estimate is from: one of prices.PRICED_BY

    @property
    def arm(self) -> str:
        """`aps` or `aps:flip_aware`."""
        return self.method + (f":{self.variant}" if self.variant else "")

    @property
    def node(self) -> str:
        """The kind of process that it runs in."""
        on_crops = bool(self.protocol.get("values", {}).get("crop_scale"))
        return "frozen" if self.kind in FROZEN and not on_crops else self.kind

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Name and values; {} for a job that is no evaluation."""
        return self.spec.get("protocol", {})

    @property
    def network(self) -> Mapping[str, Any]:
        """Table [network] of a pre-training or an import."""
        found: Mapping[str, Any] = self.spec["recipe"]["network"] if "recipe" in self.spec else self.spec["network"]
        return found

    @property
    def processes(self) -> int:
        """How many work on it together."""
        return int(self.spec.get("processes", 1))

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

    def resources(self, stage: str) -> tracks.Resources:
        """What a process of that stage asks for; an import as much as the frozen evaluations."""
        return self.track.resources["frozen" if stage == "import" else stage]

    def to_do(self) -> list[Job]:
        """The jobs without a record, and those whose output was lost and is needed."""
        return [job for job in self.jobs if not job.cached]

    @property
    def seconds(self) -> float:
        """Estimate of what is to do, one job after another."""
        return sum(job.seconds for job in self.to_do())

    def gpu_hours(self, job: Job) -> float:
        """Estimate of the time that a job holds GPUs, times their number."""
        return job.seconds * self.resources(job.node).gpus / 3600


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


def parse_protocols(texts: Iterable[str], evaluations: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`["linear=fast,glnet"]` -> `{"linear": ("fast", "glnet")}`, of evaluations that are asked for."""
    wanted = {"detection" if name == "segmentation" else name for name in evaluations}
    parsed: dict[str, tuple[str, ...]] = {}
    for text in texts:
        kind, _, names = (part.strip() for part in text.partition("="))
        found = tuple(dict.fromkeys(name for name in map(str.strip, names.split(",")) if name))
        if not found:
            raise UserError(f"--protocol {text}: write it as KIND=NAME, for example --protocol linear=glnet")
        if kind == "segmentation":
            raise UserError(f"--protocol {text}: boxes and masks come from one Mask R-CNN; write detection={names}")
        if kind not in protocols.KINDS:
            raise UserError(f"--protocol {text}: {unknown('evaluation', kind, protocols.KINDS)}")
        for name in found:
            if name not in protocols.names(kind):
                raise UserError(f"--protocol {text}: {unknown(f'{kind} protocol', name, protocols.names(kind))}")
        if kind in parsed:
            raise UserError(
                f"--protocol {text}: {kind} is given twice; write {kind}={','.join((*parsed[kind], *found))}"
            )
        if kind not in wanted:
            raise UserError(f"--protocol {text}: {kind} is not among the evaluations asked for; add it to --eval")
        parsed[kind] = found
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
    chosen: Mapping[str, tuple[str, ...]]  # protocols
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

    def protocols_of(self, kind: str, network: Mapping[str, Any]) -> list[protocols.Protocol]:
        """The protocols of an evaluation of that network, as overridden.

        Those asked for, else the data set's own, else the track's for such networks.
        """
        own = entry_of(self.data[kind]).protocol if kind in self.data else ""
        names = self.chosen.get(kind, (own or self.track.protocol(kind, network["arch"]),))
        try:
            found = [protocols.load(kind, name, self.stated.get(kind, {})) for name in names]
        except ValueError as error:
            raise UserError(f"--set {error}" if kind in self.stated else str(error)) from None
        data = self.data["detection"]
        for protocol in found:
            if getattr(protocol, "masks", False) and not catalogue.has_masks(data):
                raise UserError(
                    f"data set '{data}' has no masks, which detection protocol '{protocol.name}' needs;"
                    f" leave the choice out or take --protocol detection={own}"
                )
        return found

    def add(
        self,
        kind: str,
        info: recipes.MethodInfo,
        variant: str,
        seed: int,
        role: str | None,
        spec: dict[str, Any],
        parents: tuple[str, ...] = (),
        seconds: float | None = None,
        protocol: protocols.Protocol | None = None,
        source: Path | None = None,
    ) -> str:
        """One more job, on the data set in that role (None: it reads no pictures); returns its fingerprint."""
        missing = ""
        if role is not None:
            manifest, missing = self.manifest(role)
            spec = {**spec, "data": {"name": self.data[role], "manifest": manifest, "limit": self.data["limit"]}}
        if protocol:
            spec["protocol"] = {"name": protocol.name, "values": protocol.values()}
        mark = fingerprint_of(kind, info.name, variant, info.module, self.track.name, seed, spec, parents)
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
            source=source,
        )
        return mark

    def imported(self, given: Checkpoint) -> None:
        """The jobs of a checkpoint: one arm with one seed, since a file is one pre-training."""
        if given.network["arch"] == "vit":
            self._require_size(given)
        track = self.track
        spec: dict[str, Any] = {
            "network": dict(given.network),
            "checkpoint": {"sha256": given.sha256, "layout": given.layout, "part": given.part},
            "normalise": given.normalise,
            "mean": list(given.mean),
            "std": list(given.std),
            "threads": track.resources["frozen"].cpus,
        }
        role = None
        if given.normalise == "data":
            role, spec = "classification", {**spec, "size": track.size, "stored": track.stored}
        info = recipes.MethodInfo(
            name=given.name,
            module="",
            role=IMPORTED,
            title=f"weights of {given.path.name}",
            paper="",
            arxiv="",
            relative_cost=0.0,
            negatives="",
            base="",
            defaults={},
            tracks={},
            variants={},
            source="",
        )
        parent = self.add("import", info, IMPORTED, 0, role, spec, seconds=5, source=given.path)
        self.evaluations(info, IMPORTED, 0, parent, given.network)

    def _require_size(self, given: Checkpoint) -> None:
        """UserError where a ViT of a file would see pictures of another size than it was trained on."""
        wanted = given.network["size"]
        for kind in ("knn", "linear", "finetune"):
            if kind in self.request.evaluations:
                for protocol in self.protocols_of(kind, given.network):
                    whole = self.track.size if getattr(protocol, "crop_scale", ()) else self.track.stored
                    sides = getattr(protocol, "size", ()) or (whole or self.track.size,) * 2
                    if tuple(sides) != (wanted, wanted):
                        raise UserError(
                            f"{kind}: its pictures are {sides[0]} x {sides[1]}, the network of {given.path.name} was"
                            f" trained on {wanted} x {wanted}, and positions are not interpolated;"
                            f" resize the pictures with --set {kind}.size=[{wanted},{wanted}]"
                        )

    def run(self, info: recipes.MethodInfo, variant: str, seed: int, recipe: recipes.Recipe) -> None:
        """The jobs of one run: one method, variant and seed with its evaluations."""
        track = self.track
        units = self.pictures() * recipe["pretrain"]["epochs"] * recipes.relative_cost(info, variant)
        sizes = {"size": track.size, "stored": track.stored}
        spec = {**sizes, "recipe": recipe, "threads": track.resources["pretrain"].cpus}
        # Of what is not trained one process is enough.
        processes = self.request.processes if recipe["pretrain"]["epochs"] else 1
        if processes > 1:
            recipes.require_parts(info, variant, recipe["pretrain"], processes)
            spec["processes"] = processes
        seconds = 10 + units / (track.units_per_second * processes)
        parent = self.add("pretrain", info, variant, seed, "classification", spec, seconds=seconds)
        self.evaluations(info, variant, seed, parent, recipe["network"])

    def pictures(self) -> int:
        """How many pictures are trained on."""
        return self.data["limit"] or catalogue.train_pictures(self.data["classification"], self.settings.where)

    def evaluations(
        self, info: recipes.MethodInfo, variant: str, seed: int, parent: str, network: Mapping[str, Any]
    ) -> None:
        """The jobs that judge the encoder, of that network, that the job `parent` leaves."""
        wanted = self.request.evaluations
        track = self.track
        sizes = {"size": track.size, "stored": track.stored}
        threads = {"threads": track.resources["frozen"].cpus}

        def evaluate(kind: str, role: str, spec: dict[str, Any], protocol: protocols.Protocol, **more: Any) -> None:
            self.add(kind, info, variant, seed, role, spec, protocol=protocol, **{"parents": (parent,), **more})

        for kind in ("knn", "linear"):
            for protocol in self.protocols_of(kind, network) if kind in wanted else ():
                if isinstance(protocol, protocols.LinearProtocol) and protocol.augmented:
                    spec = {**sizes, "threads": track.resources["linear"].cpus}
                    evaluate(kind, "classification", spec, protocol, seconds=self.on_crops(protocol))
                    continue
                assert isinstance(protocol, protocols.Features)
                transform = {k: list(v) if isinstance(v, tuple) else v for k, v in protocol.transform().items()}
                extraction = {**sizes, **threads, "transform": transform}
                cache = self.add("features", info, variant, seed, "classification", extraction, (parent,))
                evaluate(kind, "classification", threads, protocol, parents=(cache,))
        for protocol in self.protocols_of("reid", network) if "reid" in wanted else ():
            evaluate("reid", "reid", {"reid_size": list(track.reid_size), **threads}, protocol)
        for protocol in self.protocols_of("finetune", network) if "finetune" in wanted else ():
            assert isinstance(protocol, protocols.FinetuneProtocol)
            usual = protocols.load("finetune", track.protocols["finetune"])
            assert isinstance(usual, protocols.FinetuneProtocol)
            work, usually = (
                p.epochs * (p.train_pictures or self.pictures() * p.train_share) for p in (protocol, usual)
            )
            spec = {**sizes, "threads": track.resources["finetune"].cpus}
            seconds = track.seconds["finetune"] * work / usually
            evaluate("finetune", "classification", spec, protocol, seconds=seconds)
        data = self.data["detection"]
        if "segmentation" in wanted and "detection" not in wanted and not catalogue.has_masks(data):
            raise UserError(f"data set '{data}' has no masks to judge segmentation by; take --eval detection")
        detectors = self.protocols_of("detection", network) if {"detection", "segmentation"} & set(wanted) else ()
        for protocol in detectors:
            assert isinstance(protocol, protocols.DetectionProtocol)
            spec = {"threads": track.resources["detection"].cpus}
            evaluate("detection", "detection", spec, protocol, seconds=self.detection_seconds(protocol, network))
        for protocol in self.protocols_of("reid_finetune", network) if "reid_finetune" in wanted else ():
            sizes_of_reid = {"reid_size": list(track.reid_size), "threads": track.resources["reid_finetune"].cpus}
            evaluate("reid_finetune", "reid", sizes_of_reid, protocol)

    def on_crops(self, protocol: protocols.LinearProtocol) -> float:
        """Seconds, estimated: an epoch takes what the features of all pictures take, in proportion to the pixels."""
        pixels = math.prod(protocol.size or (self.track.size,) * 2) / (self.track.stored or self.track.size) ** 2
        passes = protocol.epochs * (2 - protocol.holdout if protocol.holdout else 1)
        return self.track.seconds["features"] * passes * pixels

    def detection_seconds(self, protocol: protocols.DetectionProtocol, network: Mapping[str, Any]) -> float:
        """The track's figure, which is for its own protocol and a convolutional network, times the pixels trained on.

        A ViT of N tokens and D channels spends 24 N D^2 operations a block on its layers and 4 N^2 D on attention.
        """

        def pixels(protocol: protocols.DetectionProtocol) -> float:
            return prices.detector_pictures(protocol) * protocol.short_side * protocol.long_side

        own = protocols.load("detection", self.track.protocols["detection"])
        assert isinstance(own, protocols.DetectionProtocol)
        seconds = self.track.seconds["detection"] * pixels(protocol) / pixels(own)
        if network["arch"] != "vit":
            return seconds
        tokens = protocol.short_side * protocol.long_side / network["patch"] ** 2
        return seconds * (1 + tokens / (6 * network["dim"]))


def _require_buildable(name: str, info: recipes.MethodInfo, recipe: recipes.Recipe, track: tracks.Track) -> None:
    """UserError for values of --set that the method refuses. The registered recipes are known to build."""
    import torch  # takes seconds, and most plans need none of it

    from methods.base import DataInfo, load_method

    many = 1000  # what depends on the number of classes is checked where the data is read
    data = DataInfo(track.size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), many)
    try:
        with torch.device("meta"):
            load_method(info.module)(recipe, data)
    except (ValueError, UserError) as error:
        raise UserError(f"{name}: {error}") from None


def make(request: Request, settings: Settings) -> Plan:
    """The plan of a request. Raises UserError for unknown names, keys and types; missing data is noted in the jobs."""
    track = tracks.find(request.track)
    stated = parse_overrides(request.overrides)
    names = [name for name in request.methods if name != "all"]
    if "all" in request.methods:
        names = [*names, *(name for name in recipes.methods() if name not in names)]
    if not names and request.checkpoint is None:
        raise UserError("name at least one method, for example --method aps (python -m repro methods lists them)")
    if request.processes < 1:
        raise UserError(f"--processes {request.processes}: a pre-training has at least 1")
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
        protocols=request.protocols,
        checkpoint=request.checkpoint,
        processes=request.processes,
    )
    chosen = parse_protocols(request.protocols, request.evaluations)
    data = _data_names(track, request, stated.get("data", {}))
    builder = _Builder(settings, track, request, records.by_fingerprint(found), data, stated, chosen)
    resolved: dict[str, recipes.Recipe] = {}
    for name in names:
        info, variant = recipes.find(name)
        resolved[name] = recipes.resolve(info, variant, track.name, stated)
        if stated.keys() & set(recipes.TABLES):
            _require_buildable(name, info, resolved[name], track)
        for seed in dict.fromkeys(request.seeds):
            builder.run(info, variant, seed, resolved[name])
    if request.checkpoint is not None:
        builder.imported(request.checkpoint)
    jobs = _with_lost_outputs(tuple(builder.jobs.values()), Workspace(settings.workspace))
    return prices.priced(Plan(request, track, jobs, tuple(faults), resolved), found, settings)


def fingerprint_of(
    kind: str,
    method: str,
    variant: str,
    module: str,
    track: str,
    seed: int,
    spec: Mapping[str, Any],
    parents: Sequence[str],
) -> str:
    """What a job is known by: all that makes it, and the code that it can reach as it is now."""
    code = [_STAGE[kind], *_USES[kind]]
    rooms: tuple[str, ...] = fingerprint.REACHES
    if kind == "pretrain":
        # Evaluations cannot change an encoder: only its learning curve, which is for looking at, is made with them.
        rooms = tuple(room for room in rooms if room != "eval")
        code.append(module.rpartition(":")[0])
        if base := spec["recipe"].get("base"):
            code.append(base["module"].rpartition(":")[0])
    return fingerprint.digest(
        {
            "kind": kind,
            "method": method,
            "variant": variant,
            "track": track,
            "seed": seed,
            "spec": spec,
            "parents": sorted(parents),
            "code": fingerprint.source_hash(*code, rooms=rooms),
        }
    )


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
        groups.setdefault((root(job), _process(plan, job, by_mark[root(job)])), []).append(job)
    nodes = []
    # The longest first: whoever fills two cores with them is done sooner.
    longest = sorted(groups.items(), key=lambda group: -sum(job.seconds for job in group[1]))
    for (origin, process), jobs in longest:
        stage = jobs[0].node
        need = plan.resources(stage)
        first = by_mark[origin].node
        after = (node_key(by_mark[origin], first),) if stage != first else ()
        nodes.append(
            Node(
                key=node_key(by_mark[origin], process),
                target=TARGET,
                args={"workspace": str(settings.workspace.resolve()), "jobs": [as_args(job, settings) for job in jobs]},
                resources=Resources(
                    cpus=need.cpus,
                    gpus=need.gpus,
                    tasks=jobs[0].processes,
                    memory_gb=need.memory_gb,
                    minutes=need.minutes,
                ),
                after=tuple(parent for parent in after if (origin, first) in groups),
                stage=stage,
            )
        )
    return Graph(nodes)


def _process(plan: Plan, job: Job, origin: Job) -> str:
    """`finetune`, or with another protocol than the track's `finetune-aps`: jobs of one origin and name share it."""
    name = job.protocol.get("name", "")
    shared = job.node == "frozen" or not name or name == plan.track.protocol(job.kind, origin.network["arch"])
    return job.node if shared else f"{job.node}-{name}"


def node_key(origin: Job, process: str) -> str:
    """`frozen-aps-s0-0123abcd`: a process of the run that begins with `origin`."""
    return f"{process}-{origin.arm.replace(':', '-')}-{origin.track}-s{origin.seed}-{origin.fingerprint[:8]}"


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
        "source": str(job.source.resolve()) if job.source else None,
    }
