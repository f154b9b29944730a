"""Memory of past embeddings, first in, first out: MoCo's queue of negatives, NNCLR's bank of neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bank(nn.Module):
    """`size` rows of width `dim`, random unit vectors at first.

    rows: float32 [size, dim], kept as they were given.  pointer: where the next row goes, int64 [1].
    drops: rows that pass the end are dropped and the next one goes to the start (released MNCL); else round the end.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int, *, drops: bool = False) -> None:
        super().__init__()
        self.drops = drops
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.int64))

    def nearest(self, z: Tensor) -> Tensor:
        """The row of largest cosine similarity to each row of z [B, dim], without gradient: [B, dim]."""
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            return self.rows[(F.normalize(z.float(), dim=1) @ F.normalize(self.rows, dim=1).T).argmax(dim=1)]

    @torch.no_grad()
    def enqueue(self, z: Tensor) -> None:
        """Put the rows of z [B, dim] in place of the oldest; of more than `size` rows the last stay."""
        size, z = len(self.rows), z.detach().float()[-len(self.rows) :]
        place, end = self.pointer + torch.arange(len(z), device=z.device), self.pointer + len(z)
        if self.drops:
            z = torch.where((place < size)[:, None], z, self.rows[place % size])
            end = torch.where(end < size, end, 0)
        self.rows.index_copy_(0, place % size, z)
        self.pointer.copy_(end % size)


def bank_of_recipe(recipe: Mapping[str, Mapping[str, Any]], dim: int) -> Bank:
    """A bank of method.bank_size rows.  ValueError for one that a batch would overrun."""
    size, batch = recipe["method"]["bank_size"], recipe["pretrain"]["batch"]
    if size < batch:
        raise ValueError(
            f"method.bank_size = {size} holds less than one batch (pretrain.batch = {batch}):"
            f" use --set method.bank_size={batch} or more, or a smaller batch"
        )
    return Bank(size, dim, drops=recipe["method"].get("bank_drops", False))
