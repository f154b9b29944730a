"""What a stage is given and what it leaves: the two ends of every job."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from eval.context import Context
from eval.protocols.base import Protocol
from eval.protocols.finetune import FinetuneProtocol
from eval.protocols.linear import LinearProtocol
from repro.data.types import DataSet, Progress
from repro.settings import Where
from repro.store import checkpoints, encoder_file
from repro.store.job import Job
from repro.store.workspace import Workspace

P = TypeVar("P", bound=Protocol)
C = TypeVar("C", LinearProtocol, FinetuneProtocol)


@dataclass(frozen=True)
class JobContext:
    """A job, where it reads and writes, and whom it tells how far it is."""

    job: Job
    workspace: Workspace
    where: Where
    progress: Progress

    @property
    def spec(self) -> dict[str, Any]:
        """The job's own."""
        return self.job.spec

    @property
    def folder(self) -> Path:
        """The job's own."""
        return self.workspace.job(self.job.fingerprint)

    @property
    def parent(self) -> str:
        """The fingerprint of the job whose output this one reads."""
        return self.job.parents[0]

    def encoder(self) -> encoder_file.Trained:
        """The encoder that the parent left, on the device of this process."""
        return encoder_file.load(self.workspace.encoder(self.parent), device())

    def protocol(self, kind: type[P]) -> P:
        """The protocol that the plan froze for this job."""
        stated = self.spec["protocol"]
        return kind.build(stated["name"], stated["values"])

    def decoders(self) -> int:
        """Processes that decode pictures which stay in their files; 0: the one that reads them does."""
        return 0

    def evaluation(self, workers: int = 0) -> Context:
        """Where this job's evaluation runs. workers: processes that load pictures."""
        return Context(device(), self.progress, checkpoints.Store(self.folder), self.folder, workers)


Stage = Callable[[JobContext], "Outcome | None"]
"""Does one job. None: another rank of the same job leaves its outcome."""


@dataclass
class Outcome:
    """What a stage leaves: the parts of its record that only it knows."""

    metrics: dict[str, float]
    cost: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Mapping[str, Any], data: Mapping[str, str]) -> Outcome:
        """What an evaluation returned, judged on that data (`source_of`)."""
        return cls(
            metrics=result["metrics"],
            details=result.get("details", {}),
            artifacts={name: Path(path).name for name, path in result.get("artifacts", {}).items()},
            data=dict(data),
        )


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def with_side(protocol: C, context: JobContext) -> C:
    """The protocol of a training on crops with the side of the crops: its own, or the track's, that of pre-training."""
    side = context.spec["size"]
    return dataclasses.replace(protocol, size=(side, side)) if protocol.crop_scale and not protocol.size else protocol


def source_of(data: DataSet) -> dict[str, str]:
    """What a record says of its data."""
    return {"name": data.name, "source": data.source, "manifest": data.manifest}
