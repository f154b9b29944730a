"""What needs a SLURM of several nodes on this machine: tests/slurm/cluster.sh start --nodes 3."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.request import Request
from repro.run import cancel_retry, logs, status
from repro.settings import Settings
from repro.store import checkpoints
from repro.store.encoder_file import ENCODER
from repro.store.workspace import Workspace
from slurm import cluster, local, scheduler
from slurm.folder import Folder
from slurm.graph import Graph, Resources, Task
from slurm.profile import Profile
from slurm.states import TaskState

pytestmark = pytest.mark.slurm
StatesWhen = Callable[..., dict[str, TaskState]]
SMALL = Resources(memory_gb=0.1, minutes=5)
HOME = Path(os.environ.get("SLURM_TEST_HOME", "/var/lib/slurm-one-node"))


def test_an_array_is_spread_and_status_logs_and_cancel_say_over_which_nodes(
    three_nodes: list[str], tmp_path: Path, states_when: StatesWhen
) -> None:
    settings, folder = Settings(workspace=tmp_path, executor="slurm"), Workspace(tmp_path).processes
    naps = [
        Task(f"t{i}", "jobs_for_tests:nap", {"seconds": 300, "notes": str(tmp_path)}, SMALL, stage="nap")
        for i in range(2 * len(three_nodes))  # as many as there are slots
    ]
    submission = cluster.submit(Graph(naps), folder=folder)
    assert submission.calls == 1
    found = states_when(folder, lambda found: all(state.state == "running" and state.nodes for state in found.values()))
    assert sorted(state.nodes for state in found.values()) == sorted(2 * three_nodes)
    table = status.status(settings)
    for key, state in found.items():
        assert re.search(rf"^{key}: running \[{submission.jobs[key]} on {state.nodes}\]$", table, re.M), table
        assert logs.logs(settings, key).startswith(f"{key}: running [{submission.jobs[key]} on {state.nodes}]")
    assert f", on {', '.join(three_nodes)}; " in cancel_retry.cancel(settings, [])
    found = states_when(folder, lambda found: not any(state.live for state in found.values()))
    assert {state.state for state in found.values()} == {"cancelled"}


def pid_of(node: str) -> int:
    try:
        return int((HOME / "run" / f"slurmd.{node}.pid").read_text())
    except (OSError, ValueError):
        pytest.skip("this is not the cluster of cluster.sh")


@pytest.fixture
def as_it_was(three_nodes: list[str]) -> Iterator[None]:
    """Whatever the test does to the nodes' daemons, they run afterwards."""
    pid_of(three_nodes[0])
    yield
    count = str(len(three_nodes))
    script = Path(__file__).with_name("cluster.sh")
    subprocess.run([script, "start", "--nodes", count], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def blind(as_it_was: None, three_nodes: list[str], tmp_path: Path) -> Iterator[str]:
    """A node that has an empty folder in place of the test's."""
    node = three_nodes[-1]

    def leave() -> None:
        daemon = psutil.Process(pid_of(node))
        daemon.terminate()
        daemon.wait(60)

    leave()
    line = f'mount -t tmpfs none "{tmp_path}" && exec slurmd -N {node}'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", line], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no mount of its own for a node: {done.stderr.strip()}")
    yield node
    leave()


def test_a_job_on_a_node_that_cannot_see_the_workspace_says_so(
    blind: str, tmp_path: Path, states_when: StatesWhen
) -> None:
    task = Task("a", "jobs_for_tests:add", {"a": 1, "b": 2}, SMALL)
    cluster.submit(Graph([task]), folder=tmp_path / "run", profile=Profile(sbatch={"nodelist": blind}))
    state = states_when(tmp_path / "run", lambda found: not found["a"].live)["a"]
    assert state.state == "failed"
    assert state.reason.startswith(f"it left no log: {blind} cannot write to this workspace; choose one that all nodes")


