"""`drill`: interrupts a short job at random in every way; its results must equal those of an uninterrupted job.

The job is a tiny pre-training, or an evaluation that trains on one, in a workspace of its own for each way;
slurm.interrupt does the damage. Its tasks run on the CPU and differ from those of a run in two things that no
number depends on: they save a checkpoint after every step (a load of pictures, an update) instead of every 30 seconds,
and pause there.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UserError, unknown
from repro.plan.builder import make
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.run import submit
from repro.run.live_boards import Views
from repro.settings import Settings, require_writable
from repro.store import records
from repro.store.workspace import Workspace
from repro.terminal import text
from slurm import progress
from slurm.folder import Folder
from slurm.graph import Task
from slurm.interrupt import on_machine, on_slurm
from slurm.interrupt.spells import Spell
from slurm.profile import Profile

_TINY = (
    "data.limit=50",
    "pretrain.epochs=10",
    "pretrain.batch=16",
    "pretrain.warmup_epochs=0",
    "network.depth=1",
    "network.dim=24",
)


@dataclass(frozen=True)
class Stage:
    """What is interrupted: the evaluation whose run is made, its settings, and the file that the job goes on from."""

    evaluation: str
    overrides: tuple[str, ...]
    checkpoint: str
    protocol: str = ""

    @property
    def request(self) -> Request:
        """The run."""
        protocols = (f"{self.evaluation}={self.protocol}",) if self.protocol else ()
        return Request(
            ("aps",), evaluations=(self.evaluation,), protocols=protocols, overrides=(*_TINY, *self.overrides)
        )


STAGES = {  # of all that trains, by kind
    "pretrain": Stage("knn", ("knn.ks=[1]",), "training.pt"),
    "linear": Stage("linear", ("linear.epochs=12", "linear.batch=25"), "linear.pt", protocol="swav_rot"),
    "finetune": Stage("finetune", ("finetune.epochs=12",), "finetune.pt"),
    "detection": Stage("detection", ("detection.iterations=24", "detection.warmup=2"), "detection.pt"),
    "reid_finetune": Stage("reid_finetune", ("reid_finetune.epochs=3",), "reid_finetune.pt"),
}
_PRELOAD = (
    "repro.run.drill",
    *(f"repro.stages.{name}" for name in (*STAGES, "features", "knn")),
    "repro.run.cancel_retry",
)
_AGAIN = 2  # steps that an interruption may cost: one that was not saved yet, and one whose checkpoint was spoilt
# Seconds after each step. SLURM is slow to strike, and its shortest limit is a minute.
_PAUSE, _CLUSTER_PAUSE, _PAUSE_OF_A_MINUTE = 0.05, 0.3, 1.8
_MOST = 10


@dataclass(frozen=True)
class Score:
    """How one way went: the update that each task began at, `updates` in all, and what was not as it must be."""

    way: str
    begun: tuple[int, ...]
    updates: int
    records: int
    faults: tuple[str, ...]
    passed_over: str = ""
    of: int = 3  # records that there must be

    @property
    def interruptions(self) -> int:
        return max(len(self.begun) - 1, 0)

    def row(self) -> list[str]:
        """This way's line of the table."""
        if self.passed_over:
            return [self.way, "0", f"passed over: {self.passed_over}", "", ""]
        begun = ", ".join(str(update) for update in self.begun[1:])
        equal = "no" if self.faults else "yes"
        return [self.way, str(self.interruptions), f"{begun} of {self.updates}", equal, f"{self.records} of {self.of}"]


