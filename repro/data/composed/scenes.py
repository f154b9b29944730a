"""Scenes: objects cut out of small pictures, on a background made of other pictures, with exact boxes and masks.

Training scenes use training pictures only, the others test pictures only. Everything follows from fixed seeds and the
pictures: raise `VERSION` whenever a pixel changes (a test holds the pixels of each version).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repro.data.composed.cutouts import SIDE as ENLARGED
from repro.data.composed.cutouts import Cutout, cutouts
from repro.data.composed.files import enlarge, write_coco
from repro.data.composed.source import SIDE as SMALL
from repro.data.composed.source import Source
from repro.data.composed.stacking import stacked
from repro.data.manifest import Tree, write_sums
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np

VERSION = "1"

SIDE = 96  # pixels of a scene
SCENES = {"train": 400, "val": 500}
PICTURES = {"train": "train", "val": "test"}  # of which split of the pictures a split of scenes is made
CUTOUTS = {"train": 70, "test": 40}  # objects of each class, each in several scenes
PICTURE = (40, 76)  # pixels of the side to which the picture of an object is resized
COVERED = 0.25  # at most this share of an object may lie under later ones
CONTRAST = 0.35  # of the background: what is an object is easy to tell, what it is of is not
PATCH = 14  # side of the corner of a picture that is taken for background


@dataclass(frozen=True)
class Parts:
    """What the scenes of a split are made of."""

    source: Source
    split: str
    objects: dict[int, list[Cutout]]  # by class


def parts(source: Source, split: str) -> Parts:
    """Cut the objects out. Raises UserError where a class has none. split: of the pictures."""
    objects = {label: cutouts(source, split, label, CUTOUTS[split]) for label in range(len(source.classes))}
    for label, found in objects.items():
        if not found:
            which = f"{split} images '{source.classes[label]}'"
            raise UserError(f"no object can be cut out of the {which} of {source.title}", "use other images")
    return Parts(source, split, objects)


def write_scenes(folder: Path, source: Source) -> None:
    """Fill a folder: images/{train,val}/*.png, annotations/instances_{train,val}.json, SHA256SUMS."""
    info = {
        "description": f"scenes composed of the images of {source.title}, version {VERSION}; every object is cut out"
        " of its image by GrabCut (images of which none could be cut out are left out), no square is pasted",
        "version": VERSION,
    }

    def scenes(split: str) -> Iterator[tuple[np.ndarray, list[tuple[int, np.ndarray]]]]:
        made_of = parts(source, PICTURES[split])
        return (scene(made_of, i) for i in range(SCENES[split]))

    write_coco(folder, [(s, scenes(s)) for s in SCENES], info, [(name, "object") for name in source.classes])
    write_sums(Tree(folder, ("annotations", "images")), folder / "SHA256SUMS")


def scene(made_of: Parts, index: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One picture uint8 [96, 96, 3] and its (class, visible mask bool [96, 96]) from the back to the front."""
    import numpy as np

    rng = np.random.default_rng([12, made_of.split == "train", index])

    def draw() -> tuple[int, np.ndarray, Callable[[], np.ndarray]]:
        label = int(rng.integers(len(made_of.objects)))
        shown, cover = _placed(*_drawn(made_of.objects[label], rng), rng)
        return label, cover, lambda: shown

    return stacked(_background(made_of, rng), draw, rng, COVERED, noise=3)


def _drawn(objects: list[Cutout], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One of the objects at a size of chance, mirrored or not, lighter or darker.

    Returns colours float [h, w, 3] of 0 to 255 and opacity float [h, w] of 0 to 1.
    """
    import numpy as np
    from PIL import Image

    chosen = objects[int(rng.integers(len(objects)))]
    height, width = chosen.mask.shape
    scale = int(rng.integers(PICTURE[0], PICTURE[1] + 1)) / ENLARGED
    height, width = max(8, round(height * scale)), max(8, round(width * scale))
    seen = np.asarray(Image.fromarray(chosen.colours).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    alpha = enlarge(chosen.mask.astype(np.float64), height, width)
    if rng.random() < 0.5:
        seen, alpha = seen[:, ::-1], alpha[:, ::-1]
    return seen * rng.uniform(0.8, 1.2), alpha


def _placed(colours: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours [h, w, 3] and opacity [h, w] somewhere in a scene: float [96, 96, 3] and [96, 96]."""
    import numpy as np

    height, width = alpha.shape
    y, x = int(rng.integers(SIDE - height + 1)), int(rng.integers(SIDE - width + 1))
    shown, cover = np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE))
    shown[y : y + height, x : x + width] = colours
    cover[y : y + height, x : x + width] = alpha
    return shown, cover


def _background(made_of: Parts, rng: np.random.Generator) -> np.ndarray:
    """Two textures that go over into each other, of low contrast, float [96, 96, 3]."""
    import numpy as np

    first, second = _texture(made_of, rng), _texture(made_of, rng)
    blend = np.clip(2.5 * (enlarge(rng.random((4, 4)), SIDE, SIDE) - 0.5) + 0.5, 0, 1)[..., None]
    both = first * blend + second * (1 - blend)
    middle = both.mean((0, 1))
    return middle + CONTRAST * (both - middle)


def _texture(made_of: Parts, rng: np.random.Generator) -> np.ndarray:
    """A corner of a picture, enlarged and continued by its mirror images, float [96, 96, 3]."""
    import numpy as np
    from PIL import Image

    picture = made_of.source.picture(made_of.split, int(rng.integers(len(made_of.source.labels[made_of.split]))))
    y, x = (int(v) for v in rng.integers(0, 2, 2) * (SMALL - PATCH))
    side = int(rng.integers(24, 49))
    patch = Image.fromarray(picture[y : y + PATCH, x : x + PATCH]).resize((side, side), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(patch, np.float64), ((0, SIDE - side), (0, SIDE - side), (0, 0)), "symmetric")
