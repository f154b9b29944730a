"""SimCLR: Chen, Kornblith, Norouzi & Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020 (arXiv:2002.05709).

    z = g(f(x))                                                  two views of each of B pictures: 2 B projections
    l(i, j) = -log( exp(<z_i, z_j>/T) / sum_{k != i} exp(<z_i, z_k>/T) )       all z normalised                  eq. 1
    L = 1/(2B) sum_k [ l(2k-1, 2k) + l(2k, 2k-1) ]                                                         Algorithm 1

Negatives are the other 2 (B - 1) projections of the batch over all devices, with gradient through them; the loss itself
is `nt_xent` of methods/parts/losses.py.

The head is an MLP with one hidden layer. `projector_norm = true` (default, authors' code): BatchNorm after both linear
layers, the last with a scale and without a shift. `false` (solo-learn, so CIFAR and ImageNet-100): biases and no norm,
as the paper writes it. `one_forward = true` (default, authors' code): both views pass the network as one batch, so
BatchNorm's statistics are those of 2 B pictures; `false` (solo-learn): each view on its own.

Recipes: ImageNet as the authors' README, 100 epochs; CIFAR and ImageNet-100 as solo-learn, whose results are published,
blur with probability 0.5 at 32 pixels too. Variant `google`: the authors' CIFAR recipe (T 0.5, jitter at half strength,
no blur, batch 512).

Differs from the authors' code (google-research/simclr):

* Two layers in the head, as in the paper and in the code's first version; its later default is three.
* LARS keeps the rate outside its momentum buffer, theirs inside: the same while the rate is constant.
* Views are normalised by mean and standard deviation, theirs stay in [0, 1]; blur reaches 3 sigma, theirs a twentieth
  of the side; crops shrink with antialiasing.
* Linear layers start as PyTorch's do, theirs from N(0, 0.01^2); the head's norms take the scale away.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from methods.base import DataInfo, Recipe, Views
from methods.parts.heads import mlp, spread
from methods.parts.losses import nt_xent
from methods.parts.multi_view import MultiView


class SimCLR(MultiView):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.temperature = method["temperature"]
        sizes = (self.encoder.dim, method["head_hidden"], method["head_dim"])
        if method["projector_norm"]:
            self.projector = mlp(sizes, last_norm=True)
            self.projector[-1].bias.requires_grad_(False)  # stays 0: the authors' last norm has a scale alone
        else:
            self.projector = mlp(sizes, norm=False, last_norm=None, bias=True)

    def loss(self, views: Views) -> dict[str, Tensor]:
        f = self.each(self.encoder.features, self.rotatable(views))
        z1, z2 = self.each(self.projector, f)
        return {
            "loss_nt_xent": nt_xent(z1, z2, self.temperature),
            "std_z": spread(z1),
            "std_features": spread(f[0]),
        }
