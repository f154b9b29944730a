"""The pictures that a data set is composed of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIDE = 32  # pixels of a picture


@dataclass(frozen=True)
class Source:
    """A classification data set of small pictures.

    title: of the data set.
    labels: int64 [N] by split, "train" and "test", indices into `classes`.
    picture: of a split and an index the pixels, uint8 [32, 32, 3].
    """

    title: str
    classes: tuple[str, ...]
    labels: Mapping[str, np.ndarray]
    picture: Callable[[str, int], np.ndarray]
