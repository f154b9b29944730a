"""Pre-training: our loop owns the step.

One load = one batch of pictures read = one or several optimiser updates (`Method.steps`), each of one or several
micro-batches whose gradients are averaged. Counters count updates, epochs count passes over the data. Every random draw
comes from (seed, epoch, load, stream), so a checkpoint holds weights, optimiser and two counters, and a run that was
killed goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from eval import features, knn
from eval.data import Pixels
from eval.protocols.knn import KnnProtocol
from eval.training import Checkpoint, Training
from methods.base import Batch, Clock, DataInfo, Method, Streams, Views, load_method
from methods.parts.clipping import clip_adaptive
from methods.parts.lars import LARS
from methods.parts.norm import synchronised
from repro.data.types import Progress
from repro.errors import UserError
from repro.stages import distributed
from repro.stages.context import JobContext, Outcome, device, source_of
from repro.stages.exchange import Exchange
from repro.stages.feeding import Feeder, resident
from repro.stages.pictures import classification_pictures
from repro.stages.schedules import factor
from repro.store import checkpoints, encoder_file
from repro.store.job import Recipe
from slurm.files import write_atomic

TRAINING = "repro-training"
_LOG_EVERY = 20  # updates between two looks at the losses: each look waits for the device
# Of the standard deviation that unit vectors spread over the sphere would have. Heads without a norm at their end start
# as low as 0.04, so what counts above the lower bound is how much of the widest spread is left.
_COLLAPSED, _NARROW = 0.01, 0.1
_POINTS = 6  # of the learning curve, beside its beginning
_QUERIES, _REFERENCES, _NEIGHBOURS = 1000, 2000, 20  # of its k-NN, at most


def seed_of(*parts: object) -> int:
    """A 63-bit seed from what identifies a draw."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def build_method(module: str, recipe: Recipe, data: DataInfo, seed: int) -> Method:
    """The method that a recipe names, initialised from `seed`."""
    try:
        kind = load_method(module)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the recipe names module '{module}', which cannot be imported ({error}); correct the name, or install it"
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "init"))
        return kind(recipe, data)


