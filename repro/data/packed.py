"""Pictures decoded once: folders of uint8 arrays that are memory-mapped ever after (see `cache`)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.deep_pixels import Deep, Reach
from repro.data.data_sets import Entry
from repro.data.decoding import decode, fitted, opened
from repro.data.manifest import file_sha256
from repro.data.types import RGB, Progress
from repro.errors import UserError
from repro.store import atomic
from slurm.machine import cores_here

if TYPE_CHECKING:
    import numpy as np

VERSION = "1"  # raise it whenever the way from files to splits, pixels and drawn subsets changes
# Of data sets of which version 1 read something otherwise: pictures (`decoding.decoded_anew`) or names
# (`Layout.read_anew`). The packs of all others stay what they are. Whoever raises one of the two gives it a number that
# neither has had: where they are equal, packs of before pass for those of today.
VERSION_READ_ANEW = "2"
assert VERSION != VERSION_READ_ANEW
STATISTICS_OF = 10**8  # mean and std are taken of about so many pixels at most: of evenly spaced training pictures


Sources = Sequence[tuple[str, Path]] | Sequence[tuple[str, bytes]]
"""What messages call a picture, and its file or content."""


@dataclass
class Left:
    """What packing a split left: the rows of pictures of more than 8 bits, which wait for the range of the whole data
    set; what they reach; and how many pictures have more frames or pages than the first."""

    deep: list[int] = field(default_factory=list)
    reach: Reach = field(default_factory=Reach)
    several: int = 0


@dataclass
class Pack:
    """A pack being filled: its folder, the arrays written so far, and how many pictures each split has."""

    entry: Entry
    folder: Path
    height: int
    width: int
    progress: Progress
    arrays: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    left: list[tuple[str, Sources, bool, Left]] = field(default_factory=list)

    def pictures(self, split: str, sources: Sources, *, crop: bool) -> None:
        """Decode and store a split; its deep pictures when all splits are known."""
        name = f"{split}.npy"
        left = pack_pictures(self.folder / name, sources, self.height, self.width, crop=crop, progress=self.progress)
        self.left.append((name, sources, crop, left))
        self.arrays.append(name)
        self.counts[split] = len(sources)

    def _training_pixels(self) -> Any:
        return open_array(self.folder / "train.npy")

    def _remarks(self) -> list[str]:
        """Decode what waited for the range of the whole data set; a line on that, and on further frames, if any."""
        import numpy as np

        reach = Reach()
        for _, _, _, left in self.left:
            reach |= left.reach
        for name, sources, crop, left in self.left:
            if left.deep:
                array = np.lib.format.open_memmap(self.folder / name, mode="r+")
                for i in left.deep:
                    label, source = sources[i]
                    array[i] = decode(source, label, self.height, self.width, crop=crop, reach=reach)
                array.flush()
        deep, several = sum(len(left.deep) for *_, left in self.left), sum(left.several for *_, left in self.left)
        return [
            *([reach.words(deep)] if deep else []),
            *([f"{several:,} of the images have more than one frame or page: the first is taken"] if several else []),
        ]

    def decoded(self, split: str, pixels: np.ndarray) -> None:
        """Store pictures that are arrays already: uint8 [N, 3, H, W], resized if need be."""
        import numpy as np

        if pixels.shape[2:] != (self.height, self.width):
            from PIL import Image

            size = (self.width, self.height)
            resized = [
                np.asarray(Image.fromarray(p.transpose(1, 2, 0)).resize(size, Image.Resampling.BICUBIC)) for p in pixels
            ]
            pixels = np.stack(resized).transpose(0, 3, 1, 2)
        self.counts[split] = len(pixels)
        self.numbers(split, pixels)

    def numbers(self, name: str, values: np.ndarray) -> None:
        """Store any array."""
        import numpy as np

        atomic.replace(self.folder / f"{name}.npy", lambda stream: np.save(stream, np.ascontiguousarray(values)))
        self.arrays.append(f"{name}.npy")

    def finish(self, manifest: str, **description: Any) -> None:
        """Write `pack.json`: counts, source, mean and std of the training split."""
        entry = self.entry
        whole = all(self.counts.get(split) == count for split, count in entry.counts.items())
        part = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        remarks = self._remarks()
        mean, std = entry.statistics or statistics(self._training_pixels())
        write_pack(
            self.folder,
            self.arrays,
            {
                "name": entry.name,
                "source": entry.title if whole else f"{entry.title}, incomplete ({part})",
                "manifest": manifest,
                "counts": self.counts,
                "mean": mean,
                "std": std,
                "size": [self.height, self.width],
                **({"remarks": remarks} if remarks else {}),
                **description,
            },
        )


def write_pack(folder: Path, arrays: Sequence[str], description: Mapping[str, Any]) -> None:
    """Finish a pack: `pack.json` with the description and the sha256 of each of the named array files."""
    hashes = {name: file_sha256(folder / name) for name in arrays}
    (folder / "pack.json").write_text(json.dumps({**description, "sha256": hashes}, indent=1), encoding="utf-8")


def read_pack(folder: Path) -> dict[str, Any]:
    """The description that `write_pack` left. Raises UserError where it cannot be read."""
    try:
        return dict(json.loads((folder / "pack.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"damaged pack {folder} ({error}); delete the folder, it is made again") from error


def remarks(folder: Path) -> list[str]:
    """What is to be said of the pictures of a pack; nothing of a folder that is none."""
    return list(read_pack(folder).get("remarks", ())) if (folder / "pack.json").is_file() else []


def open_array(path: Path) -> np.ndarray:
    """Memory-map an array file, read only. Raises UserError where it is missing or cut short."""
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"damaged pack file {path} ({error}); delete its folder, it is made again") from error
    return np.asarray(array) if array.size == 0 else array


def check_pack(folder: Path) -> str | None:
    """One line naming the first array file of a pack that is not what was written, or None."""
    for name, expected in read_pack(folder)["sha256"].items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing; delete its folder, it is made again"
        if file_sha256(path) != expected:
            return f"{path} has changed since it was written; delete its folder, it is made again"
    return None


def pack_pictures(
    path: Path,
    sources: Sources,
    height: int,
    width: int,
    *,
    crop: bool,
    progress: Progress,
) -> Left:
    """Decode (label, file or bytes) pictures into one array file uint8 [N, 3, height, width], on all cores.

    Rows of deep pictures stay 0.

    Threads do: Pillow decodes and resizes without the interpreter lock. Raises UserError naming the first bad picture.
    """
    import numpy as np

    shape = (len(sources), 3, height, width)
    if not sources:
        np.save(path, np.empty(shape, np.uint8))
        return Left()
    need, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if need > free:
        raise UserError(
            f"{path.parent.parent}: decoded images need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "free some space, or choose another --workspace",
        )
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    step = 256

    def work(start: int) -> tuple[int, Left]:
        left = Left()
        for i in range(start, min(start + step, len(sources))):
            label, source = sources[i]
            found = opened(source, label, height, width)
            left.several += found.several
            if isinstance(found.picture, Deep):
                left.deep.append(i)
                left.reach |= found.picture.reach
            else:
                out[i] = fitted(found.picture, height, width, crop=crop)
        return min(start + step, len(sources)) - start, left

    pool = ThreadPoolExecutor(cores_here())
    try:
        done, all_left = 0, Left()
        for count, left in pool.map(work, range(0, len(sources), step)):
            done += count
            all_left.deep += left.deep
            all_left.reach |= left.reach
            all_left.several += left.several
            progress(done, len(sources), {"what": path.stem})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    out.flush()
    return all_left


def statistics(pixels: np.ndarray) -> tuple[RGB, RGB]:
    """Per-channel mean and standard deviation of pixels / 255, uint8 [N, 3, H, W], rounded to four digits."""
    import numpy as np

    step = -(-math.prod(pixels.shape) // 3 // STATISTICS_OF)
    pixels = pixels[:: max(1, step)]
    # exact, and without a float copy of the pictures: everything follows from how often each of 256 values occurs
    mean, std, values = [], [], np.arange(256) / 255
    for channel in range(3):
        share = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
        centre = float(share @ values)
        mean.append(round(centre, 4))
        std.append(round(float(np.sqrt(share @ (values - centre) ** 2)), 4))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def balanced(labels: np.ndarray | None, count: int, limit: int, seed: int) -> np.ndarray:
    """Indices of `limit` of `count` pictures, ascending, equally many of every class (to within one).

    The pictures are put in a random order that the seed alone decides, then dealt class by class, and the first `limit`
    are taken; so a smaller limit gives a subset of a larger one of the same seed. Without labels: the order's prefix.
    """
    import numpy as np

    order = np.random.default_rng(seed).permutation(count)
    if labels is not None:
        mine = np.asarray(labels)[order]
        rank = np.empty(count, np.int64)
        for label in np.unique(mine):
            members = mine == label
            rank[members] = np.arange(int(members.sum()))
        order = order[np.lexsort((mine, rank))]
    return np.sort(order[:limit])
