"""Rows of a large array file in any order, read by several threads at once.

Through a memory map the kernel fetches them one after another, each with megabytes of neighbours that nobody asked for:
of shuffled pictures of 256 x 256 on a virtual disk 14 times too much, at a tenth of this one's speed (3 GB, measured
cold).
"""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

AT_ONCE = 8
_LARGE = 1 << 15  # bytes of a row from which on it pays


def take(array: np.ndarray, rows: npt.NDArray[np.int64], out: np.ndarray) -> None:
    """Copy rows of an array, [N, ...] to [B, ...] of the same type: those of a file from there, where they are large.

    array: a whole memory map, an array, or what is read as one (`unpacked.Files`).

    Raises UserError naming the file where it cannot be read, or is shorter than it was.
    """
    if not isinstance(getattr(array, "base", None), mmap.mmap) or out[:1].nbytes < _LARGE:
        array.take(rows, axis=0, out=out, mode="clip")  # "raise" copies twice; rows are in range
        return
    file_map: Any = array
    path, size, start = file_map.filename, out[0].nbytes, file_map.offset
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)

            def part(first: int) -> bool:
                places = range(first, len(rows), AT_ONCE)
                return all(os.preadv(file, [out[i].data], start + int(rows[i]) * size) == size for i in places)

            with ThreadPoolExecutor(AT_ONCE) as threads:
                whole = all(threads.map(part, range(AT_ONCE)))
        finally:
            os.close(file)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); delete its folder, it is made again") from error
    if not whole:
        raise UserError(f"damaged pack file {path} (it is cut short); delete its folder, it is made again")
