"""Pictures in forms that Pillow reads in another way than they are meant: read as meant, or refused in one line."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from eval import decoding
from eval.coco_pictures import Look, look


@pytest.fixture(autouse=True)
def silence() -> None:
    """pytest takes filters of warnings back after each test."""
    decoding._silence.cache_clear()


def shades() -> npt.NDArray[np.uint8]:
    """A grey picture, [16, 16], of all values of 8 bits."""
    return np.random.default_rng(0).permutation(np.arange(256, dtype=np.uint8)).reshape(16, 16)


def pfm(values: npt.NDArray[np.float32]) -> bytes:
    """A portable float map, whose lowest row comes first."""
    height, width = values.shape
    return f"Pf\n{width} {height}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes()


def test_the_white_of_a_float_map_is_1() -> None:
    found = np.asarray(decoding.read(pfm(shades() / np.float32(255)), "a.pfm"))
    assert (found == shades()[..., None]).all()


@pytest.mark.parametrize(
    ("values", "why"),
    [([0, np.nan], "not finite"), ([0, -1], "values from -1 to 0"), ([0, 7], "largest float .* is 7")],
)
def test_a_float_map_of_an_unknown_range_is_refused(values: list[float], why: str) -> None:
    with warnings.catch_warnings(), pytest.raises(ValueError, match=rf"cannot decode a\.pfm \(.*{why}"):
        warnings.simplefilter("error")
        decoding.read(pfm(np.array([values], np.float32)), "a.pfm")


def tiff(values: npt.NDArray[Any], **options: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def deep_colours() -> npt.NDArray[np.uint16]:
    """[16, 16, 3] of full range."""
    found = np.random.default_rng(1).integers(0, 2**16, (16, 16, 3)).astype(np.uint16)
    found[0, 0] = 2**16 - 1
    return found


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_deep_colours_in_planes_are_read_as_in_pixels_or_refused(byteorder: Any) -> None:
    options: dict[str, Any] = {"photometric": "rgb", "byteorder": byteorder}
    planes = deep_colours().transpose(2, 0, 1)
    with pytest.raises(ValueError, match=r"cannot decode a\.tif \(its 16-bit colours are stored in separate planes"):
        decoding.read(tiff(planes, planarconfig="separate", **options), "a.tif")
    for content in (
        tiff(planes, planarconfig="separate", compression="zlib", **options),
        tiff(deep_colours(), **options),
    ):
        assert (np.asarray(decoding.read(content, "a.tif")) == deep_colours() >> 8).all()
    grey_planes = tiff(shades()[None].repeat(3, 0), planarconfig="separate", **options)
    assert (np.asarray(decoding.read(grey_planes, "a.tif")) == shades()[..., None]).all()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (shades().view(np.int8), "its values are signed"),
        (shades().astype(np.float64), r"does not read this kind of TIFF\); save it as 8 or 16 bits"),
        (shades().astype(np.float16), r"does not read this kind of TIFF\); save it as 8 or 16 bits"),
        (deep_colours().astype(np.float32), r"does not read this kind of TIFF\); save it as 8 or 16 bits"),
    ],
)
def test_a_tiff_of_other_numbers_is_refused_with_the_fix(values: npt.NDArray[Any], why: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot decode a\.tif \(.*{why}"):
        photometric = "rgb" if values.ndim == 3 else "minisblack"
        decoding.read(tiff(values, photometric=photometric), "a.tif")


def fits(values: npt.NDArray[Any], **more: object) -> bytes:
    """A FITS file; its lowest row comes first."""
    height, width = values.shape
    bits = values.dtype.itemsize * 8
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height, **more}
    head = "".join(f"{key:8}= {value!s:>20}".ljust(80) for key, value in cards.items()) + "END".ljust(80)
    body = values[::-1].astype(values.dtype.newbyteorder(">")).tobytes()
    return head.ljust(2880).encode() + body.ljust(2880, b"\0")


def test_fits_whose_values_pillow_would_not_scale_is_refused() -> None:
    plain = fits(shades(), BZERO="0.0", BSCALE="1.0")
    assert (np.asarray(decoding.read(plain, "a.fits")) == shades()[..., None]).all()
    deep = decoding.read(fits(shades().astype(np.int16) * 64), "a.fits", decoding.Reach(whole=2**14 - 1))
    assert (np.asarray(deep) == shades()[..., None]).all()
    for content, why in (
        (fits(shades(), BZERO=-128), "scaled by BZERO"),
        (fits(shades(), BSCALE="2.5"), "scaled by BSCALE"),
        (fits(shades().astype(np.int16) - 5), "values from -5 to 250"),
    ):
        with pytest.raises(ValueError, match=rf"cannot decode a\.fits \(.*{why}"):
            decoding.read(content, "a.fits")


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


def png(orientation: int | None = None, **options: Any) -> bytes:
    """24 pixels wide, 16 high, as it is stored."""
    stream = io.BytesIO()
    exif = {} if orientation is None else {"exif": turned(orientation)}
    Image.new("RGB", (24, 16)).save(stream, "PNG", **exif, **options)
    return stream.getvalue()


def behind(content: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks before its end."""
    return content[:-12] + b"".join(chunks) + content[-12:]


FRAME = Image.new("RGB", (24, 16), "red")
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("content", "swapped"),
    [
        (png(), False),
        (png(6), True),
        (png(3), False),
        (behind(png(), chunk(b"eXIf", turned(6))), True),
        (behind(png(6), chunk(b"eXIf", turned(1))), False),  # the last one holds
        (behind(png(1), chunk(b"eXIf", turned(8))), True),
        (behind(png(), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)), True),
        (behind(png(6), chunk(b"tEXt", b"Comment\0none")), True),
        (behind(png(6), chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")), False),
        (
            behind(png(save_all=True, append_images=[Image.new("RGB", (24, 16), "red")]), chunk(b"eXIf", turned(6))),
            None,
        ),
    ],
)
def test_the_head_of_a_png_tells_the_size_that_it_is_decoded_to(
    content: bytes, swapped: bool | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    width, height = decoding.read(path, "a.png").size
    assert look(path) == Look((16, 24), (height, width))
    assert swapped is None or (width < height) is swapped
