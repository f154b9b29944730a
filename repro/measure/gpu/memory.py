"""The peak of memory of every method's pre-training, at its recipe's batch: two loads of it."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path

from repro.errors import UserError
from repro.measure.gpu import device, loops
from repro.measure.gpu.part import Case, Figures, Found, Tell
from repro.plan import footprint, registry, tracks
from repro.terminal import text


def peak(case: Case, name: str) -> float:
    """Bytes. On a GPU those of tensors, without what CUDA takes for itself."""
    here, track = device.of_kind(case.device), tracks.find(case.track)
    module, recipe = loops.recipe_of(name, track.name)
    images, labels = loops.noise(2 * recipe["pretrain"]["batch"], track)
    gc.collect()
    device.reset_peak(here)
    with tempfile.TemporaryDirectory() as folder:
        loop = loops.loop_on(
            images, labels, module, recipe, here, Path(folder), size=track.size, settings={"epochs": 2}
        )
        loops.train(loop, 2)
        device.wait(here)
    return device.peak(here)


def planned(case: Case, name: str) -> float:
    """Bytes that the plan reckons with on a GPU, what CUDA takes for itself included."""
    track = tracks.find(case.track)
    _, recipe = loops.recipe_of(name, track.name)
    passes = registry.kept_passes(*registry.find(name))
    return footprint.pretraining(recipe, track.size, passes, recipe["pretrain"]["precision"]) * footprint.GB


def run(case: Case, tell: Tell) -> Found:
    """All methods, as far as the time goes."""
    began = time.monotonic()
    figures: Figures = {"track": case.track, "bytes": {}, "planned": {}, "left out": {}}
    names = sorted(registry.methods())
    for number, name in enumerate(names):
        if number and time.monotonic() - began > case.seconds * number / (number + 1):
            figures["left out"] |= dict.fromkeys(names[number:], "no time")
            break
        try:
            figures["bytes"][name] = peak(case, name)
            figures["planned"][name] = planned(case, name)
        except (UserError, RuntimeError) as error:
            figures["left out"][name] = str(error).splitlines()[0]
        tell(figures)
    if not figures["bytes"]:
        name, why = next(iter(figures["left out"].items()))
        raise UserError(f"no method was measured: {name}: {why}")
    most = max(figures["bytes"], key=figures["bytes"].get)
    line = f"{len(figures['bytes'])} methods at their batch; most has {most}, {text.size(figures['bytes'][most])}"
    if case.device == "cuda":  # the plan says nothing of a CPU's
        over = {name: found / figures["planned"][name] for name, found in figures["bytes"].items()}
        line += f"; of the plan's figure at least {min(over.values()):.2f}, at most {max(over.values()):.2f}"
        line += "".join(f"; {name} takes more" for name, share in over.items() if share > 1)
    left = [name for name, why in figures["left out"].items() if why == "no time"]
    return Found(True, line + (f"; no time for {len(left)}" if left else ""), figures)
