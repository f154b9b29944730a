"""`repro eval`: a file of anybody's weights through our evaluations.

The file is read and compared with the network before anything is planned, so that what does not fit is refused at once;
what fits becomes an arm NAME:imported, whose first job puts the weights under our keys.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repro import execute, fingerprint, plan, recipes, weights
from repro.data.entries import IMAGENET_STATISTICS
from repro.errors import UserError, unknown
from repro.settings import Settings

NORMALISATIONS = ("imagenet", "data", "file")


def run(
    request: plan.Request,
    path: Path,
    settings: Settings,
    command: Sequence[str],
    *,
    arch: str | None = None,
    name: str | None = None,
    part: str | None = None,
    normalise: str | None = None,
) -> int:
    """Evaluate the weights in the file `path` as `request` (which names no method) says; returns the exit status.

    arch: a key of weights.ARCHS; None: as the file says, if it is one of ours.  name: of the arm (default: the file's).
    part: prefix of the keys, where the file holds several networks.
    normalise: one of NORMALISATIONS (default: file, else imagenet).
    """
    given, lines = checkpoint(path, arch, request.overrides, name=name, part=part, normalise=normalise)
    planned = plan.make(dataclasses.replace(request, checkpoint=given), settings)
    print("\n".join(lines), flush=True)
    return execute.carry_out(planned, settings, command)


def checkpoint(
    path: Path,
    arch: str | None,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    part: str | None = None,
    normalise: str | None = None,
) -> tuple[plan.Checkpoint, list[str]]:
    """A file as the plan takes it, and lines that say what of it is used; UserError where it does not fit."""
    name = name or re.sub(r"[^a-z0-9_.]+", "_", path.name.partition(".")[0].lower()).strip("_.") or "checkpoint"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UserError(f"--name {name}: letters, digits, _, . and - only; it becomes part of file names")
    if normalise is not None and normalise not in NORMALISATIONS:
        raise unknown("normalisation", normalise, NORMALISATIONS)
    file = weights.read(path)
    network, said = _network(file, arch, overrides)
    try:
        found = weights.find(file, network, said, part)
    except ValueError as error:  # sizes that do not fit each other
        raise UserError(f"--set {error}") from None
    stated = (tuple(file.about["mean"]), tuple(file.about["std"])) if file.about else None
    if normalise == "file" and stated is None:
        raise UserError(
            f"{file.name}: it does not say how its pixels were normalised; say --normalise imagenet or data"
        )
    source = normalise or ("file" if stated else "imagenet")
    mean, std = {"data": ((), ()), "imagenet": IMAGENET_STATISTICS, "file": stated or ((), ())}[source]
    given = plan.Checkpoint(
        name=name,
        path=path,
        sha256=fingerprint.file_digest(path),
        layout=found.layout,
        part=found.part,
        network=network,
        normalise=source,
        mean=mean,
        std=std,
    )
    return given, [f"{name}:{plan.IMPORTED} is {said} from {file.name}", *_lines(found, given)]


def _network(file: weights.File, arch: str | None, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The table [network], and what to call it."""
    stated = plan.parse_overrides(overrides)
    for table in ("method", "pretrain"):
        if table in stated:
            key = next(iter(stated[table]))
            raise UserError(f"--set {table}.{key}: weights from a file are not trained; set network, data or protocols")
    if arch is None and not file.about:
        raise UserError(f"{file.name}: say which network it holds with --arch ({', '.join(weights.ARCHS)})")
    if arch is not None and arch not in weights.ARCHS:
        raise unknown("--arch", arch, weights.ARCHS)
    network: dict[str, Any] = copy.deepcopy(dict(file.about["network"] if arch is None else weights.ARCHS[arch]))
    if network["arch"] not in ("resnet", "vit"):
        raise UserError(f"{file.name}: no weights in it, its encoder ({network['arch']}) is no network")
    if network["arch"] == "vit":
        network.setdefault("pool", "class")  # encoders of before there was a choice
    change = stated.get("network", {})
    recipes.merge({"network": network}, {"network": change}, "--set")
    changed = " ".join(f"{key}={value}" for key, value in change.items())
    return network, (arch or f"the {network['arch']} that it names") + (f" with {changed}" if changed else "")


def _lines(found: weights.Match, given: plan.Checkpoint) -> list[str]:
    lines = weights.listing(found)
    if given.normalise == "data":
        lines.append("pixels: normalised by mean and deviation of the track's training pictures")
    else:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (given.mean, given.std))
        whose = "ImageNet's" if given.normalise == "imagenet" else "as the file says"
        lines.append(f"pixels: minus mean ({mean}), divided by deviation ({std}), {whose} (--normalise changes it)")
    network = given.network
    if network["arch"] == "vit":
        lines.append(
            f"not told by the weights, so make sure: heads {network['heads']}, eps {network['eps']:g}, features by the"
            f" {network['pool']} token (--set network.heads=N network.eps=X network.pool=mean)"
        )
    return [f"  {line}" for line in lines]
