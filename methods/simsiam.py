"""SimSiam: Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021 (arXiv:2011.10566).

    z = g(f(x)),  p = h(z)                                       encoder and projector, predictor; no momentum network
    D(p, z) = -<p, z> / (|p| |z|)                                                                                eq. 1
    L = 1/2 D(p1, sg z2) + 1/2 D(p2, sg z1)                                                                 eq. 2 to 4

g has 3 layers with BatchNorm after each, the last without affine parameters and without ReLU; h is a bottleneck with
BatchNorm in the middle alone. The predictor's rate is not decayed ("constant_lr"; Table 1: decaying it costs a little).

Recipes: ImageNet as the authors' code (facebookresearch/simsiam) for 100 epochs at batch 512; CIFAR and ImageNet-100 as
solo-learn, whose results are published (rate 0.5, decay 1e-5, warm-up, blur at 32 pixels too). Variant `authors`: the
paper's own CIFAR recipe of appendix D (2-layer projector, rate 0.03, decay 5e-4, 800 epochs, no blur).

Differs from the authors' code:

* They fix the predictor's rate with a switch (`--fix-pred-lr`) that their published runs have set; here it always is.
* The projector's last linear layer has no bias; theirs has one that is not trained and that the norm takes away.
* Blur is a Gaussian cut off at 3 sigma, theirs PIL's approximation by box filters; views are computed on float tensors.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from methods.base import DataInfo, Recipe, Views
from methods.parts.heads import mlp, spread
from methods.parts.losses import cosine
from methods.parts.multi_view import MultiView


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """D(p, sg z) of eq. 1, mean over the batch, in [-1, 1].  p, z: [B, D]; no gradient to z."""
    return -cosine(p, z).mean()


class SimSiam(MultiView):
    constant_rate = ("predictor",)
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "none"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        hidden, out = method["projector_hidden"], method["projector_dim"]
        self.projector = mlp((self.encoder.dim, *[hidden] * (method["projector_layers"] - 1), out), last_norm=False)
        self.predictor = mlp((out, method["predictor_hidden"], out), last_norm=None, last_bias=True)

    def loss(self, views: Views) -> dict[str, Tensor]:
        f = self.each(self.encoder.features, self.rotatable(views))
        z1, z2 = z = self.each(self.projector, f)
        p1, p2 = self.each(self.predictor, z)
        return {
            "loss_1to2": 0.5 * negative_cosine(p1, z2),
            "loss_2to1": 0.5 * negative_cosine(p2, z1),
            "std_z": spread(z1),
            "std_features": spread(f[0]),
        }
