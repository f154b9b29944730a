"""How a file becomes a picture: RGB, 8 bits, the way up that it looks. Every picture is read here, whoever reads it.

* Turned as its EXIF orientation says, as by mmcv's loader and browsers (Pillow asks XMP where there is no EXIF).
* More than 8 bits: see deep_pixels.py.
* Of several frames or pages the first. Of transparency nothing: the colours below it are taken, as torchvision does.
* CMYK, YCbCr, palettes, grey and 1 bit are converted by Pillow.
* Cut short, damaged or too large (Pillow's limit against decompression bombs): refused by name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from eval.deep_pixels import Deep, Reach, upper

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Source = Path | bytes
"""A file, or its content."""

ORIENTATION = 0x0112
_TURNED = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
SWAPS_SIDES = frozenset({5, 6, 7, 8})  # these orientations swap width and height
_PHOTOMETRIC, _BITS_PER_SAMPLE, _LARGEST, _FORMAT = 262, 258, 281, 339  # tags of TIFF
_OTHER_BYTE = {
    f"{colours};16{one}": f"{colours};16{other}" for colours in ("RGB", "RGBA", "RGBX") for one, other in ("BL", "LB")
} | {"LA;16B": "RGBA"}  # the four bytes of grey and alpha as they are


@dataclass(frozen=True)
class Opened:
    """A picture as it looks; `Deep` where its white follows from its data set. several: it has more than one frame."""

    picture: Image.Image | Deep
    several: bool


def load(source: Source, label: str, *, at_least: tuple[int, int] | None = None) -> Opened:
    """Read a picture.

    at_least: (width, height) that are needed; a JPEG far larger is decoded at a half, a quarter ... of its size.
    Raises ValueError, in one line that names `label` and the fix, for whatever cannot be decoded.
    """
    image = pillow()
    try:
        with contextlib.ExitStack() as stack:
            stream: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            handle = stack.enter_context(stream)
            return _load(stack.enter_context(image.open(handle)), handle, label, at_least)
    except image.DecompressionBombError:
        limit = 2 * (image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"cannot decode {label} (it has more than {limit:,} pixels); make it smaller") from None
    except Exception as error:  # what Pillow raises for damaged files has no common kind
        raise ValueError(_refused(label, error, source)) from None


def read(source: Source, label: str, reach: Reach | None = None) -> Image.Image:
    """Read a picture as RGB.

    reach: of its data set (`reach_of`); by default a deep picture is scaled by itself alone. Raises as `load`.
    """
    found = load(source, label).picture
    return show(found, found.reach | (reach or Reach())) if isinstance(found, Deep) else found


def show(picture: Deep, reach: Reach) -> Image.Image:
    """A deep picture as RGB. Raises as `load`."""
    try:
        return pillow().fromarray(picture.shown(reach)).convert("RGB")
    except ValueError as error:
        raise ValueError(_refused(picture.label, error)) from None


def reach_of(paths: Iterable[Path]) -> tuple[Reach, int]:
    """What the deep pictures among these files reach together, and how many there are.

    Files named as JPEGs, which have 8 bits, are not opened, and of the others only those are decoded whose head leaves
    it open. A file that cannot be read is left to whoever reads it.
    """
    reach, count = Reach(), 0
    for path in paths:
        if path.suffix.lower() not in (".jpg", ".jpeg") and _may_be_deep(path):
            with contextlib.suppress(ValueError):
                found = load(path, str(path)).picture
                if isinstance(found, Deep):
                    reach, count = reach | found.reach, count + 1
    return reach, count


def _may_be_deep(path: Path) -> bool:
    """Whether the head of a file tells of more than 8 bits; False where it cannot be read."""
    try:
        with pillow().open(path) as image:
            return _wide(image) or bool(_other_byte(image))
    except Exception:  # as in `load`
        return False


def _wide(image: Image.Image) -> bool:
    """Whether its numbers have more than 8 bits in Pillow. Of colours of 16 bits Pillow has the upper 8 alone."""
    return image.mode == "F" or image.mode.startswith("I")


@functools.cache
def _silence() -> None:
    """Keep what Pillow and its libtiff print off the terminal: what matters of it is raised, or told in our own words.

    For good, as `catch_warnings` is not safe where several threads decode.
    """
    import ctypes
    import logging
    import warnings

    from PIL import _imaging

    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # without a handler errors are printed
    with contextlib.suppress(OSError, AttributeError):  # a Pillow that was built in another way only prints more
        library = ctypes.CDLL(_imaging.__file__)  # its symbols are also those of the libraries that it is linked to
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


def pillow() -> Any:
    """The module `PIL.Image`, whose warnings stay off the terminal."""
    from PIL import Image

    _silence()
    return Image


def refused(path: Path, error: Exception) -> str:
    """Why a picture cannot be decoded, and the fix, in one line; error: what Pillow raised for it."""
    return _refused(str(path), error, path)


def _refused(label: str, error: Exception, source: Source = b"") -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        if _head(source) in (b"II*\0", b"MM\0*"):
            return f"cannot decode {label} (Pillow does not read this kind of TIFF); save it as 8 or 16 bits"
        return f"cannot decode {label} (Pillow does not know this image format); replace or remove that image"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"cannot decode {label} ({error.strerror}); it must be a readable file"
    said = " ".join(str(error).split()) or type(error).__name__
    hint = "" if "; " in said else "; replace or remove that image"
    return f"cannot decode {label} ({said}){hint}"


def _head(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:4]
    with source.open("rb") as handle:
        return handle.read(4)


def _load(image: Image.Image, handle: BinaryIO, label: str, at_least: tuple[int, int] | None) -> Opened:
    several = _several(image)
    jpeg = image.format in ("JPEG", "MPO")
    orientation = orientation_of(image) if jpeg else 1
    if jpeg and at_least:
        width, height = at_least
        image.draft("RGB", (height, width) if orientation in SWAPS_SIDES else (width, height))
    _require_as_meant(image, handle)
    other = _other_byte(image)  # known until it is loaded
    image.load()
    low = _low_bytes(handle, other) if other else None
    if not jpeg:
        orientation = orientation_of(image)  # after loading: PNG may tell it at its end, and a TIFF has been turned
    picture = _upright(_deep(image, handle, label, low) or _rgb(image), orientation)
    return Opened(picture, several)


def _require_as_meant(image: Image.Image, handle: BinaryIO) -> None:
    """Raises ValueError for numbers that Pillow takes for others. Before it is loaded: then the raw form is gone."""
    fix = "; save it as PNG, or as TIFF with unsigned values in one plane"
    if image.format == "FITS":
        scale = {b"BZERO": 0.0, b"BSCALE": 1.0}
        for key, value in _fits_cards(handle):
            if key in scale and float(value.replace(b"D", b"E")) != scale[key]:
                raise ValueError(f"its values are scaled by {key.decode()}, which is not supported{fix}")
    if image.format != "TIFF":
        return
    tags: Any = getattr(image, "tag_v2", {})
    bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
    if 2 in tags.get(_FORMAT, ()) and bits <= 8:
        raise ValueError(f"its values are signed, so black and white are unknown{fix}")
    if bits > 8 and not _wide(image) and any(";" not in raw for raw in _raw_modes(image)):
        raise ValueError(f"its {bits}-bit colours are stored in separate planes, which is not supported{fix}")


def _fits_cards(handle: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the heads of a FITS file, up to the one of its pixels."""
    handle.seek(0)
    pixels = False
    for card in iter(lambda: handle.read(80), b""):
        key, _, rest = card.partition(b"=")
        value = rest.split(b"/")[0].strip()
        pixels |= key.strip() == b"NAXIS" and value != b"0"
        yield key.strip(), value
        if card.strip() == b"END" and pixels:
            return


