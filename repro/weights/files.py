"""Files of weights, of PyTorch or safetensors: what tensors are in them. Nothing in a file is executed."""

from __future__ import annotations

import mmap
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.errors import UserError


@dataclass(frozen=True)
class File:
    """A checkpoint of anybody's.

    name: of the file, without folders.  tensors: by dotted path through the tables that the file holds.
    about: network, mean and std, where we wrote the file ourselves and it says them; else empty.
    """

    name: str
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


def read(path: Path) -> File:
    """The tensors of a file of PyTorch or safetensors, on the CPU; nothing in it is executed.

    Raises UserError, in one line, where there is no such file, it is damaged, would have to be unpickled in full, or
    holds no tensors.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the file of weights in it")
    if not path.is_file():
        raise UserError(f"no checkpoint {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "global" not in str(error):
            raise UserError(f"{path}: damaged, or no checkpoint of PyTorch") from None
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        state, note = "['state_dict']", "the table may have another name"
        if _holds_module(path):
            state, note = ".state_dict()", "of a module in a table: ['NAME'].state_dict()"
        raise UserError(
            f"{path}: refused, to read it would run code that it brings along"
            f" ({found[1] if found else 'more than tensors and plain values'}); where its author's code is at hand,"
            ' and trusted, keep the weights alone, and give that file: python -c "import torch; torch.save('
            f"torch.load('{path.name}', weights_only=False){state}, 'weights.pth')\" ({note})"
        ) from None
    except Exception as error:  # torch has many for a file that is cut off or of another kind
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path}: damaged, or no checkpoint of PyTorch ({reason[:100]})") from None
    about: dict[str, Any] = {}
    if isinstance(state, Mapping) and {"form", "network", "mean", "std", "weights"} <= state.keys():
        about = {key: state[key] for key in ("network", "mean", "std")}
    tensors = dict(_flat(state, ""))
    if not tensors:
        raise UserError(f"{path}: no table of weights in it, but {type(state).__name__}")
    return File(path.name, tensors, about)


def _holds_module(path: Path) -> bool:
    """Whether a module of PyTorch was pickled, by the attributes that each has: nothing is unpickled to find out."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(name) >= 0 for name in (b"_parameters", b"_modules"))


def _flat(value: Any, path: str) -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (Mapping, list, tuple)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(item, f"{path}.{key}" if path else str(key))


def _read_safetensors(path: Path) -> File:
    import json

    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"{path}: {error}; pip install safetensors") from None
    try:
        with safetensors.safe_open(path, "pt") as stream:
            said, names = stream.metadata() or {}, stream.keys()
            tensors = {name: stream.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged, or no file of safetensors ({str(error).splitlines()[0][:80]})") from None
    about = {key: json.loads(said[key]) for key in ("network", "mean", "std")} if "network" in said else {}
    return File(path.name, tensors, about)
