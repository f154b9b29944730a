"""SwAV: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020
(arXiv:2006.09882).

    z = g(f(x)) / |g(f(x))|,   s = <z, c_k>                          prototypes c_k: unit vectors, k = 1 .. K
    Q ∝ diag(u) exp(s / eps) diag(v)                                 Sinkhorn-Knopp, 3 rounds: every prototype gets the
                                                                     same share of the batch, every row sums to 1
    L = 1/2 sum_{i in {1, 2}} 1/(V - 1) sum_{v != i} -(1/B) sum_b <q_i,b , log softmax(s_v,b / T)>            eq. 2, 6

V crops a picture: 2 global ones, whose codes Q are the targets, and `local_crops` small ones, which only predict.
Crops of one size pass the encoder as one batch, all features together the projector, as in the authors' code. The
prototypes get no gradient in the first `freeze_prototypes` updates. With small batches, the last `queue_bank_size`
projections of each global crop help to balance the codes from update `queue_start` on.

Sources: facebookresearch/swav, and its fork val-iisc/EffSSL, whose 50 epochs at batch 1024 are the ImageNet recipe here
(the control of rotation_aux). They differ in the optimiser: LARS leaves biases and norms alone in the fork; the
original (variant `original`) adapts and decays all parameters (`lars_adapt`). Differs from both:

* Prototypes are normalised at the start and after every update, theirs before every forward pass: the same sequence.
* Sinkhorn's constant factors 1/K and 1/B are left out: they cancel. The arithmetic is float32, theirs partly float16.
* The queue starts as random vectors and is filled from the first update on, theirs from `queue_start` on (and used
  when full). Over several processes each weighs in its own share of one queue.
* CIFAR and ImageNet-100 follow solo-learn's recipes, but not its weight-normalised prototypes, whose length is learnt,
  nor its separate passes of the two views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Batch, Clock, DataInfo, Method, Recipe, Streams, Views
from methods.parts.bank import Bank
from methods.parts.encoders import ResNet, ViT, build_encoder
from methods.parts.heads import mlp, spread
from methods.parts.losses import first_row, gather_keys, world
from methods.parts.views import Augment, make_views


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, rounds: int) -> Tensor:
    """Codes Q [B, K]: exp(scores / epsilon), columns and then rows scaled to equal sums, `rounds` times.

    scores: [B, K] in [-1, 1]; columns are summed over the rows of all processes. Rows of Q sum to 1, its columns to
    about B_all / K.
    """
    q = torch.exp(scores.float() / epsilon)
    for _ in range(rounds):
        columns = q.sum(dim=0)
        if world() > 1:
            dist.all_reduce(columns)
        q = q / columns
        q = q / q.sum(dim=1, keepdim=True)
    return q


def swapped_prediction(scores: Tensor, codes: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean over the codes i and the crops v != i of the cross-entropy -(1/B) sum_b <q_i,b , log softmax(s_v,b / T)>.

    scores: [V, B, K]; codes: [B, K] of the first crops, without gradient.  About ln K for unrelated directions.
    """
    log_p = F.log_softmax(scores.float() / temperature, dim=2)
    everywhere = log_p.sum(dim=0)
    terms = [-(q * (everywhere - log_p[i])).sum(dim=1).mean() for i, q in enumerate(codes)]
    return torch.stack(terms).sum() / (len(codes) * (len(scores) - 1))


class SwAV(Method):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "global"  # the codes of a batch depend on all of it
    encoder: ViT | ResNet

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        self.temperature, self.epsilon = method["temperature"], method["epsilon"]
        self.rounds, self.freeze = method["sinkhorn_rounds"], method["freeze_prototypes"]
        self.adapt = method["lars_adapt"]
        self.encoder = build_encoder(recipe["network"])
        out = method["head_dim"]
        self.projector = mlp((self.encoder.dim, method["head_hidden"], out), last_norm=None, bias=True)
        self.prototypes = nn.Linear(out, method["prototypes"], bias=False)
        self._normalise()
        queue, self.queue_start = method["queue_bank_size"], method["queue_start"]
        self.queue = Bank(queue, 2 * out) if queue else None  # rows: the projections of both global crops side by side
        self.updates = 0  # on the host, so that asking for it waits for nothing
        self.augments = [Augment.of_recipe(method, data, view) for view in (0, 1)]
        small: dict[str, Any] = {"size": method["local_size"], "scale": tuple(method["local_scale"])}
        self.augments += [Augment.of_recipe(method, data, **small)] * method["local_crops"]

    @torch.no_grad()
    def _normalise(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return [group | {"adapt": self.adapt} for group in super().param_groups(weight_decay)]

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        numbers = range(1, len(self.augments) + 1)
        made, _ = make_views(self.augments, batch.images, [rng.stream(f"crop{n}") for n in numbers])
        yield Views({f"pixels{n}": pixels for n, (pixels, _) in zip(numbers, made, strict=True)})

    def loss(self, views: Views) -> dict[str, Tensor]:
        crops = [views[f"pixels{n}"] for n in range(1, len(self.augments) + 1)]
        features = [self.encoder.features(torch.cat(same)) for same in (crops[:2], crops[2:]) if same]
        z = F.normalize(self.projector(torch.cat(features)).float(), dim=1).unflatten(0, (len(crops), -1))
        frozen = self.updates < self.freeze
        prototypes = self.prototypes.weight.detach() if frozen else self.prototypes.weight
        with torch.autocast(z.device.type, enabled=False):
            scores = z @ prototypes.T
            codes = [self._codes(scores[i].detach(), i) for i in (0, 1)]
        outputs = {
            "loss_swapped": swapped_prediction(scores, codes, self.temperature),
            "std_z": spread(z[0]),
            "std_features": spread(features[0]),
        }
        return outputs | ({} if self.queue is None else {"pending_z": torch.cat([z[0], z[1]], dim=1).detach()})

    def _codes(self, scores: Tensor, crop: int) -> Tensor:
        """Targets [B, K] from the scores of one global crop, balanced together with its queue once that is in use."""
        past = scores[:0]
        if self.queue is not None and self.updates >= self.queue_start:
            share = self.queue.rows[first_row(1) :: world()].chunk(2, dim=1)[crop]
            past = share @ self.prototypes.weight.detach().T
        return sinkhorn(torch.cat([past, scores]), self.epsilon, self.rounds)[len(past) :]

    def after_update(self, clock: Clock, pending: Sequence[Mapping[str, Tensor]]) -> None:
        self._normalise()
        self.updates = clock.update
        if self.queue is not None:
            self.queue.enqueue(gather_keys(pending[0]["pending_z"]))

    def rotatable(self, views: Views) -> list[Tensor]:
        return [views["pixels1"], views["pixels2"]]
