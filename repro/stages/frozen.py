"""What is asked of the frozen encoder: features once, then k-NN, linear and re-ID on them; linear also on crops.

The features of a pre-training lie as memory-mapped files in the folder of their job, whose fingerprint covers the
pre-training, the pictures and the transform; beside them lies the hash of the checkpoint that they are of, which is
compared before they are used. A changed encoder never meets an old cache, and a record says which one it is of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval import knn as knn_evaluation
from eval import linear as linear_evaluation
from eval import protocols
from eval import reid as reid_evaluation
from eval.context import part_of
from eval.data import Identified
from eval.features import extract, summary
from repro import atomic, checkpoints
from repro.data.entries import IMAGENET_STATISTICS
from repro.errors import UserError
from repro.fingerprint import digest, file_digest
from repro.records import write_atomic
from repro.stages.common import (
    Outcome,
    Task,
    context_of,
    device,
    labelled_pictures,
    load_encoder,
    outcome_of,
    protocol_of,
    reid_pictures,
    source_of,
    with_side,
)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    atomic.replace(path, lambda stream: np.save(stream, array))


def _checkpoint(task: Task) -> dict[str, str]:
    """The job whose encoder is judged, and the hash of that file."""
    return {"job": task.parents[0], "sha256": file_digest(task.workspace.encoder(task.parents[0]))}


def features(task: Task) -> Outcome:
    """Features of the training and test pictures, float32 [N, D], with their labels."""
    checkpoint = _checkpoint(task)
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    splits = {"train": labelled_pictures(task, "train"), "test": labelled_pictures(task, "test")}
    total, before = sum(len(labels) for _, labels in splits.values()), 0
    metrics: dict[str, float] = {}
    for split, (pictures, labels) in splits.items():
        found = extract(
            trained.encoder,
            pictures.pixels,
            trained.mean,
            trained.std,
            **task.spec["transform"],
            device=device(),
            progress=part_of(task.progress, before, total),
        )
        before += len(found)
        _save(task.folder / f"{split}_x.npy", found)
        _save(task.folder / f"{split}_y.npy", labels)
        metrics |= {f"{split}_{key}": value for key, value in summary(found).items()}
    train = splits["train"][0]
    meta = {"classes": len(train.classes), "data": source_of(train), "checkpoint": checkpoint}
    write_atomic(task.folder / "meta.json", json.dumps(meta))
    return Outcome(
        metrics=metrics,
        cost={"image_passes": total},
        details={"classes": list(train.classes), "dim": trained.encoder.dim, "checkpoint": checkpoint["sha256"]},
        artifacts={f"{split}_{part}": f"{split}_{part}.npy" for split in splits for part in "xy"},
        data=source_of(train),
    )


@dataclass(frozen=True)
class Cache:
    """What the features job left.  x: float32 [N, D], memory maps; y: int64 [N]."""

    train_x: npt.NDArray[np.float32]
    train_y: npt.NDArray[np.int64]
    test_x: npt.NDArray[np.float32]
    test_y: npt.NDArray[np.int64]
    classes: int
    data: dict[str, str]
    checkpoint: dict[str, str]


def _cached(task: Task) -> Cache:
    folder = task.workspace.job(task.parents[0])
    parts = {}
    try:
        for name in ("train_x", "train_y", "test_x", "test_y"):
            parts[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        found = Cache(**parts, **json.loads((folder / "meta.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, EOFError, TypeError):
        raise UserError(f"{folder}: the feature cache is damaged; delete this folder and run again") from None
    if not task.workspace.has_output("features", task.parents[0]):
        encoder = task.workspace.encoder(found.checkpoint["job"])
        raise UserError(f"{folder}: these features are not of the encoder in {encoder}; run again to extract them anew")
    return found


def _on_features(task: Task, evaluate: Callable[..., dict[str, Any]], kind: type[protocols.Protocol]) -> Outcome:
    found = _cached(task)
    result = evaluate(
        found.train_x,
        found.train_y,
        found.test_x,
        found.test_y,
        found.classes,
        protocol_of(task, kind),
        device=device(),
        progress=task.progress,
    )
    outcome = outcome_of(result, found.data)
    outcome.details["checkpoint"] = found.checkpoint["sha256"]
    return outcome


def knn(task: Task) -> Outcome:
    """Weighted k-NN on the cached features."""
    return _on_features(task, knn_evaluation.evaluate, protocols.KnnProtocol)


def linear(task: Task) -> Outcome:
    """Linear classifiers: on the cached features, or on new crops of the pictures in every epoch."""
    protocol = protocol_of(task, protocols.LinearProtocol)
    if not protocol.augmented:
        return _on_features(task, linear_evaluation.evaluate, protocols.LinearProtocol)
    protocol = with_side(protocol, task)
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    train, train_y = labelled_pictures(task, "train")
    test, test_y = labelled_pictures(task, "test")
    result = linear_evaluation.probe(
        trained.encoder,
        train.pixels,
        train_y,
        test.pixels,
        test_y,
        len(train.classes),
        trained.mean,
        trained.std,
        protocol,
        device=device(),
        progress=task.progress,
        store=checkpoints.Store(task.folder),
    )
    outcome = outcome_of(result, source_of(train))
    outcome.details["size"] = list(protocol.size)
    held = outcome.details["n_split"]
    turns = len(train_y) + (len(train_y) - held if held else 0)
    outcome.cost["image_passes"] = protocol.epochs * turns + held + len(test_y)
    outcome.scratch = ("*.pt*",)
    return outcome


def reid(task: Task) -> Outcome:
    """Re-identification with the frozen encoder's features."""
    checkpoint = _checkpoint(task)
    trained = load_encoder(task.workspace.encoder(task.parents[0]))
    protocol = protocol_of(task, protocols.ReidProtocol)
    pictures = reid_pictures(task, protocol)
    mean, std = IMAGENET_STATISTICS if protocol.normalise == "imagenet" else (trained.mean, trained.std)
    transform = protocols.transform(protocol)
    key = digest(
        [checkpoint, pictures.manifest, transform, list(mean), list(std), list(pictures.query.pixels.shape[2:])]
    )
    found, passes = {}, 0
    for name in ("query", "gallery"):
        # Beside the encoder, so that another protocol that looks at the same pictures in the same way finds them.
        path = task.workspace.job(task.parents[0]) / f"reid_{name}_{key[:12]}.npy"
        images = getattr(pictures, name).pixels
        if not path.exists():
            extracted = extract(
                trained.encoder, images, mean, std, **transform, device=device(), progress=task.progress
            )
            _save(path, extracted)
            passes += len(images)
        found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    query, gallery = pictures.query, pictures.gallery
    result = reid_evaluation.evaluate(
        Identified(found["query"], query.pids, query.cams),
        Identified(found["gallery"], gallery.pids, gallery.cams),
        protocol,
        context_of(task),
        pictures=(query.pixels, gallery.pixels),
    )
    outcome = outcome_of(result, source_of(pictures))
    outcome.details["checkpoint"] = checkpoint["sha256"]
    for name, x in found.items():
        outcome.metrics |= {f"{name}_{key}": value for key, value in summary(x).items()}
    outcome.cost["image_passes"] = passes
    return outcome
