"""Momentum (target) networks: a copy that follows the online network and never gets a gradient."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def momentum_copy(online: nn.Module) -> nn.Module:
    """A copy with the same weights whose parameters take no gradient."""
    return copy.deepcopy(online).requires_grad_(False)


def cosine_momentum(base: float, progress: float, end: float = 1.0) -> float:
    """m = end - (end - base) (1 + cos(pi progress)) / 2: `base` at progress 0, `end` at the end (MoCo-v3, BYOL: 1)."""
    return end - (end - base) * (1.0 + math.cos(math.pi * progress)) / 2.0


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- m target + (1 - m) online, for parameters alone.

    Buffers stay the target's own, as in MoCo-v3's code: BatchNorm's running statistics are those of the batches that
    the target itself has seen in training mode. (mmpretrain averages or copies them instead.)
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1.0 - momentum)
