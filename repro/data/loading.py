"""Data sets as stages use them: decoded pictures, or folders and annotation files. Prepared on first use."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from eval.deep_pixels import Reach
from repro.data import packed
from repro.data.account import one_picture_each
from repro.data.data_sets import Entry, require_kind
from repro.data.inventory import manifest_of
from repro.data.layouts.table import DETECTION
from repro.data.origins import ORIGINS
from repro.data.preparing import prepare
from repro.data.types import (
    FLAT,
    RGB,
    CocoSet,
    Drawn,
    MissingData,
    Pictures,
    Progress,
    ReidSet,
    ReidSplit,
    Split,
    quiet,
)
from repro.data.unpacked import Files
from repro.errors import UserError, unknown
from repro.settings import Where
from slurm.files import write_atomic


def load_classification(
    name: str,
    split: Split,
    where: Where,
    *,
    size: int,
    limit: Drawn | None = None,
    progress: Progress = quiet,
    workers: int = 0,
) -> Pictures:
    """One split of a classification data set as uint8 [N, 3, size, size]; decoded on first use.

    Pictures of another shape are resized (bicubic, antialiased; the shorter side to `size`) and cut out in the middle.
    limit: at most so many pictures, classes balanced, those that its seed draws (`packed.balanced`).
    workers: processes that decode them where they stay in their files (`Where.stored`).
    Raises MissingData, or UserError naming the file that cannot be read, or saying that there is nothing to learn.
    """
    import numpy as np

    entry = require_kind(name, "classification")
    if split not in get_args(Split):
        raise unknown("split", split, get_args(Split))
    folder = prepare(name, where, size=size, progress=progress)
    content = packed.read_pack(folder)
    if split not in content["counts"]:
        raise UserError(
            f"{entry.title} has no classes, so there is no {split} split; sort images into one folder per class"
        )
    pixels: Any
    if "files" in content:
        root, reach = ORIGINS[entry.origin].obtain(entry, where), Reach(*content["reach"])
        pixels = Files(root, content["files"][split], size, size, reach, workers)
    else:
        pixels = packed.open_array(folder / f"{split}.npy")
    if not len(pixels):
        raise one_picture_each(entry.title, f"{split} on")
    classes = tuple(content["classes"])
    labels = np.array(packed.open_array(folder / f"{split}_labels.npy")) if classes else None
    if limit is not None and (wanted := limit["pictures"]) < len(pixels):
        if wanted < max(1, len(classes)):
            raise UserError(
                f"a limit of {wanted} images is less than the {len(classes)} classes of {entry.title}",
                f"use --set data.limit={len(classes)} or more",
            )
        chosen = packed.balanced(labels, len(pixels), wanted, limit["seed"])
        pixels = pixels.only(chosen) if isinstance(pixels, Files) else np.asarray(pixels[chosen])
        labels = labels[chosen] if labels is not None else None
    found = Pictures(pixels, labels, classes, **_described(entry, content))
    if found.one_colour:
        colour = ", ".join(f"{255 * value:.0f}" for value in found.mean)
        raise UserError(
            f"all training images of {entry.title} are of one colour ({colour}), so there is nothing to learn;"
            " look at the files and export them again"
        )
    return found


@cache
def _say(name: str, remarks: tuple[str, ...]) -> None:
    """Tell the log, once a process, how files were read that hold more than one picture of 8 bits."""
    for remark in remarks:
        print(f"{name}: {remark}", flush=True)


def _described(entry: Entry, content: Mapping[str, Any]) -> dict[str, Any]:
    """What a pack says of a data set."""
    remarks = tuple(content.get("remarks", ()))
    _say(entry.name, remarks)
    return {
        "mean": _rgb(content["mean"]),
        # A channel of one value is not scaled, as in scikit-learn's StandardScaler: it has no deviation to divide by.
        "std": tuple(value or FLAT for value in _rgb(content["std"])),
        "remarks": remarks,
        "name": entry.name,
        # Own pictures share a pack wherever they lie, so it cannot tell what their folder is called.
        "source": content["source"] if entry.own is None else entry.title,
        "manifest": content["manifest"],
    }


def _rgb(values: list[float]) -> RGB:
    red, green, blue = values
    return float(red), float(green), float(blue)


def coco_set(name: str, where: Where, *, masks: bool | None = None, progress: Progress = quiet) -> CocoSet:
    """A detection data set as checked annotation files and their pictures.

    masks: whether its objects need them; None: where they have any.
    Raises MissingData, or UserError naming the annotation or the picture that does not fit.
    """
    entry = require_kind(name, "detection")
    root = ORIGINS[entry.origin].obtain(entry, where)
    value = manifest_of(name, where)
    folders = DETECTION[entry.layout].annotated(entry, root, where.cache, value, progress)
    try:
        content = folders.read(masks)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    counts = {split: len(file.images) for split, file in vars(content).items()}
    return CocoSet(content=content, name=name, source=_detection_source(entry, counts), manifest=value)


def require_annotations(name: str, where: Where, masks: bool) -> None:
    """Check the annotation files that a user brings, before anything is computed; once for a content.

    What has to be made or fetched first is checked when it is used, and what is missing is for others to say.
    Raises UserError as `coco_set` does.
    """
    entry = require_kind(name, "detection")
    if ORIGINS[entry.origin].whole or not DETECTION[entry.layout].as_found:
        return
    try:
        done = where.cache / "checked" / f"{manifest_of(name, where)[:16]}-{'masks' if masks else 'boxes'}"
    except MissingData:
        return
    if not done.exists():
        coco_set(name, where, masks=masks)
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            write_atomic(done, "")


def _detection_source(entry: Entry, counts: Mapping[str, int]) -> str:
    short = "" if counts == dict(entry.counts) else f", incomplete ({counts['train']:,} train, {counts['val']:,} val)"
    return entry.title + short


def reid_set(name: str, where: Where, *, size: tuple[int, int], progress: Progress = quiet) -> ReidSet:
    """A re-identification data set, every picture resized (bicubic, antialiased, not cut) to size = (height, width).

    Raises MissingData, or UserError naming the file that cannot be read.
    """
    import numpy as np

    entry = require_kind(name, "reid")
    folder = prepare(name, where, size=size, progress=progress)
    content = packed.read_pack(folder)

    def split(part: str) -> ReidSplit:
        pids, cams = (np.array(packed.open_array(folder / f"{part}_{what}.npy")) for what in ("pids", "cams"))
        return ReidSplit(packed.open_array(folder / f"{part}.npy"), pids, cams, content["files"][part])

    return ReidSet(
        train=split("train"),
        query=split("query"),
        gallery=split("gallery"),
        **_described(entry, content),
    )
