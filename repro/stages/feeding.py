"""The pictures of a training, read ahead: while the device works on one load, a thread reads the next and sends it.

The thread calls nothing of torch that computes: rows are copied by numpy or read from the file by threads that wait for
the disk, without the interpreter lock. So the thread count of a job stays what its record says, and the pictures are
those that the training would have read itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eval.data import Pixels
from methods.base import Batch
from repro.data import rows as rows_of_files

Parts = Sequence[Tensor]
"""The rows of each micro-batch of a load: int64 [b] on the CPU."""
_BLOCK = 1 << 28  # bytes of pictures that are brought to a device at once


def resident(pixels: Pixels, device: torch.device) -> Tensor:
    """All pictures, uint8 [N, 3, H, W], in the memory of the device."""
    there = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    step = max(1, _BLOCK // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), step):
        there[start : start + step] = torch.from_numpy(np.array(pixels[start : start + step]))
    return there


@dataclass(frozen=True)
class _Load:
    """The micro-batches of a load one after another, of `sizes` rows, on the device or on their way to it.

    arrived: what a GPU waits for before it reads them.
    """

    images: Tensor
    labels: Tensor | None
    sizes: list[int]
    arrived: torch.cuda.Event | None = None

    def batches(self) -> list[Batch]:
        """The micro-batches, for the current stream of the device."""
        if self.arrived is not None:
            stream = torch.cuda.current_stream(self.images.device)
            stream.wait_event(self.arrived)
            for tensor in (self.images, self.labels):
                if tensor is not None:  # made on another stream: its memory is free when this one is done with it
                    tensor.record_stream(stream)
        labels = [None] * len(self.sizes) if self.labels is None else self.labels.split(self.sizes)
        return [Batch(*batch) for batch in zip(self.images.split(self.sizes), labels, strict=True)]


class Feeder:
    """Hands out pictures and labels by row, on the device that trains on them.

    images: uint8 [N, 3, H, W], an array or memory map, or a tensor. labels: int64 [N], where the images are, or None.
    """

    def __init__(self, images: Pixels | Tensor, labels: Tensor | None, device: torch.device) -> None:
        self._labels, self._device = labels, device
        if isinstance(images, Tensor) and images.device.type == "cpu":
            images = images.numpy()
        self._images: Pixels | Tensor = images
        reads = device.type == "cuda" and not isinstance(self._images, Tensor)
        self._side = torch.cuda.Stream(device) if reads else None

    def pictures(self, rows: Tensor) -> Tensor:
        """Those pictures, where all of them lie."""
        return self._images[rows] if isinstance(self._images, Tensor) else _picked(self._images, rows)

    def read(self, parts: Parts) -> list[Batch]:
        """The micro-batches of one load, read now."""
        return self._sent(parts).batches()

    def ahead(self, loads: Iterator[Parts]) -> Generator[list[Batch], None, None]:
        """The micro-batches of each load. When one is handed out, a thread begins to read the next, and no more.

        What goes wrong there is raised when its load is asked for. `close()` waits for the thread, and ends it.
        """

        def following() -> _Load | None:
            parts = next(loads, None)
            return None if parts is None else self._sent(parts)

        if isinstance(self._images, Tensor):  # on the device: nothing to wait for
            while load := following():
                yield load.batches()
            return
        with ThreadPoolExecutor(1, "pictures") as thread:
            load = following()
            while load:
                coming = thread.submit(following)
                yield load.batches()
                load = coming.result()

    def _sent(self, parts: Parts) -> _Load:
        """Read a load and begin to send it, all micro-batches at once."""
        rows, sizes = torch.cat(list(parts)), [len(part) for part in parts]
        if isinstance(self._images, Tensor):
            rows = rows.pin_memory().to(self._device, non_blocking=True)
            return _Load(self._images[rows], None if self._labels is None else self._labels[rows], sizes)
        pinned = self._side is not None
        images = _picked(self._images, rows, pinned)
        labels = None if self._labels is None else _picked(self._labels.numpy(), rows, pinned)
        if self._side is None:
            return _Load(images, labels, sizes)
        # Pinned memory is not used again before what was copied from it has arrived: torch sees to that.
        with torch.cuda.stream(self._side):
            images = images.to(self._device, non_blocking=True)
            labels = None if labels is None else labels.to(self._device, non_blocking=True)
            return _Load(images, labels, sizes, self._side.record_event())


def _picked(array: npt.NDArray[Any], rows: Tensor, pinned: bool = False) -> Tensor:
    """Rows of an array; pinned: in memory that a GPU reads by itself."""
    kind = torch.uint8 if array.dtype == np.uint8 else torch.int64
    copy = torch.empty((len(rows), *array.shape[1:]), dtype=kind, pin_memory=pinned)
    rows_of_files.take(array, rows.numpy(), copy.numpy())
    return copy
