"""`plan --calibrate`: what is to do and has no record of this device yet is begun here, for a few seconds each.

The real stages run, on the real pictures, with a network as it is initialised, in a process like those of a run (same
threads, same GPUs). A stage is cut short as soon as its own reports say how fast it is; what it took is kept in the
workspace by the name of the device, for this and every later plan (prices.py). Nothing it computes is kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro import jobs
from repro.data.types import quiet
from repro.errors import UserError
from repro.plan import kinds, prices
from repro.plan.planned import RECORDS, Plan, PlannedJob
from repro.settings import Settings, Where, require_temporary, require_writable
from repro.store.hashes import file_digest
from repro.store.job import Job
from repro.store.provenance import device_name
from repro.store.workspace import Workspace
from repro.terminal.counter import counter
from slurm import progress
from slurm.files import write_atomic
from slurm.graph import Graph, Resources, Task

if TYPE_CHECKING:
    from repro.stages.context import JobContext

_FEWEST = 2  # steps after the first that a rate is taken from
_MOST_FEATURES = 200_000  # pictures up to which features are made up, to judge them


def calibrate(planned: Plan, settings: Settings, seconds: float) -> str:
    """Measure the lines of a plan that no record of this device prices, and keep it; returns what to tell.

    seconds: shared by all that is measured; loading comes on top.
    """
    if not 0 < seconds < math.inf:
        raise UserError("--calibrate: seconds must be positive")
    require_writable(settings.workspace)
    place, known_jobs = Workspace(settings.workspace), planned.by_fingerprint()
    lost = {job.missing for job in planned.to_do() if job.missing}
    wanted: dict[tuple[str, int], PlannedJob] = {}
    for job in planned.to_do():
        alone = job.kind != "import" and job.ranks == 1
        if alone and not job.missing and job.priced_by != RECORDS:
            wanted.setdefault((prices.key_of(job, known_jobs), job.spec["threads"]), job)
    if not wanted:
        return "\n".join(["nothing to calibrate: all that can run has an estimate from records here", *lost])
    lines, samples = [], []
    for gpus in sorted({planned.resources(job).gpus for job in wanted.values()}):
        mine = {known: job for known, job in wanted.items() if planned.resources(job).gpus == gpus}
        needs = [planned.resources(job) for job in mine.values()]
        chains = [
            {
                "key": key,
                "amount": job.amount,
                "jobs": [each.to_json() for each in _chain(job, known_jobs)],
            }
            for (key, _), job in mine.items()
        ]
        with tempfile.TemporaryDirectory(prefix="calibration-", dir=settings.workspace) as folder:
            task = Task(
                key="calibrate",
                target="repro.measure.calibration:measure",
                args={
                    "workspace": str(place.root.resolve()),
                    "folder": str(Path(folder).resolve()),
                    "data_root": str(settings.data_root.resolve()) if settings.data_root else None,
                    "stored": planned.stored,
                    "wanted": chains,
                    "seconds": seconds / len(wanted),
                },
                resources=Resources(
                    cpus=max(need.cpus for need in needs), gpus=gpus, memory_gb=max(need.memory_gb for need in needs)
                ),
            )
            value = _run(task, settings, Path(folder))
        samples += [prices.Sample(**sample) for sample in value["samples"]]
        lines += value["faults"]
    _keep(samples, settings)
    devices = ", ".join(sorted({sample.device for sample in samples})) or "no device"
    lines.insert(
        0, f"calibrated {len(samples)} of {len(wanted)} kinds of work on {devices}; kept in {place.calibration}"
    )
    return "\n".join([*lines, *lost])


def _chain(job: PlannedJob, known_jobs: Mapping[str, PlannedJob]) -> list[PlannedJob]:
    """The job behind those that it needs."""
    return [*(_chain(known_jobs[job.parents[0]], known_jobs) if job.parents else ()), job]


def _run(task: Task, settings: Settings, folder: Path) -> dict[str, Any]:
    from slurm import local

    bar = counter("calibrating")

    def on_event(event: Any) -> None:
        if event.kind == "progress" and event.progress.total:
            bar(event.progress.done, event.progress.total, {})

    require_temporary()
    try:
        outcome = local.run(
            Graph([task]),
            folder=folder,
            cores=settings.cores,
            memory_gb=settings.memory_gb,
            patience=settings.patience,
            on_event=on_event,
        )[task.key]
    except ValueError as error:
        raise UserError(str(error)) from None
    if outcome.state != "done":
        raise UserError(f"the calibration ended early: {outcome.reason}")
    value: dict[str, Any] = outcome.value
    return value


def _keep(samples: Sequence[prices.Sample], settings: Settings) -> None:
    known = {(s.key, s.device, s.threads): s for s in (*prices.calibrations(settings), *samples)}
    text = json.dumps([dataclasses.asdict(sample) for sample in known.values()], indent=1)
    write_atomic(Workspace(settings.workspace).calibration, text)


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


def measure(
    workspace: str,
    folder: str,
    data_root: str | None,
    stored: str,
    wanted: Sequence[Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """The target of the calibrating task: samples, as plain values, and a line for each that could not be made.

    wanted: of each the key, the amount, and the job (as `Job.to_json` gives it) behind those that it needs.
    """
    device = device_name()
    where = Where(Path(data_root) if data_root else None, Workspace(Path(workspace)).data, stored)
    samples, faults = [], []
    for number, want in enumerate(wanted):
        chain = [Job.from_json(job) for job in want["jobs"]]
        job = chain[-1]
        progress.report(number, len(wanted), {"job": job.kind})
        try:
            fixed, scaled = _one(Workspace(Path(folder) / str(number)), where, chain, seconds)
        except Exception as error:  # what cannot run here is priced as before
            said = str(error).splitlines()[0] if str(error) else ""
            faults.append(f"not calibrated: {job.kind} {job.method}: {type(error).__name__}: {said}")
            continue
        threads = job.spec["threads"]
        sample = prices.Sample(want["key"], device, threads, want["amount"], round(fixed, 3), round(scaled, 3))
        samples.append(dataclasses.asdict(sample))
    progress.report(len(wanted), len(wanted), {})
    return {"samples": samples, "faults": faults}


def _one(place: Workspace, where: Where, chain: Sequence[Job], seconds: float) -> tuple[float, float]:
    contexts = [dataclasses.replace(jobs.context_of(job, place, where), progress=quiet) for job in chain]
    jobs.settle(chain[-1].spec["threads"])
    steps = _set_the_table(contexts)
    watch = Stopwatch(seconds, steps)
    try:
        jobs.stage_of(chain[-1].kind)(dataclasses.replace(contexts[-1], progress=watch))
    except _Enough:
        return watch.estimate()
    return 0.0, time.monotonic() - watch.began


def _set_the_table(contexts: Sequence[JobContext]) -> int:
    """Leave what the last of these jobs reads: an encoder as it is initialised, and features made up.

    What its stage does once, before all else (`prepare`), is done now. Returns the steps that it reports, 0 for a stage
    that counts its steps itself.
    """
    import numpy as np

    from methods.parts.encoders import frozen_encoder
    from repro.stages.pictures import labelled_pictures
    from repro.store import encoder_file

    context, root = contexts[-1], contexts[0]
    context.folder.mkdir(parents=True)
    path = context.workspace.encoder(root.job.fingerprint)
    if len(contexts) > 1:
        encoder = frozen_encoder(root.job.network)
        encoder_file.save(path, root.job, root.job.network, (0.5,) * 3, (0.25,) * 3, encoder.state_dict())
    if len(contexts) > 2:  # on features
        made = contexts[1]
        made.folder.mkdir(parents=True, exist_ok=True)
        rng, classes = np.random.default_rng(0), 0
        for split in ("train", "test"):
            pictures, labels = labelled_pictures(made, split)
            if len(labels) > _MOST_FEATURES:
                raise UserError(f"{len(labels):,} images are more than features are made up for")
            classes = len(pictures.classes)
            np.save(made.folder / f"{split}_x.npy", rng.standard_normal((len(labels), encoder.dim), np.float32))
            np.save(made.folder / f"{split}_y.npy", labels)
        seen = {"job": root.job.fingerprint, "sha256": file_digest(path)}
        meta = {"classes": classes, "data": {}, "checkpoint": seen}
        (made.folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    module = import_module(kinds.KINDS[context.job.kind].stage.partition(":")[0])
    prepare = getattr(module, "prepare", None)
    return int(prepare(context)) if prepare else 0
