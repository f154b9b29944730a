"""Truncated triplet loss: Wang, Wang, Wang, Torr & Lin, "Solving Inefficiency of Self-supervised Representation
Learning", ICCV 2021 (arXiv:2104.08760).

BYOL's networks, momentum and views with another loss, whose only negative is a deputy made of the ranked others:

    D_ij = -2 <q_i, t_j>                                q, t unit vectors: predictions of one view, targets of the other
    d_i = mean of D_i,(r) over r = lo .. hi             D_i,(1) <= D_i,(2) <= ... are the n - 1 values with j != i
    L(q, t) = (1/n) sum_i max(0, gamma D_ii - d_i + margin)            gamma = 2, margin = 100, (lo, hi) = (2, 10)
    L = L(q1, t2) + L(q2, t1)

The hardest ranks are left out because they are likely of the query's own class. The hinge never closes (its argument
lies in 94 .. 106), so L = 100 - 4 cos(q_i, t_i) + 2 mean_r cos(q_i, t_(r)) on average. Both directions together give
200 for unrelated rows, 192 for perfect positives with orthogonal negatives, 196 at collapse.

Negatives are those of one device, n = pretrain.batch / (devices * accumulate); a process that holds the rows of several
devices compares them block by block. With `random_size` every one of the four forward passes of a micro-batch sees its
batch resized to a random side, 96 .. 224 online and 128 .. 224 target at 224 pixels.

With p the chance that a negative shares the query's class, N = n - 1 negatives hold about N p + 3 sqrt(N p) false ones
at most. `ranks = "scaled"` starts there, lo = ceil(N p + 3 sqrt(N p)), at least the stated one, and keeps hi - lo; for
ImageNet (N = 195, p = 1/1000) that is the literal 2 .. 10, for ten classes 2 .. 10 would be false negatives alone.

Follows the released code (wanggrun/triplet) where the paper's text could not be read. Differs from it:

* Blur is a Gaussian cut off at 3 sigma, theirs PIL's approximation; views are computed on float tensors.
* Earlier deputies are variants: `median` (its gamma was never released; 2 here), `rank_5` and `hardest`.
* Tracks with few classes scale the ranks; variant `literal` does not.
* The random sizes are the method's stream "sizes": the same on all processes, as theirs by equal seeds.
* A ViT draws multiples of its patch.
* The last, incomplete batch of an epoch is left out; theirs fills it up with pictures of the epoch.
* SYSU-30k (variant `sysu`) started from ImageNet weights there, from random ones here.
What BYOL's docstring says of initial weights, momentum and `lars_exclusion` holds here too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Batch, DataInfo, Recipe, Streams, Views
from methods.byol import BYOL
from methods.parts.encoders import ViT

PASSES = ("online1", "online2", "target1", "target2")


def truncated_triplet(
    q: Tensor, t: Tensor, first: int, last: int, gamma: float = 2.0, margin: float = 100.0
) -> tuple[Tensor, Tensor]:
    """L(q, t) above, and who the deputies were made of: int64 [G, n, last - first + 1], columns within the block.

    q, t: [G, n, D], G blocks that do not see each other; gradient to q alone. Ranks first .. last count from 1.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, t = F.normalize(q.float(), dim=2), F.normalize(t.detach().float(), dim=2)
        distances = -2 * q @ t.transpose(1, 2)
    itself = torch.eye(q.shape[1], dtype=torch.bool, device=q.device)
    ranked = distances.masked_fill(itself, float("inf")).topk(last, dim=2, largest=False)
    deputy = ranked.values[:, :, first - 1 :].mean(dim=2)
    positive = distances.diagonal(dim1=1, dim2=2)
    # max(0, x + margin) as max(-margin, x) + margin: a constant of 100 would cost x its last two digits in every row
    return (gamma * positive - deputy).clamp(min=-margin).mean() + margin, ranked.indices[:, :, first - 1 :]


def scaled(first: int, last: int, negatives: int, prior: float) -> tuple[int, int]:
    """Ranks that begin where false negatives end: ceil(N p + 3 sqrt(N p)), as many as first .. last if N allows it."""
    expected = negatives * prior
    begin = max(first, math.ceil(expected + 3 * math.sqrt(expected)))
    return begin, min(begin + last - first, negatives)


def false_negatives(labels: Tensor, chosen: Tensor) -> Tensor:
    """Percentage of the chosen columns that share the label of their row.  labels: [G, n]; chosen: int64 [G, n, R]."""
    theirs = labels[:, None, :].expand(-1, labels.shape[1], -1).gather(2, chosen)
    return 100 * (theirs == labels[:, :, None]).float().mean()


