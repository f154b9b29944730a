"""Files of weights, of PyTorch or safetensors: what tensors are in them. Nothing in a file is executed."""

from __future__ import annotations

import json
import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.errors import UserError, printable
from repro.weights import strangers
from repro.weights.architectures import ARCHS

_DEEPEST = 100  # tables in tables
_LONGEST = 500  # characters of a name


@dataclass(frozen=True)
class File:
    """A checkpoint of anybody's.

    name: of the file, without folders.  tensors: by dotted path through the tables that the file holds.
    about: network, mean and std, where we wrote the file ourselves and it says them; else empty.
    """

    name: str
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


def oddity(value: Tensor) -> str:
    """Why a tensor is no plain numbers in memory, as the end of a sentence; "" for an ordinary one."""
    kind = plain_dtype(value)
    if type(value) not in (Tensor, torch.nn.Parameter):
        return f"is a {type(value).__name__}, parts of which may be in other processes"
    if value.is_nested:
        return "is a nested tensor"
    if value.is_quantized:
        return f"is quantized ({kind})"
    if value.layout != torch.strided:
        return f"is sparse ({str(value.layout).removeprefix('torch.')})"
    if value.is_meta:
        return "has no values (a meta tensor)"
    if value.is_complex():
        return f"holds complex numbers ({kind})"
    if value.is_floating_point() and value.dtype.itemsize < 2:
        return f"holds 8-bit numbers ({kind}), whose scale is unknown"
    return ""


def plain_dtype(value: Tensor) -> str:
    """`float16`."""
    return str(value.dtype).removeprefix("torch.")


def read(path: Path) -> File:
    """The tensors of a file of PyTorch or safetensors, on the CPU; nothing in it is executed. Arrays of NumPy are too.

    Raises UserError, in one line, where there is no such file, it is damaged, would have to be unpickled in full, or
    holds no tensors.
    """
    if path.is_dir():
        raise UserError(strangers.folder(path))
    if not path.is_file():
        raise UserError(f"no such file: {path}; give an existing file")
    if misnamed := strangers.misnamed(path):
        raise UserError(f"{path}: {misnamed}")
    if strangers.is_safetensors(path):
        return _read_safetensors(path)
    if other := strangers.other_kind(path):
        raise UserError(f"{path}: {other}")
    state = _unpickled(path)
    tensors: dict[str, Tensor] = {}
    for name, value in _flat(state, path):
        if name in tensors:
            raise UserError(f"{path}: two of its tensors have the same name, {name}; save it with different names")
        tensors[name] = value
    if not tensors or "" in tensors:
        raise UserError(
            f"{path}: it contains {type(state).__name__}, not a table of weights;"
            " save the weights with torch.save(model.state_dict(), FILE)"
        )
    about: dict[str, Any] = {}
    if isinstance(state, Mapping) and {"form", "network", "mean", "std", "weights"} <= state.keys():
        about = _about(state, path)
    return File(path.name, tensors, about)


def _unpickled(path: Path) -> Any:
    if part := _broken_part(path):
        raise UserError(f"{path}: damaged ({part} does not match its checksum); download it again")
    try:
        # Of sparse and quantized tensors torch warns, in lines of its own; they are refused by name later.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(strangers.harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|(torch\.distributed[\w.]*)", str(error))
        if not found and "global" not in str(error).lower():
            raise UserError(
                f"{path}: damaged, or not a PyTorch checkpoint;"
                " download it again, or write it with torch.save(model.state_dict(), FILE)"
            ) from None
        name = found[1] or found[2] if found else ""
        raise UserError(f"{path}: {strangers.refusal(path, name, _holds_module(path))}") from None
    except Exception as error:  # torch has many for a file that is cut off or of another kind
        reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
        raise UserError(
            f"{path}: damaged, or not a PyTorch checkpoint ({reason[:100]});"
            " download it again, or write it with torch.save(model.state_dict(), FILE)"
        ) from None


def _broken_part(path: Path) -> str:
    """The part of the archive whose checksum is another, which torch does not ask; "" for none.

    A checksum of 0 stands for none: torch writes it where it is told to save time (set_crc32_options).
    """
    if not zipfile.is_zipfile(path):
        return ""
    name = "its table of contents"
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                name = part.filename
                if part.CRC:
                    with archive.open(part) as stream:
                        while stream.read(1 << 20):
                            pass
    except Exception:  # a flipped bit may also say "encrypted", or name a compression that there is not
        return ascii(name)[1:-1]
    return ""


def _holds_module(path: Path) -> bool:
    """Whether a module of PyTorch was pickled, by the attributes that each has: nothing is unpickled to find out."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(name) >= 0 for name in (b"_parameters", b"_modules"))


def _flat(value: Any, path: Path, name: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """Each tensor in a table and in what is in it, by its dotted name. Raises UserError for a name that is none."""
    if tensor := strangers.tensor(value):
        if printable(name) != name or len(name) > _LONGEST:
            raise UserError(
                f"{path}: a tensor's name is too long or contains unprintable characters: {ascii(name)[:80]};"
                " save it under another name"
            )
        yield name, tensor[0]
    elif isinstance(value, (Mapping, list, tuple)):
        if id(value) in above or len(above) == _DEEPEST:
            raise UserError(
                f"{path}: a table in it contains itself, or tables are nested more than {_DEEPEST} deep;"
                " save only the weights: torch.save(model.state_dict(), FILE)"
            )
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(item, path, f"{name}.{key}" if name else str(key), (*above, id(value)))


def _share(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _about(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Network, mean and std of a file of ours. Raises UserError where they are none."""
    network = said["network"]
    if not isinstance(network, Mapping) or not isinstance(network.get("arch"), str):
        raise UserError(f"{path}: damaged, its network is not a table with the key arch; export it again")
    for known in ARCHS.values():
        for key, value in known.items() if known["arch"] == network["arch"] else ():
            kinds = (int, float) if isinstance(value, float) else type(value)
            given = network.get(key, value)
            if not isinstance(given, kinds) or isinstance(given, bool) != (kinds is bool):
                raise UserError(
                    f"{path}: damaged, its network.{key} does not have the type of {value!r}; export it again"
                )
    for key in ("mean", "std"):
        values = said[key]
        fits = isinstance(values, (list, tuple)) and len(values) == 3
        if not fits or not all(_share(value) and (value or key == "mean") for value in values):
            raise UserError(f"{path}: damaged, its {key} is not three numbers from 0 to 1; export it again")
    return {"network": dict(network), "mean": list(said["mean"]), "std": list(said["std"])}


def _read_safetensors(path: Path) -> File:
    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"{path}: {error}; pip install safetensors") from None
    try:
        with safetensors.safe_open(path, "pt") as stream:
            said, names = stream.metadata() or {}, stream.keys()
            tensors = {name: stream.get_tensor(name) for name in names}
    except Exception as error:  # its own, and those of torch for a kind of number that it does not have
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: damaged, or not a safetensors file ({reason[:80]}); download it again") from None
    if not tensors:
        raise UserError(f"{path}: it contains no tensors; give a file with weights")
    flat = dict(_flat(tensors, path))
    if not {"network", "mean", "std"} <= said.keys():
        return File(path.name, flat, {})
    try:
        about = {key: json.loads(said[key]) for key in ("network", "mean", "std")}
    except (ValueError, RecursionError):
        raise UserError(f"{path}: damaged, its description of the network is not JSON; export it again") from None
    return File(path.name, flat, _about(about, path))
