"""What the tests of methods share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROCESS = """
import json, sys, torch
import torch.distributed as dist
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
{code}
print(json.dumps(answer))
dist.destroy_process_group()
"""


@pytest.fixture(scope="session", autouse=True)
def _operators() -> None:
    """Before any test imports mmpretrain, which would else leave mmcv without operators for the tests of detection."""
    from eval import mmcv_ops

    mmcv_ops.install()


@pytest.fixture
def on_two_processes(tmp_path: Path) -> Callable[[str], list[Any]]:
    """Runs code on both ranks of a gloo group; it finds torch (seed 0) and rank, and leaves plain JSON in `answer`."""

    def run(code: str) -> list[Any]:
        command = [sys.executable, "-c", PROCESS.format(code=code)]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(tmp_path / "store")],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            for rank in (0, 1)
        ]
        return [json.loads(process.communicate(timeout=240)[0].splitlines()[-1]) for process in ranks]

    return run
