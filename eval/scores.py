"""What the evaluations count with: ranks of the true class, packed per-picture correctness, sampling errors."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


def true_rank(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the true one; among equal scores the lower class comes first.

    scores: float [N, ..., C]; labels: int64 [N]; returns int64 [N, ...]. Right = 0, within the first five = below 5.
    A score that is not a number loses to every other, so a diverged classifier is never right.
    """
    import torch

    index = labels.view(-1, *[1] * (scores.ndim - 1)).expand(*scores.shape[:-1], 1)
    true = scores.gather(-1, index)
    classes = torch.arange(scores.shape[-1], device=scores.device)
    behind = (scores < true) | ((scores == true) & (classes >= index))
    return (~behind).sum(-1)


def percent(correct: npt.NDArray[Any]) -> float:
    """The share of True, in percent."""
    return 100 * float(np.mean(correct))


def standard_error(rate: float, n: int) -> float:
    """Binomial standard error of a rate in percent over n independent cases, in percentage points."""
    return float((rate * (100 - rate) / n) ** 0.5)


def pack(correct: npt.NDArray[np.bool_]) -> str:
    """One bit a picture (numpy.packbits, big-endian, last byte padded with 0) in base64, for paired tests later."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack(bits: str, n: int) -> npt.NDArray[np.bool_]:
    """The n flags that `pack` packed."""
    return np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=n).astype(bool)


def check_labelled(x: npt.NDArray[Any] | Tensor, y: npt.NDArray[np.int64], classes: int, what: str) -> None:
    """ValueError of one line unless there is one row a label, at least one, and no label is outside [0, classes)."""
    if len(x) != len(y) or not len(y):
        raise ValueError(
            f"{what}: {len(x)} rows and {len(y)} labels; there must be one label per row and at least one row"
        )
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise ValueError(f"{what}: labels run from {y.min()} to {y.max()}, outside the {classes} classes")
