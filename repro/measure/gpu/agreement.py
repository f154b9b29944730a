"""Does the device compute what a CPU computes? One load of every method, in float32.

How far two right computations in float32 may be apart depends on the network: on its depth, on how many numbers a sum
has, on how the optimiser treats what is nearly 0 (AdamW divides noise by noise). So the tolerance is measured too: the
load is done on the CPU in float64 as well, and

    |device - float64|  <=  FACTOR * max(|CPU - float64|, FLOOR),    |.| the 2-norm, relative to float64's

of the first loss, the gradient of the first update and what the load changed of weights, buffers and memories. FACTOR
leaves room for sums in another order and for Winograd's convolutions, which cost about a digit. FLOOR is for a CPU that
is right by luck: a few roundings of float32, 2^-22; of gradients about the root of that, since a ReLU that is 0 up to a
rounding may be open on one device and shut on the other, and a share p of such units changes a gradient by about the
root of p. TF32 is off here: it rounds 8,192 times as coarsely as float32, bfloat16 65,536 times, which the loss shows.

All three computations are given the CPU's views. The device's own are compared by themselves (VIEWS): they are some
dozens of operations a pixel away from the picture.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from methods.base import Batch, Method, Streams, Views
from repro.errors import UserError
from repro.measure.gpu import device, loops
from repro.measure.gpu.part import Case, Figures, Found, Tell
from repro.measure.tf32 import tf32
from repro.plan import registry, tracks
from repro.stages.pretrain import PretrainLoop
from repro.store.job import Recipe

FACTOR = 20.0
FLOOR = {"loss": 2.0**-22, "gradient": 2.0**-10, "change": 2.0**-10}
VIEWS = 1e-4
_ROWS = (16, 32, 64, 128, 256)  # tried in turn: some methods need more than a few rows
CONTROL = "simclr"  # what TF32 is tried on
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Load:
    """What one load left; numbers are float64 on the CPU.

    views: that the device made, of each update.
    numbers: "loss" [1] and "gradient" [parameters] of the first update; "change of PART" [numbers] of each part of the
    method, made by the whole load.
    """

    views: list[Views]
    numbers: dict[str, Tensor]


def compute(loop: PretrainLoop, dtype: torch.dtype, given: Sequence[Views] = ()) -> Load:
    """Do the updates of one load, on the views that are given or else on the loop's own."""
    method, own_steps = loop.method.to(dtype), loop.method.steps
    made: list[Views] = []
    losses: list[Tensor] = []
    gradients: list[Tensor] = []

    def steps(batch: Batch, rng: Streams) -> Iterator[Views]:
        for number, views in enumerate(own_steps(batch, rng)):
            made.append(views)
            yield _moved(given[number] if given else views, loop.device, dtype)

    def after_forward(_: object, __: object, outputs: dict[str, Tensor]) -> None:
        losses.append(loops.total(outputs))

    def before_step(*_: object) -> None:
        if not gradients:
            gradients.append(_flat(p.grad for p in method.parameters() if p.grad is not None))

    handles = [method.register_forward_hook(after_forward), loop.optimizer.register_step_pre_hook(before_step)]
    before = _held(method)
    with _all_in(dtype), loops.instead_of_steps(method, steps):
        loops.train(loop, 1)
    for handle in handles:
        handle.remove()
    changes = {f"change of {part}": now - before[part] for part, now in _held(method).items()}
    return Load(made, {"loss": _flat(losses[:1]), "gradient": gradients[0], **changes})


def _held(method: Method) -> dict[str, Tensor]:
    """Weights by the first name of their key (encoder, target, projector), and apart from these what else is kept
    there: statistics, which move much more, and memories."""
    weights = dict(method.named_parameters())
    parts: dict[str, list[Tensor]] = {}
    for key, value in method.state_dict().items():
        if value.is_floating_point():
            part = key.partition(".")[0]
            parts.setdefault(part if key in weights else f"{part}'s buffers", []).append(value)
    return {part: _flat(values) for part, values in parts.items()}


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])


def _moved(views: Views, here: torch.device, dtype: torch.dtype) -> Views:
    kinds = {name: dtype if value.is_floating_point() else value.dtype for name, value in views.tensors.items()}
    return Views({name: value.to(here, kinds[name]) for name, value in views.tensors.items()})


