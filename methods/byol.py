"""BYOL: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020
(arXiv:2006.07733).

    q = h(g(f(x))),  t = g_m(f_m(x))                    online: encoder, projector, predictor; target without predictor
    d(q, t) = (1/B) sum_i | q_i/|q_i| - t_i/|t_i| |^2 = (1/B) sum_i ( 2 - 2 cos(q_i, sg t_i) )                eq. 2
    L = d(q1, t2) + d(q2, t1)
    f_m, g_m <- m (f_m, g_m) + (1 - m) (f, g),   m_k = 1 - (1 - m_0) (1 + cos(pi k / K)) / 2

There are no negatives. Both heads are Linear - BN - ReLU - Linear with biases and without a norm at their end.

Recipes: CIFAR and ImageNet-100 are solo-learn's; ImageNet is OpenSelfSup's, 200 epochs, the control that
truncated_triplet is compared with; variant `paper` is the paper's own 1000 epochs on ImageNet.
Differs from them:

* OpenSelfSup's and mmpretrain's loss lacks the constant 2 (and, in mmpretrain, half of the slope).
* m_0 = 0.99 as in all three codes; the paper has 0.996 for its 1000 epochs, as `paper` has.
* Weights start as in OpenSelfSup everywhere: convolutions and projector Kaiming-normal by fan-in, predictor N(0, 0.01),
  linear biases 0. solo-learn leaves them to PyTorch.
* `lars_exclusion`: which parameters LARS neither scales nor decays. "vectors" (the paper, solo-learn): biases and
  norms. "released" (OpenSelfSup, default on ImageNet): those whose names match an expression that overlooks the norms
  of the shortcuts, `downsample.1.weight`. mmpretrain mended that.
* The paper's LARS has no form here that is the same to the letter; `paper` uses MoCo-v3's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import Clock, DataInfo, Recipe, Views
from methods.parts.ema import cosine_momentum, follow, momentum_copy
from methods.parts.encoders import ViT
from methods.parts.heads import mlp, spread
from methods.parts.losses import cosine
from methods.parts.multi_view import MultiView

EXCLUSIONS = ("released", "vectors")
_EXCLUDED = re.compile(r"(bn|gn)\d*.(weight|bias)|bias")  # OpenSelfSup's two expressions


def distance(q: Tensor, t: Tensor) -> Tensor:
    """d(q, t) of eq. 2: mean squared distance of unit vectors, in [0, 4], 2 for unrelated ones.  q, t: [B, D]."""
    return (2 - 2 * cosine(q, t)).mean()


def initialise(encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
    """OpenSelfSup's initial weights; a ViT keeps its own. Norms keep weight 1 and bias 0."""
    for module in (*encoder.modules(), *projector.modules()):
        if isinstance(module, nn.Linear if isinstance(encoder, ViT) else nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    for module in predictor.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
    for module in (*projector.modules(), *predictor.modules()):
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


class BYOL(MultiView):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "none"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.momentum, self.exclusion = method["momentum"], method["lars_exclusion"]
        if self.exclusion not in EXCLUSIONS:
            raise ValueError(f"method.lars_exclusion = {self.exclusion!r}: must be one of {', '.join(EXCLUSIONS)}")
        out = method["head_dim"]
        self.projector = mlp((self.encoder.dim, method["projector_hidden"], out), last_norm=None, bias=True)
        self.predictor = mlp((out, method["predictor_hidden"], out), last_norm=None, bias=True)
        initialise(self.encoder, self.projector, self.predictor)
        self.target = momentum_copy(nn.Sequential(self.encoder, self.projector))

    def inputs(self, views: Views) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the online network sees of views 1 and 2, then what the target network sees."""
        return views["pixels1"], views["pixels2"], views["pixels1"], views["pixels2"]

    def compare(self, q1: Tensor, q2: Tensor, t1: Tensor, t2: Tensor, views: Views) -> dict[str, Tensor]:
        """The losses and their metrics, from predictions q and target projections t, [B, D] each."""
        return {"loss_1to2": distance(q1, t2), "loss_2to1": distance(q2, t1)}

    def loss(self, views: Views) -> dict[str, Tensor]:
        online1, online2, target1, target2 = self.inputs(views)
        f = self.each(self.encoder.features, (online1, online2))
        z = self.each(self.projector, f)
        q1, q2 = self.each(self.predictor, z)
        with torch.no_grad():
            t1, t2 = self.each(self.target, (target1, target2))
        outputs = self.compare(q1, q2, t1, t2, views)
        return outputs | {"std_z": spread(z[0]), "std_features": spread(f[0])}

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        """m_k with k the place, from 0, of the update's last micro-batch among all K of the run, as in OpenSelfSup."""
        k = clock.update * clock.micro_batches - 1
        m = cosine_momentum(self.momentum, k / (clock.updates * clock.micro_batches))
        follow(self.target, nn.Sequential(self.encoder, self.projector), m)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        if self.exclusion == "vectors":
            return super().param_groups(weight_decay)
        groups: list[dict[str, Any]] = [
            {"params": [], "weight_decay": weight_decay, "adapt": "all"},
            {"params": [], "weight_decay": 0.0, "adapt": "none"},
        ]
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                # the norms of the heads, numbered here, are named bn0 there
                of_head = parameter.ndim == 1 and not name.startswith("encoder.")
                groups[bool(_EXCLUDED.search(name)) or of_head]["params"].append(parameter)
        return groups
