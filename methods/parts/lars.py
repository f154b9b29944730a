"""LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888) as MoCo-v3's code has it (moco/optimizer.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """Momentum SGD whose step on each matrix w is scaled to the size of w:

        g <- g + weight_decay w;   g <- trust |w| / |g| g;   b <- momentum b + g;   w <- w - lr b

    Vectors (biases, norms) get neither weight decay nor scaling. The factor is 1 where |w| or |g| is 0.
    All parameters of a group are updated by a few fused calls, without waiting for the device.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 1e-3
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params if p.grad is not None]
            matrices = [i for i, p in enumerate(params) if p.ndim > 1]
            if matrices:
                weights = [params[i] for i in matrices]
                slopes = list(torch._foreach_add([grads[i] for i in matrices], weights, alpha=group["weight_decay"]))
                sizes = torch.stack(list(torch._foreach_norm(weights)))
                steep = torch.stack(list(torch._foreach_norm(slopes)))
                scale = torch.where((sizes > 0) & (steep > 0), group["trust"] * sizes / steep, 1.0)
                torch._foreach_mul_(slopes, list(scale.unbind()))
                for i, slope in zip(matrices, slopes, strict=True):
                    grads[i] = slope
            buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            torch._foreach_add_(params, buffers, alpha=-group["lr"])
