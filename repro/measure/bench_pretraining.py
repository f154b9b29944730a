"""How fast pre-training is here: `repro bench pretrain`.

Two loops of the same method run in turns in one process, so that a noisy machine is noisy for both:

    loop     the real one: views, losses, backward, optimiser, momentum network, log
    ready    the same updates on views that were made once: what is left when the data path costs nothing

and where the package `lightly` is installed, its own data path and loss around the same network, for the methods that
it has. Products of large matrices in the same precision take turns with them: "of limit" is the loop's operations a
second (of its networks, forward and backward; of layers with padding also those on zeros that libraries pass over) as a
share of theirs. Pictures are noise in memory. Every sample is some loads long; the table shows medians, of ratios too.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from repro.errors import Stopped, UserError, unknown
from repro.measure import lightly_peer, limits, timing
from repro.measure.gpu import loops
from repro.plan import recipes, registry, tracks
from repro.plan.request import parse_overrides
from repro.stages.context import device
from repro.stages.pretrain import PretrainLoop
from repro.store.job import Recipe
from repro.terminal import text

_LOADS = 4  # distinct batches; the loop looks at its losses after each round of them
_HEAD = ["method", "precision", "batch", "loop", "ready", "loop / ready", "GFLOP/s", "of limit"]


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
    on_gpu = device().type == "cuda"
    lines = [
        f"images a second {timing.clock_in_words(device())}, track {scale.name}, {scale.size} px,"
        f" {timing.device_in_words()}",
        "",
        text.table(rows, [*_HEAD, *["GPU idles"] * on_gpu, "lightly", "loop / lightly"]),
        "",
        "of limit: GFLOP/s as a share of those of products of large matrices in the same precision, in turns with them",
        _of_the_machine(),
    ]
    if not lightly_peer.installed():
        lines.append(f"lightly is not installed: pip install '.[bench]' puts it beside {', '.join(lightly_peer.PEERS)}")
    lines += [f"not measured: {line}" for line in dict.fromkeys(passed_over)]
    return "\n".join(lines)


def _of_the_machine() -> str:
    with tempfile.TemporaryDirectory() as folder:
        read = limits.disk_reads(Path(folder))
    disk = "" if read is None else f"; {read / 1e9:.2f} GB/s read from the disk of temporary files"
    return f"memory: {limits.memory_bandwidth(device()) / 1e9:.1f} GB/s read and written by copies{disk}"


def _row(info: registry.MethodInfo, recipe: Recipe, scale: tracks.Track, seconds: float) -> list[str]:
    batch, here = recipe["pretrain"]["batch"], device()
    with tempfile.TemporaryDirectory() as folder:
        real = new_loop(info.module, recipe, scale, Path(folder))
        steps, (operations, products) = real.train(), limits.products(recipe["pretrain"]["precision"], here)
        sides = [steps, products, ready(new_loop(info.module, recipe, scale, Path(folder)))]
        peer = lightly_peer.training_steps(info.name, recipe, scale.size, loops.noise(_LOADS * batch, scale)[0])
        sides += [peer] if peer else []
        ours, theirs, *others = timing.interleaved(sides, seconds, here, timing.clock(here))
        idles = [f"{limits.device_idles(steps, _LOADS):.0%}"] if here.type == "cuda" else []
    rates = []
    for other in others:  # neighbours in time met the same disturbances: the ratio is that of neighbours
        rates += [f"{batch / statistics.median(other):,.0f}", f"{_ratio(ours, other):.2f}"]
    limit = _ratio(ours, theirs) * real.flops / operations
    return [
        *[str(batch), f"{batch / statistics.median(ours):,.0f}", *rates[:2]],
        *[f"{real.flops / statistics.median(ours) / 1e9:,.0f}", f"{limit:.0%}", *idles],
        *(rates[2:] or ["-", "-"]),
    ]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of their time beside ours, sample by sample."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def new_loop(module: str, recipe: Recipe, scale: tracks.Track, folder: Path) -> PretrainLoop:
    """The loop of that recipe on noise, with no end in sight.  Raises UserError for a method that makes no update."""
    images, labels = loops.noise(_LOADS * recipe["pretrain"]["batch"], scale)
    endless = {"epochs": 10**6}
    return loops.loop_on(images, labels, module, recipe, device(), folder, size=scale.size, settings=endless)


def ready(loop: PretrainLoop) -> Iterator[None]:
    """The updates of one load again and again, on the views that it had the first time."""
    loop.method.train()
    views = [
        list(steps) for steps in loop.micro_batches(loop.feeder.read(loop.parts(torch.arange(len(loop.images)), 0)))
    ]
    while True:
        for step in range(loop.method.updates_per_load):
            loop.update((steps[step] for steps in views), 0.0)
        yield
