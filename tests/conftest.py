"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
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
