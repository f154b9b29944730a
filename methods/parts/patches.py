"""Divide, encode, combine: views cut into patches that are encoded alone, and their features averaged in groups.

From Fast-MoCo (Ci et al., ECCV 2022, arXiv:2207.08220); the local branch of multi_network is the same.
"""

from __future__ import annotations

from itertools import combinations, product

import torch
from torch import Tensor

from methods.parts.losses import info_nce


def require_whole_patches(side: int, grid: int) -> None:
    """ValueError for views of `side` pixels that cannot be cut in grid x grid."""
    if grid < 1 or side % grid:
        raise ValueError(f"method.split = {grid} does not divide views of {side} x {side} pixels: choose a divisor")


def split_patches(x: Tensor, grid: int) -> Tensor:
    """Cut x [B, C, H, W] into grid x grid patches as they are, not enlarged: [grid^2 B, C, H / grid, W / grid].

    Patch by patch, each with all rows of the batch; patches go down the first column, then the next.
    """
    rows, columns = x.shape[-2:]
    cells = x.unflatten(3, (grid, columns // grid)).unflatten(2, (grid, rows // grid))
    return cells.permute(4, 2, 0, 1, 3, 5).flatten(0, 2)


def average_groups(v: Tensor, patches: int, members: int) -> Tensor:
    """Means over every group of `members` of the patches: [patches B, D] -> [C(patches, members) B, D].

    Group by group in lexicographic order, each with all rows of the batch.
    """
    groups = combinations(v.chunk(patches), members)
    return torch.cat([torch.stack(group).mean(dim=0) for group in groups])


def grouped_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Mean of InfoNCE(q_c, k_d) over the groups of queries and of keys, one of which is usually a single group.

    queries: [G B, D], keys: [H B, D] of the same B local rows; G or H is 1. Keys are stopped. The negatives of a row
    are the keys of the other rows in the same group.  About ln(B_all) for unrelated directions.
    """
    rows = min(len(queries), len(keys))
    pairs = product(queries.split(rows), keys.split(rows))
    return torch.stack([info_nce(q, k, temperature) for q, k in pairs]).mean()
