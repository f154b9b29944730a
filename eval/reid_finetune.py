"""Re-identification with the encoder fine-tuned on training identities; then ranked and judged as in reid.py.

Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification", CVPR workshops 2019
(arXiv:1903.07071), with the batch-hard triplet loss of Hermans et al. (arXiv:1703.07737):

    t = encoder.features(x)        i = BN(t), without a shift (BNNeck)        p = softmax(W i)
    loss    = cross-entropy of p with smoothed labels
            + mean over pictures a of max(0, margin + max |t_a - t_p| - min |t_a - t_n|)

over the pictures p of a's identity and n of others in the batch, which holds P identities with K pictures each. What is
ranked is i. Order of a training picture: crop with padding, mirror, normalise, erase.

Differs from the authors' code: AdamW for Adam, erasing with noise for erasing with the mean, the encoder keeps its
strides, and the centre loss is left out. The last epoch is reported: nothing is chosen on the test pictures.

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

from eval import augment, reid
from eval.context import PLAIN, Context
from eval.data import IMAGENET, Features, Identified, Ids, Normalisation, Pixels
from eval.features import autocast, extract, normalise, resize, summary, to_device
from eval.protocols.reid_finetune import ReidFinetuneProtocol
from eval.schedules import rates
from eval.training import Checkpoint, Training, identity, set_rate, trainable

CHECKPOINT = "reid_finetune.pt"


class Identifier(nn.Module):
    """Encoder, BNNeck and a linear classifier of identities."""

    def __init__(self, encoder: nn.Module, identities: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = int(encoder.dim)  # type: ignore[arg-type]
        self.neck = nn.BatchNorm1d(self.dim)
        self.neck.register_parameter("bias", None)
        # No default initialisation: it would draw from the process's own generator.
        self.head: nn.Linear = nn.utils.skip_init(nn.Linear, self.dim, identities, bias=False)
        nn.init.normal_(self.head.weight, std=0.001, generator=generator)

    def features(self, x: Tensor) -> Tensor:
        """What is ranked: [B, 3, H, W] -> float32 [B, D]."""
        found: Tensor = self.neck(self.encoder.features(x).float())  # type: ignore[operator]
        return found


def evaluate(
    encoder: nn.Module,
    train: Identified[Pixels],
    query: Identified[Pixels],
    gallery: Identified[Pixels],
    normalisation: Normalisation,
    protocol: ReidFinetuneProtocol,
    context: Context = PLAIN,
) -> dict[str, Any]:
    """Train a copy of the encoder on the identities of `train` (above 0), then the metrics and the strip of reid.py.

    details["resumed"] says whether it went on from what the context's store has, or why not. ValueError for fewer than
    two identities to train on, and for a loss that is no longer finite.
    """
    device = context.device
    if protocol.normalise == "imagenet":
        normalisation = IMAGENET
    rows = np.flatnonzero(train.pid > 0)
    pids, labels = np.unique(train.pid[rows], return_inverse=True)
    if len(pids) < 2:
        raise ValueError(
            f"{len(pids)} training identities, but fine-tuning needs two or more; use --eval reid on this data set"
        )
    model = Identifier(copy.deepcopy(encoder), len(pids), torch.Generator().manual_seed(protocol.seed))
    groups = trainable(model, protocol.weight_decay)
    started = [protocol.values(), list(normalisation.mean), list(normalisation.std)]
    run = identity(started, model, train.x, train.pid)
    model.to(device)
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    updates = len(batches(labels, protocol.identities, protocol.pictures, np.random.default_rng(0)))
    schedule = rates(
        protocol.schedule,
        protocol.lr,
        protocol.epochs,
        updates,
        warmup_epochs=protocol.warmup_epochs,
        warmup_lr=protocol.warmup_lr,
        milestones=protocol.milestones,
    )
    checkpoint = Checkpoint(context.store, CHECKPOINT, run, "fine-tuning")
    training = Training(
        {"model": model, "optimizer": optimizer},
        protocol.epochs,
        updates,
        sums=torch.zeros(2, device=device),
        checkpoint=checkpoint,
        progress=context.progress,
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), training:
        for epoch in training.each_epoch():
            model.train()
            draws = np.random.default_rng([protocol.seed, epoch])
            order = batches(labels, protocol.identities, protocol.pictures, draws)
            for update in training.each_update():
                chosen, rng = order[update], np.random.default_rng([protocol.seed, epoch, update, 1])
                torch.manual_seed(int(rng.integers(2**62)))  # for dropout inside an encoder
                x = _augmented(to_device(train.x[rows[chosen]], device), normalisation, protocol, rng)
                y = to_device(labels[chosen], device)
                set_rate(optimizer, schedule[training.done])
                with autocast(device, protocol.precision):
                    found = model.encoder.features(x)  # type: ignore[operator]
                found = found.float()
                logits = model.head(model.neck(found))
                losses = torch.stack(
                    [
                        F.cross_entropy(logits, y, label_smoothing=protocol.label_smoothing),
                        triplet_loss(found, y, protocol.margin),
                    ]
                )
                optimizer.zero_grad(set_to_none=True)
                losses.sum().backward()
                optimizer.step()
                training.sums += losses.detach()
            by_identity, by_triplet = (training.sums / updates).tolist()
            if not math.isfinite(by_identity + by_triplet):
                raise ValueError(
                    f"fine-tuning diverged in epoch {epoch + 1} (loss {by_identity + by_triplet}): "
                    f"lower reid_finetune.lr (now {protocol.lr:g})"
                )
            training.history.append({"epoch": epoch + 1, "loss_identity": by_identity, "loss_triplet": by_triplet})

    def seen(split: Identified[Pixels]) -> Identified[Features]:
        x = extract(
            model,
            split.x,
            normalisation.mean,
            normalisation.std,
            **protocol.transform(),
            device=device,
            progress=context.progress,
        )
        return Identified(x, split.pid, split.cam)

    features = seen(query), seen(gallery)
    result = reid.evaluate(*features, protocol, context, pictures=(query.x, gallery.x))
    trained = {
        "history": training.history,
        "resumed": checkpoint.note,
        "n_train": len(rows),
        "n_identities": len(pids),
    }
    for name, found in zip(("query", "gallery"), features, strict=True):
        result["metrics"] |= {f"{name}_{key}": value for key, value in summary(found.x).items()}
    return {**result, "details": {**result["details"], **trained}}


def triplet_loss(x: Tensor, y: Tensor, margin: float) -> Tensor:
    """Batch-hard, Euclidean: x float32 [B, D], y int64 [B] of two or more identities; mean over the batch, >= 0."""
    same = y[:, None] == y
    squares = x.square().sum(1)
    # The root has no gradient at 0, where a picture meets itself.
    d = (squares[:, None] + squares - 2 * x @ x.T).clamp(min=1e-12).sqrt()
    farthest = d.masked_fill(~same, -math.inf).amax(1)
    nearest = d.masked_fill(same, math.inf).amin(1)
    return F.relu(margin + farthest - nearest).mean()


def batches(labels: Ids, identities: int, pictures: int, rng: np.random.Generator) -> list[Ids]:
    """An epoch: batches of `identities` (all, if there are fewer) with `pictures` pictures each; indices of `labels`.

    An identity's pictures are dealt into groups of `pictures`, the last filled up with some of its own again. No batch
    has an identity twice: batches are made of everybody's first group, then of the second, and so on; what does not
    fill a batch is dropped. So many batches in every epoch, whatever the draws.
    """
    rounds: list[list[Ids]] = []
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        dealt = np.resize(mine, (-(-len(mine) // pictures), pictures))
        for turn, group in enumerate(dealt):
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(group)
    size = min(identities, len(rounds[0]))
    made = []
    for groups in rounds:
        order = rng.permutation(len(groups))
        made += [
            np.concatenate([groups[i] for i in order[start : start + size]])
            for start in range(0, len(groups) - size + 1, size)
        ]
    return [made[i] for i in rng.permutation(len(made))]


def _augmented(
    x: Tensor, normalisation: Normalisation, protocol: ReidFinetuneProtocol, rng: np.random.Generator
) -> Tensor:
    x = resize(x, protocol.size, protocol.interpolation)
    if protocol.crop_padding:
        x = augment.crop(x, protocol.crop_padding, rng)
    if protocol.hflip:
        x = augment.mirror(x, rng)
    x = normalise(x, normalisation.mean, normalisation.std)
    return augment.erase(x, protocol.erasing, rng) if protocol.erasing else x
