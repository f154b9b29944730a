"""Objects cut out of small pictures by their pixels alone.

Rother et al., "GrabCut", SIGGRAPH 2004, as OpenCV has it, from two starting points: all but the border may be object,
or the middle is and what is round it may be. A cut counts where both come to nearly the same, which few wrong ones do;
a picture whose cut does not count is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repro.data.composed.source import Source
from slurm.machine import cores_here

if TYPE_CHECKING:
    import numpy as np

SIDE = 48  # pixels to which a picture is enlarged first: in 32 the cuts shrink to nothing
ROUNDS = 2  # of GrabCut
AGREE = 0.8  # least intersection over union of the two cuts
AREA = (0.1, 0.7)  # least and largest share of the picture
_BLOCK = 16  # pictures that are tried at once


def library() -> str:
    """`OpenCV 4.11`, whose GrabCut another release may change."""
    import cv2

    return "OpenCV " + ".".join(cv2.__version__.split(".")[:2])


@dataclass(frozen=True)
class Cutout:
    """An object in its tight box.

    which: index of the picture in its split; label: its class.
    colours: uint8 [h, w, 3]; mask: bool [h, w]; both of a picture enlarged to SIDE.
    """

    which: int
    label: int
    colours: np.ndarray
    mask: np.ndarray


def cutouts(source: Source, split: str, label: int, wanted: int) -> list[Cutout]:
    """The first `wanted` objects of a class that can be cut out, of the split's pictures in a fixed mixed order.

    Fewer where there are no more.
    """
    import numpy as np

    members = np.flatnonzero(source.labels[split] == label)
    order = np.random.default_rng([11, split == "train", label]).permutation(members).tolist()
    found: list[Cutout] = []
    with ThreadPoolExecutor(cores_here()) as pool:  # OpenCV lets go of the interpreter lock
        for start in range(0, len(order), _BLOCK):
            if len(found) >= wanted:
                break
            block = order[start : start + _BLOCK]
            cuts = pool.map(cut_out, (source.picture(split, which) for which in block))
            found += [Cutout(which, label, *cut) for which, cut in zip(block, cuts, strict=True) if cut]
    return found[:wanted]


def cut_out(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Colours uint8 [h, w, 3] and mask bool [h, w] of the object of a picture uint8 [32, 32, 3], in its tight box.

    None where the cuts do not agree, or are too small or too large.
    """
    import numpy as np
    from PIL import Image

    large = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    mask = np.ones((SIDE, SIDE), bool)
    either = np.zeros((SIDE, SIDE), bool)
    for start in _starts():
        cut = _grab(large, start)
        mask, either = mask & cut, either | cut
        if not AREA[0] <= mask.mean() <= AREA[1]:
            return None
    mask = _main_part(mask)
    if mask.sum() < AGREE * either.sum():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    tight = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return large[tight], mask[tight]


def _starts() -> Iterator[np.ndarray]:
    """What GrabCut begins with, uint8 [SIDE, SIDE] of its four constants."""
    import cv2
    import numpy as np

    frame = np.full((SIDE, SIDE), cv2.GC_BGD, np.uint8)
    frame[3:-3, 3:-3] = cv2.GC_PR_FGD
    yield frame
    across = (np.arange(SIDE) - (SIDE - 1) / 2) / SIDE
    distance = np.hypot(across[:, None], across[None, :])  # from the middle, in sides
    disc = np.full((SIDE, SIDE), cv2.GC_PR_BGD, np.uint8)
    disc[[0, -1]] = disc[:, [0, -1]] = cv2.GC_BGD
    disc[distance < 0.42] = cv2.GC_PR_FGD
    disc[distance < 0.085] = cv2.GC_FGD
    yield disc


def _grab(picture: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The main part of the foreground, bool [SIDE, SIDE]."""
    import cv2
    import numpy as np

    cv2.setRNGSeed(0)  # of this thread
    labels = start.copy()
    nowhere = (0, 0, 0, 0)  # no rectangle: the labels say it all
    cv2.grabCut(picture, labels, nowhere, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _main_part((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _main_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part, with its holes filled."""
    import numpy as np
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if count > 1:
        mask = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return np.asarray(ndimage.binary_fill_holes(mask))
