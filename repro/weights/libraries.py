"""Whose keys an encoder can be written under: the names that `--to` takes. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from repro.errors import unknown

LIBRARIES: Mapping[str, str] = {
    "torchvision": "torchvision",
    "timm": "timm",
    "mmpretrain": "onedl-mmpretrain",
    "safetensors": "safetensors",
}
"""By name the package that brings it."""


def require(name: str) -> None:
    """UserError with the nearest name where no library is called so."""
    if name not in LIBRARIES:
        raise unknown("library to export to", name, LIBRARIES)
