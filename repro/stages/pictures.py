"""The pictures that a job reads, as its spec names them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from eval.data import Classification, Identified, Labelled, Pixels
from eval.protocols.reid import ReidProtocol
from repro.data import loading
from repro.data.types import Pictures, ReidSet, ReidSplit
from repro.errors import UserError
from repro.stages.context import JobContext, source_of


def classification_pictures(context: JobContext, split: Literal["train", "test"]) -> Pictures:
    """One split of the job's classification data set; the limit holds for training pictures."""
    spec, wanted = context.spec, context.spec["data"]
    return loading.load_classification(
        wanted["name"],
        split,
        context.where,
        size=spec["stored"] or spec["size"],
        limit=(wanted["limit"] or None) if split == "train" else None,
        workers=context.decoders(),
    )


def labelled_pictures(context: JobContext, split: Literal["train", "test"]) -> tuple[Pictures, npt.NDArray[np.int64]]:
    """The pictures that a job trains or tests a classifier on, and their labels; UserError where they have none."""
    pictures = classification_pictures(context, split)
    if pictures.labels is None:
        raise UserError(
            f"the images of {pictures.source} have no classes, so {context.job.kind} cannot be evaluated;"
            " sort them into one folder per class, or choose other evaluations with --eval"
        )
    return pictures, pictures.labels


def classification(context: JobContext) -> tuple[Classification[Pixels], dict[str, str]]:
    """The pictures that a classifier is trained and tested on, and what a record says of them."""
    (train, train_y), (test, test_y) = labelled_pictures(context, "train"), labelled_pictures(context, "test")
    labelled = Labelled(train.pixels, train_y), Labelled(test.pixels, test_y)
    return Classification(*labelled, len(train.classes)), source_of(train)


def identified(split: ReidSplit) -> Identified[Pixels]:
    """A part of a re-ID data set as its evaluation takes it."""
    return Identified(split.pixels, split.pids, split.cams)


def reid_pictures(context: JobContext, protocol: ReidProtocol) -> ReidSet:
    """The pictures of a re-ID job, of the protocol's size where it has one, else of the track's.

    Files are resized bicubically anyway: once, as released scripts do it, where the protocol wants just that.
    """
    direct = protocol.size and protocol.interpolation == "bicubic"
    height, width = protocol.size if direct else context.spec["reid_size"]
    name = context.spec["data"]["name"]
    return loading.reid_set(name, context.where, size=(height, width), progress=context.progress)
