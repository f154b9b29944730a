"""How a picture becomes the pixels of a data set."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from eval import decoding
from eval.decoding import Opened, Source
from eval.deep_pixels import Deep, Reach
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


def decode(
    source: Source, label: str, height: int, width: int, *, crop: bool, reach: Reach | None = None
) -> np.ndarray:
    """One picture as uint8 [3, height, width]; bicubic with antialiasing (Pillow).

    crop: the shorter relative side is resized and the middle cut out (aspect ratio kept); otherwise both sides are
    resized. reach: of its data set, see `eval.deep_pixels`; by default of this picture alone.
    Raises UserError naming `label` where the picture cannot be decoded.
    """
    found = opened(source, label, height, width).picture
    if isinstance(found, Deep):
        found = shown(found, found.reach | (reach or Reach()))
    return fitted(found, height, width, crop=crop)


def opened(source: Source, label: str, height: int, width: int) -> Opened:
    """A picture as it looks, at least so large unless it is smaller. Raises as `decode`."""
    try:
        # JPEGs far larger than needed are decoded at a half, a quarter ... of their size: >= twice what is kept
        return decoding.load(source, label, at_least=(2 * width, 2 * height))
    except ValueError as error:
        raise UserError(str(error)) from error


def shown(picture: Deep, reach: Reach) -> Image.Image:
    """A picture of more than 8 bits as RGB. Raises as `decode`."""
    try:
        return decoding.show(picture, reach)
    except ValueError as error:
        raise UserError(str(error)) from error


def fitted(picture: Image.Image, height: int, width: int, *, crop: bool) -> np.ndarray:
    """A picture as `decode` gives it."""
    import numpy as np
    from PIL import Image

    if picture.size != (width, height):
        box = None
        if crop:
            scale = min(picture.width / width, picture.height / height)
            left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
            box = (left, top, left + width * scale, top + height * scale)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture).transpose(2, 0, 1)


# ------------------------------------------------------------------------------------- what is decoded in a new way

_TELLS = (b"Exif", b"EXIF", b"eXIf", b"Raw profile type", b"tiff:Orientation", b"XML:com.adobe.xmp")
_PORTABLE = (b"P2", b"P3", b"P5", b"P6")


def decoded_anew(content: bytes) -> bool:
    """Whether version 1 of our packs decoded a file's content otherwise: what is to be turned as it is stored, and what
    has more than 8 bits without contrast. So only data sets with such a picture need decoding again.

    Pillow is not even imported for a file whose bytes tell that it is none of these.
    """
    tiff = content[:2] in (b"II", b"MM")
    deep = tiff or content[:2] in _PORTABLE or (content[:4] == b"\x89PNG" and content[24:25] == b"\x10")
    if not deep and not any(word in content for word in _TELLS):
        return False
    try:
        with decoding.pillow().open(io.BytesIO(content)) as image:
            # Pillow has always turned TIFFs
            turned = image.format != "TIFF" and decoding.orientation_of(image) != 1
            grey = image.mode == "F" or image.mode.startswith("I")
        found = decoding.load(content, "").picture if deep else None
    except Exception:  # it was refused, and is
        return False
    if not isinstance(found, Deep):
        return turned or grey
    whole, real = found.reach.whole, found.reach.real
    same = (whole <= 255 if grey else whole >= 2**14) and (real == 0 or 64 <= real <= 255)
    return turned or not same
