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
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval import augment, resume
from eval.features import autocast, evaluating, middle, normalise, resize, to_tensor
from eval.protocols.finetune import FinetuneProtocol
from eval.schedules import rates
from eval.scores import Progress, check_labelled, pack, percent, standard_error, true_rank
from eval.splits import holdout, shares, stratified

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CHECKPOINT = "finetune.pt"

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


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
    train_images: Pixels | Tensor,
    train_y: Labels,
    test_images: Pixels | Tensor,
    test_y: Labels,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    protocol: FinetuneProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    store: resume.Store | None = None,
) -> dict[str, Any]:
    """Train a copy of the encoder with a head, and judge it on the test pictures; the encoder itself is not touched.

    images: uint8 [N, 3, H, W]; y: int64 [N] in [0, classes). Metrics in percent: top1 (and top5 above five classes) of
    the epoch that the protocol reports, top1_last, top1_selected (where a part is held out), top1_best_on_test over the
    epochs that were tested (details["history"]), optimism = best_on_test - top1. store: where the state is kept, and
    taken up again if it is this very run's; details["resumed"] says so, or why not. ValueError for labels that do not
    fit, and for a loss that is no longer finite.
    """
    device = torch.device(device)
    check_labelled(train_images, train_y, classes, "training pictures")  # type: ignore[arg-type]
    check_labelled(test_images, test_y, classes, "test pictures")  # type: ignore[arg-type]
    if protocol.normalise == "imagenet":
        mean, std = IMAGENET
    rows = np.arange(len(train_y))
    if protocol.train_pictures:
        rows, _ = stratified(train_y, protocol.train_pictures, protocol.seed)
    if protocol.train_share < 1:
        found = shares(train_y, protocol.train_share, 1, protocol.seed)
        if not found:
            raise ValueError(
                f"{protocol.train_share:.3g} of the training pictures leaves a class without any;"
                " choose a larger finetune.train_share or more pictures"
            )
        rows = found[0]
    held = rows[:0]
    if protocol.holdout:
        fit_of_rows, held_of_rows = holdout(train_y[rows], protocol.holdout, protocol.seed)
        rows, held = rows[fit_of_rows], rows[held_of_rows]

    model = Classifier(copy.deepcopy(encoder), classes, torch.Generator().manual_seed(protocol.seed))
    groups = trainable(model, protocol.weight_decay, protocol.head_lr / protocol.lr or 1.0)
    run = resume.identity([protocol.values(), list(mean), list(std)], model, train_images, train_y)
    memory = torch.channels_last if protocol.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=memory)  # type: ignore[call-overload]
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(groups, lr=0.0, eps=1e-8)
        if protocol.optimizer == "adamw"
        else torch.optim.SGD(groups, lr=0.0, momentum=protocol.momentum)
    )

    def ranks_of(images: Pixels | Tensor, labels: Labels, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Classes before the true one, for the pictures `order`."""
        ranks = []
        with evaluating(model), torch.inference_mode(), autocast(device, protocol.precision):
            for chosen in np.array_split(order, range(256, len(order), 256)):
                x = middle(to_tensor(images[chosen]).to(device), protocol.size, protocol.test_crop)
                x = normalise(x, mean, std)
                ranks.append(true_rank(model(x).float(), torch.from_numpy(labels[chosen]).to(device)).cpu().numpy())
        return np.concatenate(ranks)

    batch = min(protocol.batch, len(rows))
    updates = len(rows) // batch
    schedule = learning_rates(protocol, updates)
    history: list[dict[str, float]] = []
    best_weights: dict[str, Tensor] = {}  # of the epoch that is best on the split
    first, total = 0, torch.zeros((), device=device)  # updates of the epoch that are done, and the sum of their losses

    def state(update: int) -> dict[str, Any]:
        """All that it needs to go on after that update of the epoch."""
        weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best_weights}
        return {**weights, "history": history, "update": update, "total": total}

    kept = resume.Kept(store, CHECKPOINT, run, "fine-tuning")
    if kept.state:
        model.load_state_dict(kept.state["model"])
        optimizer.load_state_dict(kept.state["optimizer"])
        history, best_weights = kept.state["history"], kept.state["best"]
        first = kept.state["update"]
        total += kept.state["total"].to(device)
    resumed = kept.note(resume.done(len(history), first))
    if progress and resumed:
        progress(len(history) * updates + first, protocol.epochs * updates, {"note": resumed})

    every = np.arange(len(test_y))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), kept.training():
        for epoch in range(len(history), protocol.epochs):
            model.train()
            order = rows[np.random.default_rng([protocol.seed, epoch]).permutation(len(rows))]
            for update in range(first, updates):
                rng = np.random.default_rng([protocol.seed, epoch, update, 1])
                torch.manual_seed(int(rng.integers(2**62)))  # for dropout inside an encoder
                chosen = order[update * batch : (update + 1) * batch]
                x, targets = training_batch(
                    to_tensor(train_images[chosen]).to(device), train_y[chosen], classes, mean, std, protocol, rng
                )
                for group in optimizer.param_groups:
                    group["lr"] = schedule[epoch * updates + update] * group["factor"]
                with autocast(device, protocol.precision):
                    logits = model(x.to(memory_format=memory))
                loss = F.cross_entropy(logits.float(), targets, label_smoothing=protocol.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if protocol.clip_grad:
                    nn.utils.clip_grad_norm_(model.parameters(), protocol.clip_grad)
                optimizer.step()
                total += loss.detach()
                if progress:
                    progress(epoch * updates + update + 1, protocol.epochs * updates, {"epoch": epoch + 1})
                kept.keep(state, update + 1)
            entry = {"epoch": epoch + 1, "loss": float(total) / updates, "lr": schedule[(epoch + 1) * updates - 1]}
            if not math.isfinite(entry["loss"]):
                raise ValueError(
                    f"fine-tuning diverged in epoch {epoch + 1} (loss {entry['loss']}): "
                    f"lower finetune.lr (now {protocol.lr:g}) or set finetune.clip_grad = 1.0"
                )
            if len(held):
                entry["split_top1"] = percent(ranks_of(train_images, train_y, held) == 0)
                if entry["split_top1"] >= max((e["split_top1"] for e in history), default=0.0):
                    best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            if protocol.test_every and (epoch + 1) % protocol.test_every == 0 and epoch + 1 < protocol.epochs:
                entry["test_top1"] = percent(ranks_of(test_images, test_y, every) == 0)
            history.append(entry)
            first, total = 0, torch.zeros_like(total)
            kept.keep(state, 0, finished=epoch + 1 == protocol.epochs)

    ranks = {"last": ranks_of(test_images, test_y, every)}
    history[-1]["test_top1"] = percent(ranks["last"] == 0)
    metrics: dict[str, float] = {"top1": 0.0, "top1_last": history[-1]["test_top1"]}
    if len(held):
        best = max(history, key=lambda entry: (entry["split_top1"], entry["epoch"]))
        ranks["selected"] = ranks["last"]
        if best is not history[-1]:
            model.load_state_dict(best_weights)
            ranks["selected"] = ranks_of(test_images, test_y, every)
            best["test_top1"] = percent(ranks["selected"] == 0)
        metrics["top1_selected"] = best["test_top1"]
    reported = ranks[protocol.reported]
    metrics["top1"] = percent(reported == 0)
    metrics["top1_best_on_test"] = max(entry["test_top1"] for entry in history if "test_top1" in entry)
    metrics["optimism"] = metrics["top1_best_on_test"] - metrics["top1"]
    if classes > 5:
        metrics["top5"] = percent(reported < 5)
    details = {
        "history": history,
        "resumed": resumed,
        "n_train": len(rows),
        "n_split": len(held),
        "n_test": len(test_y),
        "standard_error": standard_error(metrics["top1"], len(test_y)),
        "correct": pack(reported == 0),
    }
    return {"metrics": metrics, "artifacts": {}, "details": details}


def training_batch(
    x: Tensor,
    y: Labels,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
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
        x = augment.randaugment(x, [255 * m for m in mean], rng)
    x = normalise(x, mean, std)
    targets = F.one_hot(torch.from_numpy(y).to(x.device), classes).float()
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


def trainable(model: nn.Module, weight_decay: float, head: float = 1.0) -> list[dict[str, Any]]:
    """Everything trains, in groups with and without weight decay (1-D parameters, position embeddings, class token).

    head: factor of the learning rate of the parameters named "head.*" ("factor" of their groups; 1 of all others).
    Parts that pre-training froze (MoCo-v3's patch embedding) are thawed; fixed position embeddings stay fixed.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, weight_decay): [], (1.0, 0.0): []}
    for name, parameter in model.named_parameters():
        leaf = name.rpartition(".")[2]
        if not leaf.startswith("pos"):
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            exempt = parameter.ndim <= 1 or leaf.startswith(("pos", "cls_token", "class_token"))
            factor = head if name.startswith("head.") else 1.0
            groups.setdefault((factor, 0.0 if exempt else weight_decay), []).append(parameter)
    return [
        {"params": found, "weight_decay": decay, "factor": factor} for (factor, decay), found in groups.items() if found
    ]
