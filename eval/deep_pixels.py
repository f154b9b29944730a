"""Pixels of more than 8 bits, and how they become 8 without a loss of contrast.

A file often does not say which value is white: cameras and scanners leave 10, 12 or 14 bits in 16, and floats may end
at 1, 255 or 65,535. So it is read off all such pictures of a data set together. One rule for all of them keeps them as
bright relative to each other as they are:

    whole numbers   the fewest of 8, 10, 12, 14, 16, 17 ... 32 bits that hold the largest value; the upper 8 are kept
    floats          white is 1 where none is larger; otherwise it follows from the largest as for whole numbers

Full range pictures of 16 bits so give the upper byte, as Pillow and libpng do. What a file says itself comes first: the
largest value of a PGM, the bits of a 12-bit TIFF; PNG's sBIT and TIFF's MaxSampleValue count as a value that occurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BITS = (8, 10, 12, 14, *range(16, 33))
_DIM = 64  # floats that end between 1 and this may end at 1, at 255 or anywhere


@dataclass(frozen=True)
class Reach:
    """The largest whole number and the largest float in deep pictures, 0 where there is none. `a | b`: of both."""

    whole: int = 0
    real: float = 0.0

    def __or__(self, other: Reach) -> Reach:
        return Reach(max(self.whole, other.whole), max(self.real, other.real))

    def words(self, count: int) -> str:
        """What is said of so many pictures that were scaled by this."""
        scales = []
        if self.whole:
            bits = bits_for(self.whole)
            scales.append(f"the upper 8 of {bits} bits are kept, as the largest value is {self.whole:,}")
        if self.real:
            white = 1 if self.real <= 1 else 2 ** bits_for(self.real) - 1
            scales.append(f"{white:,} is white, as the largest float is {self.real:,g}")
        how = "; ".join(scales) or "all values are 0"
        return f"{count:,} {'image has' if count == 1 else 'images have'} more than 8 bits: {how}"


@dataclass(frozen=True)
class Deep:
    """A picture of more than 8 bits whose white follows from its data set.

    values: integers of any size or float32, [H, W] grey or [H, W, 3]. reach: its own.
    """

    label: str
    values: npt.NDArray[np.generic]
    reach: Reach

    @classmethod
    def of(cls, label: str, values: npt.NDArray[np.generic], stated: int = 0) -> Deep:
        """stated: a largest value that the file names itself. ValueError for values below 0 or not finite."""
        import numpy as np

        lowest, largest = values.min(), values.max()  # NaN where one is
        if not np.isfinite([lowest, largest]).all():
            raise ValueError("it has values that are not finite; save it as 8 or 16 bits")
        if lowest < 0:
            raise ValueError(
                f"it has values from {lowest:g} to {largest:g}, so black and white are unknown; save it as 8 or 16 bits"
            )
        real = values.dtype.kind == "f"
        return cls(label, values, Reach(real=float(largest)) if real else Reach(whole=max(int(largest), stated)))

    def shown(self, reach: Reach) -> npt.NDArray[np.uint8]:
        """The picture as uint8 of the same shape, by the `reach` of its data set. ValueError for unknown ranges."""
        import numpy as np

        if self.values.dtype.kind != "f":
            return upper(self.values, bits_for(reach.whole))
        if reach.real <= 1:
            return np.floor(self.values.astype(np.float64) * 255 + 0.5).astype(np.uint8)
        if reach.real < _DIM or reach.real >= 2 ** _BITS[-1]:
            raise ValueError(
                f"the largest float in its data set is {reach.real:g}, so white is unknown;"
                " scale the values to 0 ... 1, or save the images as 8 or 16 bits"
            )
        return (self.values.astype(np.float64) / 2 ** (bits_for(reach.real) - 8)).astype(np.uint8)


def bits_for(largest: float) -> int:
    """The fewest bits of the rule that hold this value."""
    return next(bits for bits in _BITS if largest < 2**bits)


def upper(values: npt.NDArray[np.generic], bits: int) -> npt.NDArray[np.uint8]:
    """The upper 8 of so many bits of whole numbers."""
    import numpy as np

    return (values.astype(np.uint32) >> np.uint32(bits - 8)).astype(np.uint8)
