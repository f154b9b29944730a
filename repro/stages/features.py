"""Features of the frozen encoder, extracted once for all that is judged on them.

They lie as memory-mapped files in the folder of their job, whose fingerprint covers the pre-training, the pictures and
the transform; beside them lies the hash of the checkpoint that they are of, which is compared before they are used. A
changed encoder never meets an old cache, and a record says which one it is of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.context import part_of
from eval.data import Classification, Labelled
from eval.features import extract, summary
from eval.protocols.base import Protocol
from repro.errors import UserError
from repro.stages.context import JobContext, Outcome, device, source_of
from repro.stages.pictures import labelled_pictures
from repro.store import atomic
from repro.store.hashes import file_digest
from slurm.files import write_atomic


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a .npy file that appears whole or not at all. Raises as `atomic.replace`."""
    atomic.replace(path, lambda stream: np.save(stream, array))


def checkpoint_of(context: JobContext) -> dict[str, str]:
    """The job whose encoder is judged, and the hash of that file."""
    return {"job": context.parent, "sha256": file_digest(context.workspace.encoder(context.parent))}


def run(context: JobContext) -> Outcome:
    """Features of the training and test pictures, float32 [N, D], with their labels."""
    checkpoint = checkpoint_of(context)
    trained = context.encoder()
    splits = {"train": labelled_pictures(context, "train"), "test": labelled_pictures(context, "test")}
    total, before = sum(len(labels) for _, labels in splits.values()), 0
    metrics: dict[str, float] = {}
    for split, (pictures, labels) in splits.items():
        found = extract(
            trained.encoder,
            pictures.pixels,
            trained.mean,
            trained.std,
            **context.spec["transform"],
            device=device(),
            progress=part_of(context.progress, before, total),
        )
        before += len(found)
        save_array(context.folder / f"{split}_x.npy", found)
        save_array(context.folder / f"{split}_y.npy", labels)
        metrics |= {f"{split}_{key}": value for key, value in summary(found).items()}
    train = splits["train"][0]
    meta = {"classes": len(train.classes), "data": source_of(train), "checkpoint": checkpoint}
    write_atomic(context.folder / "meta.json", json.dumps(meta))
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


def cached(context: JobContext) -> Cache:
    """The features that the parent of a job left. UserError where they are damaged, or not of today's encoder."""
    folder = context.workspace.job(context.parent)
    parts = {}
    try:
        for name in ("train_x", "train_y", "test_x", "test_y"):
            parts[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        found = Cache(**parts, **json.loads((folder / "meta.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, EOFError, TypeError):
        raise UserError(f"{folder}: the feature cache is damaged; delete this folder and run again") from None
    if not context.workspace.features_are_whole(context.parent):
        encoder = context.workspace.encoder(found.checkpoint["job"])
        raise UserError(f"{folder}: these features come from another encoder than {encoder}; run again to extract them")
    return found


def judge(context: JobContext, evaluate: Callable[..., dict[str, Any]], kind: type[Protocol]) -> Outcome:
    """An evaluation of cached features (eval.knn, eval.linear), as the outcome of this job."""
    found = cached(context)
    labelled = Labelled(found.train_x, found.train_y), Labelled(found.test_x, found.test_y)
    result = evaluate(Classification(*labelled, found.classes), context.protocol(kind), context.evaluation())
    outcome = Outcome.of(result, found.data)
    outcome.details["checkpoint"] = found.checkpoint["sha256"]
    return outcome
