"""How fast things are here: `repro bench pretrain`, and the turns that `repro bench eval` (bench_eval.py) takes too.

Of pre-training, two loops of the same method run in turns in one process, so that a noisy machine is noisy for both:

    loop     the real one: views, losses, backward, optimiser, momentum network, log
    ready    the same updates on views that were made once: what is left when the data path costs nothing

and where the package `lightly` is installed, its own data path and loss around the same network, for the methods that
it has. Pictures are noise in memory. Every sample is some loads long; the table shows medians, of ratios too.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import DataInfo
from methods.parts.ema import momentum_copy
from methods.parts.encoders import build_encoder
from repro.errors import Stopped, UserError, unknown
from repro.jobs import settle
from repro.plan import recipes, tracks
from repro.plan.request import parse_overrides
from repro.stages.context import device
from repro.stages.pretrain import PretrainLoop, build_method
from repro.store.job import Recipe
from repro.terminal import text

WHAT = ("pretrain", "eval")
_LOADS = 4  # distinct batches; the loop looks at its losses after each round of them
_SAMPLES = 8  # aimed at in the time that is given
_FEWEST = 3
PEERS = ("simclr", "byol", "moco_v2")


def run(
    what: str,
    methods: Sequence[str] = (),
    track: str | None = None,
    precisions: Sequence[str] = (),
    seconds: float = 4.0,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    sizes: str | None = None,
) -> str:
    """The table. seconds: of each side of each row; threads: None leaves torch's.

    Of `pretrain` alone: methods: names, or none for all; track: None is mini; precisions: none for all; overrides.
    Of `eval` alone: sizes: of bench_eval.SIZES, None is small.
    """
    if what not in WHAT:
        raise unknown("thing to bench", what, WHAT)
    if seconds <= 0 or (threads is not None and threads < 1):
        raise UserError("--seconds and --threads must be positive")
    if what == "pretrain":
        if sizes is not None:
            raise UserError("bench pretrain: --sizes is of bench eval; leave it out")
        return _pretrain(methods, track or "mini", precisions or recipes.PRECISIONS, seconds, threads, overrides)
    if methods or track or precisions or overrides:
        raise UserError("bench eval: --method, --track, --precision and --set are of bench pretrain; leave them out")
    from repro.measure import bench_eval

    if sizes is not None and sizes not in bench_eval.SIZES:
        raise unknown("--sizes", sizes, bench_eval.SIZES)
    settle(threads or torch.get_num_threads())
    return bench_eval.table(seconds, sizes or "small")


def _pretrain(
    methods: Sequence[str],
    track: str,
    precisions: Sequence[str],
    seconds: float,
    threads: int | None,
    overrides: Sequence[str],
) -> str:
    for precision in precisions:
        if precision not in recipes.PRECISIONS:
            raise unknown("precision", precision, recipes.PRECISIONS)
    settle(threads or torch.get_num_threads())
    scale, stated = tracks.find(track), parse_overrides(overrides)
    rows, passed_over = [], []
    for name in [name for name in methods if name != "all"] or sorted(recipes.methods()):
        info, variant = recipes.find(name)
        for precision in precisions:
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
    here = device()
    name_of_device = torch.cuda.get_device_name() if here.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    head = ["method", "precision", "batch", "loop", "ready", "loop / ready", "lightly", "loop / lightly"]
    lines = [f"images a second, track {scale.name}, {scale.size} px, {name_of_device}", "", text.table(rows, head)]
    if not lightly_here():
        lines.append(f"lightly is not installed: pip install '.[bench]' puts it beside {', '.join(PEERS)}")
    lines += [f"not measured: {line}" for line in dict.fromkeys(passed_over)]
    return "\n".join(lines)


def _row(info: recipes.MethodInfo, recipe: Recipe, scale: tracks.Track, seconds: float) -> list[str]:
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
        peer = _peer(info.name, recipe, scale.size, images)
        sides += [peer] if peer else []
        ours, *others = interleaved(sides, seconds, here)
    row = [str(batch), f"{batch / statistics.median(ours):,.0f}"]
    for other in others:  # neighbours in time met the same disturbances: the ratio is that of neighbours
        ratio = statistics.median(b / a for a, b in zip(ours, other, strict=True))
        row += [f"{batch / statistics.median(other):,.0f}", f"{ratio:.2f}"]
    return row if peer else [*row, "-", "-"]


def interleaved(sides: Sequence[Iterator[None]], seconds: float, here: torch.device) -> list[list[float]]:
    """Seconds that one step of each iterator takes, measured in turns: one sample of each, then again."""

    def sample(side: Iterator[None], steps: int) -> float:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # noise collapses, which the loop would say
            for _ in range(steps):
                next(side)
        if here.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    for side in sides:  # the first step counts operations, fills caches and chooses algorithms
        sample(side, 1)
    once = [sample(side, 1) for side in sides]
    steps = [max(1, round(seconds / _SAMPLES / spent)) for spent in once]
    samples: list[list[float]] = [[] for _ in sides]
    ends = time.perf_counter() + seconds * len(sides)
    while len(samples[0]) < _FEWEST or time.perf_counter() < ends:
        for side, count, kept in zip(sides, steps, samples, strict=True):
            kept.append(sample(side, count))
    return samples


def _ready(loop: PretrainLoop) -> Iterator[None]:
    """The updates of one load again and again, on the views that it had the first time."""
    loop.method.train()
    views = [list(steps) for steps in loop.micro_batches(torch.arange(len(loop.images)))]
    while True:
        for step in range(loop.method.updates_per_load):
            loop.update((steps[step] for steps in views), 0.0)
        yield


# ---------------------------------------------------------------------------------------------- the peer


class Pictures(torch.utils.data.Dataset[list[Tensor]]):
    """PIL pictures through a transform that makes two views of each."""

    def __init__(self, images: Tensor, transform: Callable[[Any], Any]) -> None:
        from PIL import Image

        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        views: list[Tensor] = self.transform(self.pictures[index])
        return views


def lightly_here() -> bool:
    """Whether lightly, with what it needs, can be imported."""
    try:
        import lightly.loss
        import lightly.models.modules
        import lightly.transforms  # noqa: F401
    except ImportError:
        return False
    return True


def _peer(name: str, recipe: Recipe, size: int, images: Tensor) -> Iterator[None] | None:
    """Training steps made of lightly's transforms, heads and losses around our network; None where it has none.

    Same network, widths of heads, batch, pictures, precision and strength of augmentation; a DataLoader without
    workers, as they cost more than they bring where cores are few; plain SGD.
    """
    if name not in PEERS or recipe["network"]["arch"] != "resnet" or not lightly_here():
        return None
    from lightly.transforms.simclr_transform import SimCLRTransform

    method, settings, here = recipe["method"], recipe["pretrain"], device()
    brightness, contrast, saturation, hue = method["jitter"]
    transform = SimCLRTransform(
        input_size=size,
        cj_prob=method["jitter_p"],
        cj_strength=1.0,
        cj_bright=brightness,
        cj_contrast=contrast,
        cj_sat=saturation,
        cj_hue=hue,
        min_scale=method["crop_scale"][0],
        random_gray_scale=method["gray_p"],
        gaussian_blur=sum(method["blur_p"]) / len(method["blur_p"]),
        hf_prob=method["flip_p"],
    )
    network, loss = _peer_network(name, recipe)
    network.to(here)
    if settings["channels_last"]:
        network.to(memory_format=torch.channels_last)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    loader = torch.utils.data.DataLoader(
        Pictures(images, transform), batch_size=settings["batch"], shuffle=True, drop_last=True
    )

    def steps() -> Iterator[None]:
        while True:
            for x1, x2 in loader:
                x1, x2 = x1.to(here, non_blocking=True), x2.to(here, non_blocking=True)
                with torch.autocast(here.type, torch.bfloat16, enabled=settings["precision"] == "bf16"):
                    total = loss(x1, x2)
                total.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                yield

    return steps()


def _peer_network(name: str, recipe: Recipe) -> tuple[nn.ModuleDict, Callable[[Tensor, Tensor], Tensor]]:
    """The modules of that method in lightly's words, and its loss for two views."""
    from lightly import loss as losses
    from lightly.models import modules
    from lightly.models.utils import update_momentum

    method, backbone = recipe["method"], build_encoder(recipe["network"])
    out = method["head_dim"]
    hidden = method.get("head_hidden") or method["projector_hidden"]
    head = {"simclr": "SimCLRProjectionHead", "byol": "BYOLProjectionHead", "moco_v2": "MoCoProjectionHead"}[name]
    online = nn.Sequential(backbone, getattr(modules, head)(backbone.dim, hidden, out))
    net = nn.ModuleDict({"online": online})
    if name == "simclr":
        ntxent = losses.NTXentLoss(method["temperature"])
        return net, lambda x1, x2: ntxent(online(x1), online(x2))
    target = net["target"] = momentum_copy(online)
    if name == "moco_v2":
        queue = losses.NTXentLoss(method["temperature"], memory_bank_size=(method["bank_size"], out))

        def one_way(x1: Tensor, x2: Tensor) -> Tensor:
            with torch.no_grad():
                keys = target(x2)
            return queue(online(x1), keys)

        def moco(x1: Tensor, x2: Tensor) -> Tensor:
            update_momentum(online, target, method["momentum"])
            return one_way(x1, x2) + (one_way(x2, x1) if method["symmetric"] else 0)

        return net, moco
    predictor = net["predictor"] = modules.BYOLPredictionHead(out, method["predictor_hidden"], out)
    negative_cosine = losses.NegativeCosineSimilarity()

    def byol(x1: Tensor, x2: Tensor) -> Tensor:
        update_momentum(online, target, method["momentum"])
        with torch.no_grad():
            z1, z2 = target(x1), target(x2)
        return negative_cosine(predictor(online(x1)), z2) + negative_cosine(predictor(online(x2)), z1)

    return net, byol
