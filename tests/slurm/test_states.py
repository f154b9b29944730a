"""Where the nodes of the local executor stand, asked from outside while it runs; cancel; progress and time left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm import local, progress
from slurm.folder import Folder
from slurm.graph import Graph, Node, Resources
from slurm.progress import Progress
from slurm.states import NodeState, states, with_dependants

pytestmark = pytest.mark.processes

ALL_CORES = Resources(cpus=4, memory_gb=0.1)


def node(key: str, function: str, *after: str, always: bool = False, **args: Any) -> Node:
    return Node(key, f"jobs_for_tests:{function}", args, ALL_CORES, after, always=always)


def start(tmp_path: Path, *nodes: Node) -> subprocess.Popen[str]:
    """An executor of its own, of four cores."""
    (tmp_path / "graph.json").write_text(json.dumps([item.to_json() for item in nodes]))
    program = str(Path(__file__).parent / "jobs_for_tests.py")
    command = [sys.executable, program, str(tmp_path / "run"), str(tmp_path / "graph.json")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)


def states_when(folder: Path, true: Callable[[dict[str, NodeState]], bool]) -> dict[str, NodeState]:
    end = time.monotonic() + 30
    while True:
        found = {state.key: state for state in states(folder)}
        if found and true(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_a_run_seen_from_another_process(tmp_path: Path) -> None:
    pids = str(tmp_path / "pids")
    first = node("first", "wait_with_child", pids=pids)
    executor = start(tmp_path, first, node("second", "add", a=1, b=2), node("child", "add", "first", a=1, b=2))
    try:
        found = states_when(tmp_path / "run", lambda found: found["first"].state == "running")
        assert (found["second"].state, found["second"].reason) == ("pending", "waits for cores, memory or GPUs")
        assert (found["child"].state, found["child"].reason) == ("pending", "waits for first")
        while not Path(pids).exists():
            time.sleep(0.05)
        local.cancel(tmp_path / "run", ["first"])
        executor.wait(timeout=30)
    finally:
        executor.kill()
    found = states_when(tmp_path / "run", lambda found: True)
    assert {key: state.state for key, state in found.items()} == {
        "first": "cancelled",
        "second": "done",
        "child": "blocked",
    }
    assert Path(pids + ".farewell").exists()  # it was asked before it was killed
    assert found["child"].reason == "'first' cancelled"
    assert [state.key for state in with_dependants({"first": 0}, list(found.values()))] == ["first", "child"]
    # The mark is no curse: the next run does the work.
    assert local.run(Graph([node("first", "add", a=1, b=1)]), folder=tmp_path / "run")["first"].state == "done"


def test_what_a_killed_executor_leaves_is_interrupted(tmp_path: Path) -> None:
    executor = start(tmp_path, node("a", "nap", seconds=60, notes=str(tmp_path / "notes")), node("b", "add", a=1, b=2))
    states_when(tmp_path / "run", lambda found: found["a"].state == "running")
    executor.send_signal(signal.SIGKILL)
    executor.wait()
    found = states_when(tmp_path / "run", lambda found: not found["a"].live)
    assert {state.state for state in found.values()} == {"interrupted"}
    assert not any(state.live for state in found.values())


def test_a_node_that_always_runs_comes_last_and_comes_anyway(tmp_path: Path) -> None:
    nodes = [node("good", "add", a=1, b=2), node("bad", "fail", message="no"), node("child", "add", "bad", a=1, b=2)]
    last = node("last", "add", "good", "bad", "child", always=True, a=3, b=4)
    outcomes = local.run(Graph([*nodes, last]), folder=tmp_path)
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        **{"good": "done", "bad": "failed"},
        **{"child": "blocked", "last": "done"},
    }
    assert outcomes["last"].ended >= max(outcome.ended for outcome in outcomes.values())


def test_a_process_imports_the_code_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("then", "now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edited.py").write_text(f"def tell():\n    return {name!r}\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'now'}{os.pathsep}{os.environ['PYTHONPATH']}")
    graph = Graph([Node("a", "edited:tell")])
    assert local.run(graph, folder=tmp_path / "run", code=tmp_path / "then")["a"].value == "then"
    assert states(tmp_path / "run")[0].entry.code == str(tmp_path / "then")
    assert local.run(graph, folder=tmp_path / "run")["a"].value == "now"


def test_time_left_follows_the_rate_since_the_first_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "p"))
    clock = [1000.0]
    monkeypatch.setattr("slurm.progress.time.time", lambda: clock[0])
    monkeypatch.setattr(progress, "_latest", None)
    monkeypatch.setattr(progress, "_last_report", 0.0)

    def report(seconds: float, done: int, total: int, job: str) -> Progress:
        clock[0] += seconds
        progress.report(done, total, {"job": job})
        told = progress.read(tmp_path / "p")
        assert told is not None
        return told

    assert report(0, 40, 100, "train").seconds_left(clock[0]) is None  # resumed at step 40: no rate yet
    told = report(30, 50, 100, "train")
    assert told.seconds_left(clock[0]) == pytest.approx(50 * 3.0)
    assert told.seconds_left(clock[0] + 60) == pytest.approx(50 * 3.0 - 60)
    assert told.seconds_left(clock[0] + 1e6) == 0
    for done, total, job in ((0, 100, "train"), (60, 70, "train"), (61, 70, "score")):  # each a new task
        assert report(1, done, total, job).seconds_left(clock[0]) is None
    assert report(5, 65, 70, "score").seconds_left(clock[0]) == pytest.approx(5 / 4 * 5)


def test_a_report_of_an_earlier_process_is_not_this_ones(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.progress("a").write_text(json.dumps({"done": 5, "total": 9, "info": {}, "time": 100.0}))
    assert place.read_progress("a", since=101.0) is None
    assert place.read_progress("a", since=99.0) == Progress(5, 9, {}, 100.0)
