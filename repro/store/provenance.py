"""What a record says of the machine that made it: packages, device, memory."""

from __future__ import annotations

import os
import platform
import resource
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "numpy", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "pycocotools")


def cpu_name() -> str:
    """What records call the device where there is no GPU."""
    return f"CPU ({platform.machine()}, {os.cpu_count()} cores)"


def device_name() -> str:
    """What records call the device of this process. Imports torch."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()


def reset_peak() -> None:
    """Start the peak of resident memory anew, where the kernel lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_mb() -> float:
    """The peak of this process's resident memory, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