def build_optimizer(method: Method, recipe: Mapping[str, Any]) -> torch.optim.Optimizer:
    """AdamW, SGD or LARS as the table [pretrain] says (checked by the plan); the rate is set before every update."""
    groups = method.param_groups(recipe["weight_decay"])
    for group in groups:
        group.setdefault("constant_lr", False)
    if recipe["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=tuple(recipe["betas"]), fused=True)
    if recipe["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=recipe["momentum"], fused=True)
    return LARS(
        groups,
        lr=0.0,
        momentum=recipe["momentum"],
        trust=recipe["trust"],
        form=recipe["lars_form"],
        clip=recipe["lars_clip"],
    )


# What of the loop an interrupted training goes on with.
_COUNTERS = ("updates", "seconds", "flops", "losses", "collapsed_at", "widest", "curve")


class PretrainLoop:
    """Trains a method on pictures, uint8 [N, 3, H, W]: an array, also a memory map, or a tensor."""

    def __init__(
        self,
        method: Method,
        images: Pixels | Tensor,
        labels: Tensor | None,
        recipe: Mapping[str, Any],
        *,
        seed: int,
        device: torch.device,
        folder: Path,
        progress: Progress,
        group: distributed.Group | None = None,
    ) -> None:
        """group: the ranks that share every batch; None is this one alone."""
        self.group = group or distributed.Group()
        if self.group.size > 1:
            synchronised(method)
        self.method, self.images, self.labels, self.recipe = method.to(device), images, labels, recipe
        self.feeder = Feeder(images, labels, device)
        self.seed, self.device, self.folder, self.progress = seed, device, folder, progress
        if recipe["channels_last"]:
            self.method.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.method, recipe)
        self.exchange = Exchange(self.method.parameters(), self.group, recipe["exchange"])
        self.loads = len(images) // recipe["batch"]
        rows = recipe["batch"] // recipe["accumulate"]
        if rows % self.group.size:
            raise UserError(
                f"{rows} images per micro-batch (pretrain.batch / pretrain.accumulate) cannot be split equally over"
                f" {self.group.size} ranks; choose another number with --processes"
            )
        if recipe["epochs"] and self.method.updates_per_load and not self.loads:
            raise UserError(
                f"pretrain.batch = {recipe['batch']} is more than the {len(images)} training images;"
                " choose a smaller one with --set pretrain.batch=N"
            )
        self.epoch = self.load = 0  # that it is at
        self.updates = 0
        self.seconds = 0.0  # of training, over all interruptions
        self.flops = 0.0  # of one load, forward + backward
        self.losses: dict[str, float] = {}
        self.collapsed_at: int | None = None
        self.widest = 0.0  # spread of the projections so far
        self.curve: list[list[float]] = []  # see `_judge`
        self.notes: list[str] = []

    # ------------------------------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """All that the loop needs to go on, beside the method, the optimiser and how far it is."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from `state_dict()`."""
        for name in _COUNTERS:
            setattr(self, name, state[name])

    @property
    def _log(self) -> Path:
        return self.folder / "log.jsonl"

    def _trim_log(self) -> None:
        """Take out the lines of updates that were lost with an interruption and will be made again."""
        if self._log.exists():
            lines = [line for line in self._log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line + "\n" for line in lines if json.loads(line)["updates"] <= self.updates]
            write_atomic(self._log, "".join(kept))

    # ------------------------------------------------------------------------------------------ the run

    def run(self) -> None:
        """Train to the end, from the last checkpoint where there is one."""
        for _ in self.train():
            pass

    def train(self) -> Iterator[None]:
        """As `run`, and between two loads the caller has the word."""
        if not self.method.updates_per_load:
            return
        store = checkpoints.Store(self.folder, TRAINING, self.group)
        checkpoint = Checkpoint(store, "training.pt", what="pre-training")
        training = Training(
            {"method": self.method, "optimizer": self.optimizer, "loop": self},
            self.recipe["epochs"],
            self.loads,
            checkpoint=checkpoint,
            progress=self.progress,
        )
        if checkpoint.damage:
            self.notes.append(f"skipped a checkpoint: {checkpoint.damage}")
        if self.group.first:
            self._trim_log()
        self.method.train()
        started, before = time.monotonic(), self.seconds
        with training, contextlib.ExitStack() as stack:
            log = stack.enter_context(self._log.open("a", encoding="utf-8")) if self.group.first else None
            batches = stack.enter_context(contextlib.closing(self.feeder.ahead(self._left(training))))
            points = {round(self.recipe["epochs"] * i / _POINTS) for i in range(_POINTS + 1)}
            for self.epoch in training.each_epoch():
                if not self.curve:
                    started += self._judge(self.epoch)
                for self.load in training.each_update():
                    self._one_load(next(batches))
                    self.seconds = before + time.monotonic() - started
                    if (self.load + 1) % _LOG_EVERY == 0 or self.load + 1 == self.loads:
                        self._look(log)
                    training.info = self.losses
                    yield
                if self.epoch + 1 in points:
                    started += self._judge(self.epoch + 1)

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, "order"))
        return torch.randperm(len(self.images), generator=generator)

    def _left(self, training: Training) -> Iterator[list[Tensor]]:
        """What is left to read of a training: of each load the rows of its micro-batches, this rank's of each."""
        first = training.update
        for epoch in range(training.epoch, training.epochs):
            order = self._order(epoch)
            for load in range(first, self.loads):
                yield self.parts(order, load)
            first = 0

    def parts(self, order: Tensor, load: int) -> list[Tensor]:
        """This rank's rows of that load, by micro-batches: contiguous parts that step side by side."""
        start = load * self.recipe["batch"]
        return [order[start + part.start : start + part.stop] for part in self._slices()]

    def _slices(self) -> list[slice]:
        """This rank's rows of each micro-batch, within a load."""
        size, parts = self.recipe["batch"], self.recipe["accumulate"]
        return [self.group.part(slice(micro * size // parts, (micro + 1) * size // parts)) for micro in range(parts)]

    def micro_batches(self, batches: Sequence[Batch]) -> list[Iterator[Views]]:
        """The steps of this load's micro-batches."""
        where = {"global_batch": self.recipe["batch"], "device": self.device}
        return [
            self.method.steps(batch, Streams(self.seed, self.epoch, self.load, rows=rows, micro=micro, **where))
            for micro, (batch, rows) in enumerate(zip(batches, self._slices(), strict=True))
        ]

    def _one_load(self, batches: Sequence[Batch]) -> None:
        """All updates of one batch of pictures; the first one is counted."""
        micro_batches, count = self.micro_batches(batches), not self.flops
        for step in range(self.method.updates_per_load):
            fraction = (self.load + step / self.method.updates_per_load) / self.loads
            self.update((next(steps) for steps in micro_batches), fraction, count)

    def update(self, micro_batches: Iterator[Views], fraction: float, count: bool = False) -> None:
        """One optimiser update that begins at that fraction of the epoch, of the gradients of its micro-batches.

        count: add the operations of the networks, forward and backward, to `flops`; what makes views is not counted.
        """
        recipe, parts = self.recipe, self.recipe["accumulate"]
        step = 1 / (self.loads * self.method.updates_per_load)
        rate = recipe["lr"] * recipe["batch"] / recipe["base_batch"]
        if recipe["schedule_clock"] == "epoch_after_warmup":
            fraction += step * (parts - 1) / parts  # mmcv reads its warm-up at every micro-batch; the last one's counts
        scheduled = rate * factor(recipe, self.epoch, fraction, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if group["constant_lr"] else scheduled
        half = recipe["precision"] == "bf16"
        pending = []
        for micro, views in enumerate(micro_batches):
            with FlopCounterMode(display=False) if count else contextlib.nullcontext() as counter:
                with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
                    outputs = self.method(views)
                total = torch.stack([value for name, value in outputs.items() if name.startswith("loss_")]).sum()
                total = total / parts
                if micro == parts - 1:
                    self.exchange.begin(total)
                total.backward()
            if counter:
                self.flops += counter.get_total_flops() * self.group.size
            pending.append({name: value for name, value in outputs.items() if name.startswith("pending_")})
        self.exchange.finish()
        if recipe["clip_adaptive"]:
            clip_adaptive(self.method.parameters(), recipe["clip_adaptive"])
        if recipe["clip_norm"]:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), recipe["clip_norm"], foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        total_updates = recipe["epochs"] * self.loads * self.method.updates_per_load
        self.method.after_update(Clock(self.updates, total_updates, parts), pending)
        self._last = {name: value for name, value in outputs.items() if not name.startswith("pending_")}

    def _look(self, log: Any) -> None:
        """Bring the last losses to the host, check and log them; log: None in all ranks but the first."""
        names = list(self._last)
        values = torch.stack([self._last[name].detach().float() for name in names])
        self.group.average([values])
        self.losses = dict(zip(names, values.tolist(), strict=True))
        total = sum(value for name, value in self.losses.items() if name.startswith("loss_"))
        if not abs(total) < float("inf"):
            raise UserError(
                f"the loss became {total} in epoch {self.epoch}, update {self.updates};"
                " lower the learning rate (--set pretrain.lr=...) or use --set pretrain.precision=fp32"
            )
        spread = self.losses.get("std_z", self.losses.get("std_features", 1.0))
        self.widest = max(self.widest, spread)
        if self.collapsed_at is None and (spread < _COLLAPSED or spread < min(_NARROW, self.widest / 3)):
            self.collapsed_at = self.updates
        if self.collapsed_at == self.updates and log:
            print(
                f"warning: the representation may be collapsing: at update {self.updates} the spread of the projections"
                f" is {spread:.3f} times that of a uniform distribution; lower pretrain.lr or increase"
                " pretrain.warmup_epochs",
                flush=True,
            )
        if not log:
            return
        line = {"epoch": self.epoch, "updates": self.updates, "seconds": round(self.seconds, 3), **self.losses}
        log.write(json.dumps(line) + "\n")
        log.flush()

    def _judge(self, epochs: int) -> float:
        """One point of the learning curve, after so many epochs; the seconds that took, which are not the training's.

        [epochs, updates, seconds, flops, top-1 in percent]: weighted k-NN of training pictures among others of them,
        the same for every method and seed. For looking at: the pictures were trained on, and nothing is chosen by it.
        """
        if not self.group.first or self.labels is None:
            return 0.0
        started = time.monotonic()
        shuffled = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
        queries, references = shuffled[: _QUERIES + _REFERENCES].tensor_split([min(_QUERIES, len(shuffled) // 5)])
        data, kind = self.method.data, KnnProtocol(name="curve")
        found = [
            features.extract(
                self.method.encoder,
                self.feeder.pictures(rows),
                data.mean,
                data.std,
                size=(data.size, data.size),
                precision=self.recipe["precision"],
                device=self.device,
            )
            for rows in (references, queries)
        ]
        known, true = (self.labels[rows].cpu().numpy() for rows in (references, queries))
        k = min(_NEIGHBOURS, len(references))
        ranks = knn.true_ranks(found[0], known, found[1], true, data.classes or 0, [k], kind, self.device)
        right = 100 * float((ranks[0] == 0).mean())
        done = epochs * self.loads
        self.curve.append([epochs, self.updates, round(self.seconds, 3), self.flops * done, right])
        return time.monotonic() - started


def run(context: JobContext) -> Outcome | None:
    """Pre-train one encoder and leave it as `encoder.pt` in the job's folder; None in all ranks but the first."""
    spec, recipe = context.spec, context.spec["recipe"]
    pictures = classification_pictures(context, "train")
    images: Pixels | Tensor = pictures.pixels
    labels = None if pictures.labels is None else torch.from_numpy(pictures.labels)
    here = device()
    if here.type == "cuda" and images.nbytes < 0.4 * torch.cuda.mem_get_info()[0]:
        images = resident(pictures.pixels, here)
        labels = None if labels is None else labels.to(here)
    # A recipe may normalise pixels as its paper's code does, whatever the data's own statistics are.
    mean, std = (tuple(recipe["method"].get(key) or getattr(pictures, key)) for key in ("mean", "std"))
    info = DataInfo(spec["size"], mean, std, len(pictures.classes) or None)
    method = build_method(context.job.module, recipe, info, context.job.seed)
    with distributed.group(spec.get("processes", 1), here) as together:
        loop = PretrainLoop(
            method,
            images,
            labels,
            recipe["pretrain"],
            seed=context.job.seed,
            device=here,
            folder=context.folder,
            progress=context.progress,
            group=together,
        )
        loop.run()
    if not together.first:
        return None
    target = context.workspace.encoder(context.job.fingerprint)
    encoder_file.save(target, context.job, recipe["network"], mean, std, method.encoder.state_dict())
    loads = recipe["pretrain"]["epochs"] * loop.loads if loop.updates else 0
    return Outcome(
        metrics={f"final_{name}": value for name, value in loop.losses.items()},
        cost={
            "train_s": loop.seconds,
            "updates": loop.updates,
            "image_passes": loads * recipe["pretrain"]["batch"],
            "flops": loop.flops * loads,
            "flops_per_image": loop.flops / recipe["pretrain"]["batch"],
        },
        details={
            "recipe": recipe,
            "parameters": sum(p.numel() for p in method.parameters()),
            "encoder_parameters": sum(p.numel() for p in method.encoder.parameters()),
            "collapsed_at_update": loop.collapsed_at,
            "knn_curve": loop.curve,
            "notes": loop.notes,
        },
        artifacts={"encoder": "encoder.pt", **({"log": "log.jsonl"} if loop.updates else {})},
        data=source_of(pictures),
    )
