"""Rotation as an auxiliary task: Addepalli, Bhogale, Dey & Babu, "Towards Efficient and Effective Self-Supervised
Learning of Visual Representations", ECCV 2022 (arXiv:2210.09866).

    L = L_base + lambda L_rot,     L_rot = sum_v CE(h(f(R_k x_v)), k_v),     k_v ~ U{0, 1, 2, 3} a picture and a view

x_v are the base's own full-size views, augmented already; R_k turns them by k quarter turns counter-clockwise, which is
numpy.rot90; f is the base's (online) encoder and h a head of its own, Linear - BN - ReLU - Linear, on the features. The
base loss sees no rotated picture. Each rotated view is a pass by itself after the base's passes, so its BatchNorm
statistics are its own, and its running statistics come last. At the start L_rot is about 2 ln 4 for two views.

The base is any method: the recipe names it (`base = "byol"`, one variant for each other base) and is the base's whole
recipe plus the keys `rotation_*`. Source: val-iisc/EffSSL, which released SwAV alone. What is not known, and chosen:

* lambda is 0.1 for SwAV in the released code; for other bases it could not be read, and the recipe says what is taken.
* The released code sums the cross-entropies of the views (`rotation_reduction` = "sum", the default); the paper's
  formula is recalled to average them ("mean"), which is half as much for two views.
* `rotation_hidden` = 0 is the hidden width of the base's projector, as in the released code (D for a base without one).
* `shuffled_labels` is a control of ours: the labels say nothing of the turns, so passes and BatchNorm stay and the task
  goes. They are drawn anew, not permuted over the batch, so that any number of processes sees the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Batch, Clock, DataInfo, Method, Recipe, Streams, Views, load_method
from methods.parts.encoders import ResNet, ViT
from methods.parts.heads import mlp
from methods.parts.sending import send


def quarter_turns(x: Tensor, k: Tensor) -> Tensor:
    """Row i of x turned counter-clockwise by k_i quarter turns, numpy.rot90(x_i, k_i, axes=(1, 2)).

    x: [B, C, S, S]; k: int64 [B] in 0 .. 3.  A transposition for odd k, then mirrors: nothing waits for k.
    """
    k = k.view(-1, 1, 1, 1)
    x = torch.where(k % 2 == 1, x.transpose(2, 3), x)
    x = torch.where((k == 1) | (k == 2), x.flip(2), x)
    return torch.where(k >= 2, x.flip(3), x)


def rotation_loss(logits: Sequence[Tensor], labels: Sequence[Tensor], reduction: str) -> Tensor:
    """Sum or mean over the views of CE(logits_v, labels_v), each the mean over the batch.

    logits: [B, 4] a view; labels: int64 [B] a view.  ln 4 a view for a head that knows nothing.
    """
    terms = torch.stack([F.cross_entropy(one.float(), k) for one, k in zip(logits, labels, strict=True)])
    return terms.sum() if reduction == "sum" else terms.mean()


class RotationAux(Method):
    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.base = load_method(recipe["base"]["module"])(recipe, data)
        self.negatives = self.base.negatives  # type: ignore[misc]  # of a class elsewhere, here of its base
        self.mixes_rows = self.base.mixes_rows  # type: ignore[misc]
        self.updates_per_load = self.base.updates_per_load
        dim = self.encoder.dim
        widths = (method.get(key) for key in ("rotation_hidden", "projector_hidden", "head_hidden"))
        hidden = next(filter(None, widths), dim)
        self.head = mlp((dim, hidden, 4), last_norm=None, bias=True)
        self.weight, self.reduction = method["rotation_weight"], method["rotation_reduction"]
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"method.rotation_reduction = {self.reduction!r}: must be 'sum' or 'mean'")
        self.labels = "label" if method["shuffled_labels"] else "turns"

    @property
    def encoder(self) -> ViT | ResNet:  # type: ignore[override]
        """The base's: a property, so that its weights stand once in the state."""
        return cast("ViT | ResNet", self.base.encoder)

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        turns: list[dict[str, Tensor]] = []
        for update, views in enumerate(self.base.steps(batch, rng)):
            if not turns:  # all updates show as many views, so all numbers of the load can travel at once
                count = len(self.base.rotatable(views))
                turns = send([self._turns(rng, u, count) for u in range(self.updates_per_load)], batch.images.device)
            yield Views(views.tensors | turns[update])

    def _turns(self, rng: Streams, update: int, count: int) -> dict[str, Tensor]:
        """By how much each of so many views is turned, and the labels, int64 [B] on the CPU."""
        return {
            f"{name}{v}": rng.stream(f"rotation {name}{v} of update {update}").host.integers(4)
            for v in range(1, count + 1)
            for name in dict.fromkeys(("turns", self.labels))
        }

    def loss(self, views: Views) -> dict[str, Tensor]:
        outputs = self.base.loss(views)
        uprights = self.base.rotatable(views)
        labels = [views[f"{self.labels}{v}"] for v in range(1, len(uprights) + 1)]
        logits = [
            self.head(self.encoder.features(quarter_turns(x, views[f"turns{v}"]))) for v, x in enumerate(uprights, 1)
        ]
        rotation = rotation_loss(logits, labels, self.reduction)
        right = torch.stack([(one.argmax(dim=1) == k).float().mean() for one, k in zip(logits, labels, strict=True)])
        return outputs | {
            "loss_rotation": self.weight * rotation,
            "rotation": rotation.detach(),
            "rotation_accuracy": 100 * right.mean(),
        }

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        self.base.after_update(clock, pending)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        head = {"params": list(self.head.parameters()), "weight_decay": weight_decay}
        return [*self.base.param_groups(weight_decay), head]