def run(settings: Settings, seed: int, times: int, stage: str) -> int:
    """Drill a stage (one of STAGES) on this machine, and on SLURM where it answers; prints the score, returns the exit
    status."""
    if stage not in STAGES:
        raise unknown("stage", stage, STAGES)
    slurm = _slurm(settings)
    require_writable(settings.workspace)
    if not 1 <= times <= _MOST:
        raise UserError(f"--times {times}: must be from 1 to {_MOST}, as the job is short")
    folder = Path(tempfile.mkdtemp(prefix="drill-", dir=settings.workspace.resolve()))  # machines of a cluster see it
    print(f"seed {seed}: --seed {seed} repeats these interruptions", flush=True)
    drill = Drill(folder, seed, stage)
    scores = []
    for way in on_machine.WAYS:
        scores.append(drill.local(way, times))
        _say(scores[-1])
    if slurm:
        # A limit takes a minute, and a machine that goes down takes all along that run on it.
        often = {way: 1 if way == "slurm-limit" else times for way in on_slurm.WAYS if way != "down"}
        scores += drill.together(often, slurm, len(often), _say)
        scores.append(drill.cluster("down", 1, slurm))
        _say(scores[-1])
    print(f"\n{table(scores)}")
    for score in scores:
        for fault in score.faults:
            print(f"{score.way}: {fault}")
    if any(score.faults for score in scores):
        print(f"kept for a look: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def table(scores: Sequence[Score]) -> str:
    """The score, and what it comes to."""
    rows = text.table([score.row() for score in scores], ["way", "times", "went on from update", "equal", "records"])
    struck, held = (sum(score.interruptions for score in scores), [s for s in scores if not s.passed_over])
    equal = sum(not score.faults for score in held)
    said = f"{equal} of {len(held)} kinds of interruption gave results identical to an uninterrupted run"
    return f"{rows}\n\n{struck} interruptions; {said}"


def _slurm(settings: Settings) -> Profile | None:
    return None if submit.why_local(settings) else submit.profile_of(settings)


def _say(score: Score) -> None:
    print(
        f"{score.way}: {'passed over' if score.passed_over else 'NOT equal' if score.faults else 'equal'}", flush=True
    )


def work(workspace: str, jobs: Sequence[Mapping[str, Any]], pause: float, data_root: str | None = None) -> None:
    """What a task of the drill runs: the jobs, with a checkpoint, a report and a pause after every step."""
    from repro import jobs as ours
    from repro.store import checkpoints

    report = progress.report

    def slowly(done: int, total: int, info: Mapping[str, Any]) -> None:
        if "epoch" in info:  # only the steps of a training have checkpoints
            report(done, total, info)
        if "note" not in info:  # that it goes on is no step
            time.sleep(pause)

    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # bits are promised on CPUs
    checkpoints.SAVE_EVERY = 0.0
    progress.at_most_every(0.0)
    progress.report = slowly
    ours.run(workspace, jobs, data_root)


def retry(workspace: str) -> None:
    """`repro retry` in that workspace."""
    from repro.run import cancel_retry

    cancel_retry.retry(Settings(workspace=Path(workspace)), [], Views.none())


class Drill:
    """Interrupts the job and compares what it leaves with what it leaves uninterrupted, which is made first."""

    def __init__(self, folder: Path, seed: int, stage: str = "pretrain") -> None:
        self.folder, self.seed = folder, seed
        self.whole = Workspace(folder / "whole")
        self.newest = STAGES[stage].checkpoint
        self.planned = make(STAGES[stage].request, Settings(workspace=self.whole.root))
        self.pretrain = self.planned.jobs[0].fingerprint
        self.job = next(job.fingerprint for job in self.planned.jobs if job.kind == stage)
        tasks = self.tasks(self.whole, 0.0)
        self.at = next(i for i, task in enumerate(tasks) if task.args["jobs"][0]["kind"] == stage)
        self.steps = 0
        on_machine.MachineInterrupter(self.whole.processes, tasks[self.at], **self.about(self.whole, 0.0)).finish(tasks)
        found = self._records(self.whole)
        report = progress.read(Folder(self.whole.processes).progress(tasks[self.at].key))
        if len(found) != len(self.planned.jobs) or report is None:
            raise UserError(f"the job fails without any interruption; see {self.whole.processes / 'drill.log'}")
        self.steps = report.done
        self.updates = int(found[self.job]["cost"].get("updates", self.steps))

    def local(self, way: str, times: int) -> Score:
        """Interrupt the job so often in one of the ways of this machine (on_machine.WAYS)."""
        place = self.place(way)
        tasks = self.tasks(place, _PAUSE)
        runner = on_machine.MachineInterrupter(place.processes, tasks[self.at], **self.about(place, _PAUSE))
        runner.finish(self.tasks(place, 0.0)[: self.at])
        spells = runner.interrupt(way, times, place.job(self.job) / self.newest)
        runner.finish(tasks[self.at + 1 :])
        return self._score(on_machine.WAYS[way], place, spells, runner.faults)

    def cluster(self, way: str, times: int, profile: Profile) -> Score:
        """Interrupt the job so often in one of the ways of SLURM (on_slurm.WAYS)."""
        place, pause = self.place(way), _PAUSE_OF_A_MINUTE if way == "slurm-limit" else _CLUSTER_PAUSE
        tasks = self.tasks(place, pause)
        runner = on_slurm.SlurmInterrupter(place.processes, tasks[self.at], **self.about(place, pause))
        runner.finish(self.tasks(place, 0.0)[: self.at])
        # submitit takes every signal in a job as short as this for its time limit; and SLURM, which may strike a minute
        # before a limit, leaves such a job as little as 15 s at a time.
        often = self.steps if way == "slurm-limit" else times
        profile = dataclasses.replace(profile, requeues=max(profile.requeues, often))
        try:
            spells = runner.interrupt(way, times, profile)
        except on_slurm.NotPermitted as error:
            return Score(on_slurm.WAYS[way], (), 0, 0, (), str(error))
        runner.finish(tasks[self.at + 1 :])
        return self._score(on_slurm.WAYS[way], place, spells, runner.faults)

    def together(
        self,
        times: Mapping[str, int],
        profile: Profile,
        at_once: int,
        say: Callable[[Score], None] = lambda score: None,
    ) -> list[Score]:
        """Several ways of SLURM, so often each, and so many side by side: most of their time is waiting."""

        def one(way: str) -> Score:
            score = self.cluster(way, times[way], profile)
            say(score)
            return score

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(one, times))

    def place(self, way: str) -> Workspace:
        """A workspace that shares the pictures."""
        place = Workspace(self.folder / way)
        place.root.mkdir()
        self.whole.data.mkdir(exist_ok=True)
        place.data.symlink_to(self.whole.data)
        return place

    def tasks(self, place: Workspace, pause: float) -> list[Task]:
        """All tasks of the run; only the one at `self.at` is interrupted."""
        graph = graph_of(self.planned, Settings(workspace=place.root))
        target = f"{__name__}:{work.__name__}"
        wanted = dataclasses.replace(next(iter(graph)).resources, minutes=1 if pause == _PAUSE_OF_A_MINUTE else 10)
        return [
            dataclasses.replace(task, target=target, args={**task.args, "pause": pause}, resources=wanted, after=())
            for task in graph
        ]

    def about(self, place: Workspace, pause: float) -> dict[str, Any]:
        """What an interrupter must know of the job."""
        again, seed = (retry, (str(place.root),)), f"{self.seed}|{place.root.name}"
        return {"total": self.steps, "pause": pause, "seed": seed, "again": again, "preload": _PRELOAD}

    def _records(self, place: Workspace) -> dict[str, records.Record]:
        return records.by_fingerprint(records.read_all(place.records)[0])

    def _score(self, way: str, place: Workspace, spells: Sequence[Spell], faults: Sequence[str]) -> Score:
        a_step = self.updates // self.steps
        return Score(
            way=way,
            begun=tuple(spell.begun * a_step for spell in spells),
            updates=self.updates,
            records=len(list(place.records.glob("*.json"))),
            faults=(*faults, *self.lost(spells), *self.differences(place)),
            of=len(self.planned.jobs),
        )

    def lost(self, spells: Sequence[Spell]) -> Iterator[str]:
        """What was done again, beyond what an interruption may cost."""
        for number, (before, after) in enumerate(itertools.pairwise(spells), 1):
            if not max(1, before.reached - _AGAIN) <= after.begun <= before.reached:
                yield f"interruption {number}: stopped at step {before.reached}, went on from {after.begun}"

    def differences(self, place: Workspace) -> Iterator[str]:
        """What differs from the results of the uninterrupted job."""
        import torch

        from repro.store import checkpoints
        from repro.store.encoder_file import ENCODER

        whole, found = self._records(self.whole), self._records(place)
        files = [path.name for path in place.records.glob("*.json")]
        if sorted(files) != sorted(path.name for path in self.whole.records.glob("*.json")):
            yield f"its records are {', '.join(sorted(files)) or 'none'}"
            return
        for fingerprint, record in whole.items():
            if found[fingerprint]["metrics"] != record["metrics"]:
                yield f"the metrics of {record['kind']} differ"
            if found[fingerprint]["details"].get("history") != record["details"].get("history"):
                yield f"the losses of {record['kind']} differ"
            counts = [one["cost"].get("updates") for one in (found[fingerprint], record)]
            if counts[0] != counts[1]:
                yield f"{record['kind']} counts {counts[0]} updates, not {counts[1]}"
        encoders = [checkpoints.load(p.encoder(self.pretrain), ENCODER)["weights"] for p in (self.whole, place)]
        if encoders[0].keys() != encoders[1].keys() or not all(
            torch.equal(value, encoders[1][name]) for name, value in encoders[0].items()
        ):
            yield "the weights of the encoder differ"
        if _log(self.whole.job(self.pretrain)) != _log(place.job(self.pretrain)):
            yield "the logs of the training differ"


def _log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training log without their times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
