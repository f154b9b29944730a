"""Does bfloat16 train as float32 does? The loss curves of one short training in both.

Two right trainings are apart, too: those of two seeds. So the third curve is float32's with another seed, and bfloat16
may end no further from float32 than twice that, or than LEAST of the loss where the seeds happen to meet.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from repro.measure.gpu import device, loops
from repro.measure.gpu.part import Case, Figures, Found, Tell

METHOD = "simclr"
SIDES = (("fp32", 0), ("bf16", 0), ("fp32", 1))  # precision and seed
LEAST = 0.01
TIMES = 2.0
_POINTS = 8  # of a curve: means of as many equal stretches
_FIRST = 4  # updates that tell how long one takes
_MOST = 800
_FEW = 32  # pictures an update of a small case


def curve(case: Case, images: Tensor, precision: str, seed: int, updates: int) -> list[float]:
    """The losses of the first updates of a training of that length, one an update."""
    few = {"batch": _FEW} if case.small else {}
    module, recipe = loops.recipe_of(METHOD, case.track, precision=precision, warmup_epochs=1, **few)
    epochs = max(2, -(-updates // max(1, len(images) // recipe["pretrain"]["batch"])))
    losses: list[Tensor] = []
    with tempfile.TemporaryDirectory() as folder:
        here, settings = device.of_kind(case.device), {"epochs": epochs}
        loop = loops.loop_on(images, None, module, recipe, here, Path(folder), size=32, seed=seed, settings=settings)
        loop.method.register_forward_hook(lambda _, __, outputs: losses.append(loops.total(outputs)))
        loops.train(loop, updates)
    return torch.stack(losses).double().tolist()


def points(losses: Sequence[float]) -> list[float]:
    """Means of equal stretches of a curve."""
    size = max(1, len(losses) // _POINTS)
    return [statistics.fmean(losses[at : at + size]) for at in range(0, size * min(_POINTS, len(losses)), size)]


def judge(curves: Sequence[Sequence[float]]) -> Figures:
    """Of the curves of SIDES: how far their last points are apart, and whether that is little enough."""
    ends = [points(losses)[-1] for losses in curves]
    apart, seeds = abs(ends[1] - ends[0]) / abs(ends[0]), abs(ends[2] - ends[0]) / abs(ends[0])
    allowed = max(LEAST, TIMES * seeds)
    return {
        "apart": apart,
        "seeds": seeds,
        "allowed": allowed,
        "good": apart <= allowed,
    }  # not so where one is no number


def run(case: Case, tell: Tell) -> Found:
    """As many updates as the time is good for, three times."""
    images, name = loops.pictures(case)
    curve(case, images, "bf16", 0, 1)  # chooses algorithms, compiles
    began = time.monotonic()
    curve(case, images, "fp32", 0, _FIRST)
    each = (time.monotonic() - began) / _FIRST
    updates = int(min(_MOST, max(2 * _POINTS, case.seconds * 0.8 / len(SIDES) / each)))
    figures: Figures = {"method": METHOD, "track": case.track, "data": name, "updates": updates, "curves": []}
    for precision, seed in SIDES:
        losses = curve(case, images, precision, seed, updates)
        figures["curves"].append({"precision": precision, "seed": seed, "losses": points(losses), "last": losses[-1]})
        figures.setdefault("all", []).append(losses)
        tell({key: value for key, value in figures.items() if key != "all"})
    found = judge(figures.pop("all"))
    figures |= found
    ends = [each["losses"][-1] for each in figures["curves"]]
    line = (
        f"{METHOD} after {updates} updates: loss {ends[0]:.3f} in fp32, {ends[1]:.3f} in bf16,"
        f" {100 * found['apart']:.1f} % apart (two seeds {100 * found['seeds']:.1f} %,"
        f" allowed {100 * found['allowed']:.1f} %)"
    )
    return Found(found["good"], line, figures)
