"""APS: Shen et al., "Asymmetric Patch Sampling for Contrastive Learning", Pattern Recognition 2025 (arXiv:2306.02854).

Two crops of a picture go through one ViT, each as a sparse subset of its patches; the second subset avoids the area
that the first one covers, so that the views look different and mean the same. Per loaded batch there are T = 4 updates
on the same pixels: view 1 shows the T disjoint blocks of one permutation of its patches, view 2 for each block t

    r_j = 1 - sum_{i in S1_t} area(R1_i ∩ R2_j) / area(R2_j)        uncovered fraction of patch j
    S2_t = n patches drawn without replacement, p_j ∝ r_j^gamma     gamma = 3, n = 0.25 P

    l(p, z) = -(1/B) sum_i log( exp(<p_i, sg z_i>/tau) / sum_j exp(<p_i, sg z_j>/tau) ),    tau = 0.1
    L = l(p1, z2) + l(p2, z1)

No momentum network, no queue; the negatives are the other view's projections of the other pictures of the global batch.
Defaults are the released code's (visresearch/aps); the paper's body could not be read. Differs from that code:

* Successive sampling is an exponential race on the device (Efraimidis & Spirakis 2006): the n smallest E_j / p_j, which
  has the distribution of numpy.random.choice(replace=False, p). Where fewer than n patches are uncovered, numpy raises;
  here the rest is filled with covered patches, uniformly.
* The released code ignores the horizontal flip in the geometry of the boxes, and so does the default here;
  `flip_aware` mirrors the columns of flipped views.
* The views are computed on float tensors (methods/parts/views.py), and both pass the encoder as one batch of 2 B, which
  changes nothing, as it has no batch statistics; projector and predictor see one view at a time.
* The adaptive gradient clipping that the paper is said to describe is not in the released code; variant `clip`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from methods.base import Batch, DataInfo, Method, Recipe, Streams, Views
from methods.parts.encoders import ViT, build_encoder
from methods.parts.heads import mlp, spread
from methods.parts.losses import info_nce
from methods.parts.views import Augment, Boxes, Draws, make_views


def line_overlap(start1: Tensor, length1: Tensor, start2: Tensor, length2: Tensor, cells: int) -> Tensor:
    """Share of each cell of line 2 that each cell of line 1 covers, both cut into `cells` equal cells.

    start, length: [B] pixels.  Returns float64 [B, cells of line 2, cells of line 1] in [0, 1].
    """
    edges = torch.arange(cells + 1, device=start1.device, dtype=torch.float64) / cells
    first = start1[:, None, None] + length1[:, None, None] * edges
    second = start2[:, None, None] + length2[:, None, None] * edges[:, None]
    end = torch.minimum(first[:, :, 1:], second[:, 1:])
    begin = torch.maximum(first[:, :, :-1], second[:, :-1])
    return (end - begin).clamp_(min=0) / (length2.double() / cells)[:, None, None]


def uncovered(selected: Tensor, boxes1: Boxes, boxes2: Boxes, flip_aware: bool) -> Tensor:
    """r of every patch of view 2 for T selections of patches of view 1: float64 [B, T, P] in [0, 1].

    selected: bool [B, T, P], P = g^2, row by row.  The overlap of two rectangles is the product of their overlaps along
    the two axes, so the covered share is rows^T selected columns, summed over the disjoint patches of view 1.
    """
    g = round(selected.shape[2] ** 0.5)
    rows = line_overlap(boxes1.top, boxes1.height, boxes2.top, boxes2.height, g)
    columns = line_overlap(boxes1.left, boxes1.width, boxes2.left, boxes2.width, g)
    if flip_aware:
        columns = torch.where(boxes2.flipped[:, None, None], columns.flip(1), columns)
        columns = torch.where(boxes1.flipped[:, None, None], columns.flip(2), columns)
    covered = torch.einsum("bji,btic,bkc->btjk", rows, selected.double().unflatten(2, (g, g)), columns)
    r = (1 - covered).flatten(2)
    return torch.where(r < 1e-6, 0.0, r)


def race(r: Tensor, exponentials: Tensor, gamma: float, n: int) -> Tensor:
    """n indices per row without replacement, successively with p_j ∝ r_j^gamma: int64 [..., n].

    r: [..., P] in [0, 1]; exponentials: Exp(1) of the same shape.  gamma = 0 is uniform over all P, as 0^0 = 1.
    In logarithms. For gamma > 0 patches with r = 0 come behind all others, in an order of their own, uniformly.
    """
    finish = exponentials.log() - gamma * r.clamp(min=1e-30).log()
    if gamma > 0:
        finish += 1e3 * (r == 0)
    return finish.topk(n, dim=-1, largest=False).indices


class APS(Method):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"
    encoder: ViT

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        encoder = build_encoder(recipe["network"])
        if not isinstance(encoder, ViT):
            raise ValueError("aps samples patches: it needs network.arch = 'vit'")
        self.encoder = encoder
        method = recipe["method"]
        hidden, out = method["head_hidden"], method["head_dim"]
        self.projector = mlp((encoder.dim, hidden, hidden, out), last_norm=False)
        self.predictor = mlp((out, hidden, hidden, out), last_norm=False)
        self.augment = Augment.of_recipe(method, data)
        self.gamma, self.flip_aware = method["gamma"], method["flip_aware"]
        self.temperature = method["temperature"]
        self.updates_per_load = repeats = method["repeats"]
        self.patches = encoder.side**2
        self.n = int(self.patches * method["sampling_ratio"])
        if not 0 < repeats * self.n <= self.patches:
            raise ValueError(
                f"method.repeats = {repeats} disjoint blocks of {self.n} patches (method.sampling_ratio = "
                f"{method['sampling_ratio']}) do not fit in the {self.patches} patches of a view"
            )

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        streams = [rng.stream("view1"), rng.stream("view2")]
        ((pixels1, boxes1), (pixels2, boxes2)), drawn = make_views(
            2 * [self.augment], batch.images, streams, self.draw(rng)
        )
        index1, index2 = self.sample(boxes1, boxes2, drawn)
        for t in range(self.updates_per_load):
            yield Views({"pixels1": pixels1, "pixels2": pixels2, "index1": index1[:, t], "index2": index2[:, t]})

    def draw(self, rng: Streams) -> Draws:
        """What decides which patches are taken, on the CPU: order int64 [B, P], exponentials [B, T, P]."""
        return {
            "order": rng.stream("sparse").host.permutation(self.patches),
            "exponentials": rng.stream("selective").host.exponential(self.updates_per_load, self.patches),
        }

    def sample(self, boxes1: Boxes, boxes2: Boxes, drawn: Draws) -> tuple[Tensor, Tensor]:
        """Patches of the T sub-views of view 1 and of view 2, int64 [B, T, n] each."""
        repeats = self.updates_per_load
        index1 = drawn["order"][:, : repeats * self.n].unflatten(1, (repeats, self.n))
        selected = torch.zeros(*index1.shape[:2], self.patches, dtype=torch.bool, device=index1.device)
        r = uncovered(selected.scatter_(2, index1, True), boxes1, boxes2, self.flip_aware)
        return index1, race(r, drawn["exponentials"], self.gamma, self.n)

    def loss(self, views: Views) -> dict[str, Tensor]:
        pixels = torch.cat([views["pixels1"], views["pixels2"]])
        features = self.encoder.forward_subset(pixels, torch.cat([views["index1"], views["index2"]]))
        z1, z2 = (self.projector(f) for f in features.chunk(2))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return {
            "loss_1to2": info_nce(p1, z2, self.temperature),
            "loss_2to1": info_nce(p2, z1, self.temperature),
            "std_z": spread(z1),
            "std_features": spread(features),
        }

    def rotatable(self, views: Views) -> list[Tensor]:
        return [views["pixels1"], views["pixels2"]]
