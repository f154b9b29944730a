"""The multi-layer perceptrons on top of an encoder, and the measure of their collapse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


def mlp(sizes: Sequence[int], *, last_norm: bool) -> nn.Sequential:
    """Linear layers without bias; BatchNorm and ReLU between them; BatchNorm without affine at the end if `last_norm`.

    This is MoCo-v3's `_build_mlp`, and APS's projector and predictor (APS sheet, section 4).
    sizes: widths from the input to the output, e.g. (192, 512, 512, 128).
    """
    layers: list[nn.Module] = []
    for i, (width_in, width_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(width_in, width_out, bias=False))
        if i < len(sizes) - 2:
            layers += [nn.BatchNorm1d(width_out), nn.ReLU(inplace=True)]
    if last_norm:
        layers.append(nn.BatchNorm1d(sizes[-1], affine=False))
    return nn.Sequential(*layers)


def spread(z: Tensor) -> Tensor:
    """Mean standard deviation over the batch of the coordinates of z / |z|, times sqrt(D): a detached scalar.

    z: [B, D].  About 1 when directions are spread evenly, 0 when all rows point the same way (collapse).
    """
    z = F.normalize(z.detach().float(), dim=1)
    return z.std(dim=0).mean() * z.shape[1] ** 0.5
