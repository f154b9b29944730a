"""Pictures decoded once: folders of uint8 arrays that are memory-mapped ever after.

A folder is built beside its final place and renamed into it whole, so a reader sees all of it or nothing; a lock file
keeps several jobs from decoding the same pictures at once. Its name carries the source's manifest: changed pictures
get a new folder.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.data.manifest import file_sha256
from repro.data.types import RGB, Progress
from repro.errors import UserError

if TYPE_CHECKING:
    import numpy as np

VERSION = "1"  # raise it whenever the way from files to splits, pixels and limited subsets changes
STATISTICS_OF = 10**8  # mean and std are taken of about so many pixels at most: of evenly spaced training pictures


def build(final: Path, fill: Callable[[Path], None]) -> Path:
    """Make the folder `final` with `fill(temporary folder)` unless it is there. Atomic; concurrent callers are safe.

    Raises UserError where the place cannot be written or the disk is full.
    """
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _lock(final) as alone:
            if final.is_dir():
                return final
            if alone:  # what a killed process left half-done
                for stale in final.parent.glob(f"{final.name}.*.part"):
                    shutil.rmtree(stale, ignore_errors=True)
            # Not tempfile's, which only we could read: a group may share the workspace.
            temporary = final.with_name(f"{final.name}.{uuid.uuid4().hex}.part")
            temporary.mkdir()
            try:
                fill(temporary)
                with contextlib.suppress(FileExistsError):
                    _publish(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR):
            raise UserError(
                f"cannot write the data cache {final.parent}: {error.strerror}; free space or choose another workspace"
            ) from error
        raise
    return final


def _publish(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # somebody was faster, and theirs is as good
            raise FileExistsError(final) from error
        raise


@contextlib.contextmanager
def _lock(final: Path) -> Iterator[bool]:
    """Hold the builder's lock; yields False on file systems without locks, where the rename alone must do."""
    import fcntl

    with final.with_name(f".{final.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def write_pack(folder: Path, arrays: Sequence[str], description: Mapping[str, Any]) -> None:
    """Finish a pack: `pack.json` with the description and the sha256 of each of the named array files."""
    hashes = {name: file_sha256(folder / name) for name in arrays}
    (folder / "pack.json").write_text(json.dumps({**description, "sha256": hashes}, indent=1))


def read_pack(folder: Path) -> dict[str, Any]:
    """The description that `write_pack` left. Raises UserError where it cannot be read."""
    try:
        return dict(json.loads((folder / "pack.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"damaged pack {folder} ({error}); delete the folder, it is made again") from error


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


def decode(source: Path | bytes, label: str, height: int, width: int, *, crop: bool) -> np.ndarray:
    """One picture as uint8 [3, height, width]; bicubic with antialiasing (Pillow).

    crop: the shorter relative side is resized and the middle cut out (aspect ratio kept); otherwise both sides are
    resized. Raises UserError naming `label` where the picture cannot be decoded.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            # JPEGs far larger than needed are decoded at a half, a quarter ... of their size: >= twice what is kept
            image.draft("RGB", (2 * width, 2 * height))
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot decode {label} ({error}); replace or remove that picture") from error
    if picture.size != (width, height):
        box = None
        if crop:
            scale = min(picture.width / width, picture.height / height)
            left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
            box = (left, top, left + width * scale, top + height * scale)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture).transpose(2, 0, 1)


def pack_pictures(
    path: Path,
    sources: Sequence[tuple[str, Path]] | Sequence[tuple[str, bytes]],
    height: int,
    width: int,
    *,
    crop: bool,
    progress: Progress,
) -> None:
    """Decode (label, file or bytes) pictures into one array file uint8 [N, 3, height, width], on all cores.

    Threads do: Pillow decodes and resizes without the interpreter lock. Raises UserError naming the first bad picture.
    """
    import numpy as np

    shape = (len(sources), 3, height, width)
    if not sources:
        np.save(path, np.empty(shape, np.uint8))
        return
    need, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if need > free:
        raise UserError(
            f"{path.parent.parent}: decoded pictures need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        )
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    step = 256

    def work(start: int) -> int:
        for i in range(start, min(start + step, len(sources))):
            label, source = sources[i]
            out[i] = decode(source, label, height, width, crop=crop)
        return min(start + step, len(sources)) - start

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        done = 0
        for count in pool.map(work, range(0, len(sources), step)):
            done += count
            progress(done, len(sources), {"what": path.stem})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    out.flush()


def statistics(pixels: np.ndarray) -> tuple[RGB, RGB]:
    """Per-channel mean and standard deviation of pixels / 255, uint8 [N, 3, H, W], rounded to four digits."""
    import numpy as np

    step = -(-pixels[:, 0].size // STATISTICS_OF)
    pixels = pixels[:: max(1, step)]
    # exact, and without a float copy of the pictures: everything follows from how often each of 256 values occurs
    mean, std, values = [], [], np.arange(256) / 255
    for channel in range(3):
        share = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
        centre = float(share @ values)
        mean.append(round(centre, 4))
        std.append(round(float(np.sqrt(share @ (values - centre) ** 2)), 4))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def balanced(labels: np.ndarray | None, count: int, limit: int) -> np.ndarray:
    """Indices of `limit` of `count` pictures, ascending, equally many of every class (to within one).

    Fixed and nested: the pictures are put in one fixed random order (seed 0), then dealt class by class, and the first
    `limit` are taken; so a smaller limit gives a subset of a larger one. Without labels: the order's prefix.
    """
    import numpy as np

    order = np.random.default_rng(0).permutation(count)
    if labels is not None:
        mine = np.asarray(labels)[order]
        rank = np.empty(count, np.int64)
        for label in np.unique(mine):
            members = mine == label
            rank[members] = np.arange(int(members.sum()))
        order = order[np.lexsort((mine, rank))]
    return np.sort(order[:limit])
