"""What strangers' files are where they are no plain table of tensors, and what to do about it, in words."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights; fetch them with git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first (gunzip, or tar xzf for a .tar.gz)"),
    (b"BZh", "compressed with bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first (zstd -d)"),
    (b"\x89HDF", "an HDF5 file (Keras), which is not supported; give a PyTorch or safetensors file"),
    (b"GGUF", "a GGUF file, which is not supported; give a PyTorch or safetensors file"),
    (b"\x93NUMPY", "a NumPy array, not a table of weights; give a PyTorch or safetensors file"),
)

_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # what files of PyTorch before 1.6 begin with


def folder(path: Path) -> str:
    """What to say of a folder."""
    names = {child.name for child in path.iterdir()}
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return (
            f"{path} is the folder of a sharded checkpoint; merge it into one file:"
            f" python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} weights.pth"
        )
    if "zero_to_fp32.py" in names:
        return f"{path} is a DeepSpeed folder; merge it into one file with the zero_to_fp32.py in it"
    return f"{path} is a folder; give the weights file in it"


def other_kind(path: Path) -> str:
    """What a file is, and what to do, where its content tells that it is no checkpoint; else ""."""
    with path.open("rb") as stream:
        start = stream.read(512)
    if not start:
        return "empty; download it again"
    for beginning, what in _BEGINNINGS:
        if start.startswith(beginning):
            return what
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the weights; download the file that the page links to"
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it and give the weights file in it"
    if start.lstrip().startswith((b"{", b"[")):
        return "a JSON file, not the weights; give a weights file that it lists"
    if start.startswith(b"\x80") and _MAGIC not in start[:32]:
        return (
            "a pickle that PyTorch did not write, and reading it could run code in it; if you trust it, load it"
            " yourself and save its tensors with torch.save"
        )
    if start.startswith(b"PK"):
        return _archive(path)
    return ""


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        return ""  # who reads it finds what is damaged
    if any(name.endswith("constants.pkl") for name in names):
        return (
            "a TorchScript program; if you trust it, save only its weights and give that file: python -c"
            f" \"import torch; torch.save(torch.jit.load('{path.name}', 'cpu').state_dict(), 'weights.pth')\""
        )
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz), which is not supported; give a PyTorch or safetensors file"
    return ""


def is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as one of safetensors: by its content, else by its name."""
    with path.open("rb") as stream:
        start = stream.read(9)
    length = int.from_bytes(start[:8], "little")
    told = len(start) == 9 and start[8:] == b"{" and length + 8 <= path.stat().st_size
    return told or (path.suffix == ".safetensors" and bool(start) and not other_kind(path))


def misnamed(path: Path) -> str:
    """What a file called `.safetensors` is, and what to do, where it begins as those of PyTorch do; else ""."""
    with path.open("rb") as stream:
        start = stream.read(32)
    torchs = start.startswith(b"PK\x03\x04") or (start.startswith(b"\x80") and _MAGIC in start)
    if path.suffix != ".safetensors" or not torchs or other_kind(path):
        return ""
    return f"not a safetensors file, it begins like a PyTorch file; rename it to {path.with_suffix('.pth').name}"


def refusal(path: Path, name: str, module: bool) -> str:
    """Of a file that only running code could read. name: what it would run, "" if unknown. module: it holds one."""
    if name.startswith(("torch.distributed", "torch._utils._rebuild_wrapper_subclass")):
        return (
            f"refused, its tensors are sharded over several processes ({name}); save full tensors instead"
            " (get_model_state_dict of torch.distributed.checkpoint, with full_state_dict=True)"
        )
    state, note = "['state_dict']", "the key may have another name"
    if module:
        state, note = ".state_dict()", "for a module in a table: ['NAME'].state_dict()"
    return (
        f"refused, reading it would run code in it ({name or 'more than tensors and plain values'});"
        " if you have and trust its author's code, save only the weights and give that file: python -c \""
        f"import torch; torch.save(torch.load('{path.name}', weights_only=False){state}, 'weights.pth')\" ({note})"
    )


def harmless() -> list[Any]:
    """What files may name beside tensors, since making one does nothing: arrays and numbers of NumPy, dates, paths."""
    import collections
    import datetime
    import pathlib

    import numpy as np
    from numpy._core import multiarray

    kinds = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type)]
    made: list[Any] = [np.ndarray, np.dtype, *kinds]
    for place in ("numpy._core.multiarray", "numpy.core.multiarray"):  # of NumPy 2 and 1
        made += [(getattr(multiarray, name), f"{place}.{name}") for name in ("_reconstruct", "scalar")]
    dates = [datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone]
    plain = [dict, list, set, int, float, str]  # what a defaultdict makes
    return [*made, *dates, collections.defaultdict, *plain, pathlib.PosixPath, pathlib.PurePosixPath]


def tensor(value: Any) -> tuple[Tensor] | None:
    """A tensor or array of numbers as a tensor, in a tuple; None for anything else."""
    import numpy as np

    if isinstance(value, Tensor):
        return (value.detach(),)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
        plain = value.astype(value.dtype.newbyteorder("="), copy=False)
        try:
            return (torch.from_numpy(np.ascontiguousarray(plain)).reshape(value.shape),)
        except TypeError:  # torch has no such numbers
            return None
    return None
