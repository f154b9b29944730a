"""A scene grows from the back to the front: objects that come later cover those before them, up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Drawn = tuple[int, np.ndarray, Callable[[], np.ndarray]]


def stacked(
    picture: np.ndarray, draw: Callable[[], Drawn], rng: np.random.Generator, covered: float, noise: float
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """A scene uint8 [H, W, 3] and its (class, visible mask bool [H, W]) from the back to the front, 2 to 5 or fewer.

    picture: the background, float [H, W, 3] of 0 to 255.  draw: the next object: its class, its opacity float [H, W] of
    0 to 1, and what gives its colours once it has a place.  covered: largest share of an object under later ones.
    noise: standard deviation.
    """
    import numpy as np

    instances: list[tuple[int, np.ndarray]] = []
    areas: list[int] = []  # of the whole masks, before anything covered them
    wanted = int(rng.integers(2, 6))
    for _ in range(60 * wanted):
        if len(instances) == wanted:
            break
        label, cover, colours = draw()
        mask = cover > 0.5
        left = [old & ~mask for _, old in instances]
        if any(kept.sum() < (1 - covered) * area for kept, area in zip(left, areas, strict=True)):
            continue
        instances = [(behind, kept) for (behind, _), kept in zip(instances, left, strict=True)]
        instances.append((label, mask))
        areas.append(int(mask.sum()))
        picture = picture * (1 - cover[..., None]) + colours() * cover[..., None]
    noisy = picture + rng.normal(0, noise, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), instances
