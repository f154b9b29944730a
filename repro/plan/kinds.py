"""The table of kinds: all that the program knows of a kind of job, said once.

A new evaluation is one module in `eval/` with a protocol, one stage in `repro/stages/`, and one row here. Planning,
prices, budgets, status, the record, its checks, boards and report follow from the row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from leaderboards.suite import Evaluation
from repro.data.types import Kind as DataKind
from repro.errors import UserError, unknown
from repro.plan import workload
from repro.store.workspace import Workspace

FROZEN = "frozen"
"""The task that all share which only look at the frozen encoder: importing torch costs more than most of them."""
_TABLE = "repro/plan/kinds.py"


@dataclass(frozen=True)
class Kind:
    """One row.

    name: of the kind, as records and protocol tables have it.
    stage: what does the job, "module:function"; the module's reach is part of the job's fingerprint.
    data: the role of the data set that it reads.
    needs: what it reads of its parent: nothing, the encoder, or features that were extracted once.
    task: the task that it runs in, one of its own by default.
    resources: the table of a track's resources that its task asks for, by default that of the task's name.
    trains: whether it trains the network that it judges.
    alone_with: a key of the protocol that, where it is set, makes the job read the encoder in a task of its own.
    output: the file in its folder that other jobs read, "" for none.
    scratch: patterns of what it goes on from, which nobody needs once its record is written.
    evaluations: the boards that its records stand on; none for a job that prepares.
    suites: those that ask for all its evaluations.
    work: what its time is in proportion to.
    seconds: one job on the track's device, where nothing was measured; also for tracks that are not named ("").
    dropped: rank in which `--trim` drops it: 1 goes first, what states none goes last.
    """

    name: str
    stage: str
    data: DataKind | None = "classification"
    needs: Literal["", "encoder", "features"] = "encoder"
    task: str = ""
    resources: str = ""
    trains: bool = False
    alone_with: str = ""
    output: str = ""
    scratch: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    suites: tuple[str, ...] = ()
    work: workload.Work = workload.FIXED
    seconds: Mapping[str, float] = field(default_factory=lambda: {"": 60.0})
    dropped: float = math.inf

    @property
    def judges(self) -> bool:
        """Whether it has protocols and boards."""
        return bool(self.evaluations)

    def alone(self, protocol: Mapping[str, object]) -> bool:
        """Whether a job under these values of a protocol has a task of its own, and reads the encoder."""
        return bool(self.alone_with and protocol.get(self.alone_with))

    def task_of(self, protocol: Mapping[str, object]) -> str:
        """The task that a job under these values of a protocol runs in."""
        return self.name if self.alone(protocol) else self.task or self.name

    def seconds_at(self, track: str) -> float:
        """The constant for a track: its own, else the one under "". UserError where the row has neither."""
        if (stated := self.seconds.get(track, self.seconds.get(""))) is None:
            raise UserError(
                f"kind '{self.name}' has no seconds for track '{track}'", f"add them to its row in {_TABLE}"
            )
        return stated

    def has_output(self, place: Workspace, fingerprint: str) -> bool:
        """Whether what other jobs read of this one is there: of most kinds nothing but the record."""
        if not self.output:
            return True
        if self.name == "features":  # they count while the checkpoint that they are of has not become another
            return place.features_are_whole(fingerprint)
        return (place.job(fingerprint) / self.output).is_file()


_TRAINED = ("[!.]*.pt*",)
_PERCENT = "percent"
_AP = "COCO average precision, 0 to 100"


def _seconds(embedded: float, mini: float, cifar: float, imagenet100: float, imagenet: float) -> Mapping[str, float]:
    return MappingProxyType(
        {"embedded": embedded, "mini": mini, "cifar": cifar, "imagenet100": imagenet100, "imagenet": imagenet}
    )


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="pretrain",
            stage="repro.stages.pretrain:run",
            needs="",
            output="encoder.pt",
            scratch=("training.pt*",),
            work=workload.PRETRAINING,
        ),
        Kind(
            name="import",
            stage="repro.stages.imported:run",
            needs="",
            resources=FROZEN,
            output="encoder.pt",
            seconds={"": 5},
        ),
        Kind(
            name="features",
            stage="repro.stages.features:run",
            task=FROZEN,
            output="meta.json",
            work=workload.FEATURES,
            seconds=_seconds(10, 35, 60, 300, 2400),
        ),
        Kind(
            name="knn",
            stage="repro.stages.knn:run",
            needs="features",
            task=FROZEN,
            evaluations=(Evaluation("knn", "knn", "k-NN", ("top1",), _PERCENT, ("top5",), "k-NN Classification"),),
            suites=("quick", "full"),
            work=workload.CLASSIFICATION,
            seconds=_seconds(1, 1, 30, 60, 600),
            dropped=7,
        ),
        Kind(
            name="linear",
            stage="repro.stages.linear:run",
            needs="features",
            task=FROZEN,
            alone_with="crop_scale",
            scratch=_TRAINED,
            evaluations=(
                Evaluation(
                    "linear",
                    "linear",
                    "Linear probe",
                    ("top1",),
                    _PERCENT,
                    ("top5", "top1_10_per_class", "top1_1pct", "top1_10pct"),
                    "Linear Classification",
                    few="top1_10_per_class",
                ),
            ),
            suites=("quick", "full"),
            work=workload.LINEAR,
            seconds=_seconds(3, 4, 120, 300, 1800),
            dropped=6,
        ),
        Kind(
            name="finetune",
            stage="repro.stages.finetune:run",
            trains=True,
            scratch=_TRAINED,
            evaluations=(
                Evaluation(
                    "finetune",
                    "finetune",
                    "Fine-tuning",
                    ("top1",),
                    _PERCENT,
                    ("top1_selected", "top5"),
                    "Image Classification",
                ),
            ),
            suites=("full",),
            work=workload.FINETUNING,
            seconds=_seconds(40, 165, 7200, 21600, 172800),
            dropped=4,
        ),
        Kind(
            name="detection",
            stage="repro.stages.detection:run",
            trains=True,
            data="detection",
            scratch=_TRAINED,
            evaluations=(
                Evaluation(
                    "detection",
                    "detection",
                    "Object detection (boxes)",
                    ("bbox_AP",),
                    _AP,
                    ("bbox_AP50", "bbox_AP75"),
                    "Object Detection",
                ),
                Evaluation(
                    "segmentation",
                    "detection",
                    "Instance segmentation (masks)",
                    ("segm_AP",),
                    _AP,
                    ("segm_AP50", "segm_AP75"),
                    "Instance Segmentation",
                ),
            ),
            suites=("full",),
            work=workload.DETECTION,
            seconds=_seconds(25, 240, 7200, 86400, 86400),
            dropped=2,
        ),
        Kind(
            name="reid",
            stage="repro.stages.reid:run",
            data="reid",
            task=FROZEN,
            evaluations=(
                Evaluation(
                    "reid",
                    "reid",
                    "Re-identification",
                    ("rank1", "mAP"),
                    _PERCENT,
                    ("rank5", "rank10", "mINP"),
                    "Re-Identification",
                ),
            ),
            suites=("full",),
            seconds=_seconds(5, 8, 300, 600, 600),
            dropped=5,
        ),
        Kind(
            name="reid_finetune",
            stage="repro.stages.reid_finetune:run",
            trains=True,
            data="reid",
            resources="finetune",
            scratch=_TRAINED,
            evaluations=(
                Evaluation(
                    "reid_finetune",
                    "reid_finetune",
                    "Re-identification, fine-tuned",
                    ("rank1", "mAP"),
                    _PERCENT,
                    ("rank5", "rank10", "mINP"),
                    "Re-Identification",
                ),
            ),
            work=workload.EPOCHS,
            seconds=_seconds(35, 170, 3600, 10800, 10800),
            dropped=1,
        ),
    )
}


def find(name: str) -> Kind:
    """The row of that name; UserError with the nearest valid one."""
    if name not in KINDS:
        raise unknown("kind", name, KINDS)
    return KINDS[name]


def judged() -> tuple[str, ...]:
    """The kinds that have protocols, in the order of their boards."""
    return tuple(kind.name for kind in KINDS.values() if kind.judges)


def evaluations() -> dict[str, Evaluation]:
    """Every evaluation by its name, in the order of the boards."""
    return {evaluation.name: evaluation for kind in KINDS.values() for evaluation in kind.evaluations}


def on_other_data() -> list[str]:
    """The evaluations that do not read the pictures of classification, which a user may bring."""
    return [each.name for kind in KINDS.values() if kind.data != "classification" for each in kind.evaluations]


def suites() -> dict[str, tuple[str, ...]]:
    """Suite -> its evaluations."""
    names = dict.fromkeys(suite for kind in KINDS.values() for suite in kind.suites)
    return {
        suite: tuple(e.name for kind in KINDS.values() if suite in kind.suites for e in kind.evaluations)
        for suite in names
    }


def tasks() -> tuple[str, ...]:
    """The names of all tasks, in the order in which a run goes through them."""
    names: list[str] = []
    for kind in KINDS.values():
        names += [kind.task or kind.name, *([kind.name] if kind.alone_with else [])]
    return tuple(dict.fromkeys(names))


def of_evaluations(names: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of job that these evaluations are read from, each once."""
    known = evaluations()
    return tuple(dict.fromkeys(known[name].kind for name in names))
