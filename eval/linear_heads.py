"""Linear classifiers of features, a grid of them trained at once.

All heads see the same pictures in the same order, so H heads of C classes are one matrix product with C * H columns,
and the gradient of the softmax loss is written down instead of traced:

    z = x W + b,    dL/dz = (softmax(z) - onehot(y)) / B,    v <- m v + (x' dL/dz + wd W),    W <- W - lr v

which is torch.optim.SGD on nn.Linear(D, C), H times, without decay of the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eval.features import to_device
from eval.protocols.linear import LinearProtocol
from eval.schedules import rates
from eval.scores import true_rank
from eval.training import Training

Feed = Callable[[npt.NDArray[np.int64], int, int], Tensor]
"""(rows, epoch, update) -> the features of these training pictures in that update, float32 [len(rows), D]."""


class Heads:
    """H linear heads of C classes on D features, one for every (learning rate, weight decay) of the grid.

    sgd: see above. lars: LARS as Fast-MoCo's and the multi-network method's code have it, applied to
    weight and bias of every head alone: with g the gradient of the loss, w <- w - lr s v, where v <- m v + g + wd w and
    s = trust |w| / (|g| + wd |w| + 1e-8), or 1 where |w| or |g| + wd |w| is 0. So a gradient of 0 leaves the scale to
    the decay. The scale is outside of the momentum, unlike in the LARS of other codes (and of mmpretrain).
    """

    def __init__(
        self, width: int, classes: int, grid: Sequence[tuple[float, float]], protocol: LinearProtocol, device: Any
    ) -> None:
        self.shape, self.protocol = (width, classes, len(grid)), protocol
        self.rate = torch.tensor([rate for rate, _ in grid], device=device).repeat(classes)
        self.rate *= protocol.batch / protocol.base_batch
        self.decay = torch.tensor([decay for _, decay in grid], device=device).repeat(classes)
        start = torch.randn(width, classes, generator=torch.Generator().manual_seed(protocol.seed)) * protocol.init_std
        self.weight = start.repeat_interleave(len(grid), dim=1).to(device)
        self.bias = torch.zeros(classes * len(grid), device=device)
        self.weight_speed, self.bias_speed = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and momentum, the tensors that are trained on."""
        return {name: value for name, value in vars(self).items() if name.endswith(("weight", "bias", "speed"))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict()`."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])

    def result(self) -> tuple[Tensor, Tensor]:
        """Weight [D, C, H] and bias [C, H], views."""
        return self.weight.view(self.shape), self.bias.view(self.shape[1:])

    def step(self, x: Tensor, y: Tensor, factor: float) -> None:
        """One update at `factor` of the rates.  x: float32 [B, D]; y: int64 [B]."""
        _, classes, count = self.shape
        # Classes in the middle: a softmax over ten numbers side by side is four times slower than over a stride.
        slope = torch.addmm(self.bias, x, self.weight).view(len(x), classes, count).softmax(1)
        slope[torch.arange(len(x), device=x.device), y] -= 1
        flat = slope.view(len(x), -1) / len(x)
        rate = self.rate * factor
        if self.protocol.optimizer == "sgd":
            self.weight_speed.mul_(self.protocol.momentum).addmm_(x.T, flat).addcmul_(self.weight, self.decay)
            self.bias_speed.mul_(self.protocol.momentum).add_(flat.sum(0))
            self.weight.addcmul_(self.weight_speed, rate, value=-1)
            self.bias.addcmul_(self.bias_speed, rate, value=-1)
            return
        sides = (
            (self.weight, x.T @ flat, self.weight_speed),
            (self.bias[None], flat.sum(0)[None], self.bias_speed[None]),
        )
        for value, gradient, speed in sides:
            size, steep = (
                v.view(-1, classes, count).square().sum((0, 1)).sqrt().repeat(classes) for v in (value, gradient)
            )
            steep = steep + self.decay * size  # before it is compared with 0, as the authors do
            scale = self.protocol.trust * size / (steep + 1e-8)
            scale = torch.where((size > 0) & (steep > 0), scale, 1.0)
            speed.mul_(self.protocol.momentum).add_(gradient).addcmul_(value, self.decay)
            value.addcmul_(speed, rate * scale, value=-1)


def train(
    x: Tensor | Feed,
    y: Tensor,
    classes: int,
    grid: Sequence[tuple[float, float]],
    protocol: LinearProtocol,
    *,
    heads: Heads | None = None,
    training: Training | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Train a head for every (learning rate, weight decay) of the grid; after each epoch weight [D, C, H], bias [C, H].

    x: float32 [N, D], or what gives a batch of it; y: int64 [N]. The tensors handed out are the ones that are trained
    on: copy what is to be kept. heads, training: go on with these heads from where that training is.
    """
    if isinstance(x, Tensor):
        table, heads = x, heads or Heads(x.shape[1], classes, grid, protocol, x.device)
        x = lambda rows, *_: table[to_device(rows, table.device)]  # noqa: E731
    assert heads is not None
    n = len(y)
    updates = updates_of(n, protocol)
    training = training or Training({"heads": heads}, protocol.epochs, updates)
    factors = rates(
        protocol.schedule,
        1.0,
        protocol.epochs,
        updates,
        warmup_epochs=protocol.warmup_epochs,
        warmup_lr=protocol.warmup_factor,
        milestones=protocol.milestones,
    )
    for epoch in training.each_epoch():
        order = np.random.default_rng([protocol.seed, epoch]).permutation(n)
        for update in training.each_update():
            rows = order[update * protocol.batch : (update + 1) * protocol.batch]
            heads.step(x(rows, epoch, update), y[to_device(rows, y.device)], factors[training.done])
        yield heads.result()


def updates_of(pictures: int, protocol: LinearProtocol) -> int:
    """Updates an epoch."""
    return -(-pictures // min(protocol.batch, pictures))


def ranks(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> npt.NDArray[np.int64]:
    """Rank of the true class for every picture and head: x [N, D], weight [D, C, H], bias [C, H] -> int64 [N, H]."""
    flat = weight.reshape(len(weight), -1)
    ranks = [
        true_rank(torch.addmm(bias.reshape(-1), xs, flat).view(len(xs), *bias.shape).transpose(1, 2), ys)
        for xs, ys in zip(x.split(2048), y.split(2048), strict=True)
    ]
    return torch.cat(ranks).cpu().numpy()
