"""A new evaluation is one module, one stage, one row and one protocol: the rest of the program needs no edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.trains]

ROOT = Path(__file__).parents[3]
MODULE = '''"""Nearest class mean: a made-up evaluation of features."""
import numpy as np

def evaluate(data, protocol, context):
    means = np.stack([data.train.x[data.train.y == label].mean(axis=0) for label in range(data.classes)])
    distance = ((data.test.x[:, None] - means) ** protocol.power).sum(axis=2)
    context.progress(1, 1, {})
    right = distance.argmin(axis=1) == data.test.y
    counts = {"n_test": len(right), "n_train": len(data.train.y)}
    return {"metrics": {"hits": 100 * float(right.mean())}, "details": counts}
'''
PROTOCOL = '''"""What can change the number of a nearest-mean evaluation."""
from dataclasses import dataclass
from typing import ClassVar

from eval.protocols.base import Count, Features

@dataclass(frozen=True, kw_only=True)
class NearestMeanProtocol(Features):
    """Distance to class means."""

    kind: ClassVar[str] = "nearest_mean"
    power: Count = 2
'''
STAGE = '''"""Nearest class mean on cached features."""
from eval import nearest_mean
from eval.protocols.nearest_mean import NearestMeanProtocol
from repro.stages import features

def run(context):
    return features.judge(context, nearest_mean.evaluate, NearestMeanProtocol)
'''
ROW = """        Kind(
            name="nearest_mean",
            stage="repro.stages.nearest_mean:run",
            needs="features",
            task=FROZEN,
            evaluations=(Evaluation("nearest_mean", "nearest_mean", "Nearest class mean", ("hits",), _PERCENT),),
        ),
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the program with the four things added."""
    house = tmp_path / "house"
    for room in ("repro", "methods", "eval", "leaderboards", "slurm"):
        shutil.copytree(ROOT / room, house / room, ignore=shutil.ignore_patterns("__pycache__", "records"))
    (house / "eval" / "nearest_mean.py").write_text(MODULE)
    (house / "eval" / "protocols" / "nearest_mean.py").write_text(PROTOCOL)
    (house / "eval" / "protocols" / "nearest_mean.toml").write_text("[fast]\n[fourth]\npower = 4\n")
    (house / "repro" / "stages" / "nearest_mean.py").write_text(STAGE)
    table = house / "repro" / "plan" / "kinds.py"
    before, end, after = table.read_text().partition("    )\n}\n")
    table.write_text(before + ROW + end + after)
    return house


def test_it_is_planned_priced_run_recorded_and_shown(house: Path, tmp_path: Path) -> None:
    def repro(*words: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "repro", *words]
        environment = {**os.environ, "PYTHONPATH": str(house)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    small = "network.depth=1 network.dim=24 data.limit=100 pretrain.epochs=1".split()
    asked = ["--method", "random:vit", "--eval", "knn", "nearest_mean", "--set", *small, "knn.ks=[1]"]
    assert "power 2 4" in " ".join(repro("protocols", "nearest_mean").split())
    planned = repro("plan", *asked)
    assert "nearest_mean" in planned
    assert "did you mean 'nearest_mean'" in repro("plan", "--method", "aps", "--eval", "nearest_maen", status=2)

    out = repro("run", *asked, "--executor", "local")
    assert "2 tasks" in out  # it shares the task of the frozen encoder with k-NN
    (path,) = (tmp_path / "repro-work" / "records").glob("nearest_mean-*.json")
    record = json.loads(path.read_text())
    hits = record["metrics"]["hits"]
    assert 0 < hits <= 100 and record["protocol"]["name"] == "fast" and record["protocol"]["values"]["power"] == 2
    assert f"hits {hits:.1f}" in out

    boards = tmp_path / "repro-work" / "boards"
    assert f"{hits:.2f}" in (boards / "nearest_mean.md").read_text()
    assert "Nearest class mean" in (boards / "index.md").read_text()
    assert f"{hits:.2f}" in (boards / "report.html").read_text()
    assert "hits" in repro("explain", record["fingerprint"][:12])
    assert "4 cached, 0 to do" in repro("plan", *asked)
    again = repro("plan", *asked, "--seed", "0", "1")
    (priced,) = [line for line in again.splitlines() if "nearest_mean" in line and "to do" in line]
    assert "records" in priced, again  # by the one that it left
