"""Pictures that stay in their files and are decoded whenever they are read: where a pack would not fit on the disk.

They are the pictures that a pack of them would hold, bit for bit. Worker processes of torch's DataLoader decode them.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import decoding
from eval.deep_pixels import Deep, Reach
from repro.data.decoding import fitted, opened, shown
from repro.data.packed import Pack, Sources
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHUNK = 16  # pictures that a worker hands over at once
AHEAD = 2  # chunks that wait for their reader, of each worker


class Index(Pack):
    """A pack without pictures: it names the files that they are in."""

    def __init__(self, *given: Any, root: Path) -> None:
        """root: of the data set, which may move later."""
        super().__init__(*given)
        self.root, self.reach = root, Reach()
        self.files: dict[str, list[str]] = {}

    def pictures(self, split: str, sources: Sources, *, crop: bool) -> None:
        """Name a split's files. crop: as `Files` do."""
        assert crop
        self.files[split] = [str(Path(label).relative_to(self.root)) for label, _ in sources]
        self.counts[split] = len(sources)

    def finish(self, manifest: str, **description: Any) -> None:
        """As of any pack, with the files and the reach of deep pictures."""
        paths = (self.root / one for files in self.files.values() for one in files)
        self.reach, self._deep = decoding.reach_of(paths)
        reach = [self.reach.whole, self.reach.real]
        super().finish(manifest, files=self.files, reach=reach, **description)

    def _remarks(self) -> list[str]:
        return [self.reach.words(self._deep)] if self._deep else []

    def _training_pixels(self) -> Any:
        return Files(self.root, self.files["train"], self.height, self.width, self.reach)


class Files:
    """uint8 [N, 3, height, width], one file each; read by slices and arrays of indices, as an array would be.

    reach: of all deep pictures of the data set. workers: processes that decode, 0: this one does; they start with the
    first reading and end with this object.
    Reading raises UserError naming the first file that cannot be decoded. Threads take turns.
    """

    def __init__(
        self, root: Path, files: Sequence[str], height: int, width: int, reach: Reach, workers: int = 0
    ) -> None:
        import numpy as np

        self._root, self._files, self._reach, self._workers = root, files, reach, workers
        self.shape, self.dtype = (len(files), 3, height, width), np.dtype(np.uint8)
        self._lock, self._reading = threading.Lock(), _Reading()
        self._loader: Any = None

    def __len__(self) -> int:
        return len(self._files)

    @property
    def nbytes(self) -> int:
        """As of an array."""
        return math.prod(self.shape)

    def only(self, rows: npt.NDArray[np.int64]) -> Files:
        """Those pictures alone."""
        _, _, height, width = self.shape
        return Files(self._root, [self._files[row] for row in rows], height, width, self._reach, self._workers)

    def __getitem__(self, rows: Any) -> np.ndarray:
        import numpy as np

        chosen = np.arange(len(self))[rows]
        found = self.take(chosen.reshape(-1))
        return found.reshape(*chosen.shape, *self.shape[1:])

    def take(
        self, rows: npt.NDArray[np.int64], axis: int = 0, out: np.ndarray | None = None, mode: str = "raise"
    ) -> np.ndarray:
        """As of an array, along its first axis."""
        import numpy as np

        out = np.empty((len(rows), *self.shape[1:]), np.uint8) if out is None else out
        done = 0
        with self._lock:
            self._reading.chunks = [rows[i : i + CHUNK].tolist() for i in range(0, len(rows), CHUNK)]
            for found in self._decoded():
                if isinstance(found, str):
                    raise UserError(found)
                out[done : done + len(found)] = found
                done += len(found)
        return out

    def _decoded(self) -> Iterator[Any]:
        """The pictures of each chunk, or why they cannot be decoded."""
        if self._loader is None:
            import torch
            from torch.utils.data import DataLoader

            decoder: Any = _Decoder(self._root, self._files, self.shape[2:], self._reach)
            self._loader = DataLoader(
                decoder,
                batch_size=None,
                sampler=self._reading,
                num_workers=self._workers,
                persistent_workers=self._workers > 0,
                prefetch_factor=AHEAD if self._workers else None,
                worker_init_fn=_heed_the_reader_alone,
                generator=torch.Generator(),  # else each reading draws a number from the global one
            )
        return iter(self._loader)


class _Reading:
    """The chunks of the reading that is going on."""

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.chunks)


class _Decoder:
    """What a worker has: by indices the pictures, as a pack has them, or the reason why one cannot be decoded."""

    def __init__(self, root: Path, files: Sequence[str], size: tuple[int, int], reach: Reach) -> None:
        self.root, self.files, self.size, self.reach = root, files, size, reach

    def __getitem__(self, rows: list[int]) -> np.ndarray | str:
        import numpy as np

        try:
            return np.stack([self._one(self.root / self.files[row]) for row in rows])
        except UserError as error:
            return str(error)

    def _one(self, path: Path) -> np.ndarray:
        picture = opened(path, str(path), *self.size).picture
        if isinstance(picture, Deep):
            if self.reach | picture.reach != self.reach:
                raise UserError(f"{path} has more than 8 bits, and is named as a JPEG; give it another name")
            picture = shown(picture, self.reach)
        return fitted(picture, *self.size, crop=True)


def _heed_the_reader_alone(worker: int) -> None:
    """End a worker by SIGTERM where its parent sends it, not where all processes of a job are asked to stop.

    The parent then still finishes its update and its checkpoint, for which it may wait for a load.
    """
    asked = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    reader = os.getppid()

    def listen() -> None:
        while signal.sigwaitinfo(asked).si_pid != reader:
            pass
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
