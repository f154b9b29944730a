"""GLNet: Zhao et al., "Embedding Global Contrastive and Local Location in Self-Supervised Learning", IEEE TCSVT 2022
(doi 10.1109/TCSVT.2022.3221611).

Each picture is cut in four quadrants of 80 % of either side, each quadrant goes through two augmentations t1, t2 at
half the network's input size, and the crops of the whole batch are put together to montages, in one random order for
both views. The encoder's last map, pooled to 2 x 2, gives a vector u for each crop (methods/parts/montage.py):

    q = h(g(u)),  k = sg g_m(f_m(montage))              f encoder, g projector, h predictor; momentum copies f_m, g_m
    S(Z, y) = (T / T0) mean_j -1/|P(j)| sum_{p in P(j)} log( exp(<z_j, z_p>/T) / sum_{a != j} exp(<z_j, z_a>/T) )
              P(j): the other rows with the label of j; T = 0.3, T0 = 0.07
    L_con = S([q1; k2], picture) + S([q2; k1], picture)                 8B rows, 7 positives each
    L_loc = CE(l(u1), quadrant)                                         l one linear layer, view 1 alone; ln 4 by chance
    L     = w_loc L_loc + w_con L_con
    f_m, g_m <- m (f_m, g_m) + (1 - m) (f, g)           m from 0.99 to 1 by a half-cosine

Source: neither the paper's body nor its code could be read. This is the four-crop code of the same first author
(WilyZhao8/W2SSL, ab_study_det), which has the abstract's two tasks and continues JigClu (CVPR 2021).

The flip comes after the cut, so left and right quadrants are mirror images of each other, and at most half of the
location is to be learnt (CE >= ln 2). Ablations of the fact sheet: A1 no_location (the head learns nothing then, its
accuracies say nothing), A2 no_flip and flip_labels, A3 random_labels, A4 info_nce, A5 no_montage, A6 no_momentum; A7 is
the baseline moco_v3:resnet, whose encoder work is the same. `byol` and `simsiam` put their objective on the crops'
vectors, the partner of a crop being the other view of the same quadrant; the heads stay GLNet's. `clustering` is the
code's earlier form: S on a head over u1, a quarter of MoCo-v3's loss between the views, and L_loc.

Differs from that code:

* Quadrants are cut from the picture as stored (tracks.toml), theirs from the file; blur is a true Gaussian, and nothing
  is rounded to uint8 between augmentations.
* The map is resized to the next even size only where it is odd; theirs always to 8 x 8, which 224 pixels give anyway.
* The target moves after an optimiser update, theirs before the next forward pass: the same sequence of targets.
* A ViT averages the patches of each cell, and so do its features (network.pool); theirs could not run one.
* `info_nce` keeps the factor T / T0, so that only the positives change: one crop of each picture, drawn at random, the
  same quadrant in both views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods import moco_v3
from methods.base import Batch, Clock, DataInfo, Method, Recipe, Streams, Views
from methods.parts.ema import cosine_momentum, follow, momentum_copy
from methods.parts.encoders import ResNet, ViT, build_encoder
from methods.parts.heads import mlp, spread
from methods.parts.losses import cosine, first_row, gather, gather_keys, info_nce, sup_con, world
from methods.parts.montage import QUADRANTS, assemble, cell_means, deal, quadrants
from methods.parts.views import Augment, Draws, make_views

OBJECTIVES = ("supcon", "info_nce", "clustering", "byol", "simsiam")
LOCATIONS = ("quadrant", "flipped", "random")


def contrast(q: Tensor, k: Tensor, picture: Tensor, temperature: float, base_temperature: float) -> Tensor:
    """S([q; k], picture) over the rows of all processes, with gradient to the queries alone.

    q, k: [4b, D]; picture: int64 [4b]; all in the same order.  About (T / T0) ln(8B - 1) for unrelated directions.
    """
    rows = torch.cat([gather(q.float()), gather_keys(k.float())])
    return sup_con(rows, gather_keys(picture).repeat(2), temperature, base_temperature)


def one_crop(q: Tensor, k: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    """InfoNCE between the rows `chosen` of all processes' q and k.

    q, k: [4b, D]; chosen: int64 [B], the place of one crop of each picture among the gathered rows.
    About ln B for unrelated directions.
    """
    rows = len(q) // QUADRANTS
    mine = chosen[first_row(rows) :][:rows]
    return info_nce(gather(q.float())[mine], gather_keys(k.float())[mine], temperature)


def accuracies(logits: Tensor, location: Tensor) -> dict[str, Tensor]:
    """Percent of right locations: of all four, up or down, left or right.  logits: [N, 4]; location: int64 [N]."""
    found = logits.detach().argmax(dim=1)
    wrong = found ^ location  # bit 0 of a quadrant's number: bottom; bit 1: right
    right = {"location_accuracy": wrong == 0, "location_up_down": wrong & 1 == 0, "location_left_right": wrong & 2 == 0}
    return {name: 100 * hits.float().mean() for name, hits in right.items()}


class GLNet(Method):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"
    mixes_rows: ClassVar[bool] = True
    encoder: ViT | ResNet

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        self.options = method = recipe["method"]
        self.temperatures = method["temperature"], method["base_temperature"]
        for key, known in (("objective", OBJECTIVES), ("location", LOCATIONS)):
            if method[key] not in known:
                raise ValueError(f"method.{key} = {method[key]!r}: must be one of {', '.join(known)}")
        self.encoder = build_encoder(recipe["network"])
        if data.size % 2 or data.size < 2 * self.encoder.strides[-1]:
            raise ValueError(
                f"views of {data.size} pixels at stride {self.encoder.strides[-1]}: a montage needs an even size and a"
                " last feature map of at least 2 x 2 cells; set network.stem = 'cifar' or a smaller network.patch"
            )
        hidden, out = method["head_hidden"], method["head_dim"]
        self.projector = mlp((self.encoder.dim, hidden, out), last_norm=False)
        self.predictor = mlp((out, hidden, out), last_norm=None)
        self.locate = nn.Linear(self.encoder.dim, QUADRANTS)
        sizes = (self.encoder.dim, self.encoder.dim, method["cluster_dim"])
        clusters = method["objective"] == "clustering"
        self.cluster = mlp(sizes, norm=False, last_norm=None, bias=True) if clusters else None
        momentum = method["momentum_network"] and method["objective"] != "simsiam"
        online = nn.Sequential(self.encoder, self.projector)
        self.target = cast(nn.Sequential, momentum_copy(online)) if momentum else None
        self.augment1, self.augment2 = (
            Augment.of_recipe(method, data, view, size=data.size // 2, flip_p=method["flip_p"][view]) for view in (0, 1)
        )

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        total = len(batch.images) * world()
        shared = rng.stream("montage").shared
        dealt = deal(torch.randperm(QUADRANTS * total, generator=shared))
        mine = dealt[first_row(1)]
        drawn = {"quadrant": mine // total, "picture": mine % total}
        if self.options["objective"] == "info_nce":
            crop = torch.randint(QUADRANTS, (total,), generator=shared) * total + torch.arange(total)
            drawn["chosen"] = dealt.flatten().argsort()[crop]
        if self.options["location"] == "random":
            drawn["location"] = rng.stream("location").host.integers(QUADRANTS, QUADRANTS)
        (crops1, crops2), flipped, sent = self.sample(batch.images, rng, drawn)
        location = torch.arange(QUADRANTS, device=flipped.device).expand_as(flipped)
        if self.options["location"] == "flipped":  # left becomes right: bit 1 of the quadrant's number
            location = location ^ 2 * flipped
        location, quadrant, picture = sent.get("location", location), sent["quadrant"], sent["picture"]
        pixels1, pixels2 = (gather_keys(crops)[picture, quadrant] for crops in (crops1, crops2))
        if self.options["montage"]:
            pixels1, pixels2 = assemble(pixels1), assemble(pixels2)
        views = Views({"pixels1": pixels1, "pixels2": pixels2, "picture": picture})
        views.tensors["location"] = gather_keys(location)[picture, quadrant]
        if "chosen" in sent:
            views.tensors["chosen"] = sent["chosen"]
        yield views

    def sample(self, images: Tensor, rng: Streams, also: Draws | None = None) -> tuple[list[Tensor], Tensor, Draws]:
        """Of each view one crop of each quadrant, float32 [b, 4, 3, s, s]; whether those of view 1 were mirrored, bool
        [b, 4]; and the CPU tensors of `also` on the device."""
        places = quadrants(images.shape[2], images.shape[3], self.options["overlap"])
        parts = [images[:, :, rows, columns].contiguous() for rows, columns in places]
        augments = [self.augment1] * QUADRANTS + [self.augment2] * QUADRANTS
        streams = [rng.stream(f"view{view} quadrant{k}") for view in (1, 2) for k in range(QUADRANTS)]
        made, sent = make_views(augments, 2 * parts, streams, also)
        crops = [torch.stack([pixels for pixels, _ in of], dim=1) for of in (made[:QUADRANTS], made[QUADRANTS:])]
        return crops, torch.stack([boxes.flipped for _, boxes in made[:QUADRANTS]], dim=1), sent

    def cells(self, encoder: nn.Module, pixels: Tensor) -> Tensor:
        """One vector per crop, [4b, D], from montages or from single crops."""
        maps = encoder.feature_maps(pixels)[-1]  # type: ignore[operator]
        return cell_means(maps) if self.options["montage"] else maps.mean(dim=(2, 3))

    def loss(self, views: Views) -> dict[str, Tensor]:
        u1, u2 = (self.cells(self.encoder, views[name]) for name in ("pixels1", "pixels2"))
        z1, z2 = self.projector(u1), self.projector(u2)
        q1, q2 = self.predictor(z1), self.predictor(z2)
        k1, k2 = z1.detach(), z2.detach()
        if self.target is not None:
            encoder, projector = self.target
            with torch.no_grad():
                k1, k2 = (projector(self.cells(encoder, views[name])) for name in ("pixels1", "pixels2"))
        location = self.locate(u1).float()
        outputs = {
            "loss_location": self.options["w_loc"] * F.cross_entropy(location, views["location"]),
            "loss_1to2": self.options["w_con"] * self.between(q1, k2, views),
            "loss_2to1": self.options["w_con"] * self.between(q2, k1, views),
            **accuracies(location, views["location"]),
            "std_z": spread(z1),
            "std_features": spread(u1),
        }
        if self.cluster is not None:
            rows, picture = gather(self.cluster(u1).float()), gather_keys(views["picture"])
            outputs["loss_clustering"] = sup_con(rows, picture, *self.temperatures)
        return outputs

    def between(self, q: Tensor, k: Tensor, views: Views) -> Tensor:
        """The objective between the queries of one view and the keys of the other."""
        t, t0 = self.temperatures
        match self.options["objective"]:
            case "supcon":
                return contrast(q, k, views["picture"], t, t0)
            case "info_nce":
                return t / t0 * one_crop(q, k, views["chosen"], t)
            case "clustering":
                return moco_v3.contrast(q, k, self.options["moco_temperature"])
            case "byol":
                return (2 - 2 * cosine(q, k)).mean()
            case _:  # simsiam
                return -0.5 * cosine(q, k).mean()

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        if self.target is not None:
            momentum = cosine_momentum(self.options["momentum"], clock.progress)
            follow(self.target, nn.Sequential(self.encoder, self.projector), momentum)

    def rotatable(self, views: Views) -> list[Tensor]:
        return [views["pixels1"], views["pixels2"]] if self.options["montage"] else super().rotatable(views)
