"""All that is asked of a device as such. `here` is what a part runs on: a CPU or a GPU. The rest of the parts does not
care which."""

from __future__ import annotations

from typing import Any

import torch

from repro.errors import UserError
from repro.store import provenance


def of_kind(kind: str) -> torch.device:
    """The device of that kind, of part.KINDS. UserError where this process sees none."""
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("gpu: torch finds no GPU here; --device cpu runs the same checks with small sizes")
    return torch.device(kind)


def wait(here: torch.device) -> None:
    """Until the device has done all that it was given."""
    if here.type == "cuda":
        torch.cuda.synchronize()


def reset_peak(here: torch.device) -> None:
    """Start the peak of memory anew."""
    if here.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        provenance.reset_peak()


def peak(here: torch.device) -> float:
    """Bytes that tensors on a GPU held at most; of a CPU, those that the whole process did."""
    return float(torch.cuda.max_memory_allocated()) if here.type == "cuda" else provenance.peak_mb() * 2**20


def facts(here: torch.device) -> dict[str, Any]:
    """What a figure of this device is told with: its name, its memory in bytes (0: a CPU's), and the versions."""
    found: dict[str, Any] = {"name": provenance.cpu_name(), "memory": 0, "torch": torch.__version__}
    if here.type == "cuda":
        has = torch.cuda.get_device_properties(here)
        found |= {"name": torch.cuda.get_device_name(), "memory": has.total_memory}
        found |= {"capability": f"{has.major}.{has.minor}", "processors": has.multi_processor_count}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {**found, "threads": torch.get_num_threads(), "packages": provenance.versions()}
