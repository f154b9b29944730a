"""The multi-layer perceptrons on top of an encoder, and the measure of their collapse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


def mlp(
    sizes: Sequence[int],
    *,
    norm: bool = True,
    last_norm: bool | None,
    bias: bool = False,
    last_bias: bool | None = None,
) -> nn.Sequential:
    """Linear layers with ReLU between them, as many as `sizes` has gaps, in PyTorch's initialisation.

    sizes: widths from the input to the output, e.g. (192, 512, 512, 128).
    norm: BatchNorm before each ReLU.
    last_norm: BatchNorm at the end: None no, False without affine parameters, True with them.
    bias: of the linear layers (without effect before a BatchNorm); last_bias: of the last one, None as the others.
    """
    layers: list[nn.Module] = []
    for i, (width_in, width_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        layers.append(nn.Linear(width_in, width_out, bias=last_bias if last and last_bias is not None else bias))
        if not last:
            layers += [nn.BatchNorm1d(width_out)] * norm + [nn.ReLU(inplace=True)]
    if last_norm is not None:
        layers.append(nn.BatchNorm1d(sizes[-1], affine=last_norm))
    return nn.Sequential(*layers)


def spread(z: Tensor) -> Tensor:
    """Mean standard deviation over the batch of the coordinates of z / |z|, times sqrt(D): a detached scalar.

    z: [B, D].  About 1 when directions are spread evenly, 0 when all rows point the same way (collapse).
    """
    z = F.normalize(z.detach().float(), dim=1)
    return z.std(dim=0).mean() * z.shape[1] ** 0.5
