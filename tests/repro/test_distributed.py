"""Processes that train together are one process: the whole job, from the plan's arguments to record and encoder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from repro import checkpoints, distributed, plan
from repro.errors import UserError
from repro.settings import Settings
from repro.stages.common import ENCODER
from repro.workspace import Workspace

ROOT = Path(__file__).parents[2]
# One update of smooth networks: at a kink of ReLU, rounding alone moves a gradient by more than 1e-5, and after several
# updates rounding alone makes differences of 3e-4. Not channels_last, where torch's own BatchNorm sums less exactly.
SMALL = (
    "pretrain.epochs=1 pretrain.batch=32 pretrain.warmup_epochs=0 pretrain.precision=fp32 pretrain.optimizer=sgd"
    " pretrain.lr=0.5 pretrain.channels_last=false network.width=8 method.head_dim=32 data.limit=40"
)
HEADS = {
    "byol": " method.projector_hidden=32 method.predictor_hidden=32",
    "simclr": " method.head_hidden=32",
    "moco_v2": " method.head_hidden=32 method.bank_size=64",
}
START = """
import json, sys
import torch
from methods.parts import encoders
torch.nn.ReLU.forward = lambda self, x: torch.nn.functional.silu(x)
torch.nn.functional.relu = lambda x, inplace=False: torch.nn.functional.silu(x)
torch.relu = torch.nn.functional.silu
from repro import jobs
jobs.run(sys.argv[1], json.loads(sys.argv[2]))
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(workspace: Path, job: dict[str, Any], processes: int) -> list[subprocess.Popen[str]]:
    """That job as torchrun would start it; a single process has none of the variables."""
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(processes)}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", START, str(workspace), json.dumps([job])]
    return [
        subprocess.Popen(
            command,
            env=env if processes == 1 else {**env, **group, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]


def finished(running: list[subprocess.Popen[str]]) -> None:
    for process in running:
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, out


def left(settings: Settings, mark: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    place = Workspace(settings.workspace)
    weights = checkpoints.load(place.encoder(mark), ENCODER)["weights"]
    (record,) = [json.loads(path.read_text()) for path in place.records.glob("*.json")]
    return weights, record


@pytest.mark.parametrize("method", ["byol", "simclr", "moco_v2"])
def test_two_processes_train_what_one_trains(method: str, tmp_path: Path) -> None:
    found = {}
    for processes in (1, 2):
        settings = Settings(workspace=tmp_path / str(processes))
        overrides = tuple((SMALL + HEADS[method]).split())
        request = plan.Request((method,), "embedded", (), overrides=overrides, processes=processes)
        (job,) = plan.make(request, settings).jobs
        finished(start(settings.workspace, plan.as_args(job, settings), processes))
        found[processes] = left(settings, job.fingerprint)
    (one, record), (two, shared) = found[1], found[2]
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name].float(), value.float(), atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert record["cost"]["updates"] == 1
    for key in ("flops", "updates", "image_passes"):
        assert shared["cost"][key] == record["cost"][key]
    for key, value in record["metrics"].items():  # the mean over the processes is the loss of the whole batch
        if key.startswith("final_loss"):
            assert shared["metrics"][key] == pytest.approx(value, abs=1e-5)


def test_processes_that_were_not_started_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(UserError, match="planned for 2 processes, and none were started together"),
        distributed.group(2, torch.device("cpu")),
    ):
        pass


def test_rows_are_dealt_out_in_order() -> None:
    parts = [distributed.Group(rank, 4).part(slice(32, 64)) for rank in range(4)]
    assert [(part.start, part.stop) for part in parts] == [(32, 40), (40, 48), (48, 56), (56, 64)]
