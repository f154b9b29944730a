"""What a method is: from a batch of pictures to the losses of one or several optimiser updates.

The training loop owns the step, and calls in this order:

    for views in method.steps(batch, rng):          # one Views per optimiser update
        outputs = method(views)                     # = method.loss(views), so that DDP can wrap it
        sum(losses).backward(); optimizer.step()
        method.after_update(clock, pending)         # EMA, queues: once per optimiser update

Every random draw of a method comes from `Streams`, never from a global generator, so a resumed run and a run on several
processes see the same views. Initial weights are the one exception: they come from torch's global generator, which the
caller seeds before it builds a method.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

Recipe = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class DataInfo:
    """What a method may know of its data.

    size: side in pixels of the square views that the network is trained on.
    mean, std: per channel, in units of [0, 1] pixel values.
    classes: number of classes, None for pictures without labels.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: int | None = None


@dataclass(frozen=True)
class Batch:
    """The local rows of one load.  images: uint8 [B, 3, H, W] on the device; labels: int64 [B] or None."""

    images: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Clock:
    """Where a run stands after an optimiser update.

    update: updates done, from 1; updates: of the whole run.
    micro_batches: forward-backward passes per update (gradient accumulation).
    """

    update: int
    updates: int
    micro_batches: int = 1

    @property
    def progress(self) -> float:
        """Share of the run that is done, in (0, 1]."""
        return self.update / self.updates


@dataclass
class Views:
    """The inputs of one optimiser update, by name.  `views["index1"]` reads `views.tensors["index1"]`."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


class Stream:
    """Random numbers for the rows of one global batch, drawn on the CPU and sliced to the local rows.

    All draws are float32 (or int64) of shape [b, *shape], b = local rows, on `device`. The draw is made for the global
    batch whatever the number of processes, so every process sees its part of the same numbers.
    """

    def __init__(
        self, generator: torch.Generator, shared: torch.Generator, total: int, rows: slice, device: Any
    ) -> None:
        self._generator = generator
        self.shared = shared
        """Generator for draws common to the whole batch: the same on every process, independent of the rows'."""
        self._total, self._rows, self._device = total, rows, torch.device(device)

    @property
    def host(self) -> Stream:
        """The same stream, delivering to the CPU: for decisions (row indices, branches) that must not wait."""
        return Stream(self._generator, self.shared, self._total, self._rows, "cpu")

    def _local(self, drawn: Tensor) -> Tensor:
        drawn = drawn[self._rows]
        return drawn if self._device.type == "cpu" else drawn.pin_memory().to(self._device, non_blocking=True)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """U[low, high), [b, *shape]."""
        return self._local(torch.rand(self._total, *shape, generator=self._generator) * (high - low) + low)

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), [b, *shape]."""
        return self._local(torch.randn(self._total, *shape, generator=self._generator))

    def exponential(self, *shape: int) -> Tensor:
        """Exp(1), [b, *shape], strictly positive."""
        return self._local(torch.empty(self._total, *shape).exponential_(generator=self._generator))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform over 0 .. high - 1, int64 [b, *shape]."""
        return self._local(torch.randint(high, (self._total, *shape), generator=self._generator))

    def permutation(self, n: int) -> Tensor:
        """One uniform permutation of 0 .. n - 1 per row, int64 [b, n]."""
        return self._local(torch.rand(self._total, n, generator=self._generator, dtype=torch.float64).argsort(dim=1))


