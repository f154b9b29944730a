"""Images a second, and what share of the machine's limit that is.

The limit is that of matrix products in the same precision, timed here: operations of the networks, forward and
backward, over the time of the whole loop, against operations of a product of two large square matrices over its time.
`ready` is the same loop on views that are made already: where it is much faster, the device waits for views.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
from pathlib import Path

import torch

from repro.errors import UserError
from repro.measure import limits, timing
from repro.measure.gpu import device, loops
from repro.measure.gpu.part import Case, Figures, Found, Tell
from repro.plan import tracks

# Method, track, precision, pictures a load: one network of each kind at each size. Batches are those of one GPU.
ROWS = (
    ("simclr", "cifar", "bf16", 256),
    ("simclr", "cifar", "fp32", 256),
    ("moco_v3", "cifar", "bf16", 256),
    ("simclr", "imagenet", "bf16", 256),
    ("moco_v3", "imagenet", "bf16", 256),
)
SMALL = (("simclr", "embedded", "bf16", 64), ("moco_v3", "embedded", "fp32", 64))
_LOADS = 2  # distinct batches


def limit(here: torch.device, precision: str, seconds: float) -> float:
    """Operations a second of a large matrix product."""
    operations, products = limits.products(precision, here)
    (taken,) = timing.interleaved([products], seconds, here)
    return operations / statistics.median(taken)


def row(case: Case, name: str, track: str, precision: str, batch: int, seconds: float) -> Figures:
    """Figures of one row of the table, measured in turns."""
    here, scale = device.of_kind(case.device), tracks.find(track)
    module, recipe = loops.recipe_of(name, track, precision=precision, batch=batch, devices=1, accumulate=1)
    images, labels = loops.noise(_LOADS * batch, scale)
    gc.collect()
    device.reset_peak(here)
    with tempfile.TemporaryDirectory() as folder:
        both = [
            loops.loop_on(
                images, labels, module, recipe, here, Path(folder), size=scale.size, settings={"epochs": 10**6}
            )
            for _ in range(2)
        ]
        for loop in both:
            loop.curve.append([])  # as if it had been judged
        with loops.instead_of_steps(both[1].method, loops.always_first(both[1].method)):
            own, ready = timing.interleaved([loop.train() for loop in both], seconds / 2, here)
    each = statistics.median(own)
    return {
        "method": name,
        "track": track,
        "pixels": scale.size,
        "precision": precision,
        "batch": batch,
        "images a second": batch / each,
        "on ready views": batch / statistics.median(ready),
        "flops a second": both[0].flops / each,
    }


def run(case: Case, tell: Tell) -> Found:
    """The rows, a share of the time each."""
    rows = SMALL if case.small else ROWS
    here, each = device.of_kind(case.device), case.seconds / (len(rows) + 2)
    figures: Figures = {"limits": {}, "rows": [], "left out": {}}
    for precision in sorted({precision for _, _, precision, _ in rows}):
        figures["limits"][precision] = limit(here, precision, each / 4)
    for name, track, precision, batch in rows:
        try:
            found = row(case, name, track, precision, batch, each / 2)
        except (UserError, RuntimeError) as error:  # a card with too little memory
            figures["left out"][f"{name} {track} {precision}"] = str(error).splitlines()[0]
            continue
        found["share of the limit"] = found["flops a second"] / figures["limits"][precision]
        figures["rows"].append(found)
        tell(figures)
    most = ", ".join(f"{flops / 1e12:.3g} TFLOP/s in {name}" for name, flops in figures["limits"].items())
    told = [
        f"{r['method']} {r['pixels']} px {r['precision']} {r['images a second']:,.0f} images/s"
        f" ({100 * r['share of the limit']:.0f} %)"
        for r in figures["rows"]
    ]
    told += [f"not {what}: {why}" for what, why in figures["left out"].items()]
    return Found(not figures["left out"], f"matrix products {most}; {'; '.join(told)}", figures)
