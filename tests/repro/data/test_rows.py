"""Rows of a file are those of its memory map, in any order, and a file that is no longer whole is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repro.data import rows
from repro.errors import UserError

SHAPES = [(50, 3, 128, 128), (50, 3, 8, 8)]  # rows of 48 kB, and small ones, which are read through the map


def array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=["large", "small"])
@pytest.mark.parametrize("chosen", [[49, 0, 7, 7, 30, *range(20)], [3], []], ids=["many", "one", "none"])
@pytest.mark.parametrize("kind", ["map", "part of a map", "array"])
def test_they_are_those_of_the_array(tmp_path: Path, shape: tuple[int, ...], chosen: list[int], kind: str) -> None:
    whole = array(tmp_path / "x.npy", shape)
    source = {"map": whole, "part of a map": whole[10:], "array": np.array(whole)}[kind]
    wanted = np.array(chosen, np.int64) % len(source)
    out = np.zeros((len(wanted), *shape[1:]), np.uint8)
    rows.take(source, wanted, out)
    assert np.array_equal(out, np.array(source)[wanted])


def test_a_file_that_was_cut_short_or_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    whole, wanted = array(path, SHAPES[0]), np.arange(50)
    out = np.zeros(SHAPES[0], np.uint8)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(UserError, match=rf"^damaged pack file {path} \(it is cut short\); delete its folder"):
        rows.take(whole, wanted, out)
    path.unlink()
    with pytest.raises(UserError, match=rf"^cannot read {path} \(No such file"):
        rows.take(whole, wanted, out)
