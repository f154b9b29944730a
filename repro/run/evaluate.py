"""`repro eval`: evaluates weights from a file, of whatever origin.

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

from repro.data.cache import shortened
from repro.data.data_sets import IMAGENET_STATISTICS
from repro.errors import UserError, unknown
from repro.plan import recipes
from repro.plan.builder import IMPORTED, make
from repro.plan.request import Checkpoint, Request, parse_overrides
from repro.run import execute
from repro.run.live_boards import Views
from repro.settings import Settings, require_writable
from repro.store import records
from repro.store.hashes import file_digest
from repro.weights import files, fitting, wording
from repro.weights.architectures import ARCHS
from repro.weights.files import File
from repro.weights.matching import Match

NORMALISATIONS = ("imagenet", "data", "file")
LONGEST = 100  # characters of an arm's name: with what stands beside it a file's name has at most 255


def run(
    request: Request,
    path: Path,
    settings: Settings,
    command: Sequence[str],
    views: Views,
    *,
    arch: str | None = None,
    name: str | None = None,
    part: str | None = None,
    normalise: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    agreed: bool = False,
) -> int:
    """Evaluate the weights in the file `path` as `request` (which names no method) says; returns the exit status.

    arch: a key of ARCHS; None: as the file says, if it is one of ours.  name: of the arm (default: the file's).
    part: prefix of the keys, where the file holds several networks.
    normalise: one of NORMALISATIONS (default: file, else imagenet).  mean, std: in its place, "R,G,B" of pixels in
    [0, 1].  Of a file that does not fit, every name is left in the workspace.  agreed: see `missing_data.complete`.
    """
    try:
        given, lines = checkpoint(
            path, arch, request.overrides, name=name, part=part, normalise=normalise, mean=mean, std=std
        )
    except fitting.Misfit as refusal:
        require_writable(settings.workspace)
        names = settings.workspace / f"{shortened(path.name)}.keys.txt"
        names.write_text("\n".join(refusal.names) + "\n", encoding="utf-8")
        raise UserError(f"{refusal}; all names: {names}") from None
    planned = make(dataclasses.replace(request, checkpoint=given), settings)
    print("\n".join(lines), flush=True)
    return execute.carry_out(planned, settings, command, views, agreed)


def checkpoint(
    path: Path,
    arch: str | None,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    part: str | None = None,
    normalise: str | None = None,
    mean: str | None = None,
    std: str | None = None,
) -> tuple[Checkpoint, list[str]]:
    """A file as the plan takes it, and lines that say what of it is used; UserError where it does not fit."""
    plain = re.sub(r"[^a-z0-9_.]+", "_", path.name.partition(".")[0].lower())
    name = name or plain[:LONGEST].strip("_.") or "checkpoint"
    if not re.fullmatch(records.NAME, name):
        raise UserError(f"--name {name}: letters, digits, _, . and - only; it becomes part of file names")
    if len(name) > LONGEST:
        raise UserError(f"--name {name[:20]}...: at most {LONGEST} characters, as it becomes part of file names")
    if normalise is not None and normalise not in NORMALISATIONS:
        raise unknown("normalisation", normalise, NORMALISATIONS)
    if arch is not None and arch not in ARCHS:
        raise unknown("--arch", arch, ARCHS)
    numbers = _statistics(mean, std, normalise)
    file = files.read(path)
    network, said = _network(file, arch, overrides)
    try:
        found = fitting.find(file, network, said, part)
    except ValueError as error:  # sizes that do not fit each other
        raise UserError(f"--set {error}") from None
    stated = (tuple(file.about["mean"]), tuple(file.about["std"])) if file.about else None
    if normalise == "file" and stated is None:
        raise UserError(
            f"{file.name}: it does not say how its pixels were normalised; say --normalise imagenet or data, or give"
            " --mean and --std"
        )
    source = normalise or ("given" if numbers else "file" if stated else "imagenet")
    known = {"given": numbers, "data": None, "imagenet": IMAGENET_STATISTICS, "file": stated}
    means, deviations = known[source] or ((), ())
    given = Checkpoint(
        name=name,
        path=path,
        sha256=file_digest(path),
        layout=found.layout,
        part=found.part,
        network=network,
        normalise=source,
        mean=means,
        std=deviations,
    )
    return given, [f"{name}:{IMPORTED} is {said} from {file.name}", *_lines(found, given)]


def _statistics(
    mean: str | None, std: str | None, normalise: str | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The numbers of --mean and --std; None where neither is given."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise UserError(f"--{'std' if mean is None else 'mean'} alone: give --mean R,G,B and --std R,G,B together")
    if normalise is not None:
        raise UserError(f"--normalise {normalise} beside --mean and --std: leave one of the two out")
    return _numbers("--mean", mean, least="0"), _numbers("--std", std, least="above 0")


def _numbers(option: str, text: str, least: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 and (value or least == "0") for value in values):
        raise UserError(
            f"{option} {text}: three numbers R,G,B from {least} to 1 are wanted, of pixels in [0, 1]"
            f" ({option} 0.485,0.456,0.406; those of pixels up to 255 are to be divided by 255)"
        )
    return values


def _network(file: File, arch: str | None, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The table [network], and what to call it."""
    stated = parse_overrides(overrides)
    for table in ("method", "pretrain"):
        if table in stated:
            key = next(iter(stated[table]))
            raise UserError(f"--set {table}.{key}: weights from a file are not trained; set network, data or protocols")
    if arch is None and not file.about:
        raise UserError(f"{file.name}: say which network it holds with --arch ({', '.join(ARCHS)})")
    network: dict[str, Any] = copy.deepcopy(dict(file.about["network"] if arch is None else ARCHS[arch]))
    if network["arch"] not in ("resnet", "vit"):
        raise UserError(
            f"{file.name}: it contains no weights, its encoder ({network['arch']}) is not a network; give another file"
        )
    if network["arch"] == "vit":
        network.setdefault("pool", "class")  # encoders of before there was a choice
    change = stated.get("network", {})
    recipes.merge({"network": network}, {"network": change}, "--set")
    changed = " ".join(f"{key}={value}" for key, value in change.items())
    return network, (arch or f"the {network['arch']} that it names") + (f" with {changed}" if changed else "")


def _lines(found: Match, given: Checkpoint) -> list[str]:
    lines = wording.listing(found)
    if given.normalise == "data":
        lines.append("pixels: normalised by mean and deviation of the track's training images")
    else:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (given.mean, given.std))
        whose = {"imagenet": "ImageNet's", "file": "as the file says", "given": "as given"}[given.normalise]
        change = "--normalise, or --mean and --std, change it"
        lines.append(f"pixels: minus mean ({mean}), divided by deviation ({std}), {whose} ({change})")
    network = given.network
    if network["arch"] == "vit":
        lines.append(
            f"not told by the weights, so make sure: heads {network['heads']}, eps {network['eps']:g}, features by the"
            f" {network['pool']} token (--set network.heads=N network.eps=X network.pool=mean)"
        )
    return [f"  {line}" for line in lines]
