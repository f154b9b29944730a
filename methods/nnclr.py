"""NNCLR: Dwibedi, Aytar, Tompson, Sermanet & Zisserman, "With a Little Help from My Friends: Nearest-Neighbor
Contrastive Learning of Visual Representations", ICCV 2021 (arXiv:2104.14548).

    z_a = g(f(x_a)),  p_a = q(z_a)                       encoder, projector, predictor; view a = 1, 2
    n_a = NN(z_a, Q)                                     of the bank Q of past z_1, by cosine; no gradient
    l(n, p) = -(1/B) sum_i log( exp(<n_i, p_i> / T) / sum_j exp(<n_i, p_j> / T) )      rows normalised, p not stopped
    L = l(n_1, p_2) / 2 + l(n_2, p_1) / 2                and then z_1 enters the bank

There is no momentum network: n is constant because bank entries are. The bank gives positives alone; negatives are the
predictions of the other pictures of the batch.

`three_views` is the same over all ordered pairs of three views, their mean: NNCLR with the number of views, and at
equal cost with the epochs, of multi_network.

Differs from solo-learn's code, whose recipes these are: predictions of all processes are negatives, theirs of their own
process; the bank keeps z as it is, theirs normalised (the cosine and the loss do not see it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Clock, DataInfo, Recipe, Views
from methods.parts.bank import bank_of_recipe
from methods.parts.heads import mlp, spread
from methods.parts.losses import first_row, gather, gather_keys
from methods.parts.multi_view import MultiView


def neighbour_loss(neighbours: Tensor, predictions: Tensor, temperature: float) -> Tensor:
    """l(n, p): every neighbour must tell the prediction of its own picture from those of the others.

    neighbours, predictions: [B, D] of the same local rows, normalised here; predictions of all processes count, all
    with gradient.  About ln(B_all) for unrelated directions.
    """
    n = F.normalize(neighbours.detach().float(), dim=1)
    p = gather(F.normalize(predictions.float(), dim=1))
    first = first_row(len(n))
    with torch.autocast(n.device.type, enabled=False):
        logits = n @ p.T / temperature
    return F.cross_entropy(logits, torch.arange(first, first + len(n), device=n.device))


class NNCLR(MultiView):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.temperature = method["temperature"]
        hidden, out = method["head_hidden"], method["head_dim"]
        self.projector = mlp((self.encoder.dim, hidden, hidden, out), bias=True, last_norm=True)
        self.predictor = mlp((out, method["predictor_hidden"], out), bias=True, last_norm=None)
        self.bank = bank_of_recipe(recipe, out)

    def loss(self, views: Views) -> dict[str, Tensor]:
        f = self.each(self.encoder.features, self.rotatable(views))
        z = self.each(self.projector, f)
        p = self.each(self.predictor, z)
        n = self.bank.nearest(torch.cat(z)).chunk(len(z))
        pairs = [neighbour_loss(n[a], p[b], self.temperature) for a, b in permutations(range(len(z)), 2)]
        return {
            "loss_nearest": torch.stack(pairs).mean(),
            "std_z": spread(z[0]),
            "std_features": spread(f[0]),
            "pending_keys": z[0].detach(),
        }

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        for part in pending:
            self.bank.enqueue(gather_keys(part["pending_keys"]))
