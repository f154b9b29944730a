"""Multi-network contrastive learning (MNCL, later MNCLGLF): Li, Long & Li, arXiv:2306.15930; code liweiquan39/MNCLGLF.

    z_i = g(f(x_i)),  p_i = q(z_i)                  online, three views: encoder, projector, predictor
    k_i^(ab) = g((v_a + v_b) / 2),  v = f(patch)    local: the 6 pairs of the 2x2 patches of x_i, i = 1, 2
    j_i = g_m(f_m(x_i)),  n_i = NN(j_i)             momentum, i = 1, 3, and the nearest of a bank of past j_3
    L_local = 1/12 [ sum_c CE(<p_2, k_1^c> / T) + sum_c CE(<p_1, k_2^c> / T) ]         target: the same picture
    L_mom   = 1/2 NTXent(n_3, p_1) + 1/2 NTXent(n_1, p_3)                              2B - 2 negatives
    L = L_local + a L_mom,  a = 6,  T = 1
    f_m, g_m <- m (f_m, g_m) + (1 - m) (f, g),  m = 0.99;   then j_3 enters the bank

Figure and released code disagree on L_local. In the figure p keeps its gradient and k is stopped: the default here. In
the code p is detached as well, so that L_local has no gradient at all and 6 L_mom alone is trained: `released`.
`fastmoco` sends the gradient through the patches instead: q(k_1) meets j_2 and q(k_2) meets j_1.

Differs from the authors' code (all but the first have a switch or are without effect on their recipe):

* Keys of all processes are negatives; theirs runs on one device only.
* The local branch leaves running statistics alone, theirs lets patches of half the side into those that evaluation
  uses (`shared_statistics`). What it normalises by, the statistics of its own batch, is the same.
* The target starts as a copy, theirs from its own random weights (`independent_target`).
* Pictures keep the track's size; theirs are enlarged to 224 for a stem with stride (`at224`).
* The bank goes round its end; theirs drops what does not fit and starts again, the same where batches divide it
  (`bank_drops`, and so in `released`).
* The target moves after an update, theirs before the next use: the same sequence of targets. Pixels are normalised by
  the data's mean and deviation, theirs by ImageNet's (`mean`, `std`, and so in `at224`).
* Their projector's and predictor's BatchNorm weights start from U(0, 1), here from 1, PyTorch's default since 1.0.
* The last, incomplete batch of an epoch is left out; theirs fills it up with pictures of the epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import Batch, Clock, DataInfo, Method, Recipe, Streams, Views
from methods.parts.bank import bank_of_recipe
from methods.parts.ema import follow, momentum_copy
from methods.parts.encoders import ResNet, ViT, build_encoder
from methods.parts.heads import mlp, spread
from methods.parts.losses import gather_keys, nt_xent
from methods.parts.norm import statistics_kept
from methods.parts.patches import average_groups, grouped_nce, require_whole_patches, split_patches
from methods.parts.views import Augment, make_views

GRADIENTS = ("prediction", "none", "patches")


def local_loss(p1: Tensor, p2: Tensor, k1: Tensor, k2: Tensor, temperature: float) -> Tensor:
    """L_local: p_2 against the groups of x_1, p_1 against those of x_2; keys are stopped.

    p1, p2: [B, D]; k1, k2: [G B, D], group by group (G = 6 pairs). Or the other way round, predictions of the groups as
    p and whole views as k.  About ln(B) for unrelated directions; at T = 1 within 2 of it.
    """
    return (grouped_nce(p2, k1, temperature) + grouped_nce(p1, k2, temperature)) / 2


def momentum_loss(n1: Tensor, n3: Tensor, p1: Tensor, p3: Tensor, temperature: float) -> Tensor:
    """L_mom: neighbours of one view against predictions of the other, both directions.  All [B, D]; n without gradient.

    About ln(2B - 1) for unrelated directions.
    """
    return (nt_xent(n3, p1, temperature) + nt_xent(n1, p3, temperature)) / 2


class MultiNetwork(Method):
    constant_rate = ("predictor",)
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"
    encoder: ViT | ResNet

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        if method["local_gradient"] not in GRADIENTS:
            raise ValueError(
                f"method.local_gradient = {method['local_gradient']!r}: must be one of {', '.join(GRADIENTS)}"
            )
        self.local_gradient, self.weight = method["local_gradient"], method["momentum_weight"]
        self.temperature, self.momentum = method["temperature"], method["momentum"]
        self.grid, self.members = method["split"], method["combine"]
        side = method["view_size"] or data.size
        require_whole_patches(side, self.grid)
        self.shared_statistics = method["shared_statistics"]
        through_patches = self.local_gradient == "patches"
        self.online = sorted({1} | (set() if through_patches else {2}) | ({3} if self.weight else set()))
        self.keyed = sorted(({1, 2} if through_patches else set()) | ({1, 3} if self.weight else set()))

        hidden, out = method["head_hidden"], method["head_dim"]
        self.encoder = build_encoder(recipe["network"])
        sizes = (self.encoder.dim, hidden, hidden, out)
        self.projector = mlp(sizes, bias=True, last_norm=True)
        self.predictor = mlp((out, method["predictor_hidden"], out), bias=True, last_norm=None)
        if method["independent_target"]:
            fresh = nn.Sequential(build_encoder(recipe["network"]), mlp(sizes, bias=True, last_norm=True))
            self.target: nn.Module = fresh.requires_grad_(False)
            self._follow()  # theirs moves before its first use
        else:
            self.target = momentum_copy(nn.Sequential(self.encoder, self.projector))
        self.bank = bank_of_recipe(recipe, out) if method["bank_size"] and self.weight else None
        self.augment = Augment.of_recipe(method, data, size=side)

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        made, _ = make_views(3 * [self.augment], batch.images, [rng.stream(f"view{i}") for i in (1, 2, 3)])
        yield Views({f"pixels{i}": pixels for i, (pixels, _) in enumerate(made, 1)})

    def local(self, x: Tensor) -> Tensor:
        """k^(ab) of x [B, 3, S, S], group by group: [6 B, D]."""
        v = self.encoder.features(split_patches(x, self.grid))
        k: Tensor = self.projector(average_groups(v, self.grid**2, self.members))
        return k

    def loss(self, views: Views) -> dict[str, Tensor]:
        x = {i: views[f"pixels{i}"] for i in (1, 2, 3)}
        f = {i: self.encoder.features(x[i]) for i in self.online}
        z = {i: self.projector(f[i]) for i in self.online}
        p = {i: self.predictor(z[i]) for i in self.online}
        with torch.no_grad():
            j = {i: self.target(x[i]) for i in self.keyed}
        outputs = {"std_z": spread(z[1]), "std_features": spread(f[1])}
        kept = () if self.shared_statistics else (self.encoder, self.projector, self.predictor)
        with statistics_kept(*kept):
            if self.local_gradient == "patches":
                q1, q2 = self.predictor(self.local(x[1])), self.predictor(self.local(x[2]))
                outputs["loss_local"] = local_loss(q1, q2, j[1], j[2], self.temperature)
            else:
                with torch.no_grad():
                    k1, k2 = self.local(x[1]), self.local(x[2])
                with torch.no_grad() if self.local_gradient == "none" else contextlib.nullcontext():
                    local = local_loss(p[1], p[2], k1, k2, self.temperature)
                outputs["local" if self.local_gradient == "none" else "loss_local"] = local
        if self.weight:
            keys = torch.cat([j[1], j[3]])
            n1, n3 = (keys if self.bank is None else self.bank.nearest(keys)).chunk(2)
            outputs["loss_momentum"] = self.weight * momentum_loss(n1, n3, p[1], p[3], self.temperature)
            outputs["pending_keys"] = j[3]
        return outputs

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        if self.bank is not None:
            for part in pending:
                self.bank.enqueue(gather_keys(part["pending_keys"]))
        self._follow()

    def _follow(self) -> None:
        follow(self.target, nn.Sequential(self.encoder, self.projector), self.momentum)

    def rotatable(self, views: Views) -> list[Tensor]:
        return [views[f"pixels{i}"] for i in self.online]