def _several(image: Image.Image) -> bool:
    """Whether it has more frames or pages than one. The second picture of a phone's MPO is a preview: not counted."""
    try:
        return image.format not in ("JPEG", "MPO", "PPM", "BMP") and bool(getattr(image, "is_animated", False))
    except Exception:  # damaged behind its first frame
        return False


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1 where it is not told, or in a way that cannot be read."""
    try:
        return _orientation(image.getexif())
    except Exception:  # damaged EXIF: the pixels may still be whole
        return 1


def _orientation(exif: Image.Exif) -> int:
    value = exif.get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(picture: Image.Image | Deep, orientation: int) -> Image.Image | Deep:
    if orientation == 1:
        return picture
    from PIL import Image

    if isinstance(picture, Image.Image):
        return picture.transpose(Image.Transpose[_TURNED[orientation - 2]])
    x = picture.values
    x = x.swapaxes(0, 1) if orientation in SWAPS_SIDES else x
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return Deep(picture.label, x[:: -1 if rows else 1, :: -1 if columns else 1], picture.reach)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:  # Pillow warns of any other way
        image = image.convert("RGBA")
    elif image.mode in ("La", "RGBa"):  # multiplied by their transparency: there is no direct way
        image = image.convert(image.mode.upper())
    return image.convert("RGB")


def _deep(
    image: Image.Image, handle: BinaryIO, label: str, low: npt.NDArray[np.uint8] | None
) -> Image.Image | Deep | None:
    """The picture if it has more than 8 bits. `low`: the lower bytes of colours of 16 bits."""
    import numpy as np

    tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if low is not None:
        high = np.asarray(image)[..., :3]
        return Deep.of(label, high.astype(np.uint16) << 8 | low, _stated(image, handle, tags))
    if not _wide(image):
        return None
    values = np.asarray(image)
    if tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_FORMAT, (1,)) == (1,) and image.mode == "I":
        values = values.view(np.uint32)
    if image.format == "FITS" and values.dtype == np.uint16:
        values = values.view(np.int16)  # FITS has signed numbers alone
    whole = image.format == "PPM" and image.mode != "F"  # PFM has floats
    bits = 16 if whole else {(12,): 12}.get(tags.get(_BITS_PER_SAMPLE), 0)
    inverted = tags.get(_PHOTOMETRIC) == 0
    if bits:  # Pillow has scaled the values of a PGM by the largest that it states
        grey = upper(values, bits)
        return pillow().fromarray(255 - grey if inverted else grey).convert("RGB")
    if inverted:
        if values.dtype.kind == "f" or values.itemsize != 2:
            raise ValueError("its white is 0 and its black is unknown; save it as 8 or 16 bits")
        values = np.iinfo(values.dtype).max - values
    return Deep.of(label, values, _stated(image, handle, tags))


def _stated(image: Image.Image, handle: BinaryIO, tags: Any) -> int:
    """The largest value that a PNG or TIFF says it may have, 0 where it does not say."""
    if image.format == "PNG":
        return max((2**bits - 1 for bits in _significant_bits(handle) if bits <= 16), default=0)
    value = tags.get(_LARGEST, 0)
    largest = max(value, default=0) if isinstance(value, tuple) else value
    return largest if isinstance(largest, int) and 0 <= largest < 2**32 else 0


def _significant_bits(handle: BinaryIO) -> bytes:
    """The content of a PNG's chunk sBIT, which comes before its pixels; empty where there is none."""
    for kind, length in _chunks(handle):
        if kind == b"sBIT":
            return handle.read(length)
        if kind in (b"PLTE", b"IDAT"):
            break
    return b""


