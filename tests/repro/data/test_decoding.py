"""Pictures of a data set: alike wherever they are read, by one range, and packed anew only where that changes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from eval.coco import LoadPicture
from eval.data import Normalisation
from repro.data import inventory, loading, packed, preparing
from repro.data.decoding import decode
from repro.data.manifest import Tree, decoded_anew, manifest
from repro.errors import UserError
from repro.settings import Where

Write = Callable[[Path], object]

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).permutation(np.arange(576) * 255 // 575).astype(np.uint16).reshape(24, 24)


@pytest.fixture
def where(tmp_path: Path) -> Where:
    return Where(tmp_path / "root", tmp_path / "cache")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def folder(place: Path, *writers: Write, split: str = "train") -> Path:
    """Own pictures: a class of each writer's picture, twice."""
    for number, write in enumerate(writers):
        for name in ("0.png", "1.png"):  # Pillow looks at the content, not at the name
            (place / split / f"class{number}").mkdir(parents=True, exist_ok=True)
            write(place / split / f"class{number}" / name)
    return place


def deep(values: np.ndarray) -> Write:
    return lambda path: Image.fromarray(values.astype(np.uint16)).save(path, "PNG")


def colours(values: np.ndarray) -> Write:
    def write(path: Path) -> None:
        assert cv2.imwrite(str(path), np.dstack([values] * 3).astype(np.uint16))

    return write


def written(form: str, pixels: np.ndarray = PIXELS, **options: Any) -> Write:
    return lambda path: Image.fromarray(pixels).save(path, form, **options)


def load(place: Path, where: Where, split: Any = "train") -> Any:
    return loading.load_classification(f"folder:{place}", split, where, size=24)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_turned_picture_is_the_same_wherever_it_is_read(orientation: int, tmp_path: Path, where: Where) -> None:
    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(path, "PNG", exif=turned(orientation))

    write(tmp_path / "a.png")
    upright = np.asarray(Image.fromarray(cv2.imread(str(tmp_path / "a.png"))[..., ::-1]))  # mmcv's loader
    own = load(folder(tmp_path / "own", write, write), where).pixels[0]
    for part, pid in (("bounding_box_train", 1), ("query", 2), ("bounding_box_test", 2)):
        write(tmp_path / "root" / "vehicle-reid-market" / part / f"000{pid}_c1s1_000001_00.jpg")
    reid = loading.reid_set("vehicle-reid-market", where, size=(24, 24))
    detection = LoadPicture()({"img_path": str(tmp_path / "a.png"), "height": 24, "width": 24})["img"]
    for found in (
        own,
        reid.train.pixels[0],
        reid.query.pixels[0],
        reid.gallery.pixels[0],
        detection.transpose(2, 0, 1),
    ):
        assert (found == upright.transpose(2, 0, 1)).all()


