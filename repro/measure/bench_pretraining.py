"""How fast pre-training is here: `repro bench pretrain`.

Two loops of the same method run in turns in one process, so that a noisy machine is noisy for both:

    loop     the real one: views, losses, backward, optimiser, momentum network, log
    ready    the same updates on views that were made once: what is left when the data path costs nothing

and where the package `lightly` is installed, its own data path and loss around the same network, for the methods that
it has. Pictures are noise in memory. Every sample is some loads long; the table shows medians, of ratios too.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from methods.base import DataInfo
from repro.errors import Stopped, UserError, unknown
from repro.measure import lightly_peer, timing
from repro.plan import recipes, registry, tracks
from repro.plan.request import parse_overrides
from repro.stages.context import device
from repro.stages.pretrain import PretrainLoop, build_method
from repro.store.job import Recipe
from repro.terminal import text

_LOADS = 4  # distinct batches; the loop looks at its losses after each round of them


def table(
    methods: Sequence[str], track: str, precisions: Sequence[str], seconds: float, overrides: Sequence[str]
) -> str:
    """Images a second of each method and precision on a track's recipes.

    methods: names, or none for all; precisions: none for all; seconds: of each side of each row.
    """
    for precision in precisions:
        if precision not in recipes.PRECISIONS:
            raise unknown("precision", precision, recipes.PRECISIONS)
    scale, stated = tracks.find(track), parse_overrides(overrides)
    rows, passed_over = [], []
    for name in [name for name in methods if name != "all"] or sorted(registry.methods()):
        info, variant = registry.find(name)
        for precision in precisions or recipes.PRECISIONS:
            changes = {**stated, "pretrain": {**stated.get("pretrain", {}), "precision": precision}}
            recipe = recipes.resolve(info, variant, scale.name, changes)
            try:
                rows.append([name, precision, *_row(info, recipe, scale, seconds)])
            except Stopped:
                raise SystemExit(143) from None
            except (UserError, ValueError, RuntimeError) as error:
                passed_over.append(f"{name}: {str(error).splitlines()[0]}")
    if not rows:
        raise UserError(f"nothing measured; {'; '.join(passed_over) or 'no method'}")
    head = ["method", "precision", "batch", "loop", "ready", "loop / ready", "lightly", "loop / lightly"]
    lines = [
        f"images a second, track {scale.name}, {scale.size} px, {timing.device_in_words()}",
        "",
        text.table(rows, head),
    ]
    if not lightly_peer.installed():
        lines.append(f"lightly is not installed: pip install '.[bench]' puts it beside {', '.join(lightly_peer.PEERS)}")
    lines += [f"not measured: {line}" for line in dict.fromkeys(passed_over)]
    return "\n".join(lines)


def _row(info: registry.MethodInfo, recipe: Recipe, scale: tracks.Track, seconds: float) -> list[str]:
    settings = {**recipe["pretrain"], "epochs": 10**6}  # no end in sight
    batch, here = settings["batch"], device()
    generator = torch.Generator().manual_seed(0)
    side = scale.stored or scale.size
    images = torch.randint(0, 256, (_LOADS * batch, 3, side, side), dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) % 10
    data = DataInfo(scale.size, (0.5,) * 3, (0.25,) * 3, 10)
    with tempfile.TemporaryDirectory() as folder:

        def loop() -> PretrainLoop:
            method = build_method(info.module, recipe, data, 0)
            if not method.updates_per_load:
                raise UserError("it makes no update")
            return PretrainLoop(
                method,
                images.to(here),
                labels.to(here),
                settings,
                seed=0,
                device=here,
                folder=Path(folder),
                progress=lambda *_: None,
            )

        sides = [loop().train(), _ready(loop())]
        peer = lightly_peer.training_steps(info.name, recipe, scale.size, images)
        sides += [peer] if peer else []
        ours, *others = timing.interleaved(sides, seconds, here)
    row = [str(batch), f"{batch / statistics.median(ours):,.0f}"]
    for other in others:  # neighbours in time met the same disturbances: the ratio is that of neighbours
        ratio = statistics.median(b / a for a, b in zip(ours, other, strict=True))
        row += [f"{batch / statistics.median(other):,.0f}", f"{ratio:.2f}"]
    return row if peer else [*row, "-", "-"]


def _ready(loop: PretrainLoop) -> Iterator[None]:
    """The updates of one load again and again, on the views that it had the first time."""
    loop.method.train()
    views = [
        list(steps) for steps in loop.micro_batches(loop.feeder.read(loop.parts(torch.arange(len(loop.images)), 0)))
    ]
    while True:
        for step in range(loop.method.updates_per_load):
            loop.update((steps[step] for steps in views), 0.0)
        yield
