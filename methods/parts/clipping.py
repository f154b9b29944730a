"""Adaptive gradient clipping: Brock, De, Smith, Simonyan, ICML 2021 (arXiv:2102.06171), equation 3."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST = 1e-3  # a row of weights of smaller norm counts as of this one, or rows of zeros would never leave zero


def _norms(x: Tensor) -> Tensor:
    """Of every row of a matrix or bank of filters, of the whole of a vector; dimensions are kept."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)) if x.ndim > 1 else None, keepdim=True)


@torch.no_grad()
def clip_adaptive(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Shorten the gradient of every row to `most` times the norm of its weights, in place, where it is longer."""
    for parameter in parameters:
        if parameter.grad is not None:
            allowed = most * _norms(parameter).clamp_(min=LEAST)
            parameter.grad.mul_((allowed / _norms(parameter.grad).clamp_(min=1e-12)).clamp_(max=1))
