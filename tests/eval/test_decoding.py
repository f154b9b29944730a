"""Every picture decodes as it looks, whatever file it lies in, and what cannot be decoded is refused by name."""

from __future__ import annotations

import io
import logging
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from eval import decoding
from eval.deep_pixels import Deep, Reach, bits_for

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def silence() -> None:
    """pytest takes filters of warnings back after each test."""
    decoding._silence.cache_clear()


# How pixels are to be turned to be shown, by EXIF orientation (CIPA DC-008, table 6).
TURN: dict[int, Callable[[Array], Array]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def colours(height: int = 16, width: int = 24) -> Array:
    """Blocks of colours: no two ways to turn it look alike."""
    found = np.zeros((height, width, 3), np.uint8)
    found[: height // 2, : width // 3] = (200, 30, 30)
    found[height // 2 :, 2 * width // 3 :] = (30, 200, 30)
    found[: height // 2, 2 * width // 3 :] = (30, 30, 200)
    return found


def grey(seed: int = 0) -> Array:
    """A grey picture with all that 8 bits hold."""
    values = np.arange(256, dtype=np.uint8).repeat(2)
    return np.random.default_rng(seed).permutation(values).reshape(16, 32)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    return exif


def file(picture: Image.Image | Array, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, form, **options)
    return stream.getvalue()


def read(content: bytes, reach: Reach | None = None) -> Array:
    return np.asarray(decoding.read(content, "the image", reach)).astype(int)


def apart(found: Array, wanted: Array) -> int:
    """The largest difference of a decoded picture from a grey or coloured one."""
    wanted = wanted if wanted.ndim == 3 else wanted[..., None].repeat(3, 2)
    assert found.shape == wanted.shape
    return int(np.abs(found - wanted.astype(int)).max())


# ----------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "options", "near"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}, 8),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
def test_pictures_are_turned_as_their_exif_says(
    form: str, options: dict[str, Any], near: int, orientation: int
) -> None:
    content = file(colours(), form, exif=turned(orientation), **options)
    assert apart(read(content), TURN[orientation](colours())) <= near


@pytest.mark.parametrize("orientation", range(1, 9))
def test_opencv_turns_them_alike(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(file(colours(), "JPEG", exif=turned(orientation), quality=95))
    theirs = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)  # what mmcv.imread is
    assert apart(np.asarray(decoding.read(path, "a")).astype(int), theirs) <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_deep_pictures_are_turned_too(form: str, orientation: int) -> None:
    content = file(grey().astype(np.uint16) * 257, form, exif=turned(orientation))
    assert apart(read(content), TURN[orientation](grey())) == 0


def test_a_large_turned_jpeg_is_decoded_small_but_not_too_small() -> None:
    large = np.kron(colours(64, 256), np.ones((8, 8, 1), np.uint8))  # 512 x 2,048, shown as 2,048 x 512
    content = file(large, "JPEG", exif=turned(6), quality=95)
    found = decoding.load(content, "a", at_least=(64, 256)).picture
    assert isinstance(found, Image.Image) and found.size == (64, 256)
    wanted = Image.fromarray(TURN[6](large)).resize((64, 256), Image.Resampling.BOX)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted)).mean() < 2


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_that_is_none_changes_nothing(value: int) -> None:
    assert apart(read(file(colours(), "PNG", exif=turned(value))), colours()) == 0


def test_damaged_exif_leaves_whole_pixels() -> None:
    content = file(colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert apart(read(content), np.asarray(Image.open(io.BytesIO(content)))) == 0


# ----------------------------------------------------------------------------------------------- more than 8 bits


def pgm(values: Array, largest: int) -> bytes:
    kind = b"P6" if values.ndim == 3 else b"P5"
    head = b"%s\n%d %d\n%d\n" % (kind, values.shape[1], values.shape[0], largest)
    return head + values.astype(">u2" if largest > 255 else np.uint8).tobytes()


def opencv(values: Array, ending: str) -> bytes:
    written, content = cv2.imencode(ending, values[..., [2, 1, 0, *range(3, values.shape[-1])]])
    assert written
    return content.tobytes()


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its head."""
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return png[:33] + struct.pack(">I", len(content)) + kind + content + crc + png[33:]


def grey_and_alpha(values: Array) -> bytes:
    """A PNG that Pillow cannot write: grey and alpha of 16 bits each."""
    rows = np.dstack([values, np.full_like(values, 40_000)]).astype(">u2").reshape(len(values), -1)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    png = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 4, 0, 0, 0)
    for kind, chunk in ((b"IHDR", head), (b"IDAT", content), (b"IEND", b"")):
        png += struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
    return png


SIXTEEN, COLOURS = grey().astype(np.uint16) * 257, np.dstack([grey(1), grey(2), grey(3)]).astype(np.uint16) * 257
ALPHA = np.full_like(SIXTEEN, 60_000)
DEEP = {
    "png": lambda: file(SIXTEEN, "PNG"),
    "png, 12 of 16 bits": lambda: file(SIXTEEN >> 4, "PNG"),
    "png, 10 of 16 bits": lambda: file(SIXTEEN >> 6, "PNG"),
    "png, 8 of 16 bits": lambda: file(SIXTEEN >> 8, "PNG"),
    "png, grey and alpha": lambda: grey_and_alpha(SIXTEEN),
    "png, grey and alpha, 12 of 16 bits": lambda: grey_and_alpha(SIXTEEN >> 4),
    "png, colours": lambda: opencv(COLOURS, ".png"),
    "png, colours, 12 of 16 bits": lambda: opencv(COLOURS >> 4, ".png"),
    "png, colours and alpha": lambda: opencv(np.dstack([COLOURS, ALPHA]), ".png"),
    "png, colours and alpha, 12 of 16 bits": lambda: opencv(np.dstack([COLOURS >> 4, ALPHA >> 4]), ".png"),
    "tiff": lambda: file(SIXTEEN, "TIFF"),
    "tiff, packed": lambda: file(SIXTEEN, "TIFF", compression="tiff_lzw"),
    "tiff, 14 of 16 bits": lambda: file(SIXTEEN >> 2, "TIFF"),
    "tiff, white is 0": lambda: file(65_535 - SIXTEEN, "TIFF", tiffinfo={262: 0}),
    "tiff, colours": lambda: opencv(COLOURS, ".tif"),
    "tiff, colours, 12 of 16 bits": lambda: opencv(COLOURS >> 4, ".tif"),
    "tiff, 32 bits": lambda: file(SIXTEEN.astype(np.int32) << 15, "TIFF"),
    "tiff, 16 of 32 bits": lambda: file(SIXTEEN.astype(np.int32), "TIFF"),
    "tiff, 8 of 32 bits": lambda: file(grey().astype(np.int32), "TIFF"),
    "tiff, floats to 1": lambda: file((grey() / 255).astype(np.float32), "TIFF"),
    "tiff, floats to 255": lambda: file(grey().astype(np.float32), "TIFF", compression="tiff_adobe_deflate"),
    "tiff, floats to 65,535": lambda: file(SIXTEEN.astype(np.float32), "TIFF"),
    "pgm": lambda: pgm(SIXTEEN, 65_535),
    "pgm, 12 bits": lambda: pgm(np.rint(grey() / 255 * 4095), 4095),
    "pgm, to 1,000": lambda: pgm(np.rint(grey() / 255 * 1000), 1000),
    "ppm, 12 bits": lambda: pgm(np.rint(COLOURS / 65_535 * 4095), 4095),
}


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_picture_decodes_as_the_same_of_8_bits_and_counts_for_the_reach(name: str, tmp_path: Path) -> None:
    wanted = COLOURS >> 8 if "colours" in name or "ppm" in name else grey()
    assert apart(read(DEEP[name]()), wanted) <= 1
    (path := tmp_path / "picture").write_bytes(DEEP[name]())
    found = decoding.load(path, name).picture
    assert decoding.reach_of([path]) == ((found.reach, 1) if isinstance(found, Deep) else (Reach(), 0))


def test_pictures_of_one_set_stay_as_bright_relative_to_each_other_as_they_are() -> None:
    dim, bright = SIXTEEN >> 8, SIXTEEN  # 0 ... 255 and 0 ... 65,535
    found = [decoding.load(file(values, "PNG"), "a").picture for values in (dim, bright)]
    assert all(isinstance(picture, Deep) for picture in found)
    reach = found[0].reach | found[1].reach  # type: ignore[union-attr]
    assert reach == Reach(whole=65_535)
    assert read(file(dim, "PNG"), reach).max() == 0 and apart(read(file(bright, "PNG"), reach), grey()) == 0
    # a range that is too small for a picture is widened for it, and never wraps around
    assert apart(read(file(bright, "PNG"), Reach(whole=255)), grey()) == 0


def test_the_reach_of_a_folder_counts_the_deep_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "a.png": file(SIXTEEN >> 4, "PNG"),
        "b.png": file(SIXTEEN >> 5, "PNG"),
        "c.png": file(grey(), "PNG"),
        "d.pgm": pgm(SIXTEEN, 65_535),  # says its range itself
        "e.tif": file((grey() / 255).astype(np.float32), "TIFF"),
        "f.png": b"no image",
        "g.jpg": file(grey(), "JPEG"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    decoded, load = list[str](), decoding.load
    monkeypatch.setattr(decoding, "load", lambda path, label: decoded.append(path.name) or load(path, label))
    reach, count = decoding.reach_of(sorted(tmp_path.iterdir()))
    assert (reach, count) == (Reach(4095, 1.0), 3)
    assert decoded == ["a.png", "b.png", "d.pgm", "e.tif"]  # of the others the head tells enough
    assert reach.words(count) == (
        "3 images have more than 8 bits: the upper 8 of 12 bits are kept, as the largest value is 4,095;"
        " 1 is white, as the largest float is 1"
    )


@pytest.mark.parametrize(
    ("largest", "bits"), [(0, 8), (255, 8), (256, 10), (4095, 12), (4096, 14), (65_535, 16), (65_536, 17), (2**31, 32)]
)
def test_the_fewest_bits_that_hold_the_largest_value(largest: int, bits: int) -> None:
    assert bits_for(largest) == bits


def test_a_png_that_says_how_many_bits_it_has_is_believed() -> None:
    dim = SIXTEEN >> 8  # 12 bits that are nowhere brighter than 255
    assert apart(read(with_chunk(file(dim, "PNG"), b"sBIT", b"\x0c")), dim >> 4) == 0
    # as the standard has it, 12 bits are scaled to 16, and the chunk only tells that the lower 4 are of no account
    assert apart(read(with_chunk(file(SIXTEEN, "PNG"), b"sBIT", b"\x0c")), grey()) == 0


def test_a_tiff_that_says_its_largest_value_is_believed() -> None:
    dim = SIXTEEN >> 8
    assert apart(read(file(dim, "TIFF", tiffinfo={281: 4095})), dim >> 4) == 0


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            grey().astype(np.int32) - 100,
            "it has values from -100 to 155, so black and white are unknown",
        ),
        ((grey() / 25.5).astype(np.float32), "the largest float in its data set is 10, so white is unknown"),
        ((grey() - 9.0).astype(np.float32), "values from -9 to 246"),
        (np.where(grey() > 9, grey() / 255, np.nan).astype(np.float32), "values that are not finite"),
        (np.where(grey() > 9, grey() / 255, np.inf).astype(np.float32), "values that are not finite"),
    ],
)
def test_a_range_that_is_not_known_is_refused(values: Array, why: str) -> None:
    with pytest.raises(ValueError, match=rf"^cannot decode the image \(.*{why}.*save .*8 or 16 bits\)$"):
        read(file(values, "TIFF"))


# ------------------------------------------------------------------------------------------- other kinds of pictures


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        *(("CMYK", form, {"quality": 95}) for form in ("JPEG",)),
        *((mode, "PNG", {}) for mode in ("RGB", "RGBA", "P")),
        ("P", "PNG", {"transparency": bytes(range(256))}),
        ("P", "PNG", {"transparency": 0}),
        ("P", "GIF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "PPM", {}),
        *((mode, "TIFF", {}) for mode in ("RGB", "RGBA", "CMYK", "P")),
        ("YCbCr", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "jpeg", "quality": 95}),
        ("RGB", "WEBP", {"quality": 95}),
    ],
)
def test_colours_of_any_mode_are_what_they_look_like(mode: str, form: str, options: dict[str, Any]) -> None:
    picture = Image.fromarray(colours())
    found = read(file(picture.quantize(8) if mode == "P" else picture.convert(mode), form, **options))
    assert found.shape == (16, 24, 3)
    for rows, columns in ((slice(1, 7), slice(1, 7)), (slice(9, 15), slice(17, 23)), (slice(1, 7), slice(17, 23))):
        assert np.abs(found[rows, columns] - colours()[rows, columns].astype(int)).mean() < 12


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "PNG"), ("LA", "PNG"), ("L", "JPEG"), ("L", "TIFF"), ("LA", "TIFF"), ("L", "PPM")]
)
def test_grey_stays_grey(mode: str, form: str) -> None:
    smooth = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = read(file(Image.fromarray(smooth).convert(mode), form, **({"quality": 100} if form == "JPEG" else {})))
    assert apart(found, smooth) <= (2 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(form: str) -> None:
    pattern = np.random.default_rng(0).random((16, 16)) < 0.5
    assert apart(read(file(Image.fromarray(pattern), form)), pattern.astype(np.uint8) * 255) == 0


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_of_several_frames_the_first_is_taken_and_that_is_told(form: str, options: dict[str, Any]) -> None:
    first, second = Image.fromarray(colours()), Image.fromarray(colours()[::-1].copy())
    found = decoding.load(file(first, form, save_all=True, append_images=[second], **options), "a")
    assert found.several and isinstance(found.picture, Image.Image)
    assert apart(np.asarray(found.picture).astype(int), colours()) == 0
    assert not decoding.load(file(first, form, **options), "a").several


def test_the_preview_in_a_picture_of_a_phone_is_no_frame() -> None:
    first = Image.fromarray(colours())
    assert not decoding.load(file(first, "MPO", save_all=True, append_images=[first]), "a").several


# -------------------------------------------------------------------------------------------------------- refusals


def test_what_is_no_picture_cut_short_too_large_or_not_there_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = file(np.kron(colours(), np.ones((9, 9, 1), np.uint8)), "JPEG", quality=95)
    for content, why in (
        (b"", "not know this image format"),
        (b"text", "not know this image format"),
        (whole[: len(whole) // 2], "truncated"),
    ):
        with pytest.raises(ValueError, match=rf"^cannot decode the image \(.*{why}.*\); replace or remove"):
            read(content)
    with pytest.raises(ValueError, match=r"^cannot decode b \(No such file or directory\)"):
        decoding.read(tmp_path / "b", "b")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"^cannot decode the image \(it has more than 200 pixels.*make it small"):
        read(file(colours(), "PNG"))


def test_damaged_files_are_read_or_refused_and_nothing_else_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    handlers = logging.getLogger().handlers
    logging.getLogger().handlers = []  # pytest's own would catch what is printed without it
    draw = random.Random(0)
    kinds = [
        file(colours(), "PNG", exif=turned(6)),
        file(colours(), "JPEG", exif=turned(6)),
        file(colours(), "GIF"),
        file(colours(), "WEBP", exif=turned(6)),
        file(colours(), "BMP"),
        file(colours(), "TIFF", compression="tiff_lzw"),
        file(colours(), "TIFF", compression="jpeg"),
        file(SIXTEEN, "TIFF", compression="tiff_adobe_deflate"),
        file(SIXTEEN, "PNG"),
        pgm(SIXTEEN, 65_535),
    ]
    refused = 0
    try:
        with warnings.catch_warnings(record=True) as warned:
            for whole in kinds:
                for attempt in range(30):
                    content = bytearray(whole if attempt % 3 else whole[: len(whole) * attempt // 30])
                    for _ in range(attempt % 3 * 2):
                        content[draw.randrange(min(len(content), draw.choice((60, 400, 10**6))))] = draw.randrange(256)
                    try:
                        read(bytes(content))
                    except ValueError as error:
                        refused += 1
                        assert str(error).startswith("cannot decode the image (") and "\n" not in str(error)
    finally:
        logging.getLogger().handlers = handlers
    assert not warned and capfd.readouterr() == ("", "")
    assert 100 < refused < 300


def test_palettes_with_transparency_and_large_pictures_draw_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # 384 pixels are between a warning and a refusal
    content = file(Image.fromarray(colours()).quantize(8), "PNG", transparency=bytes(range(8)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        decoding._silence.cache_clear()
        assert apart(read(content), colours()) < 12
    assert not warned
