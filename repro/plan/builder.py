"""From a request to a plan: runs x kinds as a graph of jobs.

    arms x seeds -> [pretrain] -> [features -> knn, linear | reid] , [linear on crops] , [finetune] , [detection] ,
                                  [reid_finetune]
    a checkpoint -> [import]   -> the same

Brackets are tasks (see `repro.plan.tasks`). A job has a fingerprint (spec, seed, data, parents, reachable code) and
leaves one record of that fingerprint; it is cached when that record exists. Missing data is noted in the jobs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eval.protocols.base import Features, Protocol
from leaderboards.claims import arm_name
from repro.data import inventory, loading, standing
from repro.data.data_sets import entry_of, own_folder, require_kind
from repro.data.types import Drawn, MissingData
from repro.errors import UserError, unknown
from repro.plan import data_choice, disk, few_pictures, kinds, prices, protocol_files, recipes, registry, tracks
from repro.plan.few_pictures import Fitted
from repro.plan.fingerprints import fingerprint_of
from repro.plan.kinds import Kind
from repro.plan.planned import Plan, PlannedJob
from repro.plan.request import Checkpoint, Request, ordered, parse_overrides, parse_protocols
from repro.plan.workload import Load
from repro.settings import STORED, Settings
from repro.store import records
from repro.store.job import Recipe
from repro.store.workspace import Workspace

_MANY = 1000  # classes, where they are not known yet: what depends on them is checked where the data is read
IMPORTED = "imported"  # the variant of every arm that was trained elsewhere: no registered arm is called so


def make(request: Request, settings: Settings, build: bool = True) -> Plan:
    """The plan of a request; UserError for what it names wrongly. build: try changed recipes, which imports torch."""
    track = tracks.find(request.track)
    stated = parse_overrides(request.overrides)
    names = [name for name in request.methods if name != "all"]
    if "all" in request.methods:
        names = [*names, *(name for name in registry.methods() if name not in names)]
    if not names and request.checkpoint is None:
        raise UserError("name at least one method, for example --method aps (python -m repro methods lists them)")
    if request.processes < 1:
        raise UserError(f"--processes {request.processes}: a pre-training has at least 1")
    for seed in request.seeds:
        if not 0 <= seed < 2**63:  # other programs read no larger ones in records
            raise UserError(f"--seed {seed}: a seed is a whole number from 0 to {2**63 - 1}")
    place = Workspace(settings.workspace)
    found, faults = records.read_all(place.records)
    request = dataclasses.replace(request, methods=tuple(names), evaluations=ordered(request.evaluations))
    choices = data_choice.choices(track, request.data, stated.get("data", {}), settings.where)
    machine = prices.Machine.of(track, settings)
    builder = _Builder(
        settings,
        track,
        request,
        records.by_fingerprint(found),
        _data_names(track, request, stated.get("data", {}), choices),
        stated,
        parse_protocols(request.protocols, request.evaluations),
        machine,
    )
    resolved: dict[str, Recipe] = {}
    own = builder.own("classification")
    for kind in builder.wanted():
        if kind.data == "classification":
            inventory.require_judgeable(own, kind.name, kinds.on_other_data())
    _require_every_class(builder.data, own)
    fits: dict[str, Fitted] = {}
    for name in names:
        info, variant = registry.find(name)
        recipe = recipes.resolve(info, variant, track.name, stated)
        if own and registry.relative_cost(info, variant):
            fits[name] = few_pictures.fitted(name, recipe, builder.pictures(), builder.usual_pictures(), stated)
            recipe = fits[name].recipe
        given = name.partition(":")[0].endswith(".toml") or registry.spelled(name) != name
        if build and (given or recipes.may_be_refused(stated) or (name in fits and fits[name].changes)):
            _require_buildable(name, info, recipe, track, len(own.account.classes) if own else _MANY)
        resolved[name] = recipe
        for seed in dict.fromkeys(request.seeds):
            builder.run(info, variant, seed, recipe)
    if request.checkpoint is not None:
        builder.imported(request.checkpoint)
    jobs = _with_lost_outputs(tuple(builder.jobs.values()), place)
    used = {job.spec["data"]["name"] for job in jobs if "data" in job.spec}
    open_choices = tuple(
        choice
        for choice in choices.values()
        if len(choice.among) > 1 and choice.name in used and entry_of(choice.name).made_of not in used
    )
    told = own.account if own else None, fits, tuple(builder.left_out), machine.card, builder.data["stored"]
    made = Plan(request, track, jobs, tuple(faults), resolved, open_choices, *told)
    return prices.priced(made, found, settings, machine)


def _data_names(
    track: tracks.Track, request: Request, stated: Mapping[str, Any], choices: Mapping[str, data_choice.Choice]
) -> dict[str, Any]:
    """The data sets of this plan by role, with the limit on training pictures (0: none)."""
    keys: dict[str, Any] = {
        role: choices[role].name if role in choices else getattr(track, role) for role in tracks.ROLES
    }
    keys["limit"], keys["stored"] = track.limit, STORED[0]
    if request.data is not None:
        if own := own_folder(request.data):
            keys["classification"] = own
        elif "/" in request.data:
            raise UserError(
                f"--data {request.data}: no such folder; give an existing one, or a data set (python -m repro data)"
            )
        else:
            keys["classification"] = request.data
        keys["limit"] = 0
    for key, value in stated.items():
        if key not in keys:
            raise UserError(f"--set data.{key}: {unknown('key', key, keys)}")
        if type(value) is not type(keys[key]):
            what = {int: "a whole number"}.get(type(keys[key]), "a text")
            raise UserError(f"--set data.{key}={value}: must be {what}, such as {keys[key]!r}")
        keys[key] = value
    if keys["limit"] < 0:
        raise UserError(f"--set data.limit={keys['limit']}: must be a number of images, or 0 for all of them")
    for role in tracks.ROLES:
        require_kind(keys[role], role)
    disk.require_stored(keys["stored"], keys["classification"])
    return keys


def _require_every_class(data: Mapping[str, Any], own: inventory.OwnPictures | None) -> None:
    """UserError for a limit on training pictures that leaves a class fewer than two.

    Evaluations hold a part of them out to choose settings, and keep one of each class (`eval.splits.holdout`).
    """
    entry = entry_of(data["classification"])
    classes = len(own.account.classes) if own else entry.class_count
    if 0 < data["limit"] < 2 * classes:
        raise UserError(
            f"--set data.limit={data['limit']}: {own.folder if own else entry.title} has {classes} classes; choose"
            f" {2 * classes} or more, or 0 for all images"
        )


def _require_buildable(
    name: str, info: registry.MethodInfo, recipe: Recipe, track: tracks.Track, classes: int = _MANY
) -> None:
    """UserError for a recipe file, values of --set, or fitted ones, that the method refuses.

    Registered recipes are known to build.
    """
    import torch  # takes seconds, and most plans need none of it

    from methods.base import DataInfo, load_method

    data = DataInfo(track.size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), classes or None)
    try:
        of = load_method(info.module)
    except Exception as error:  # code of a user's own may raise anything
        found = info.module.partition(":")[0].endswith(".py") and not isinstance(error, AttributeError)
        name_it = "write package.module:Class, or the name of a .py file beside the recipe, as in myfile:MyMethod"
        raise UserError(
            f"{info.source}: key 'module' is '{info.module}', which cannot be loaded ({error})",
            "correct that file" if found else name_it,
        ) from None
    try:
        with torch.device("meta"):
            of(recipe, data)
    except (ValueError, UserError) as error:
        raise UserError(f"{name}: {error}") from None
    except KeyError as error:
        raise UserError(f"{name}: {info.module} finds no key {error}", "if the recipe should have it, add it") from None
    except Exception as error:  # as above
        raise UserError(
            f"{name}: {info.module} cannot be built ({type(error).__name__}: {error})",
            "check the values of the recipe and of --set",
        ) from None


def _with_lost_outputs(jobs: tuple[PlannedJob, ...], place: Workspace) -> tuple[PlannedJob, ...]:
    """A job whose record is there but whose encoder or features are not is to do again if a job to do needs them."""
    needed: set[str] = set()
    checked = []
    for job in reversed(jobs):  # children stand behind their parents
        whole = job.fingerprint not in needed or kinds.KINDS[job.kind].has_output(place, job.fingerprint)
        if job.cached and not whole:
            job = dataclasses.replace(job, cached=False)
        if not job.cached:
            needed.update(job.parents)
        checked.append(job)
    return tuple(reversed(checked))


@dataclass(frozen=True)
class _Arm:
    """Whose jobs are made: one method, variant and seed."""

    method: str
    variant: str
    module: str
    seed: int


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
    machine: prices.Machine
    jobs: dict[str, PlannedJob] = field(default_factory=dict)
    left_out: dict[tuple[str, str], None] = field(default_factory=dict)
    _manifests: dict[str, tuple[str, str]] = field(default_factory=dict)
    _own: dict[str, inventory.OwnPictures] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------ where it begins

    def run(self, info: registry.MethodInfo, variant: str, seed: int, recipe: Recipe) -> None:
        """The jobs of one run: one method, variant and seed with its evaluations."""
        spec = {**self.sizes("classification"), "recipe": recipe, "threads": self.track.need("pretrain").cpus}
        cost = registry.relative_cost(info, variant)  # 0: it trains nothing
        ranks = 1  # enough for what is not trained
        if recipe["pretrain"]["epochs"]:
            ranks = self.request.processes
            recipes.require_parts(info, variant, recipe["pretrain"], ranks)
            if cost:
                recipes.require_full_batch(info, variant, recipe["pretrain"], self.pictures())
        if ranks > 1:
            spec["processes"] = ranks
        load = Load(recipe=recipe, pictures=self.pictures(), relative_cost=cost, ranks=ranks)
        spec["tuned"] = recipes.tuned_by(info, variant, self.track.name, recipe)
        arm = _Arm(info.name, variant, info.module, seed)
        self.evaluations(arm, self.add("pretrain", arm, spec, load), recipe["network"])

    def imported(self, given: Checkpoint) -> None:
        """The jobs of a checkpoint: one arm with one seed, since a file is one pre-training."""
        if given.network["arch"] == "vit":
            self._require_size(given)
        spec: dict[str, Any] = {
            "network": dict(given.network),
            "checkpoint": {"sha256": given.sha256, "layout": given.layout, "part": given.part},
            "normalise": given.normalise,
            "mean": list(given.mean),
            "std": list(given.std),
            "threads": self.track.need(kinds.FROZEN).cpus,
        }
        reads = given.normalise == "data"
        if reads:
            spec |= self.sizes("classification")
        arm = _Arm(given.name, IMPORTED, "", 0)
        parent = self.add("import", arm, spec, Load(), source=given.path, reads=reads)
        self.evaluations(arm, parent, given.network)

    def _require_size(self, given: Checkpoint) -> None:
        """UserError where a ViT of a file would see pictures of another size than it was trained on."""
        wanted = given.network["size"]
        for kind in self.wanted():
            for protocol in self.protocols_of(kind, given.network) if kind.data == "classification" else ():
                whole = self.track.size if getattr(protocol, "crop_scale", ()) else self.track.stored
                sides = getattr(protocol, "size", ()) or (whole or self.track.size,) * 2
                if tuple(sides) != (wanted, wanted):
                    raise UserError(
                        f"{kind.name}: its images are {sides[0]} x {sides[1]}, the network of {given.path.name} was"
                        f" trained on {wanted} x {wanted}, and positions are not interpolated;"
                        f" resize the images with --set {kind.name}.size=[{wanted},{wanted}]"
                    )

    # --------------------------------------------------------------------------------------------------- evaluations

    def wanted(self) -> list[Kind]:
        """The kinds of the evaluations asked for; those that share a task first, as they are done first."""
        asked = kinds.of_evaluations(self.request.evaluations)
        found = [kind for kind in kinds.KINDS.values() if kind.name in asked]
        return sorted(found, key=lambda kind: kind.task != kinds.FROZEN)

    def evaluations(self, arm: _Arm, parent: str, network: Mapping[str, Any]) -> None:
        """The jobs that judge the encoder, of that network, that the job `parent` leaves."""
        data = self.data["detection"]
        asked = self.request.evaluations
        if "segmentation" in asked and "detection" not in asked and not inventory.has_masks(data):
            raise UserError(f"data set '{data}' has no masks for segmentation; use --eval detection")
        for kind in self.wanted():
            if kind.trains and network["arch"] == "pixels":  # there is nothing to train
                self.left_out[arm_name(arm.method, arm.variant), kind.name] = None
                continue
            for protocol in self.protocols_of(kind, network):
                self.evaluate(arm, parent, network, kind, protocol)

    def evaluate(self, arm: _Arm, parent: str, network: Mapping[str, Any], kind: Kind, protocol: Protocol) -> None:
        """The job of one evaluation under one protocol, and the features that it needs."""
        assert kind.data is not None
        values = protocol.values()
        task = kind.task_of(values)
        spec: dict[str, Any] = {"threads": self.track.need(kind.resources or task).cpus}
        load = Load(
            values=values,
            usual=protocol_files.load(kind.name, self.track.protocol(kind.name)).values(),
            network=network,
            pictures=self.pictures(),
            extraction=kinds.KINDS["features"].seconds_at(self.track.name),
        )
        if kind.needs == "features" and not kind.alone(values):
            parent = self.features(arm, parent, protocol)
        else:
            spec |= self.sizes(kind.data)
        spec["protocol"] = {"name": protocol.name, "values": values}
        self.add(kind.name, arm, spec, load, (parent,))

    def features(self, arm: _Arm, parent: str, protocol: Protocol) -> str:
        """The job that extracts what a protocol looks at; those that look at the same share it."""
        assert isinstance(protocol, Features)
        seen = {key: list(v) if isinstance(v, tuple) else v for key, v in protocol.transform().items()}
        spec = {**self.sizes("classification"), "threads": self.track.need(kinds.FROZEN).cpus, "transform": seen}
        tests = entry_of(self.data["classification"]).counts.get("test", 0)
        return self.add("features", arm, spec, Load(pictures=self.pictures(), tests=tests), (parent,))

    def protocols_of(self, kind: Kind, network: Mapping[str, Any]) -> list[Protocol]:
        """The protocols of an evaluation of that network, as overridden.

        Those asked for, else the data set's own, else the track's for such networks.
        """
        own = entry_of(self.data[kind.data]).protocol if kind.data in ("detection", "reid") else ""
        if own and own not in protocol_files.names(kind.name):
            own = ""
        names = self.chosen.get(kind.name, (own or self.track.protocol(kind.name, network["arch"]),))
        try:
            found = [protocol_files.load(kind.name, name, self.stated.get(kind.name, {})) for name in names]
        except ValueError as error:
            raise UserError(f"--set {error}" if kind.name in self.stated else str(error)) from None
        data = self.data["detection"]
        for protocol in found:
            masks = getattr(protocol, "masks", False)
            if masks and not inventory.has_masks(data):
                what = f"data set '{data}' has no masks, which {kind.name} protocol '{protocol.name}' needs"
                raise UserError(what, self.without_masks(kind, own))
            if kind.data == "detection":
                loading.require_annotations(data, self.settings.where, masks)
        return found

    def without_masks(self, kind: Kind, own: str) -> str:
        """How to do an evaluation on boxes alone. own: the protocol of the data set, or ""."""
        if "masks" in self.stated.get(kind.name, {}):
            return f"leave out --set {kind.name}.masks"
        known = (own,) if own else protocol_files.names(kind.name)
        bare = [name for name in known if not protocol_files.load(kind.name, name).values()["masks"]]
        said = f"take --protocol {kind.name}={' or '.join(bare)}"
        return f"leave the choice out or {said}" if own else said

    # --------------------------------------------------------------------------------------------------------- pieces

    def limit(self, role: str, seed: int) -> Drawn | Literal[0]:
        """The training pictures of that role that a seed draws; 0: all are used."""
        wanted = self.data["limit"] if role == "classification" else 0
        return {"pictures": wanted, "seed": seed} if wanted and not 0 < self._there() <= wanted else 0

    def sizes(self, role: str) -> dict[str, Any]:
        """The sizes in which the pictures of that role are read."""
        if role == "classification":
            return {"size": self.track.size, "stored": self.track.stored}
        return {"reid_size": list(self.track.reid_size)} if role == "reid" else {}

    def pictures(self) -> int:
        """How many pictures are trained on."""
        limit, there = self.data["limit"], self._there()
        return min(limit, there) if limit and there else limit or there

    def _there(self) -> int:
        """How many training pictures the data set has; 0 where that is not known."""
        own, name = self.own("classification"), self.data["classification"]
        return own.account.of("train") if own else inventory.train_pictures(name, self.settings.where)

    def usual_pictures(self) -> int:
        """How many pictures the recipes of the track are for."""
        return self.track.limit or entry_of(self.track.classification).counts["train"]

    def own(self, role: str) -> inventory.OwnPictures | None:
        """What is taken of the folder in that role; None where it is a published data set, or missing."""
        entry = entry_of(self.data[role])
        if entry.own is not None and entry.name not in self._own:
            try:
                self._own[entry.name] = inventory.own_pictures(entry, self.settings.where)
            except MissingData:
                return None
        return self._own.get(entry.name)

    def manifest(self, role: str) -> tuple[str, str]:
        """(manifest hash, why it is missing) of the data set in that role."""
        name = self.data[role]
        if name not in self._manifests:
            value, missing = "", standing.of(name, self.settings.where).missing
            own = self.own(role)
            try:  # that of an official archive is known beforehand
                value = own.manifest if own else inventory.manifest_of(name, self.settings.where)
            except MissingData as error:
                missing = missing or error
            self._manifests[name] = value, data_choice.how_missing(missing, name, self.track) if missing else ""
        return self._manifests[name]

    def add(
        self,
        name: str,
        arm: _Arm,
        spec: dict[str, Any],
        load: Load,
        parents: tuple[str, ...] = (),
        source: Path | None = None,
        reads: bool = True,
    ) -> str:
        """One more job; returns its fingerprint. reads: whether it reads the data set of its kind's role."""
        kind, missing = kinds.KINDS[name], ""
        if reads and kind.data is not None:
            manifest, missing = self.manifest(kind.data)
            limit = self.limit(kind.data, arm.seed)
            spec = {**spec, "data": {"name": self.data[kind.data], "manifest": manifest, "limit": limit}}
        job = PlannedJob(
            kind=name,
            method=arm.method,
            variant=arm.variant,
            module=arm.module,
            track=self.track.name,
            seed=arm.seed,
            spec=spec,
            parents=parents,
            source=source,
            missing=missing,
            seconds=kind.work.seconds(kind.seconds_at(self.track.name), load, self.track, self.machine.card),
            amount=kind.work.planned(load),
        )
        fingerprint = fingerprint_of(job)
        self.jobs[fingerprint] = dataclasses.replace(job, fingerprint=fingerprint, cached=fingerprint in self.done)
        return fingerprint
