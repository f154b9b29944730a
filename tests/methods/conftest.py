"""What the tests of methods share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _operators() -> None:
    """Before any test imports mmpretrain, which would else leave mmcv without operators for the tests of detection."""
    from eval import mmcv_ops

    mmcv_ops.install()