def _chunks(handle: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of a PNG's chunks; the handle is at the content of each."""
    place = 8
    handle.seek(place)
    for head in iter(lambda: handle.read(8), b""):
        kind, length = head[4:], int.from_bytes(head[:4], "big")
        if len(head) < 8:
            break
        yield kind, length
        place += length + 12
        handle.seek(place)


def late_orientation(path: Path) -> int | None:
    """The orientation that a PNG tells behind its pixels, as decoding finds it; None where it tells nothing there.

    The pixels are passed over: of the rest a PNG without them is made, of which Pillow is asked.
    """
    rest, late, pixels = [b"\x89PNG\r\n\x1a\n"], False, False
    with path.open("rb") as handle:
        for kind, length in _chunks(handle):
            pixels |= kind == b"IDAT"
            if pixels and kind in (b"IEND", b"fcTL"):  # the next frame of an animation: decoding ends there
                break
            if kind not in (b"IDAT", b"fdAT", b"acTL", b"fcTL"):
                late |= pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
                rest.append(length.to_bytes(4, "big") + kind + handle.read(length + 4))
    if not late:
        return None
    rest.append(b"\0\0\0\0IDAT\x35\xaf\x06\x1e")  # where Pillow takes the head to end
    try:
        with pillow().open(io.BytesIO(b"".join(rest))) as image:
            return _orientation(pillow().Image.getexif(image))
    except Exception:  # damaged EXIF: as in `orientation_of`
        return 1


def _raw_modes(image: Image.Image) -> set[str]:
    """How Pillow will unpack the pixels, of a picture that is not loaded."""
    return {str(args[0] if isinstance(args, tuple) and args else args) for *_, args in getattr(image, "tile", ())}


def _other_byte(image: Image.Image) -> str:
    """How Pillow would unpack the lower bytes of colours of 16 bits, of which it keeps the upper ones; or ""."""
    raw = _raw_modes(image)
    if len(raw) != 1:
        return ""
    (mode,) = raw
    native = "L" if sys.byteorder == "little" else "B"
    return _OTHER_BYTE.get(mode[:-1] + native if mode.endswith(";16N") else mode, "")


def _low_bytes(handle: BinaryIO, other: str) -> npt.NDArray[np.uint8]:
    """The lower bytes of colours of 16 bits, [H, W, 3], by a second reading of the same file."""
    import numpy as np

    handle.seek(0)
    with pillow().open(io.BytesIO(handle.read())) as again:
        tiles = []
        for tile in again.tile:
            codec, extents, offset, args = tile
            fields = (codec, extents, offset, (other, *args[1:]) if isinstance(args, tuple) else other)
            tiles.append(tile._make(fields) if hasattr(tile, "_make") else fields)  # Pillow 10 has plain tuples
        again.tile = tiles
        again.load()
        found = np.asarray(again)
    return found[..., 1:2].repeat(3, 2) if other == "RGBA" else found[..., :3]
