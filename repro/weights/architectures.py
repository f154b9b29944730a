"""Networks by the names that `--arch` takes: the table [network] of each. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _resnet(depth: int, stem: str) -> dict[str, Any]:
    return {"arch": "resnet", "depth": depth, "width": 64, "stem": stem, "zero_init_residual": False}


def _vit(dim: int, heads: int) -> dict[str, Any]:
    return {
        "arch": "vit",
        "size": 224,
        "dim": dim,
        "depth": 12,
        "heads": heads,
        "patch": 16,
        "qkv_bias": True,
        "eps": 1e-6,
        "positions": "learned",
        "init": "torch",
        "freeze_patches": False,
        "pool": "class",
    }


ARCHS: Mapping[str, Mapping[str, Any]] = {
    **{f"resnet{depth}": _resnet(depth, "imagenet") for depth in (18, 34, 50)},
    **{f"resnet{depth}-cifar": _resnet(depth, "cifar") for depth in (18, 34, 50)},
    "vit_tiny": _vit(192, 3),
    "vit_small": _vit(384, 6),
    "vit_base": _vit(768, 12),
}
"""What `--arch` may say: the table [network] of each; any key may be changed with --set network.KEY=VALUE."""