class Streams:
    """All random streams of one load (one batch of pictures read), told apart by name.

    seed, epoch, load: where in the run this is; equal triples give equal numbers, on any number of processes.
    global_batch: rows of the batch over all processes; rows: the contiguous slice that this process holds.
    device: where the numbers are wanted.
    micro: which of the micro-batches of one update this is. It tells apart what is drawn for a whole micro-batch
        (`Stream.shared`); rows have their own numbers already.
    """

    def __init__(
        self, seed: int, epoch: int, load: int, *, global_batch: int, rows: slice, device: Any, micro: int = 0
    ) -> None:
        self._key, self._micro = f"{seed}|{epoch}|{load}", micro
        self._total, self._rows, self._device = global_batch, rows, device

    def _generator(self, name: str) -> torch.Generator:
        # torch's CPU generator looks at 32 bits of its seed only: two of the few streams of one load agree by accident
        # with a probability below 1e-7, streams of different loads may and do no harm.
        digest = hashlib.blake2b(f"{self._key}|{name}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little"))

    def stream(self, name: str) -> Stream:
        """A fresh stream: asking twice for one name gives the same numbers twice, so ask once per use."""
        shared = self._generator(f"{name}|shared|{self._micro}")
        return Stream(self._generator(name), shared, self._total, self._rows, self._device)


class Method(BaseModel):
    """A pre-training algorithm.  See the module docstring for who calls what.

    recipe: the tables "method", "network" and "pretrain", already merged and checked by the caller.
    """

    negatives: ClassVar[Literal["global", "per_device", "none"]]
    """Over which rows a sample meets its negatives: what accumulation and the number of processes may not change."""

    mixes_rows: ClassVar[bool] = False
    """Whether the views of a row hold pixels of other rows of the global batch."""

    updates_per_load: int = 1
    """How many Views `steps` yields, which the loop's clock needs to know beforehand; 0: there is nothing to train."""

    constant_rate: ClassVar[tuple[str, ...]] = ()
    """Names of the parts whose learning rate the schedule leaves alone."""

    encoder: nn.Module
    """What is kept: features(x) -> [B, D], feature_maps(x) -> list; see methods/parts/encoders.py."""

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__()
        self.recipe, self.data = recipe, data
        network = recipe["network"]
        if network["arch"] == "vit" and network["size"] != data.size:
            raise ValueError(
                f"network.size = {network['size']}, but the views have {data.size} pixels: make them equal"
            )

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        """The views of each optimiser update that one loaded batch is good for, in order."""
        raise NotImplementedError

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Losses and metrics of one update; changes nothing but BatchNorm's running statistics.

        Names that begin with "loss_" are summed and differentiated. Names that begin with "pending_" are detached
        tensors of any shape that `after_update` gets back. All others are detached scalars for the log.
        """
        raise NotImplementedError

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        """Called once after each optimiser update.

        pending: what `loss` returned under "pending_" names, one mapping per micro-batch of this update.
        """

    def rotatable(self, views: Views) -> list[Tensor]:
        """The views whose content an auxiliary task may turn: full-size online views, float32 [B, 3, S, S] each.

        Raises ValueError for a method that has none.
        """
        raise ValueError(f"{type(self).__name__} has no full-size views to rotate: choose another base method")

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for the optimiser; by default all trainable parameters, decayed alike, those of `constant_rate` apart.

        A group may say "constant_lr": True (the schedule's factor is not applied) and, for LARS, "adapt"
        (methods/parts/lars.py).
        """
        constant = [p for name in self.constant_rate for p in getattr(self, name).parameters() if p.requires_grad]
        apart = {id(p) for p in constant}
        scheduled = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        groups: list[dict[str, Any]] = [{"params": scheduled, "weight_decay": weight_decay}]
        if constant:
            groups.append({"params": constant, "weight_decay": weight_decay, "constant_lr": True})
        return groups

    def forward(self, views: Views) -> dict[str, Tensor]:
        return self.loss(views)


def load_method(module: str) -> type[Method]:
    """The class that a recipe's `module` names: "package.module:Class", or "/folder/file.py:Class" for a file.

    Raises ImportError or AttributeError where there is none.
    """
    path, _, name = module.rpartition(":")
    if not path.endswith(".py"):
        return getattr(importlib.import_module(path), name)
    known = "repro_plugin_" + hashlib.blake2b(path.encode(), digest_size=8).hexdigest()
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"no module at {path}")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[known])
        except BaseException as error:
            del sys.modules[known]
            raise ImportError(f"{type(error).__name__} in {path}: {error}") from error
    return getattr(sys.modules[known], name)