def test_deep_pictures_of_all_splits_have_one_range(tmp_path: Path, where: Where) -> None:
    """Training pictures of 10 bits beside test pictures of 12 are a quarter as bright as they would be alone."""
    place = folder(tmp_path / "own", deep(GREY * 4), written("PNG"))
    folder(place, deep(GREY * 16), written("PNG"), split="val")
    train, test = load(place, where), load(place, where, "test")
    assert (train.pixels[0] == GREY // 4).all() and (test.pixels[0] == GREY).all()
    assert (train.pixels[2] == PIXELS.transpose(2, 0, 1)).all()
    assert train.remarks == (
        "4 images have more than 8 bits: the upper 8 of 12 bits are kept, as the largest value is 4,080",
    )
    pack = preparing.prepare(str(place), where, size=24)
    assert packed.remarks(pack) == list(train.remarks) and packed.check_pack(pack) is None


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_set_of_16_bits_decodes_as_the_same_set_of_8(bits: int, tmp_path: Path, where: Where) -> None:
    flipped = GREY[::-1] // 2
    sixteen = folder(tmp_path / "sixteen", *(deep(x * 257 >> 16 - bits) for x in (GREY, flipped)))
    eight = folder(
        tmp_path / "eight", *(lambda path, x=x: Image.fromarray(x.astype(np.uint8)).save(path) for x in (GREY, flipped))
    )
    found, wanted = (load(place, where).pixels.astype(int) for place in (sixteen, eight))
    assert np.abs(found - wanted).max() <= 1


def test_detection_reads_deep_pictures_by_the_range_of_their_data_set(tmp_path: Path) -> None:
    from eval.decoding import reach_of

    for name, values in (("dim.png", GREY * 4), ("bright.png", GREY * 16)):
        deep(values)(tmp_path / name)
    reach, count = reach_of(sorted(tmp_path.iterdir()))
    found = [
        LoadPicture(reach)({"img_path": str(tmp_path / name), "height": 24, "width": 24})["img"]
        for name in ("dim.png", "bright.png")
    ]
    assert count == 2 and (found[0] == GREY[..., None] // 4).all() and (found[1] == GREY[..., None]).all()


def test_further_frames_are_told(tmp_path: Path, where: Where) -> None:
    def animated(path: Path) -> None:
        Image.fromarray(PIXELS).save(path, "GIF", save_all=True, append_images=[Image.new("RGB", (24, 24))])

    found = load(folder(tmp_path / "own", animated, animated), where)
    assert found.remarks == ("4 of the images have more than one frame or page: the first is taken",)


# -------------------------------------------------------------------------------------------- versions of the packs


def version_of(place: Path, where: Where) -> str:
    """By which version a manifest is made, from its definition."""
    files = sorted(path for path in place.rglob("*.png"))
    lines = (f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(place).as_posix()}" for p in files)
    content = hashlib.sha256("\0".join(lines).encode()).hexdigest()
    manifest = inventory.manifest_of(f"folder:{place}", where)
    (version,) = (v for v in "12" if hashlib.sha256(f"{v}\0{content}".encode()).hexdigest() == manifest)
    return version


@pytest.mark.parametrize(
    ("write", "version"),
    [
        (written("PNG"), "1"),
        (written("JPEG"), "1"),
        (written("JPEG", exif=turned(1)), "1"),
        (written("TIFF", exif=turned(6)), "1"),  # Pillow has always turned these
        (written("GIF"), "1"),
        (written("PPM"), "1"),
        (written("TIFF"), "1"),
        (written("TIFF", GREY.astype(np.int32)), "1"),  # 8 bits of 32 were read as they are
        (written("TIFF", GREY.astype(np.float32)), "1"),
        (colours(GREY * 257), "1"),
        (written("JPEG", exif=turned(3)), "2"),
        (written("PNG", exif=turned(8)), "2"),
        (written("WEBP", exif=turned(2)), "2"),
        (deep(GREY * 257), "2"),
        (written("TIFF", (GREY / 255).astype(np.float32)), "2"),
        (colours(GREY * 16), "2"),
    ],
)
def test_only_a_data_set_that_decodes_otherwise_is_packed_anew(
    write: Write, version: str, tmp_path: Path, where: Where
) -> None:
    place = folder(tmp_path / "own", write, written("PNG"))
    assert version_of(place, where) == version
    if version == "1":  # it has the pixels that version 1 gave
        first = Image.open(place / "train" / "class0" / "0.png").convert("RGB")
        assert (load(place, where).pixels[0] == np.asarray(first).transpose(2, 0, 1)).all()


def test_what_an_older_version_kept_of_a_folder_is_looked_at_again(tmp_path: Path, where: Where) -> None:
    place = folder(tmp_path / "own", written("PNG", exif=turned(6)))
    assert version_of(place, where) == "2"
    (kept,) = (where.cache / "manifests").iterdir()
    content = json.loads(kept.read_text())
    del content["anew"]
    kept.write_text(json.dumps(content))
    assert version_of(place, where) == "2"


def test_a_manifest_that_was_taken_alone_says_nothing_of_the_pictures(tmp_path: Path, where: Where) -> None:
    tree = Tree(folder(tmp_path / "own", written("PNG", exif=turned(6))), (".",))
    first = manifest(tree, where.cache)
    assert decoded_anew(tree, where.cache) and decoded_anew(tree, where.cache)
    assert manifest(tree, where.cache) == first == manifest(tree, tmp_path / "cold")
    assert not decoded_anew(Tree(tree.root, tree.parts, huge=True), tmp_path / "another")  # these are not read


@pytest.mark.parametrize("crop", [True, False])
def test_ordinary_pictures_decode_as_pillow_resizes_them(crop: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = Image.open(tmp_path / "a.png")
    wanted = (whole.crop((10, 0, 40, 30)) if crop else whole).resize((12, 12), Image.Resampling.BICUBIC)
    found = decode(tmp_path / "a.png", "a", 12, 12, crop=crop)
    inside = slice(2, -2) if crop else slice(None)  # at its sides a cut sees what lies beyond
    assert (found[..., inside] == np.asarray(wanted).transpose(2, 0, 1)[..., inside]).all()


# ------------------------------------------------------------------------------------------------ few and odd pictures


def test_a_channel_of_one_value_is_not_divided_by_0(tmp_path: Path, where: Where) -> None:
    red = PIXELS * np.array([1, 0, 0], np.uint8)
    place = tmp_path / "own"
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(red).save(place / name / f"{number}.png")
    found = load(place, where)
    assert found.std[0] == pytest.approx(red[..., 0].std() / 255, abs=1e-4) and found.std[1:] == (1.0, 1.0)
    assert not found.one_colour and Normalisation(found.mean, found.std)


def test_pictures_of_one_colour_are_refused_before_anything_is_trained(tmp_path: Path, where: Where) -> None:
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (9, 20, 30)).save(tmp_path / "own" / name / f"{number}.png")
    with pytest.raises(UserError, match=r"all training images of .*own.* are of one colour \(9, 20, 30\)"):
        load(tmp_path / "own", where)


def test_one_picture_a_class_leaves_none_to_test(tmp_path: Path, where: Where) -> None:
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.fromarray(PIXELS).save(tmp_path / "own" / name / "0.png")
    assert len(load(tmp_path / "own", where).pixels) == 2
    with pytest.raises(UserError, match=r"each class has one image, .* none to test on; give"):
        load(tmp_path / "own", where, "test")
