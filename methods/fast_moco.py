"""Fast-MoCo: Ci, Lin, Bai & Ouyang, "Fast-MoCo: Boost Momentum-based Contrastive Learning with Combinatorial Patches",
ECCV 2022 (arXiv:2207.08220); code orashi/Fast-MoCo.

    v_1 .. v_4 = f(patches)                              online: the 2x2 patches of a view, each encoded alone
    p^(ab) = q( g((v_a + v_b) / 2) )                     the 6 pairs, averaged before the projector
    t = g_m(f_m(x))                                      target: whole views
    L = 1/12 [ sum_c CE(<p_1^c, t_2> / T) + sum_c CE(<p_2^c, t_1> / T) ]     target: the same picture; T = 1
    f_m, g_m <- m (f_m, g_m) + (1 - m) (f, g),  m = 0.99

The online encoder never sees a whole view, so the running statistics that it is evaluated with are those of patches at
half the side, as in the authors' code.

Differs from the authors' code: the target starts as a copy, theirs from its own random weights, which at m = 0.99 is
forgotten after some hundred updates; it moves after an update, theirs before the next use (the same sequence of
targets); pixels are normalised by the data's mean and deviation, theirs by ImageNet's; BatchNorm weights of the heads
start from 1, theirs from U(0, 1); the last, incomplete batch of an epoch is left out, theirs is filled up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import Clock, DataInfo, Recipe, Views
from methods.parts.ema import follow, momentum_copy
from methods.parts.heads import mlp, spread
from methods.parts.multi_view import MultiView
from methods.parts.patches import average_groups, grouped_nce, require_whole_patches, split_patches


def patch_loss(p1: Tensor, p2: Tensor, t1: Tensor, t2: Tensor, temperature: float) -> Tensor:
    """L.  p1, p2: predictions of the groups of patches [G B, D], group by group; t1, t2: targets [B, D], stopped.

    About ln(B_all) for unrelated directions; at T = 1 within 2 of it.
    """
    return (grouped_nce(p1, t2, temperature) + grouped_nce(p2, t1, temperature)) / 2


class FastMoCo(MultiView):
    constant_rate = ("predictor",)
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.temperature, self.momentum = method["temperature"], method["momentum"]
        self.grid, self.members = method["split"], method["combine"]
        require_whole_patches(data.size, self.grid)
        hidden, out = method["head_hidden"], method["head_dim"]
        self.projector = mlp((self.encoder.dim, hidden, hidden, out), bias=True, last_norm=True)
        self.predictor = mlp((out, method["predictor_hidden"], out), bias=True, last_norm=None)
        self.target = momentum_copy(nn.Sequential(self.encoder, self.projector))

    def loss(self, views: Views) -> dict[str, Tensor]:
        x1, x2 = self.rotatable(views)
        v1, v2 = (self.encoder.features(split_patches(x, self.grid)) for x in (x1, x2))
        z1, z2 = (self.projector(average_groups(v, self.grid**2, self.members)) for v in (v1, v2))
        with torch.no_grad():
            t1, t2 = self.target(x1), self.target(x2)
        return {
            "loss_patches": patch_loss(self.predictor(z1), self.predictor(z2), t1, t2, self.temperature),
            "std_z": spread(z1),
            "std_features": spread(v1),
        }

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        follow(self.target, nn.Sequential(self.encoder, self.projector), self.momentum)
