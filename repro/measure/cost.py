"""What methods cost by their operations, not by a clock: `repro methods --cost`.

One load of every method is run on noise, with few rows, and counted: operations of the networks forward and backward
(views are not counted) and bytes kept for the backward pass. Both grow with the rows, up to terms of the losses that
are small beside the network, so the numbers are those of the recipe's batch. The same is done for MoCo-v3 on the
method's own network, which is 1.00.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from methods.base import DataInfo
from repro.data import inventory
from repro.errors import UserError
from repro.plan import recipes, registry, tracks
from repro.settings import Settings
from repro.stages.context import device
from repro.stages.pretrain import PretrainLoop, build_method
from repro.store import records
from repro.store.job import Recipe
from repro.store.workspace import Workspace
from repro.terminal import text
from repro.terminal.counter import counter

REFERENCE = "moco_v3"
_ROWS = (8, 16, 32, 64, 128, 256)  # tried in turn: some methods need more than a few rows
_SMALL = 64  # pixels up to which more rows cost nothing worth saving


@dataclass(frozen=True)
class Cost:
    """Of one method on one network.

    flops: forward and backward, for a picture of an epoch.  updates: optimiser updates a load.
    parameters: of everything the method holds, momentum networks included; encoder: of what is kept.
    state: bytes of weights, buffers, gradients and optimiser.  saved: bytes kept for the backward pass, a picture.
    """

    flops: float
    updates: int
    parameters: int
    encoder: int
    state: float
    saved: float


def measure(module: str, recipe: Recipe, size: int) -> Cost:
    """Run one load of the recipe with few rows on one device and count. Raises what the method raises."""
    error: Exception = UserError("no number of rows suits it")
    for rows in _ROWS[1 if size <= _SMALL else 0 :]:
        try:
            return _measure(module, recipe, size, rows)
        except (ValueError, RuntimeError, UserError) as problem:
            error = problem
    raise error


def _measure(module: str, recipe: Recipe, size: int, rows: int) -> Cost:
    here = device()
    settings = {**recipe["pretrain"], "batch": rows, "devices": 1, "accumulate": 1, "epochs": 2}
    method = build_method(module, {**recipe, "pretrain": settings}, DataInfo(size, (0.5,) * 3, (0.25,) * 3, 10), 0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8, generator=generator)
    flops, saved, optimizer = 0.0, 0.0, []
    if method.updates_per_load:
        with tempfile.TemporaryDirectory() as folder, _saved(method) as kept:
            loop = PretrainLoop(
                method,
                images.to(here),
                (torch.arange(rows) % 10).to(here),
                settings,
                seed=0,
                device=here,
                folder=Path(folder),
                progress=lambda *_: None,
            )
            with redirect_stdout(StringIO()):  # noise may collapse, which the loop would say
                next(loop.train())
        flops, saved = loop.flops / rows, sum(kept.values()) / method.updates_per_load / rows
        optimizer = [t for state in loop.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    trained = [p for p in method.parameters() if p.requires_grad]
    held = [*method.parameters(), *method.buffers(), *trained, *optimizer]
    return Cost(
        flops=flops,
        updates=method.updates_per_load,
        parameters=sum(p.numel() for p in method.parameters()),
        encoder=sum(p.numel() for p in method.encoder.parameters()),
        state=float(sum(t.nbytes for t in held)),
        saved=saved,
    )


@contextmanager
def _saved(method: torch.nn.Module) -> Iterator[dict[tuple[int, int], int]]:
    """Collects the bytes that autograd keeps, by storage; copies of weights (autocast makes them) are not counted."""
    weights = {shape for p in method.parameters() for shape in (tuple(p.shape), tuple(p.shape[::-1]))}
    kept: dict[tuple[int, int], int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tuple(tensor.shape) not in weights:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


@cache
def _reference(track: str, network: tuple[tuple[str, Any], ...], size: int) -> float:
    """Operations of MoCo-v3 for a picture, on that network (of the keys that its own has)."""
    info, _ = registry.find(REFERENCE)
    variant = "resnet" if dict(network)["arch"] == "resnet" else ""
    recipe = recipes.resolve(info, variant, track, {})
    own = recipe["network"]
    own |= {key: value for key, value in network if key in own and key != "freeze_patches"}
    return measure(info.module, recipe, size).flops


def table(name: str | None, track: str, settings: Settings) -> str:
    """The costs of every method on a track, or of one method and its variants."""
    scale = tracks.find(track)
    if name is None:
        arms = [(info, "") for info in registry.methods().values()]
    else:
        info, variant = registry.find(name)
        arms = [(info, variant)] if variant else [(info, variant) for variant in ("", *info.variants)]
    arms.sort(key=lambda arm: (registry.ROLES.index(arm[0].role), arm[0].name))
    pictures = scale.limit or inventory.train_pictures(scale.classification, settings.where)
    measured = _peaks(settings, track)
    bar = counter("costs")
    rows, faults = [], []
    for number, (info, variant) in enumerate(arms, 1):
        arm = info.name + (f":{variant}" if variant else "")
        recipe = recipes.resolve(info, variant, track, {})
        try:
            cost = measure(info.module, recipe, scale.size)
            base = _reference(track, tuple(recipe["network"].items()), scale.size) if cost.flops else 1.0
        except (ValueError, RuntimeError, UserError) as error:
            faults.append(f"not measured: {arm}: {str(error).splitlines()[0]}")
            continue
        rows.append(_row(arm, recipe, cost, base, pictures, measured.get(arm)))
        bar(number, len(arms), {})
    head = ["method", "network", "GFLOPs / image", f"{REFERENCE} = 1", "updates / epoch", "epochs", "image passes"]
    head += ["parameters", "memory, estimate", "peak, recorded"]
    lines = [
        f"track {scale.name}: {scale.size} px, {pictures:,} images per epoch",
        "",
        text.table(rows, head),
        "",
        "GFLOPs / image: operations (FLOPs) of the networks, forward and backward, for one image of an epoch.",
        "Making the views is not counted.",
        f"{REFERENCE} = 1: relative to MoCo-v3 on the same network.  image passes: images read in the whole recipe.",
        "parameters: of the encoder, which is kept + of the rest (heads, momentum networks).",
        "memory: weights, gradients, optimiser, and what the backward pass needs for the batch of one device.",
        f"peak: the highest memory of a process in the records of {settings.workspace}.",
    ]
    return "\n".join(lines + faults)


def _row(arm: str, recipe: Recipe, cost: Cost, base: float, pictures: int, peak: float | None) -> list[str]:
    pretrain, network = recipe["pretrain"], recipe["network"]
    loads = pictures // pretrain["batch"]
    here = pretrain["batch"] // pretrain["devices"] // pretrain["accumulate"]
    shape = {
        "vit": " {dim}x{depth}/{patch}",
        "resnet": " {depth}, {width} wide",
    }.get(network["arch"], "").format_map(network)
    return [
        arm,
        network["arch"] + shape,
        f"{cost.flops / 1e9:.3g}",
        f"{cost.flops / base:.2f}",
        f"{loads * cost.updates:,}",
        f"{pretrain['epochs']:,}",
        f"{loads * pretrain['batch'] * pretrain['epochs']:,}",
        f"{cost.encoder / 1e6:.2f} + {(cost.parameters - cost.encoder) / 1e6:.2f} M",
        f"{(cost.state + cost.saved * here) / 2**30:.2f} GB",
        "-" if peak is None else f"{peak / 1024:.2f} GB",
    ]


def _peaks(settings: Settings, track: str) -> Mapping[str, float]:
    """Highest recorded memory of a pre-training by arm, in MB: of the device where there is one."""
    found: dict[str, float] = {}
    for record in records.read_all(Workspace(settings.workspace).records)[0]:
        if record["kind"] == "pretrain" and record["track"] == track:
            arm = record["method"] + (f":{record['variant']}" if record["variant"] else "")
            peak = record["cost"].get("peak_device_memory_mb", record["cost"].get("peak_memory_mb", 0.0))
            found[arm] = max(found.get(arm, 0.0), peak)
    return found
