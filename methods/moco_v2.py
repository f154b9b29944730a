"""MoCo v2: Chen, Fan, Girshick & He, "Improved Baselines with Momentum Contrastive Learning" (arXiv:2003.04297); the
algorithm is He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020 (1911.05722).

    q = g(f(x1)),  k = g_m(f_m(x2))                             both normalised; g: linear, ReLU, linear, with biases
    L = -(1/B) sum_i log( exp(<q_i, k_i>/T) / ( exp(<q_i, k_i>/T) + sum_{n in queue} exp(<q_i, n>/T) ) )         eq. 1
    f_m, g_m <- m (f_m, g_m) + (1 - m) (f, g)                                                                    eq. 2

The queue holds the last K keys; the batch's own keys enter after the update, so no query meets its key twice.

`symmetric = false` (default, authors): one direction. `true` (solo-learn's MoCo V2+, so all tracks but imagenet): the
mean of both directions, each with a queue of its own that holds the keys of its view. m moves by a half-cosine from
`momentum` to `momentum_end`: 0.999 throughout for the authors, 0.99 to 0.999 for MoCo V2+.

Differs from the authors' code (facebookresearch/moco):

* Shuffled BatchNorm: theirs computes keys on another random split of the batch over the devices, as BatchNorm's
  statistics of one device's rows would give the positive away. Here BatchNorm is synchronised over all devices, so
  queries and keys both have the statistics of the whole batch, as in MoCo V2+.
* The target moves after an optimiser update, theirs before the next forward pass: the same sequence of targets, as both
  start as copies.
* Accumulation leaves the negatives as they are: all micro-batches of an update meet the same queue, and their keys
  enter it together, in order. The queue need not be a multiple of the batch.
* Blur is a Gaussian cut off at 3 sigma, theirs PIL's approximation by box filters; views are computed on float tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Clock, DataInfo, Recipe, Views
from methods.parts.bank import bank_of_recipe
from methods.parts.ema import cosine_momentum, follow, momentum_copy
from methods.parts.heads import mlp, spread
from methods.parts.losses import gather_keys
from methods.parts.multi_view import MultiView


def contrast_with_queue(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Eq. 1, mean over the batch.  q, k: [B, D], normalised here, no gradient to k; queue: unit rows [K, D].

    About ln(1 + K) while q is no closer to k than to the queue.
    """
    q, k = F.normalize(q.float(), dim=1), F.normalize(k.detach().float(), dim=1)
    with torch.autocast(q.device.type, enabled=False):
        logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


class MoCoV2(MultiView):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "none"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.temperature, self.symmetric = method["temperature"], method["symmetric"]
        self.momentum, self.momentum_end = method["momentum"], method["momentum_end"]
        sizes = (self.encoder.dim, method["head_hidden"], method["head_dim"])
        self.projector = mlp(sizes, norm=False, last_norm=None, bias=True)
        self.target = momentum_copy(nn.Sequential(self.encoder, self.projector))
        self.queue2 = bank_of_recipe(recipe, method["head_dim"])  # keys of view 2, which queries of view 1 meet
        self.queue1 = bank_of_recipe(recipe, method["head_dim"]) if self.symmetric else None

    def _key(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return F.normalize(self.target(x).float(), dim=1)

    def loss(self, views: Views) -> dict[str, Tensor]:
        x1, x2 = views["pixels1"], views["pixels2"]
        f1 = self.encoder.features(x1)
        q1, k2 = self.projector(f1), self._key(x2)
        outputs = {"pending_key2": k2, "std_z": spread(q1), "std_features": spread(f1)}
        loss = contrast_with_queue(q1, k2, self.queue2.rows, self.temperature)
        if self.queue1 is None:
            return {"loss_1to2": loss, **outputs}
        q2, k1 = self.projector(self.encoder.features(x2)), self._key(x1)
        other = contrast_with_queue(q2, k1, self.queue1.rows, self.temperature)
        return {"loss_1to2": loss / 2, "loss_2to1": other / 2, "pending_key1": k1, **outputs}

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        online = nn.Sequential(self.encoder, self.projector)
        follow(self.target, online, cosine_momentum(self.momentum, clock.progress, self.momentum_end))
        for keys in pending:
            self.queue2.enqueue(gather_keys(keys["pending_key2"]))
            if self.queue1 is not None:
                self.queue1.enqueue(gather_keys(keys["pending_key1"]))

    def rotatable(self, views: Views) -> list[Tensor]:
        """Both views, or the queries' alone where there is one direction."""
        return [views["pixels1"], views["pixels2"]] if self.symmetric else [views["pixels1"]]
