"""What the evaluations are given: pictures or features with their labels, and the colour statistics to normalise by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from eval.scores import check_labelled

Pixels = npt.NDArray[np.uint8]
"""[N, 3, H, W], memory maps too."""
Features = npt.NDArray[np.float32]
"""[N, D], memory maps too."""
Labels = npt.NDArray[np.int64]
"""[N]"""
Ids = npt.NDArray[np.int64]
"""[N]: identities, cameras, or indices."""

X_co = TypeVar("X_co", bound=npt.NDArray[Any] | Tensor, covariant=True)


@dataclass(frozen=True)
class Labelled(Generic[X_co]):
    """x: pictures (`Pixels`, or a tensor of them) or `Features`; y: their classes, from 0."""

    x: X_co
    y: Labels


@dataclass(frozen=True)
class Classification(Generic[X_co]):
    """What a classifier is trained on and tested on, and how many classes there are."""

    train: Labelled[X_co]
    test: Labelled[X_co]
    classes: int

    def check(self, what: str) -> None:
        """ValueError of one line for no rows, as many labels as there are no rows, or labels outside the classes.

        what: "pictures" or "features".
        """
        check_labelled(self.train.x, self.train.y, self.classes, f"training {what}")
        check_labelled(self.test.x, self.test.y, self.classes, f"test {what}")


@dataclass(frozen=True)
class Identified(Generic[X_co]):
    """x: `Pixels` or `Features`; pid: whom each shows (-1: junk, 0: a distractor); cam: by which camera."""

    x: X_co
    pid: Ids
    cam: Ids


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of the three channels of pictures in [0, 1]."""

    mean: Sequence[float]
    std: Sequence[float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