@contextmanager
def _all_in(dtype: torch.dtype) -> Iterator[None]:
    """What a loss makes or asks for as float32 is of that type instead."""

    class Instead(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.Tensor.float:
                return args[0].to(dtype)
            return function(*args, **(kwargs or {}))

    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with Instead():
            yield
    finally:
        torch.set_default_dtype(kept)


def relative(value: Tensor, true: Tensor) -> float:
    """|value - true| / |true|, 2-norms; infinite for what is not finite or of another shape."""
    if value.shape != true.shape:
        return float("inf")
    error = float((value - true).norm() / true.norm().clamp_min(1e-300))
    return error if error == error else float("inf")


def judge(true: Load, cpu: Load, other: Load) -> Figures:
    """How far the CPU and the device are from the truth, of each quantity, and whether that is near enough."""
    found: Figures = {}
    for name, value in true.numbers.items():
        errors = [relative(load.numbers[name], value) for load in (cpu, other)]
        times = errors[1] / max(errors[0], FLOOR[name.split()[0]])
        found[name] = {"cpu": errors[0], "device": errors[1], "times": times, "good": times <= FACTOR}
    ours, theirs = ([value for views in load.views for value in views.tensors.values()] for load in (cpu, other))
    views = max((relative(b.double().cpu(), a.double().cpu()) for a, b in zip(ours, theirs, strict=True)), default=0.0)
    found["views"] = {"device": views, "good": views <= VIEWS}
    return found


def compare(module: str, recipe: Recipe, track: tracks.Track, here: torch.device) -> Figures:
    """`judge` of one load of a recipe, with few rows: the CPU in float64 and float32 against the device."""
    error: Exception = UserError("no number of rows suits it")
    for rows in _ROWS:
        few = {"batch": rows, "devices": 1, "accumulate": 1, "epochs": 2, "warmup_epochs": 0, "precision": "fp32"}
        small = {**recipe, "pretrain": {**recipe["pretrain"], **few}}
        try:
            return {"rows": rows, **_compare(module, small, track, here, rows)}
        except (ValueError, IndexError) as problem:
            error = problem
    raise error


def _compare(module: str, recipe: Recipe, track: tracks.Track, here: torch.device, rows: int) -> Figures:
    images, labels = loops.noise(rows, track)
    with tempfile.TemporaryDirectory() as folder:

        def loop(where: torch.device) -> PretrainLoop:
            return loops.loop_on(images, labels, module, recipe, where, Path(folder), size=track.size)

        cpu = compute(loop(CPU), torch.float32)
        return judge(compute(loop(CPU), torch.float64, cpu.views), cpu, compute(loop(here), torch.float32, cpu.views))


def run(case: Case, tell: Tell) -> Found:
    """All methods, as far as the time goes; where TF32 is to be had, whether it is noticed."""
    began, here, track = time.monotonic(), device.of_kind(case.device), tracks.find(case.track)
    figures: Figures = {"factor": FACTOR, "floor": FLOOR, "views": VIEWS, "track": track.name, "methods": {}}
    done: Figures = figures["methods"]
    names, untrained = sorted(registry.methods()), []
    with tf32(False):
        for number, name in enumerate(names):
            if number and time.monotonic() - began > case.seconds * number / (number + 1):
                break  # another like those before would be too late
            module, recipe = loops.recipe_of(name, track.name)
            try:
                done[name] = compare(module, recipe, track, here)
            except UserError:
                untrained.append(name)
            except Exception as error:
                done[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            tell(figures)
    if here.type == "cuda" and CONTROL in done:
        with tf32(True):
            figures["tf32"] = compare(*loops.recipe_of(CONTROL, track.name), track, here)
    wrong = {name: reason for name, found in done.items() if (reason := fault(found))}
    figures["left out"] = [name for name in names if name not in done and name not in untrained]
    line = f"{len(done) - len(wrong)} of {len(names) - len(untrained)} methods agree with the CPU in float32"
    times = [found["loss"]["times"] for found in done.values() if "loss" in found]
    if times:
        line += f", the loss to {statistics.median(times):.1f} times the CPU's own error (median; allowed {FACTOR:.0f})"
    if "tf32" in figures:
        line += f"; with TF32 it would be {figures['tf32']['loss']['times']:.0f}"
    line += "".join(f"; {name}: {reason}" for name, reason in wrong.items())
    return Found(
        not wrong, line + (f"; no time for {len(figures['left out'])}" if figures["left out"] else ""), figures
    )


def fault(found: Figures) -> str:
    """What of `compare` is not as it must be, in words; "" where all is."""
    if "error" in found:
        return str(found["error"])
    return ", ".join(
        f"{name} off by {value['device']:.1e}" + (f", the CPU by {value['cpu']:.1e}" if "cpu" in value else "")
        for name, value in found.items()
        if isinstance(value, dict) and not value["good"]
    )
