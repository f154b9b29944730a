"""Fine-tuning: a copy of the encoder and a new linear head on its features, everything trained.

Order of a training picture: resize and crop with padding, or random resized crop; mirror, RandAugment (all uint8),
normalise, erase, then mixup or CutMix of the batch; soft-target cross-entropy with label smoothing. Whatever is left of
an epoch that does not fill a batch is dropped.

A class-balanced part of the training pictures is kept apart; the epoch that is best on it gives `top1_selected`, the
last gives `top1_last`, and the protocol says which of them is `top1`.

Protocol "aps" is the recipe of "Asymmetric Patch Sampling" (config/finetune, main_finetune.py), its quirks kept: the
schedule is stepped one epoch late, so that the first two run at the warm-up's start, and ImageNet's mean and deviation
serve on CIFAR. Differs from the authors' code: the new head starts as N(0, 0.01) with bias 0, theirs as torch's
nn.Linear does; bfloat16 autocast in place of float16 with loss scaling; the border and
interpolation notes of augment.py; a step less in an epoch where the batch does not divide it; epoch of `top1` is the
last, the authors' best on the test pictures is `top1_best_on_test`. What the released files list without effect (drop
path, colour jitter, repeated augmentation) and the weight average that they never evaluate are left out.

All randomness comes from generators seeded by (protocol.seed, epoch, update), so a resumed run is the uninterrupted
one.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval import augment
from eval.context import PLAIN, Context
from eval.data import IMAGENET, Classification, Ids, Labelled, Labels, Normalisation, Pixels
from eval.features import autocast, evaluating, middle, normalise, resize, to_device
from eval.protocols.finetune import FinetuneProtocol
from eval.schedules import rates
from eval.scores import pack, percent, standard_error, true_rank
from eval.splits import holdout, shares, stratified
from eval.training import Checkpoint, Training, identity, set_rate, trainable

CHECKPOINT = "finetune.pt"


class Classifier(nn.Module):
    """encoder.features, then Linear(encoder.dim, classes): [B, 3, H, W] -> logits [B, classes]."""

    def __init__(self, encoder: nn.Module, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = encoder
        # No default initialisation: it would draw from the process's own generator.
        self.head: nn.Linear = nn.utils.skip_init(nn.Linear, int(encoder.dim), classes)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.features(x))  # type: ignore[operator]


def evaluate(
    encoder: nn.Module,
    data: Classification[Pixels | Tensor],
    normalisation: Normalisation,
    protocol: FinetuneProtocol,
    context: Context = PLAIN,
) -> dict[str, Any]:
    """Train a copy of the encoder with a head, and judge it on the test pictures; the encoder itself is not touched.

    Metrics in percent: top1 (and top5 above five classes) of the epoch that the protocol reports, top1_last,
    top1_selected (where a part is held out), top1_best_on_test over the epochs that were tested (details["history"]),
    optimism = best_on_test - top1. details["resumed"] says whether it went on from what the context's store has, or why
    not. ValueError for labels that do not fit, and for a loss that is no longer finite.
    """
    device = context.device
    data.check("pictures")
    train, test = data.train, data.test
    if protocol.normalise == "imagenet":
        normalisation = IMAGENET
    rows, held = _chosen(train.y, protocol)
    model = Classifier(copy.deepcopy(encoder), data.classes, torch.Generator().manual_seed(protocol.seed))
    groups = trainable(model, protocol.weight_decay, protocol.head_lr / protocol.lr or 1.0)
    started = [protocol.values(), list(normalisation.mean), list(normalisation.std)]
    run = identity(started, model, train.x, train.y)
    memory = torch.channels_last if protocol.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=memory)  # type: ignore[call-overload]
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(groups, lr=0.0, eps=1e-8)
        if protocol.optimizer == "adamw"
        else torch.optim.SGD(groups, lr=0.0, momentum=protocol.momentum)
    )

    def ranks_of(part: Labelled[Pixels | Tensor], order: Ids) -> Ids:
        """Classes before the true one, for the pictures `order`."""
        ranks = []
        with evaluating(model), torch.inference_mode(), autocast(device, protocol.precision):
            for chosen in np.array_split(order, range(256, len(order), 256)):
                x = middle(to_device(part.x[chosen], device), protocol.size, protocol.test_crop)
                x = normalise(x, normalisation.mean, normalisation.std)
                ranks.append(true_rank(model(x).float(), to_device(part.y[chosen], device)).cpu().numpy())
        return np.concatenate(ranks)

    batch = min(protocol.batch, len(rows))
    updates = len(rows) // batch
    schedule = learning_rates(protocol, updates)
    checkpoint = Checkpoint(context.store, CHECKPOINT, run, "fine-tuning")
    training = Training(
        {"model": model, "optimizer": optimizer},
        protocol.epochs,
        updates,
        sums=torch.zeros((), device=device),
        kept={"best": {}},  # weights of the epoch that is best on the split
        checkpoint=checkpoint,
        progress=context.progress,
    )
    every, history = np.arange(len(test.y)), training.history
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), training:
        for epoch in training.each_epoch():
            model.train()
            order = rows[np.random.default_rng([protocol.seed, epoch]).permutation(len(rows))]
            for update in training.each_update():
                rng = np.random.default_rng([protocol.seed, epoch, update, 1])
                torch.manual_seed(int(rng.integers(2**62)))  # for dropout inside an encoder
                chosen = order[update * batch : (update + 1) * batch]
                x = to_device(train.x[chosen], device)
                x, targets = training_batch(x, train.y[chosen], data.classes, normalisation, protocol, rng)
                set_rate(optimizer, schedule[training.done])
                with autocast(device, protocol.precision):
                    logits = model(x.to(memory_format=memory))
                loss = F.cross_entropy(logits.float(), targets, label_smoothing=protocol.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if protocol.clip_grad:
                    nn.utils.clip_grad_norm_(model.parameters(), protocol.clip_grad)
                optimizer.step()
                training.sums += loss.detach()
            entry = {"epoch": epoch + 1, "loss": float(training.sums) / updates, "lr": schedule[training.done - 1]}
            if not math.isfinite(entry["loss"]):
                raise ValueError(
                    f"fine-tuning diverged in epoch {epoch + 1} (loss {entry['loss']}): "
                    f"lower finetune.lr (now {protocol.lr:g}) or set finetune.clip_grad = 1.0"
                )
            if len(held):
                entry["split_top1"] = percent(ranks_of(train, held) == 0)
                if entry["split_top1"] >= max((e["split_top1"] for e in history), default=0.0):
                    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
                    training.kept["best"] = weights
            if protocol.test_every and (epoch + 1) % protocol.test_every == 0 and epoch + 1 < protocol.epochs:
                entry["test_top1"] = percent(ranks_of(test, every) == 0)
            history.append(entry)

    ranks = {"last": ranks_of(test, every)}
    history[-1]["test_top1"] = percent(ranks["last"] == 0)
    metrics: dict[str, float] = {"top1": 0.0, "top1_last": history[-1]["test_top1"]}
    if len(held):
        best = max(history, key=lambda entry: (entry["split_top1"], entry["epoch"]))
        ranks["selected"] = ranks["last"]
        if best is not history[-1]:
            model.load_state_dict(training.kept["best"])
            ranks["selected"] = ranks_of(test, every)
            best["test_top1"] = percent(ranks["selected"] == 0)
        metrics["top1_selected"] = best["test_top1"]
    reported = ranks[protocol.reported]
    metrics["top1"] = percent(reported == 0)
    metrics["top1_best_on_test"] = max(entry["test_top1"] for entry in history if "test_top1" in entry)
    metrics["optimism"] = metrics["top1_best_on_test"] - metrics["top1"]
    if data.classes > 5:
        metrics["top5"] = percent(reported < 5)
    details = {
        "history": history,
        "resumed": checkpoint.note,
        "n_train": len(rows),
        "n_split": len(held),
        "n_test": len(test.y),
        "standard_error": standard_error(metrics["top1"], len(test.y)),
        "correct": pack(reported == 0),
    }
    return {"metrics": metrics, "artifacts": {}, "details": details}


def _chosen(labels: Labels, protocol: FinetuneProtocol) -> tuple[Ids, Ids]:
    """The training pictures to train on, and those held out: indices."""
    rows = np.arange(len(labels))
    if protocol.train_pictures:
        rows, _ = stratified(labels, protocol.train_pictures, protocol.seed)
    if protocol.train_share < 1:
        found = shares(labels, protocol.train_share, 1, protocol.seed)
        if not found:
            raise ValueError(
                f"a share of {protocol.train_share:.3g} of the training images leaves a class without images;"
                " choose a larger finetune.train_share or more images"
            )
        rows = found[0]
    if not protocol.holdout:
        return rows, rows[:0]
    fit, held = holdout(labels[rows], protocol.holdout, protocol.seed)
    return rows[fit], rows[held]


def training_batch(
    x: Tensor,
    y: Labels,
    classes: int,
    normalisation: Normalisation,
    protocol: FinetuneProtocol,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """uint8 [B, 3, H, W] and labels -> augmented, normalised float32 [B, 3, H, W] and soft targets [B, classes]."""
    if protocol.crop_scale:
        size = protocol.size or x.shape[-2:]
        x = augment.resized_crop(x, size, "bilinear", protocol.crop_scale, protocol.crop_ratio, rng)
    else:
        x = resize(x, protocol.size)
    if protocol.crop_padding:
        x = augment.crop(x, protocol.crop_padding, rng)
    if protocol.hflip:
        x = augment.mirror(x, rng)
    if protocol.randaugment:
        x = augment.randaugment(x, [255 * m for m in normalisation.mean], rng)
    x = normalise(x, normalisation.mean, normalisation.std)
    targets = F.one_hot(to_device(y, x.device), classes).float()
    if protocol.erasing:
        x = augment.erase(x, protocol.erasing, rng)
    if protocol.mixup or protocol.cutmix:
        x, targets = augment.mix(x, targets, protocol.mixup, protocol.cutmix, protocol.mix_switch, rng)
    return x, targets


def learning_rates(protocol: FinetuneProtocol, updates: int) -> list[float]:
    """The encoder's rate of every update, `updates` an epoch."""
    return rates(
        protocol.schedule,
        protocol.lr * protocol.batch / protocol.base_batch,
        protocol.epochs,
        updates,
        warmup_epochs=protocol.warmup_epochs,
        warmup_lr=protocol.warmup_lr,
        min_lr=protocol.min_lr,
        milestones=protocol.milestones,
    )
