"""LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888) in the forms that the papers' codes have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

Form = Literal["moco_v3", "solo", "openselfsup"]


class LARS(Optimizer):
    """Momentum SGD whose step on each adapted parameter w is scaled to its size. With gradient g, decay d, rate lr:

    moco_v3      s = trust |w| / |g + d w|                    b <- m b + s (g + d w)       w <- w - lr b
    solo         s = trust |w| / (|g| + d |w| + 1e-8)         as moco_v3                   (solo-learn, EffSSL)
    openselfsup  s = trust |w| / (|g| + d |w|)                b <- m b + lr s (g + d w)    w <- w - b

    moco_v3 takes s = 1 where |w| or |g + d w| is 0; solo takes plain g there, without decay; openselfsup has no guard:
    a zero weight never moves, and 0 / 0 is not a number.
    clip: s <- min(s / lr, 1) for solo alone (solo-learn's `clip_lr`), so that no step exceeds lr (g + d w).
    Which parameters are adapted says the group's "adapt": "matrices" (default: those with 2 or more dimensions), "all"
    or "none". The others get plain momentum SGD without weight decay, in all forms.
    All parameters of a group are updated by a few fused calls, without waiting for the device.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        form: Form = "moco_v3",
        clip: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": "matrices"}
        super().__init__(params, defaults)
        self._form, self._clip = form, clip

    def _scales(self, weights: list[Tensor], grads: list[Tensor], slopes: list[Tensor], group: Any) -> Tensor:
        """s of every adapted parameter, float [len(weights)]."""
        sizes = torch.stack(list(torch._foreach_norm(weights)))
        if self._form == "moco_v3":
            steep = torch.stack(list(torch._foreach_norm(slopes)))
            return torch.where((sizes > 0) & (steep > 0), group["trust"] * sizes / steep, 1.0)
        steep = torch.stack(list(torch._foreach_norm(grads)))
        steep = steep + group["weight_decay"] * sizes
        if self._form == "openselfsup":
            return group["trust"] * sizes / steep
        scale = group["trust"] * sizes / (steep + 1e-8)
        if self._clip:
            scale = (scale / group["lr"]).clamp(max=1.0)
        return scale

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params if p.grad is not None]
            which = group["adapt"]
            adapted = [i for i, p in enumerate(params) if which == "all" or (which == "matrices" and p.ndim > 1)]
            if adapted:
                weights, raw = [params[i] for i in adapted], [grads[i] for i in adapted]
                slopes = list(torch._foreach_add(raw, weights, alpha=group["weight_decay"]))
                scale = self._scales(weights, raw, slopes, group)
                if self._form == "solo":
                    norms = torch._foreach_norm(weights), torch._foreach_norm(raw)
                    plain = [(w == 0) | (g == 0) for w, g in zip(*norms, strict=True)]
                    scaled = torch._foreach_mul(slopes, list(scale.unbind()))
                    slopes = [torch.where(p, g, s) for p, g, s in zip(plain, raw, scaled, strict=True)]
                else:
                    torch._foreach_mul_(slopes, list(scale.unbind()))
                for i, slope in zip(adapted, slopes, strict=True):
                    grads[i] = slope
            inside = self._form == "openselfsup"
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads, alpha=group["lr"] if inside else 1.0)
            torch._foreach_add_(params, buffers, alpha=-1.0 if inside else -group["lr"])
