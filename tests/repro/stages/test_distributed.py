"""Processes that train together are one process: the whole job, from the plan's arguments to record and encoder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from repro import jobs, load
from repro.cli.dispatch import main
from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.request import Request
from repro.results.explain import explain
from repro.settings import Settings
from repro.stages import distributed
from repro.store import checkpoints
from repro.store.encoder_file import ENCODER
from repro.store.workspace import Workspace
from slurm import scheduler
from slurm.states import TaskState
from slurm.status import of_folder

pytestmark = [pytest.mark.processes, pytest.mark.trains]

ROOT = Path(__file__).parents[3]
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
        request = Request((method,), "embedded", (), overrides=overrides, processes=processes)
        (job,) = make(request, settings).jobs
        finished(start(settings.workspace, job.to_json(), processes))
        found[processes] = left(settings, job.fingerprint)
    (one, record), (two, shared) = found[1], found[2]
    require_equal(one, two)
    assert record["cost"]["updates"] == 1
    for key in ("flops", "updates", "image_passes"):
        assert shared["cost"][key] == record["cost"][key]
    for key, value in record["metrics"].items():  # the mean over the processes is the loss of the whole batch
        if key.startswith("final_loss"):
            assert shared["metrics"][key] == pytest.approx(value, abs=1e-5)


# A ViT and its decoder are smooth as they are, and each row is by itself: nothing but the sums of gradients differs.
LINE = (
    "--method mae --eval knn --set pretrain.epochs=1 pretrain.batch=32 pretrain.warmup_epochs=0 pretrain.precision=fp32"
    " pretrain.optimizer=sgd pretrain.lr=0.5 network.depth=2 network.dim=24 data.limit=40"
).split()


def trained_by_one(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The encoder of LINE, from one process: this one."""
    monkeypatch.setattr(jobs, "settle", lambda count: None)
    settings = Settings(workspace=workspace)
    request = Request((LINE[1],), "embedded", (), overrides=tuple(LINE[5:]))
    (job,) = make(request, settings).jobs
    jobs.run(str(workspace), [job.to_json()])
    return left(settings, job.fingerprint)[0]


def encoder_and_record() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `run` has left below the current directory."""
    (record,) = [json.loads(path.read_text()) for path in Path("repro-work/records").glob("pretrain-*.json")]
    path = Workspace(Path("repro-work")).encoder(record["fingerprint"])
    return checkpoints.load(path, ENCODER)["weights"], record


def require_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name].float(), value.float(), atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_run_of_two_processes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *LINE[:4], "--processes", "2", "--executor", "local", *LINE[4:]]) == 0
    two, record = encoder_and_record()
    require_equal(trained_by_one(tmp_path / "one", monkeypatch), two)
    assert record["provenance"]["processes"] == 2 and record["cost"]["updates"] == 1
    assert len(list(Path("repro-work/records").glob("knn-*.json"))) == 1
    said = explain(record["fingerprint"], Settings(workspace=Path("repro-work")))
    assert "--method mae --seed 0 --processes 2 " in said
    assert load("mae", overrides=LINE[5:], processes=2).pretrained
    assert not load("mae", overrides=LINE[5:]).pretrained


@pytest.mark.slow
def test_two_processes_that_were_interrupted_go_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["run", *LINE[:4], "--processes", "2", "--executor", "local", *LINE[4:], "pretrain.epochs=60"]
    found = []
    for interruptions in (1, 0):
        (tmp_path / str(interruptions)).mkdir()
        monkeypatch.chdir(tmp_path / str(interruptions))
        if interruptions:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            running = subprocess.Popen(
                [sys.executable, "-m", "repro", *line], env=environment, stdout=subprocess.DEVNULL
            )
            while not any(path.read_text().count("\n") > 3 for path in Path("repro-work").glob("jobs/*/log.jsonl")):
                assert running.poll() is None
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 130
            assert list(Path("repro-work").glob("jobs/*/training.pt"))
            assert not list(Path("repro-work").glob("records/*"))
        assert main(line) == 0
        found.append(encoder_and_record())
    (again, record), (once, _) = found
    assert record["cost"]["updates"] == 60
    assert again.keys() == once.keys() and all(torch.equal(again[name], once[name]) for name in once)


def on_slurm(line: list[str]) -> TaskState:
    """Run that line on SLURM; how the pre-training has ended there."""
    assert main(["run", "--executor", "slurm", *line]) == 0
    place, end = Workspace(Path("repro-work")).processes, time.monotonic() + 240
    while any(state.live for state in of_folder(place)) and time.monotonic() < end:
        time.sleep(1)
    found = of_folder(place)
    assert {state.state for state in found} == {"done"}, [(state.key, state.reason) for state in found]
    (pretrain,) = [state for state in found if state.task.stage == "pretrain"]
    return pretrain


@pytest.mark.slurm
def test_a_run_of_two_processes_on_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := scheduler.available():
        pytest.skip(f"{reason} (tests/slurm/cluster.sh starts one)")
    monkeypatch.chdir(tmp_path)
    pretrain = on_slurm([*LINE[:4], "--processes", "2", *LINE[4:]])
    assert pretrain.task.resources.ranks_per_node == 2
    two, record = encoder_and_record()
    require_equal(trained_by_one(tmp_path / "one", monkeypatch), two)
    assert record["provenance"]["slurm"]["SLURM_JOB_ID"] == pretrain.job


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("three_nodes")
def test_two_ranks_on_each_of_two_nodes_train_what_four_on_one_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, found = [*LINE[:4], "--processes", "4", *LINE[4:], "pretrain.epochs=5"], []
    for where in ("nodes", "here"):
        (tmp_path / where).mkdir()
        monkeypatch.chdir(tmp_path / where)
        if where == "nodes":
            Path("mine.toml").write_text("cpus_per_node = 2\n")
            pretrain = on_slurm(["--cluster", "mine.toml", *line])
            assert (pretrain.task.resources.nodes, pretrain.task.resources.ranks_per_node) == (2, 2)
        else:
            assert main(["run", "--executor", "local", *line]) == 0
        found.append(encoder_and_record())
    (apart, record), (together, _) = found
    assert record["cost"]["updates"] == 5
    assert len(scheduler.ask(["scontrol", "show", "hostnames", pretrain.nodes]).split()) == 2
    require_equal(together, apart)


def test_processes_that_were_not_started_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(UserError, match="planned for 2 ranks, but none were started together"),
        distributed.group(2, torch.device("cpu")),
    ):
        pass


def test_rows_are_dealt_out_in_order() -> None:
    parts = [distributed.Group(rank, 4).part(slice(32, 64)) for rank in range(4)]
    assert [(part.start, part.stop) for part in parts] == [(32, 40), (40, 48), (48, 56), (56, 64)]