class TruncatedTriplet(BYOL):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "per_device"

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method, pretrain = recipe["method"], recipe["pretrain"]
        self.gamma, self.margin = method["gamma"], method["margin"]
        self.rows = pretrain["batch"] // (pretrain["devices"] * pretrain["accumulate"])
        self.first, self.last = self._ranks()
        self.sides: dict[str, range] = {}
        if method["random_size"]:
            if self.one_forward:
                raise ValueError(
                    "method.one_forward = true: views of two sizes cannot form a batch; set method.random_size = false"
                )
            self.sides = {name: self._sides(f"{name[:6]}_size") for name in PASSES}

    def _ranks(self) -> tuple[int, int]:
        """First and last rank of the deputy, checked against the number of negatives."""
        method, n = self.recipe["method"], self.rows - 1
        ranks = {
            "mean_ranks": (method["rank_lo"], method["rank_hi"]),
            "rank_k": (method["rank_k"], method["rank_k"]),
            "median": 2 * ((n + 1) // 2,),  # the lower one, as torch.median
            "hardest": (1, 1),
        }
        deputy, scale, prior = method["deputy"], method["ranks"], method["class_prior"]
        if deputy not in ranks or scale not in ("literal", "scaled"):
            raise ValueError(
                f"method.deputy = {deputy!r}, method.ranks = {scale!r}: the deputy must be one of"
                f" {', '.join(ranks)}, and the ranks must be literal or scaled"
            )
        first, last = ranks[deputy]
        if scale == "scaled" and deputy in ("mean_ranks", "rank_k"):
            if not prior and not self.data.classes:
                raise ValueError(
                    "method.ranks = 'scaled' needs the probability that two images share a class, and this data has no"
                    " classes: set method.class_prior, or method.ranks = 'literal'"
                )
            first, last = scaled(first, last, n, prior or 1 / (self.data.classes or 1))
        if not 1 <= first <= last <= n:
            raise ValueError(
                f"method.deputy = {deputy!r} with method.ranks = {scale!r} uses ranks {first} .. {last}, but a device"
                f" has {n} negatives: raise pretrain.batch / (pretrain.devices * pretrain.accumulate) from {self.rows},"
                " or change method.rank_lo, method.rank_hi, method.rank_k or method.class_prior"
            )
        return first, last

    def _sides(self, key: str) -> range:
        """The sides that recipe key `key` allows."""
        low, high = self.recipe["method"][key]
        grain = self.encoder.strides[0] if isinstance(self.encoder, ViT) else 1
        sides = range(-(-low // grain) * grain, high + 1, grain)
        if not sides or high > self.data.size:
            raise ValueError(
                f"method.{key} = [{low}, {high}]: must contain a multiple of {grain} and not exceed the"
                f" {self.data.size} pixels of the views; or set method.random_size = false"
            )
        return sides

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        for views in super().steps(batch, rng):
            if batch.labels is not None:
                views.tensors["labels"] = batch.labels
            generator = rng.stream("sizes").shared
            for name, sides in self.sides.items():
                side = sides[int(torch.randint(len(sides), (), generator=generator))]
                pixels = views[f"pixels{name[-1]}"]
                views.tensors[name] = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
            yield views

    def inputs(self, views: Views) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.sides:
            return super().inputs(views)
        return views["online1"], views["online2"], views["target1"], views["target2"]

    def compare(self, q1: Tensor, q2: Tensor, t1: Tensor, t2: Tensor, views: Views) -> dict[str, Tensor]:
        if len(q1) % self.rows:
            raise ValueError(
                f"a process has {len(q1)} rows, not a multiple of the {self.rows} rows per device (pretrain.batch /"
                " (pretrain.devices * pretrain.accumulate)): use a number of processes that divides pretrain.devices"
            )
        blocks = [x.unflatten(0, (-1, self.rows)) for x in (q1, q2, t1, t2)]
        ranks = (self.first, self.last, self.gamma, self.margin)
        loss12, chosen12 = truncated_triplet(blocks[0], blocks[3], *ranks)
        loss21, chosen21 = truncated_triplet(blocks[1], blocks[2], *ranks)
        outputs = {"loss_1to2": loss12, "loss_2to1": loss21}
        if "labels" in views.tensors:
            labels = views["labels"].unflatten(0, (-1, self.rows))
            outputs["false_negatives"] = (false_negatives(labels, chosen12) + false_negatives(labels, chosen21)) / 2
        outputs["rank_first"] = torch.full((), float(self.first), device=q1.device)
        outputs["rank_last"] = torch.full((), float(self.last), device=q1.device)
        return outputs
