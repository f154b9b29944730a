"""The real training loop on what a part gives it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import Batch, DataInfo, Method, Streams, Views
from repro.data import loading
from repro.data.types import MissingData
from repro.errors import UserError
from repro.measure.gpu.part import Case
from repro.plan import recipes, registry, tracks
from repro.settings import Where
from repro.stages.pretrain import PretrainLoop, build_method
from repro.store.job import Recipe
from repro.store.workspace import Workspace

Steps = Callable[[Batch, Streams], Iterator[Views]]
_COLOURS = ((0.5,) * 3, (0.25,) * 3)


def recipe_of(name: str, track: str, **pretrain: Any) -> tuple[str, Recipe]:
    """The module and the recipe of a method (NAME or NAME:VARIANT), with changes of its table [pretrain]."""
    info, variant = registry.find(name)
    return info.module, recipes.resolve(info, variant, track, {"pretrain": pretrain})


def noise(rows: int, track: tracks.Track) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [rows, 3, S, S] of the side that the track stores, and labels int64 [rows] of ten classes."""
    side, generator = track.stored or track.size, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (rows, 3, side, side), dtype=torch.uint8, generator=generator)
    return images, torch.arange(rows) % 10


def pictures(case: Case) -> tuple[Tensor, str]:
    """Training pictures uint8 [N, 3, 32, 32] of the first of the data sets that is there, and its name.

    Raises UserError where none is.
    """
    where = where_of(case)
    for name in data_sets(case):
        with contextlib.suppress(MissingData):
            return torch.from_numpy(np.array(loading.load_classification(name, "train", where, size=32).pixels)), name
    raise UserError(f"none of {', '.join(data_sets(case))} is there; say where with --data-root or REPRO_DATA")


def data_sets(case: Case) -> tuple[str, ...]:
    """Those that the parts train on, the preferred one first."""
    return ("digits",) if case.small else ("cifar10", "cifar10-jpeg")


def where_of(case: Case) -> Where:
    """Where they are looked for."""
    return Where(case.data_root, Workspace(case.workspace).data)


def loop_on(
    images: Tensor,
    labels: Tensor | None,
    module: str,
    recipe: Recipe,
    here: torch.device,
    folder: Path,
    *,
    size: int,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> PretrainLoop:
    """A loop over those pictures that leaves its files in that folder. UserError for a method that is not trained."""
    method = build_method(module, recipe, DataInfo(size, *_COLOURS, 10), seed)
    if not method.updates_per_load:
        raise UserError("it makes no update")
    return PretrainLoop(
        method,
        images.to(here),
        None if labels is None else labels.to(here),
        {**recipe["pretrain"], **(settings or {})},
        seed=seed,
        device=here,
        folder=folder,
        progress=lambda *_: None,
    )


def train(loop: PretrainLoop, loads: int) -> None:
    """The first loads of a training, without its learning curve and without what it prints: noise collapses."""
    loop.curve.append([])  # as if it had been judged
    with contextlib.redirect_stdout(io.StringIO()):
        training = loop.train()
        for _ in range(loads):
            next(training)


def total(outputs: Mapping[str, Tensor]) -> Tensor:
    """The loss that is differentiated."""
    return torch.stack([value.detach() for name, value in outputs.items() if name.startswith("loss_")]).sum()


@contextlib.contextmanager
def instead_of_steps(method: Method, steps: Steps) -> Iterator[None]:
    """Within it the method's views come from there."""
    method.__dict__["steps"] = steps
    try:
        yield
    finally:
        del method.__dict__["steps"]


def always_first(method: Method) -> Steps:
    """The views that the method makes of its first load, for every load: what is left when views cost nothing."""
    own_steps = method.steps
    kept: list[Views] = []

    def steps(batch: Batch, rng: Streams) -> Iterator[Views]:
        if not kept:
            kept.extend(own_steps(batch, rng))
        yield from kept

    return steps
