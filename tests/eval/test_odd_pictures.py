"""Pictures in forms that Pillow reads in another way than they are meant: read as meant, or refused in one line."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest

from eval import decoding


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
    ("values", "why"), [([0, np.nan], "not finite"), ([0, -1], "values from -1 to 0"), ([0, 7], "floats .* end at 7")]
)
def test_a_float_map_of_an_unknown_range_is_refused(values: list[float], why: str) -> None:
    with warnings.catch_warnings(), pytest.raises(ValueError, match=rf"cannot decode a\.pfm \(.*{why}"):
        warnings.simplefilter("error")
        decoding.read(pfm(np.array([values], np.float32)), "a.pfm")
