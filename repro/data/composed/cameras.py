"""Cameras: small pictures seen by simulated cameras, to be recognised again. An identity is one picture.

Training identities are training pictures, the others test pictures. Everything follows from fixed seeds and the
pictures: raise `VERSION` whenever a pixel changes (a test holds the pixels of each version).
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.data.composed.files import REID_PARTS, save_shot
from repro.data.composed.source import SIDE, Source
from repro.data.manifest import Tree, write_sums

if TYPE_CHECKING:
    import numpy as np

VERSION = "1"

CAMERAS = 3
SHOTS = 2  # of each identity by each camera
IDENTITIES = {"train": 300, "test": 400}
DISTRACTORS = 200  # pictures in the gallery that nobody asks for, seen once by each camera
COUNTS = {
    "train": IDENTITIES["train"] * CAMERAS * SHOTS,
    "query": IDENTITIES["test"] * CAMERAS,
    "gallery": CAMERAS * (IDENTITIES["test"] + DISTRACTORS),
}


def write_cameras(folder: Path, source: Source) -> None:
    """Fill a folder in Market-1501's layout (bounding_box_train, query, bounding_box_test) plus SHA256SUMS.

    Of a test identity's two shots by a camera the first is a query, the second in the gallery, which also holds
    distractors (identity 0).
    """
    for part in REID_PARTS:
        (folder / part).mkdir()
    first = 1
    for split, count in IDENTITIES.items():
        chosen = _mixed(source, split, count + (DISTRACTORS if split == "test" else 0))
        shots = [
            (place, camera, number)
            for place in range(len(chosen))
            for camera in range(CAMERAS)
            for number in range(SHOTS if place < count else 1)
        ]
        for frame, (place, camera, number) in enumerate(shots, 1):
            picture = source.picture(split, chosen[place])
            before = source.picture(split, chosen[place - 1])
            seen = shot(picture, before, camera, [split == "train", frame])
            part = "query" if place < count and not number else "bounding_box_test"
            identity = first + place if place < count else 0
            save_shot(folder, "bounding_box_train" if split == "train" else part, identity, camera, frame, seen)
        first += count
    write_sums(Tree(folder, REID_PARTS), folder / "SHA256SUMS")


def _mixed(source: Source, split: str, count: int) -> list[int]:
    """`count` pictures, as many of each class as of any other: to tell a cat from a dog must not be enough."""
    import numpy as np

    labels = source.labels[split]
    rng = np.random.default_rng([21, split == "train"])
    order = [rng.permutation(np.flatnonzero(labels == label)).tolist() for label in range(len(source.classes))]
    return [members[rank] for rank in range(max(map(len, order))) for members in order if rank < len(members)][:count]


@functools.cache
def _camera(number: int) -> dict[str, Any]:
    """What is fixed about a camera: its colours, its contrast, how it stands, how sharp it is, its light."""
    import numpy as np

    rng = np.random.default_rng([22, number])
    return {
        "colours": np.eye(3) * rng.uniform(0.9, 1.1, (3, 1)) + rng.uniform(-0.03, 0.03, (3, 3)),
        "offset": rng.uniform(-8, 8, 3),
        "contrast": (0.85, 1.0, 1.1)[number],
        "angle": (-3.0, 0.0, 3.0)[number],  # degrees
        "shear": (0.03, -0.03, 0.0)[number],
        "blur": (0.5, 0.2, 0.35)[number],  # radius, pixels
        "light": rng.uniform(-10, 10, 2),  # how brightness changes across and down the picture
    }


def shot(picture: np.ndarray, before: np.ndarray, camera: int, seed: list[int]) -> np.ndarray:
    """A picture uint8 [32, 32, 3] as one of the cameras sees it, of that shape.

    The camera's colours, geometry, blur and light; of this shot alone a turn, shift, zoom and mirroring, a part that
    is hidden behind a piece of the picture `before`, exposure and noise.
    """
    import numpy as np
    from PIL import Image, ImageFilter

    view = _camera(camera)
    rng = np.random.default_rng([23, camera, *seed])
    angle = math.radians(view["angle"] + rng.normal(0, 3))
    shear = view["shear"] + rng.normal(0, 0.03)
    zoom = rng.uniform(0.8, 2.4)
    dx, dy = rng.uniform(-7, 7, 2)
    mirrored = -1 if rng.random() < 0.5 else 1
    # shot -> picture, about the middles; the picture goes on as its mirror images, so that no black corner shows
    middle, edge = SIDE / 2, SIDE // 2
    a, b = mirrored * math.cos(angle) / zoom, mirrored * (math.sin(angle) + shear) / zoom
    d, e = -math.sin(angle) / zoom, math.cos(angle) / zoom
    x, y = middle + dx, middle + dy
    coefficients = (a, b, middle + edge - a * x - b * y, d, e, middle + edge - d * x - e * y)
    wide = Image.fromarray(np.pad(picture, ((edge, edge), (edge, edge), (0, 0)), "symmetric"))
    seen = wide.transform((SIDE, SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    pixels = np.array(seen, np.uint8)
    if rng.random() < 0.2:
        height, width = (int(v) for v in rng.integers(6, 13, 2))
        top, left = int(rng.integers(SIDE - height + 1)), int(rng.integers(SIDE - width + 1))
        pixels[top : top + height, left : left + width] = before[:height, :width]
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(view["blur"]))
    coloured = (np.asarray(blurred, np.float64) - 128) * view["contrast"] @ view["colours"].T + 128 + view["offset"]
    across = np.linspace(-1, 1, SIDE)
    light = (view["light"][0] * across[None, :] + view["light"][1] * across[:, None])[..., None]
    exposed = (coloured + light) * rng.uniform(0.8, 1.2) + rng.normal(0, 3, pixels.shape)
    return np.clip(np.rint(exposed), 0, 255).astype(np.uint8)
