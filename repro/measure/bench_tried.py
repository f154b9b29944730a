"""Other ways to run the same updates, beside the one that is used: `repro bench tried`.

One row a way: the same recipe on the same ready views, in turns with ours in one process. A way that is 1.15 times as
fast on some device, and whose results have the same distribution, belongs into the program. Only their last bits differ
from ours, but for those of LESS: they leave something out, and so bound what a faster implementation of it can win.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from methods.parts import encoders
from methods.parts.encoders import ViT
from repro.errors import UserError
from repro.measure import timing
from repro.measure.bench_pretraining import new_loop, ready
from repro.plan import recipes, registry, tracks
from repro.plan.request import parse_overrides
from repro.stages.context import device
from repro.stages.pretrain import PretrainLoop
from repro.store.job import Recipe
from repro.terminal import text

_BEFORE_RECORDING = 3  # loads
Around = contextlib.AbstractContextManager[object]


@dataclass(frozen=True)
class Way:
    """method: whose updates.  change: what is done to the loop once.  around: what holds while it makes updates.

    updates: makes those of one load at each step.
    """

    method: str
    name: str
    change: Callable[[PretrainLoop], object] = lambda loop: None
    around: Callable[[], Around] = contextlib.nullcontext
    updates: Callable[[PretrainLoop], Iterator[None]] = ready


def _every_token(loop: PretrainLoop) -> None:
    def pool(vit: ViT) -> Callable[[Tensor], Tensor]:
        return lambda tokens: vit.pooled(vit._encode(tokens))

    for module in loop.method.modules():
        if isinstance(module, ViT):
            module._pool = pool(module)  # type: ignore[assignment, method-assign]


def _attention(call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], Around]:
    return lambda: mock.patch.object(encoders, "attend", call)


def _softmax_in_float(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).float().softmax(dim=-1).to(v.dtype) @ v


def _foreach(loop: PretrainLoop) -> None:
    for group in loop.optimizer.param_groups:
        group["fused"], group["foreach"] = False, True


@contextlib.contextmanager
def _no_cache() -> Iterator[None]:
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(True)


def _compiled(mode: str | None = None) -> Callable[[PretrainLoop], None]:
    def change(loop: PretrainLoop) -> None:
        loop.method.loss = torch.compile(loop.method.loss, mode=mode)

    return change


def _channels(loop: PretrainLoop) -> None:
    last = loop.recipe["channels_last"]
    loop.method.to(memory_format=torch.contiguous_format if last else torch.channels_last)


def _no_norms(loop: PretrainLoop) -> None:
    for module in loop.method.modules():
        if isinstance(module, _BatchNorm | nn.LayerNorm):
            module.forward = nn.Identity().forward  # type: ignore[method-assign]


def _recorded(loop: PretrainLoop) -> Iterator[None]:
    """The updates of one load, recorded as a CUDA graph and replayed: the host starts no kernel one by one.

    The numbers that the host passes on, such as the rate, are those of the recording.
    """
    for group in loop.optimizer.param_groups:
        if "capturable" in group:  # its count of steps must be on the device
            group["capturable"] = True
    side, apart = ready(loop), torch.cuda.Stream()
    apart.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(apart):  # what a first update allocates must not be part of the graph
        for _ in range(_BEFORE_RECORDING):
            next(side)
    torch.cuda.current_stream().wait_stream(apart)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        next(side)
    while True:
        graph.replay()
        yield


WAYS = (
    Way("moco_v3", "the ViT's last block makes every token", _every_token),
    Way("moco_v3", "scaled_dot_product_attention", around=_attention(F.scaled_dot_product_attention)),
    Way("moco_v3", "softmax of the attention in float32", around=_attention(_softmax_in_float)),
    Way("moco_v3", "AdamW by foreach, not fused", _foreach),
    Way("moco_v3", "weights cast at every use", around=_no_cache),
    Way("simclr", "weights with channels first", _channels),
    Way("simclr", "weights cast at every use", around=_no_cache),
)
LESS = tuple(Way(name, "no norms at all (bounds fused ones)", _no_norms) for name in ("simclr", "aps"))
RECORDED = tuple(Way(name, "updates recorded as a CUDA graph", updates=_recorded) for name in ("simclr", "aps"))
COMPILED = (Way("simclr", "torch.compile", _compiled()), Way("moco_v3", "torch.compile", _compiled()))
GRAPHS = tuple(
    Way(name, "torch.compile with CUDA graphs", _compiled("reduce-overhead")) for name in ("simclr", "moco_v3")
)


def table(track: str, precisions: Sequence[str], seconds: float, overrides: Sequence[str], compiled: bool) -> str:
    """Milliseconds of a load by each way and by ours. compiled: also what needs a compiler, and minutes."""
    scale, stated, here = tracks.find(track), parse_overrides(overrides), device()
    if compiled and here.type == "cpu" and not shutil.which("g++"):
        raise UserError("bench tried --compile: torch.compile needs g++ on a CPU; install it or leave --compile out")
    ways = [*WAYS, *LESS, *(COMPILED if compiled else ())]
    if here.type == "cuda":
        ways += [*RECORDED, *(GRAPHS if compiled else ())]
    rows = []
    for precision in precisions or ("bf16",):
        for way in ways:
            changes = {**stated, "pretrain": {**stated.get("pretrain", {}), "precision": precision}}
            info, variant = registry.find(way.method)
            recipe = recipes.resolve(info, variant, scale.name, changes)
            rows.append([way.name, way.method, precision, *_row(way, info.module, recipe, scale, seconds)])
    lines = [
        f"milliseconds a load {timing.clock_in_words(here)}, ready views, track {scale.name},"
        f" {timing.device_in_words()}; the last column above 1: ours is faster",
        "",
        text.table(rows, ["instead", "method", "precision", "ours", "theirs", "theirs / ours"]),
    ]
    if not compiled:
        lines.append("torch.compile was not tried: --compile does, in minutes")
    if here.type != "cuda":
        needy = dict.fromkeys(f"{way.name} ({way.method})" for way in (*RECORDED, *GRAPHS))
        lines.append(f"not tried, as it needs a GPU: {', '.join(needy)}")
    return "\n".join(lines)


def _row(way: Way, module: str, recipe: Recipe, scale: tracks.Track, seconds: float) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (new_loop(module, recipe, scale, Path(folder)) for _ in range(2))
        way.change(theirs)
        sides = [ready(ours), _within(way.updates(theirs), way.around)]
        mine, other = timing.interleaved(sides, seconds, device(), timing.clock(device()))
    ratio = statistics.median(b / a for a, b in zip(mine, other, strict=True))
    return [f"{1e3 * statistics.median(mine):.1f}", f"{1e3 * statistics.median(other):.1f}", f"{ratio:.2f}"]


def _within(side: Iterator[None], around: Callable[[], Around]) -> Iterator[None]:
    while True:
        with around():
            next(side)
        yield