@pytest.mark.slow
def test_the_doctor_names_a_node_that_cannot_see_the_workspace(
    blind: str, three_nodes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_DATA", raising=False)
    assert main(["doctor", "--cluster", "default"]) == 1
    out = capsys.readouterr().out
    assert re.search(rf"^ok +small job: job \d+ ran on {three_nodes[0]}$", out, re.M), out
    assert re.search(rf"^ok +nodes: {', '.join(three_nodes[:-1])} see the workspace$", out, re.M), out
    assert re.search(rf"^fault +nodes: {blind} does not see the workspace: job \d+: it left no log", out, re.M), out


# One update an epoch; a ViT and its decoder, since those are smooth.
LINE = (
    "pretrain.epochs=40 pretrain.batch=32 pretrain.warmup_epochs=0 pretrain.precision=fp32 pretrain.optimizer=sgd"
    " pretrain.lr=0.5 network.depth=2 network.dim=24 data.limit=40"
)


def training(workspace: Path, resources: Resources, pause: float) -> tuple[Task, Path]:
    """A pre-training by these ranks that saves a checkpoint at every update, and where its encoder will be."""
    request = Request(("mae",), "embedded", (), overrides=tuple(LINE.split()), processes=resources.ranks)
    (job,) = make(request, Settings(workspace=workspace)).jobs
    args = {"workspace": str(workspace), "jobs": [job.to_json()], "pause": pause}
    return Task("a", "repro.run.drill:work", args, resources), Workspace(workspace).encoder(job.fingerprint)


def require_equal_bits(encoder: Path, tmp_path: Path, ranks: int) -> None:
    """It is what as many ranks of this machine train without any interruption."""
    task, expected = training(tmp_path / "whole", Resources(ranks_per_node=ranks, memory_gb=0.8), 0.0)
    outcomes = local.run(Graph([task]), folder=Workspace(tmp_path / "whole").processes)
    assert outcomes["a"].state == "done", outcomes
    one, other = (checkpoints.load(path, ENCODER)["weights"] for path in (expected, encoder))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def has_come_to(folder: Folder, step: int) -> Callable[[dict[str, TaskState]], bool]:
    started = time.time()

    def far(found: dict[str, TaskState]) -> bool:
        assert found["a"].live, found
        return (report := folder.read_progress("a", started)) is not None and report.done >= step

    return far


def kill_node(node: str) -> None:
    """End its daemon and all that runs on it, without a word to anybody."""
    victims = [psutil.Process(pid_of(node))]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURMD_NODENAME") == node:
                victims += [process, *(parent for parent in process.parents() if parent.name() == "slurmstepd")]
    assert len(victims) > 2, "a task, the step that it is of, and the daemon"
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("place", [0, -1])  # the node of rank 0 and of the job's script, or the other one
def test_a_job_of_a_node_that_dies_goes_on_elsewhere_from_its_checkpoint(
    place: int, tmp_path: Path, states_when: StatesWhen
) -> None:
    apart = Resources(nodes=2, ranks_per_node=2, memory_gb=0.8, minutes=10)
    task, encoder = training(tmp_path / "died", apart, 0.3)
    folder = Folder(Workspace(tmp_path / "died").processes)
    cluster.submit(Graph([task]), folder=folder.root)
    before = states_when(folder.root, has_come_to(folder, 10), 240)["a"]
    nodes = scheduler.ask(["scontrol", "show", "hostnames", before.nodes]).split()
    assert len(nodes) == 2
    kill_node(nodes[place])
    after = states_when(folder.root, lambda found: not found["a"].live, 400)["a"]
    assert (after.state, after.restarts, after.job) == ("done", 1, before.job), after
    others = scheduler.ask(["scontrol", "show", "hostnames", after.nodes]).split()
    assert len(others) == 2 and nodes[place] not in others
    report = folder.read_progress("a", 0.0)
    assert report is not None and report.first >= 9, "it went on from the update that it had come to"
    require_equal_bits(encoder, tmp_path, 4)
    # Nothing of the first life is left that could still write.
    left = [(process.info["environ"] or {}).get("SLURM_JOB_ID") for process in psutil.process_iter(["environ"])]
    assert before.job not in left


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.usefixtures("as_it_was")
def test_what_lives_on_where_a_node_was_given_up_and_its_successor_leave_one_result(
    tmp_path: Path, states_when: StatesWhen
) -> None:
    """Only the node's daemon dies: its job is queued again, while the first one's process goes on."""
    task, encoder = training(tmp_path / "lost", Resources(memory_gb=0.8, minutes=10), 2.0)
    folder = Folder(Workspace(tmp_path / "lost").processes)
    cluster.submit(Graph([task]), folder=folder.root)
    before = states_when(folder.root, has_come_to(folder, 3), 240)["a"]
    psutil.Process(pid_of(before.nodes)).kill()
    second = states_when(folder.root, lambda found: found["a"].restarts == 1 and found["a"].state == "running", 120)[
        "a"
    ]
    assert second.nodes != before.nodes
    alive = [(process.info["environ"] or {}).get("SLURMD_NODENAME") for process in psutil.process_iter(["environ"])]
    assert before.nodes in alive, "the first one's process"
    after = states_when(folder.root, lambda found: not found["a"].live, 300)["a"]
    assert after.state == "done", after
    assert len(list(Workspace(tmp_path / "lost").records.glob("*.json"))) == 1
    require_equal_bits(encoder, tmp_path, 1)
