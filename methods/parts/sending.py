"""Small tensors of the host on their way to the device: many of them travel as one, and nothing waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

_ALIGNED = 16  # bytes at whose multiples each of them begins


def send(parts: Sequence[Mapping[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """The tensors of all parts on that device, in one copy from pinned memory; on the CPU they are what they were.

    Any shapes and types, all on the CPU. On a device they share one storage.
    """
    if device.type == "cpu":
        return [dict(part) for part in parts]
    tensors = [tensor for part in parts for tensor in part.values()]
    arrived = iter(unpacked(packed(tensors, pinned=True).to(device, non_blocking=True), tensors))
    return [{name: next(arrived) for name in part} for part in parts]


def packed(tensors: Sequence[Tensor], *, pinned: bool) -> Tensor:
    """All of them one after another as bytes, uint8 [N], if `pinned` in memory that a GPU reads by itself."""
    space = torch.empty(_starts(tensors)[-1], dtype=torch.uint8, pin_memory=pinned)
    for place, tensor in zip(unpacked(space, tensors), tensors, strict=True):
        place.copy_(tensor)
    return space


def unpacked(space: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of uint8 [N], of the shapes and types of the tensors for which it was `packed`."""
    starts = _starts(like)[:-1]
    return [
        space[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for start, tensor in zip(starts, like, strict=True)
    ]


def _starts(tensors: Sequence[Tensor]) -> list[int]:
    """Where each of them begins, in bytes, and where the last ends."""
    return list(accumulate((-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors), initial=0))
