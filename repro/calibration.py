"""`plan --calibrate`: what is to do and has no record of this device yet is begun here, for a few seconds each.

The real stages run, on the real pictures, with a network as it is initialised, in a process like those of a run (same
threads, same GPUs). A stage is cut short as soon as its own reports say how fast it is; what it took is kept in the
workspace by the name of the device, for this and every later plan (prices.py). Nothing it computes is kept.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro import plan, prices, records, show
from repro.errors import UserError
from repro.settings import Settings, require_writable
from repro.workspace import Workspace
from slurm import graph, progress

if TYPE_CHECKING:
    from repro.stages.common import Task

_FEWEST = 2  # steps after the first that a rate is taken from
_MOST_FEATURES = 200_000  # pictures up to which features are made up, to judge them


def calibrate(planned: plan.Plan, settings: Settings, seconds: float) -> str:
    """Measure the lines of a plan that no record of this device prices, and keep it; returns what to tell.

    seconds: shared by all that is measured; loading comes on top.
    """
    if seconds <= 0:
        raise UserError("--calibrate: seconds must be positive")
    require_writable(settings.workspace)
    place, by_mark = Workspace(settings.workspace), planned.by_fingerprint()
    lost = {job.missing for job in planned.to_do() if job.missing}
    wanted: dict[tuple[str, int], plan.Job] = {}
    for job in planned.to_do():
        alone = job.kind != "import" and job.spec.get("processes", 1) == 1
        if alone and not job.missing and job.priced_by != prices.RECORDS:
            wanted.setdefault((prices.key_of(job, by_mark), job.spec["threads"]), job)
    if not wanted:
        return "\n".join(["nothing to calibrate: all that could run is priced by records of this device", *lost])
    lines, samples = [], []
    for gpus in sorted({planned.resources(job.node).gpus for job in wanted.values()}):
        mine = {known: job for known, job in wanted.items() if planned.resources(job.node).gpus == gpus}
        needs = [planned.resources(job.node) for job in mine.values()]
        chains = [
            {
                "key": key,
                "amount": prices.amount_of(job, settings),
                "jobs": [plan.as_args(each, settings) for each in _chain(job, by_mark)],
            }
            for (key, _), job in mine.items()
        ]
        with tempfile.TemporaryDirectory(prefix="calibration-", dir=settings.workspace) as folder:
            node = graph.Task(
                key="calibrate",
                target="repro.calibration:measure",
                args={
                    "workspace": str(place.root.resolve()),
                    "folder": str(Path(folder).resolve()),
                    "wanted": chains,
                    "seconds": seconds / len(wanted),
                },
                resources=graph.Resources(
                    cpus=max(need.cpus for need in needs), gpus=gpus, memory_gb=max(need.memory_gb for need in needs)
                ),
            )
            value = _run(node, settings, Path(folder))
        samples += [prices.Sample(**sample) for sample in value["samples"]]
        lines += value["faults"]
    _keep(samples, settings)
    devices = ", ".join(sorted({sample.device for sample in samples})) or "no device"
    lines.insert(
        0, f"calibrated {len(samples)} of {len(wanted)} kinds of work on {devices}; kept in {place.calibration}"
    )
    return "\n".join([*lines, *lost])


def _chain(job: plan.Job, by_mark: Mapping[str, plan.Job]) -> list[plan.Job]:
    """The job behind those that it needs."""
    return [*(_chain(by_mark[job.parents[0]], by_mark) if job.parents else ()), job]


def _run(node: graph.Task, settings: Settings, folder: Path) -> dict[str, Any]:
    from slurm import local

    bar = show.counter("calibrating")

    def on_event(event: Any) -> None:
        if event.kind == "progress" and event.progress.total:
            bar(event.progress.done, event.progress.total, {})

    outcome = local.run(
        graph.Graph([node]), folder=folder, cores=settings.cores, memory_gb=settings.memory_gb, on_event=on_event
    )[node.key]
    if outcome.state != "done":
        raise UserError(f"the calibration ended early: {outcome.reason}")
    value: dict[str, Any] = outcome.value
    return value


def _keep(samples: Sequence[prices.Sample], settings: Settings) -> None:
    known = {(s.key, s.device, s.threads): s for s in (*prices.calibrations(settings), *samples)}
    text = json.dumps([dataclasses.asdict(sample) for sample in known.values()], indent=1)
    records.write_atomic(Workspace(settings.workspace).calibration, text)


# ------------------------------------------------------------------------------------------------ in the process


class _Enough(Exception):
    """The stage has said how fast it is."""


class Stopwatch:
    """A progress callback that ends a stage once its rate is known.

    A report of another total, or one that goes back, begins a further part of the work. steps: of all parts, where that
    is known beforehand.
    """

    def __init__(self, seconds: float, steps: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._steps, self._now = seconds, steps, now
        self.began = now()
        self._first: tuple[float, int] | None = None
        self._last = (self.began, 0)
        self._before = self._done = self._total = 0

    def __call__(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        if self._total and (total != self._total or done < self._done):
            self._before += self._total
        self._done, self._total = done, total
        self._last = (self._now(), self._before + done)
        if self._first is None:
            self._first = self._last
        elif self._last[0] - self._first[0] >= self._seconds and self._last[1] - self._first[1] >= _FEWEST:
            raise _Enough

    def estimate(self) -> tuple[float, float]:
        """(fixed, scaled) seconds of the whole, from the first report to the last."""
        assert self._first is not None
        (begin, first), (end, last) = self._first, self._last
        step = (end - begin) / (last - first)
        fixed = max(0.0, begin - self.began - first * step)
        return fixed, step * max(self._steps, self._before + self._total)


def measure(workspace: str, folder: str, wanted: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """The target of the calibrating process: samples, as plain values, and a line for each that could not be made.

    wanted: of each the key, the amount, and the job (as `plan.as_args` gives it) behind those that it needs.
    """
    import torch

    from repro.jobs import cpu_name

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    samples, faults = [], []
    for number, want in enumerate(wanted):
        job = want["jobs"][-1]
        progress.report(number, len(wanted), {"job": job["kind"]})
        try:
            fixed, scaled = _one(Workspace(Path(workspace)), Path(folder) / str(number), want["jobs"], seconds)
        except Exception as error:  # what cannot run here is priced as before
            said = str(error).splitlines()[0] if str(error) else ""
            faults.append(f"not calibrated: {job['kind']} {job['method']}: {type(error).__name__}: {said}")
            continue
        threads = job["spec"]["threads"]
        sample = prices.Sample(want["key"], device, threads, want["amount"], round(fixed, 3), round(scaled, 3))
        samples.append(dataclasses.asdict(sample))
    progress.report(len(wanted), len(wanted), {})
    return {"samples": samples, "faults": faults}


def _one(place: Workspace, folder: Path, chain: Sequence[Mapping[str, Any]], seconds: float) -> tuple[float, float]:
    from repro import jobs

    made = [jobs.task_of(Workspace(folder), job, where=place.data) for job in chain]
    tasks = [dataclasses.replace(task, progress=lambda *_: None) for task in made]
    task = tasks[-1]
    jobs.settle(task.spec["threads"])
    steps = _set_the_table(tasks)
    watch = Stopwatch(seconds, steps)
    try:
        jobs.stage_of(task.kind)(dataclasses.replace(task, progress=watch))
    except _Enough:
        return watch.estimate()
    return 0.0, time.monotonic() - watch.began


def _set_the_table(tasks: Sequence[Task]) -> int:
    """Leave what the last of these jobs reads: an encoder as it is initialised, and features made up.

    Pictures that a stage would decode first are decoded now, since that is done once. Returns the steps that a re-ID
    reports before it ranks, 0 for what counts its steps itself.
    """
    import numpy as np

    from eval import protocols
    from methods.parts.encoders import frozen_encoder
    from repro.data import catalogue
    from repro.fingerprint import file_digest
    from repro.stages import common

    task = tasks[-1]
    task.folder.mkdir(parents=True)
    if len(tasks) > 1:
        root = tasks[0]
        network = root.spec["recipe"]["network"] if "recipe" in root.spec else root.spec["network"]
        encoder = frozen_encoder(network)
        common.save_encoder(root, network, (0.5,) * 3, (0.25,) * 3, encoder.state_dict())
    if len(tasks) > 2:  # on features
        made = tasks[1]
        made.folder.mkdir(parents=True, exist_ok=True)
        rng, classes = np.random.default_rng(0), 0
        for split in ("train", "test"):
            pictures, labels = common.labelled_pictures(made, split)
            if len(labels) > _MOST_FEATURES:
                raise UserError(f"{len(labels):,} pictures are more than features are made up for")
            classes = len(pictures.classes)
            np.save(made.folder / f"{split}_x.npy", rng.standard_normal((len(labels), encoder.dim), np.float32))
            np.save(made.folder / f"{split}_y.npy", labels)
        seen = {"job": root.fingerprint, "sha256": file_digest(task.workspace.encoder(root.fingerprint))}
        meta = {"classes": classes, "data": {}, "checkpoint": seen}
        (made.folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    if task.kind == "detection":
        catalogue.coco_set(task.spec["data"]["name"], task.where, progress=lambda *_: None)
    if task.kind == "reid":
        pictures_of = common.reid_pictures(task, common.protocol_of(task, protocols.ReidProtocol))
        return len(pictures_of.query.pixels) + len(pictures_of.gallery.pixels)
    if task.kind == "reid_finetune":
        common.reid_pictures(task, common.protocol_of(task, protocols.ReidFinetuneProtocol))
    return 0
