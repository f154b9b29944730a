"""Which files are pictures, and how one of them becomes pixels. Everything that is decoded here is decoded here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def decode(source: Path | bytes, label: str, height: int, width: int, *, crop: bool) -> np.ndarray:
    """One picture as uint8 [3, height, width]; bicubic with antialiasing (Pillow).

    crop: the shorter relative side is resized and the middle cut out (aspect ratio kept); otherwise both sides are
    resized. Raises UserError naming `label` where the picture cannot be decoded.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            # JPEGs far larger than needed are decoded at a half, a quarter ... of their size: >= twice what is kept
            image.draft("RGB", (2 * width, 2 * height))
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot decode {label} ({error}); replace or remove that picture") from error
    if picture.size != (width, height):
        box = None
        if crop:
            scale = min(picture.width / width, picture.height / height)
            left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
            box = (left, top, left + width * scale, top + height * scale)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture).transpose(2, 0, 1)
