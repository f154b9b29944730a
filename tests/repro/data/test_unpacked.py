"""Pictures that stay in their files are those of the pack, whoever decodes them and however they are asked for."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from repro.data import loading, preparing
from repro.data.types import Drawn, Pictures, Split
from repro.data.unpacked import CHUNK, Files
from repro.errors import UserError
from repro.settings import Where

SIDE, EACH = 24, 45


@pytest.fixture
def where(tmp_path: Path) -> Where:
    return Where(None, tmp_path / "cache", "jpeg")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """JPEGs of many shapes in two classes, one of them turned, with a grey PNG and one of 16 bits among them."""
    rng, folder = np.random.default_rng(0), tmp_path / "own"
    for number in range(2 * EACH):
        path = folder / "train" / "ab"[number % 2] / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = rng.integers(10, 130, 2)
        noise = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((int(width), int(height)))
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 4 else 1
        picture.save(path, exif=exif)
    Image.fromarray(rng.integers(0, 256, (30, 40), dtype=np.uint8)).save(folder / "train" / "a" / "grey.png")
    Image.fromarray(rng.integers(0, 4000, (30, 40), dtype=np.uint16)).save(folder / "train" / "b" / "deep.png")
    return folder


def load(place: Path, where: Where, split: Split = "train", limit: int | None = None, workers: int = 0) -> Pictures:
    drawn: Drawn | None = {"pictures": limit, "seed": 5} if limit else None
    return loading.load_classification(f"folder:{place}", split, where, size=SIDE, limit=drawn, workers=workers)


def packs(where: Where) -> Where:
    return dataclasses.replace(where, cache=where.cache.with_name("packs"), stored="packed")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.processes)])
def test_they_are_those_of_the_pack(place: Path, where: Where, workers: int) -> None:
    for split, limit in (("train", None), ("test", None), ("train", 40)):
        files, pack = load(place, where, split, limit, workers), load(place, packs(where), split, limit)  # type: ignore
        assert isinstance(files.pixels, Files) and isinstance(pack.pixels, np.ndarray)
        assert files.pixels.shape == pack.pixels.shape and len(files.pixels) == len(pack.pixels)
        assert files.pixels.nbytes == pack.pixels.nbytes and files.pixels.dtype == pack.pixels.dtype
        assert np.array_equal(files.pixels[:], pack.pixels)
        assert np.array_equal(files.labels, pack.labels)
        for name in ("classes", "mean", "std", "name", "source", "manifest", "remarks"):
            assert getattr(files, name) == getattr(pack, name)
    assert "1 image has more than 8 bits" in files.remarks[0]
    assert not list((where.cache / "listed").rglob("train.npy")) and not (where.cache / "packed").exists()


@pytest.mark.processes
def test_rows_are_read_as_of_an_array(place: Path, where: Where) -> None:
    files, array = load(place, where, workers=2).pixels, np.array(load(place, packs(where)).pixels)
    order = np.random.default_rng(1).permutation(len(array))
    assert len(array) > 4 * CHUNK
    mask = order % 3 == 0
    for rows in (3, -1, slice(5, 40), slice(None, None, 7), order, order[:2], np.array([4, 4]), mask, slice(9, 9)):
        assert np.array_equal(files[rows], array[rows])
    out = np.empty((len(order), 3, SIDE, SIDE), np.uint8)
    assert files.take(order, axis=0, out=out, mode="clip") is out and np.array_equal(out, array[order])


@pytest.mark.processes
def test_reading_draws_no_number_of_others(place: Path, where: Where) -> None:
    before = torch.get_rng_state()
    assert len(load(place, where, workers=1).pixels[:20]) == 20
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.processes)])
def test_a_damaged_file_is_named(place: Path, where: Where, workers: int) -> None:
    files = load(place, where, workers=workers).pixels
    broken = place / files._files[20]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(UserError) as caught:
        files[:]
    assert str(caught.value).startswith(f"cannot decode {broken} (") and "\n" not in str(caught.value)
    assert len(files[:20]) == 20  # the others can still be read
    broken.unlink()
    with pytest.raises(UserError, match="No such file"):
        files[:]


def test_a_deep_picture_that_nobody_expects_is_refused(place: Path, where: Where) -> None:
    """Its white follows from all pictures, and those named as JPEGs are not looked at beforehand."""
    content = io.BytesIO()
    Image.fromarray(np.full((30, 40), 60_000, np.uint16)).save(content, "PNG")
    (place / "train" / "a" / "named.jpg").write_bytes(content.getvalue())
    with pytest.raises(UserError, match=r"named\.jpg has more than 8 bits, and is named as a JPEG"):
        _ = [load(place, where, split).pixels[:] for split in ("train", "test")]  # it was dealt to one of them


def test_a_pack_that_is_there_is_taken(place: Path, where: Where) -> None:
    preparing.prepare(f"folder:{place}", dataclasses.replace(where, stored="packed"), size=SIDE)
    assert isinstance(load(place, where).pixels, np.ndarray)


def test_a_folder_that_moved_meets_its_list_again(place: Path, where: Where) -> None:
    before = load(place, where).pixels[:5]
    moved = place.rename(place.with_name("moved"))
    assert np.array_equal(load(moved, where).pixels[:5], before)
    assert len(list((where.cache / "listed").glob("own-*"))) == 1


@pytest.mark.processes
def test_workers_outlive_a_signal_to_all_and_end_with_the_pictures(place: Path, where: Where) -> None:
    """A scheduler asks every process of a job to stop; who reads still wants its load."""
    others = set(psutil.Process().children())  # of tests before
    files = load(place, where, workers=2).pixels
    whole = files[:]
    workers = [child for child in psutil.Process().children() if child not in others]
    assert len(workers) >= 2
    subprocess.run(["kill", "-TERM", *(str(worker.pid) for worker in workers)], check=True)
    assert np.array_equal(files[:], whole)
    del files
    _gone(workers)


def _gone(workers: list[psutil.Process]) -> None:
    left: Callable[[], bool] = lambda: any(w.is_running() and w.status() != "zombie" for w in workers)  # noqa: E731
    for _ in range(200):
        if not left():
            return
        time.sleep(0.05)
    raise AssertionError("workers are left")
