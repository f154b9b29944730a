"""What all stages share: their input, their result, the device and the encoder they judge."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from eval import protocols
from eval.context import Context
from eval.data import Classification, Identified, Labelled, Normalisation, Pixels
from methods.parts.encoders import frozen_encoder
from repro import checkpoints
from repro.data import catalogue
from repro.data.types import CocoSet, Pictures, ReidSet, ReidSplit, Where
from repro.errors import UserError
from repro.workspace import Workspace

ENCODER = "repro-encoder"

Progress = Callable[..., None]
P = TypeVar("P", bound=protocols.Protocol)
C = TypeVar("C", protocols.LinearProtocol, protocols.FinetuneProtocol)


@dataclass(frozen=True)
class Task:
    """One job as its stage gets it."""

    kind: str
    method: str
    variant: str
    module: str
    track: str
    seed: int
    spec: dict[str, Any]
    parents: tuple[str, ...]
    fingerprint: str
    where: Where
    workspace: Workspace
    progress: Progress
    source: Path | None = None  # of an import: the file

    @property
    def folder(self) -> Path:
        """This job's own folder."""
        return self.workspace.job(self.fingerprint)


@dataclass
class Outcome:
    """What a stage leaves: the parts of its record that only it knows."""

    metrics: dict[str, float]
    cost: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()  # patterns of files that nobody needs once the record is written


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Trained:
    """An encoder and what its evaluations need to know of its pre-training."""

    encoder: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    network: dict[str, Any]

    @property
    def normalisation(self) -> Normalisation:
        """What pictures were normalised by."""
        return Normalisation(self.mean, self.std)


def save_encoder(
    task: Task,
    network: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    weights: Mapping[str, torch.Tensor],
) -> None:
    """Leave an encoder where the evaluations of this job look for it (`load_encoder`)."""
    checkpoints.save(
        task.workspace.encoder(task.fingerprint),
        {
            "form": ENCODER,
            "method": task.method,
            "variant": task.variant,
            "track": task.track,
            "seed": task.seed,
            "network": network,
            "mean": list(mean),
            "std": list(std),
            "weights": {name: value.cpu() for name, value in weights.items()},
        },
    )


def load_encoder(path: Path) -> Trained:
    """The encoder that a pre-training left at `path`; UserError where the file is not one or does not fit."""
    state = checkpoints.load(path, ENCODER)
    encoder = frozen_encoder(state["network"])
    wanted = encoder.state_dict()
    given = state["weights"]
    if wanted.keys() != given.keys():
        odd = sorted(wanted.keys() ^ given.keys())[0]
        raise UserError(f"{path}: weights do not fit the network {state['network']['arch']} (first odd key: {odd})")
    encoder.load_state_dict(given)
    return Trained(encoder.to(device()), tuple(state["mean"]), tuple(state["std"]), state["network"])


def protocol_of(task: Task, kind: type[P]) -> P:
    """The protocol that the plan froze for this job."""
    stated = task.spec["protocol"]
    return kind.build(stated["name"], stated["values"])


def with_side(protocol: C, task: Task) -> C:
    """The protocol of a training on crops with the side of the crops: its own, or the track's, that of pre-training."""
    side = task.spec["size"]
    return dataclasses.replace(protocol, size=(side, side)) if protocol.crop_scale and not protocol.size else protocol


def labelled_pictures(task: Task, split: Literal["train", "test"]) -> tuple[Pictures, npt.NDArray[np.int64]]:
    """The pictures that a job trains or tests a classifier on, and their labels; UserError where they have none."""
    wanted = task.spec["data"]
    pictures = catalogue.load_classification(
        wanted["name"],
        split,
        task.where,
        size=task.spec["stored"] or task.spec["size"],
        limit=(wanted["limit"] or None) if split == "train" else None,
    )
    if pictures.labels is None:
        raise UserError(
            f"the pictures of {pictures.source} have no classes, so {task.kind} cannot be judged;"
            " sort them into one folder a class, or choose other evaluations with --eval"
        )
    return pictures, pictures.labels


def classification(task: Task) -> tuple[Classification[Pixels], dict[str, str]]:
    """The pictures that a classifier is trained and tested on, and what a record says of them."""
    (train, train_y), (test, test_y) = labelled_pictures(task, "train"), labelled_pictures(task, "test")
    labelled = Labelled(train.pixels, train_y), Labelled(test.pixels, test_y)
    return Classification(*labelled, len(train.classes)), source_of(train)


def identified(split: ReidSplit) -> Identified[Pixels]:
    """A part of a re-ID data set as its evaluation takes it."""
    return Identified(split.pixels, split.pids, split.cams)


def context_of(task: Task, workers: int = 0) -> Context:
    """Where this job's evaluation runs. workers: processes that load pictures."""
    return Context(device(), task.progress, checkpoints.Store(task.folder), task.folder, workers)


def reid_pictures(task: Task, protocol: protocols.ReidProtocol) -> ReidSet:
    """The pictures of a re-ID job, of the protocol's size where it has one, else of the track's.

    Files are resized bicubically anyway: once, as released scripts do it, where the protocol wants just that.
    """
    direct = protocol.size and protocol.interpolation == "bicubic"
    height, width = protocol.size if direct else task.spec["reid_size"]
    return catalogue.reid_set(task.spec["data"]["name"], task.where, size=(height, width), progress=task.progress)


def source_of(data: Pictures | CocoSet | ReidSet) -> dict[str, str]:
    """What a record says of its data."""
    return {"name": data.name, "source": data.source, "manifest": data.manifest}


def outcome_of(result: dict[str, Any], data: dict[str, str]) -> Outcome:
    """What an evaluation returns, as the outcome of a job."""
    return Outcome(
        metrics=result["metrics"],
        details=result.get("details", {}),
        artifacts={name: Path(path).name for name, path in result.get("artifacts", {}).items()},
        data=data,
    )


def as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """A numpy array as a tensor that shares its memory, a read-only memory map too: nothing writes to pictures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
