"""Fixtures that every room's tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

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
