"""Where the tasks of the local executor stand, asked from outside while it runs; cancel."""

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

from slurm import local
from slurm.graph import Graph, Resources, Task
from slurm.states import TaskState
from slurm.status import of_folder, with_dependants

pytestmark = pytest.mark.processes

ALL_CORES = Resources(cpus=4, memory_gb=0.1)


def task(key: str, function: str, *after: str, always: bool = False, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, ALL_CORES, after, always=always)


def start(tmp_path: Path, *tasks: Task) -> subprocess.Popen[str]:
    """An executor of its own, of four cores."""
    (tmp_path / "graph.json").write_text(json.dumps([item.to_json() for item in tasks]))
    program = str(Path(__file__).parent / "jobs_for_tests.py")
    command = [sys.executable, program, str(tmp_path / "run"), str(tmp_path / "graph.json")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.processes
def test_a_run_seen_from_another_process(tmp_path: Path, states_when: Callable[..., dict[str, TaskState]]) -> None:
    pids = str(tmp_path / "pids")
    first = task("first", "wait_with_child", pids=pids)
    executor = start(tmp_path, first, task("second", "add", a=1, b=2), task("child", "add", "first", a=1, b=2))
    try:
        found = states_when(tmp_path / "run", lambda found: found["first"].state == "running")
        assert (found["second"].state, found["second"].reason) == ("pending", "waits for cores, memory or GPUs")
        assert (found["child"].state, found["child"].reason) == ("pending", "waits for first")
        while not Path(pids).exists():
            time.sleep(0.05)
        local.cancel(tmp_path / "run", ["first"])
        executor.wait(timeout=240)
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
    assert [state.key for state in with_dependants({"first"}, list(found.values()))] == ["first", "child"]
    # The mark is no curse: the next run does the work.
    assert local.run(Graph([task("first", "add", a=1, b=1)]), folder=tmp_path / "run")["first"].state == "done"


@pytest.mark.processes
def test_what_a_killed_executor_leaves_is_interrupted(
    tmp_path: Path, states_when: Callable[..., dict[str, TaskState]]
) -> None:
    executor = start(tmp_path, task("a", "nap", seconds=60, notes=str(tmp_path / "notes")), task("b", "add", a=1, b=2))
    states_when(tmp_path / "run", lambda found: found["a"].state == "running")
    executor.send_signal(signal.SIGKILL)
    executor.wait()
    found = states_when(tmp_path / "run", lambda found: not found["a"].live)
    assert {state.state for state in found.values()} == {"interrupted"}
    assert not any(state.live for state in found.values())


@pytest.mark.processes
def test_a_task_that_always_runs_comes_last_and_comes_anyway(tmp_path: Path) -> None:
    tasks = [task("good", "add", a=1, b=2), task("bad", "fail", message="no"), task("child", "add", "bad", a=1, b=2)]
    last = task("last", "add", "good", "bad", "child", always=True, a=3, b=4)
    outcomes = local.run(Graph([*tasks, last]), folder=tmp_path)
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        **{"good": "done", "bad": "failed"},
        **{"child": "blocked", "last": "done"},
    }
    assert outcomes["last"].ended >= max(outcome.ended for outcome in outcomes.values())


@pytest.mark.processes
def test_a_task_imports_the_code_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("then", "now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edited.py").write_text(f"def tell():\n    return {name!r}\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'now'}{os.pathsep}{os.environ['PYTHONPATH']}")
    graph = Graph([Task("a", "edited:tell")])
    assert local.run(graph, folder=tmp_path / "run", code=tmp_path / "then")["a"].value == "then"
    assert of_folder(tmp_path / "run")[0].entry.code == str(tmp_path / "then")
    assert local.run(graph, folder=tmp_path / "run")["a"].value == "now"
