"""MoCo-v3: Chen, Xie & He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021
(arXiv:2104.02057).

    q = h(g(f(x))),  k = g_m(f_m(x))                    online: encoder, projector, predictor; target without predictor
    ctr(q, k) = -2 T (1/B) sum_i log( exp(<q_i, k_i>/T) / sum_j exp(<q_i, k_j>/T) )                   Algorithm 1, eq. 1
    L = ctr(q1, k2) + ctr(q2, k1)
    f_m, g_m <- m (f_m, g_m) + (1 - m) (f, g)           m from 0.99 to 1 by a half-cosine

Negatives are the other keys of the global batch; there is no queue. With a ViT: T = 0.2, fixed sin-cos positions, a
random patch embedding that is never trained, Xavier weights, a 3-layer projector. Variant `resnet50`: T = 1, a 2-layer
projector, no norm at the end of the predictor, LARS.

Differs from the authors' code (facebookresearch/moco-v3):

* The target moves after an optimiser update, theirs before the next forward pass: the same sequence of targets, as both
  start as copies, and m is read at the same point of its schedule.
* Blur is a Gaussian cut off at 3 sigma, theirs PIL's approximation by box filters; views are computed on float tensors.
* The momentum schedule runs over updates and ends at exactly 1.
Like theirs: BatchNorm's running statistics of the target are its own, never averaged (methods/parts/ema.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import Clock, DataInfo, Recipe, Views
from methods.parts.ema import cosine_momentum, follow, momentum_copy
from methods.parts.heads import mlp, spread
from methods.parts.losses import info_nce
from methods.parts.multi_view import MultiView


def contrast(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """ctr(q, k) of Algorithm 1, with its factor 2 T.  q, k: [B, D]; keys of all processes count, without gradient."""
    return 2 * temperature * info_nce(q, k, temperature)


class MoCoV3(MultiView):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.temperature, self.momentum = method["temperature"], method["momentum"]
        hidden, out = method["head_hidden"], method["head_dim"]
        self.projector = mlp((self.encoder.dim, *[hidden] * (method["projector_layers"] - 1), out), last_norm=False)
        last = False if method["predictor_norm"] else None
        self.predictor = mlp((out, *[hidden] * (method["predictor_layers"] - 1), out), last_norm=last)
        self.target = momentum_copy(nn.Sequential(self.encoder, self.projector))

    def loss(self, views: Views) -> dict[str, Tensor]:
        x = self.rotatable(views)
        f = self.each(self.encoder.features, x)
        q1, q2 = self.each(self.predictor, self.each(self.projector, f))
        with torch.no_grad():
            k1, k2 = self.each(self.target, x)
        return {
            "loss_1to2": contrast(q1, k2, self.temperature),
            "loss_2to1": contrast(q2, k1, self.temperature),
            "std_z": spread(k1),
            "std_features": spread(f[0]),
        }

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        online = nn.Sequential(self.encoder, self.projector)
        follow(self.target, online, cosine_momentum(self.momentum, clock.progress))
