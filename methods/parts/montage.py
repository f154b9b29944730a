"""Location crops and montages: overlapping quadrants of pictures, and crops of unrelated pictures in a 2 x 2 grid.

    4B crops, crop k of picture i has number k B + i     k = 0 top left, 1 bottom left, 2 top right, 3 bottom right
    pi: a permutation of the 4B numbers
    montage m shows crop pi(c B + m) in cell c           c = 0 top left, 1 top right, 2 bottom left, 3 bottom right

Quadrants count down the columns, cells along the rows, as in JigClu's and W2SSL's code. B is the global batch: the
crops of all processes are mixed, and every process gets B / processes montages.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from methods.parts.losses import world

QUADRANTS = 4


def quadrants(rows: int, columns: int, overlap: float) -> list[tuple[slice, slice]]:
    """(rows, columns) of the pixels of each quadrant of a picture, each 0.5 + overlap of either side.

    The code's pixel rule for a side s: the upper part ends at s // 2 + overlap s, the lower one begins at
    s // 2 - overlap s, both rounded, halves to even (PIL's `crop`).
    """

    def parts(side: int) -> tuple[slice, slice]:
        reach = overlap * side
        return slice(0, round(side // 2 + reach)), slice(round(side // 2 - reach), side)

    return [(vertical, horizontal) for horizontal in parts(columns) for vertical in parts(rows)]


def deal(permutation: Tensor) -> Tensor:
    """Which crops each process gets, int64 [processes, 4b]: for its b montages all cells 0, then all cells 1, 2, 3.

    permutation: int64 [4B] of the crops' numbers, the same on every process. For one process this is pi itself; rows of
    processes, gathered in rank order, are in the order of the flattened answer.
    """
    return permutation.view(QUADRANTS, world(), -1).transpose(0, 1).flatten(1)


def assemble(crops: Tensor) -> Tensor:
    """Crops [4b, C, s, s], cell by cell -> montages [b, C, 2s, 2s]."""
    c, s = crops.shape[1], crops.shape[2]
    return crops.view(2, 2, -1, c, s, s).permute(2, 3, 0, 4, 1, 5).reshape(-1, c, 2 * s, 2 * s)


def cell_means(maps: Tensor) -> Tensor:
    """Mean of each quarter of the feature maps [b, D, h, w] of montages, cell by cell as `deal` does: [4b, D].

    An odd side is first resized to the next even one, bilinearly (7 -> 8, the code's), so that no cell sees a column
    of another's.
    """
    h, w = maps.shape[2:]
    if h % 2 or w % 2:
        maps = F.interpolate(maps, (h + h % 2, w + w % 2), mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(maps, 2).permute(2, 3, 0, 1).reshape(-1, maps.shape[1])
