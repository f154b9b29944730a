"""Fixtures that every room's tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real-picture packs; tests that need it skip with a reason where it is not there."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("REPRO_DATA", beside))
    if not (root / "cifar10-jpeg").is_dir():
        pytest.skip(f"no picture packs under {root}; set REPRO_DATA to a folder with cifar10-jpeg, coco-mini, ...")
    return root


@pytest.fixture(scope="session")
def miniature() -> Callable[..., Path]:
    """`miniature(name, root, **sizes)`: a tiny data set of the right layout below a data root (tests/miniatures.py)."""
    spec = importlib.util.spec_from_file_location("miniatures", Path(__file__).with_name("miniatures.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    writer: Callable[..., Path] = module.write
    return writer


@pytest.fixture(scope="session")
def shrunk() -> Callable[..., dict[str, dict[str, Any]]]:
    """`shrunk(name, variant, batch)`: a recipe with tiny networks, heads and memories; the algorithm stays as it is."""
    from repro import recipes

    def shrink(name: str, variant: str = "", batch: int = 16) -> dict[str, dict[str, Any]]:
        tables = recipes.resolve(recipes.find(name)[0], variant, "embedded", {})
        slim: dict[str, Any] = {"depth": 18, "width": 8, "stem": "cifar"}
        vit: dict[str, Any] = {"dim": 24, "depth": 1, "heads": 2, "patch": 8}
        tables["network"] |= {"size": 32} | (slim if tables["network"]["arch"] == "resnet" else vit)
        for key, value in tables["method"].items():
            if key.endswith(("_hidden", "_dim")) and value:
                tables["method"][key] = 32
            if key.endswith("bank_size"):
                tables["method"][key] = min(value, 3 * batch // 2)
            if key == "view_size":
                tables["method"][key] = min(value, 40)
        tables["pretrain"] |= {"batch": batch, "devices": 1, "accumulate": 1, "precision": "fp32", "base_batch": batch}
        return tables

    return shrink
