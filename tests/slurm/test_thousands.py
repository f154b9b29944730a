"""Thousands of tasks and a cluster with limits, delays and faults, whose clock runs as fast as it is wound."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm import cluster, scheduler
from slurm.folder import Folder
from slurm.graph import Graph, Resources, Task
from slurm.status import of_folder

KEY = attrgetter("key")
STAGES = ("frozen", "linear", "finetune", "detection")


def campaign(runs: int, stages: tuple[str, ...] = STAGES) -> Graph:
    """So many pre-trainings with their evaluations, and a table at the end."""
    tasks = [
        Task(f"{stage}-{run}", "jobs_for_tests:add", {"a": run, "b": 1}, Resources(cpus=number + 1), after, stage)
        for run in range(runs)
        for number, stage in enumerate(("pretrain", *stages))
        for after in [(f"pretrain-{run}",) if number else ()]
    ]
    every = tuple(task.key for task in tasks)
    return Graph([*tasks, Task("table", "jobs_for_tests:add", after=every, stage="collate", always=True)])


@pytest.fixture
def wound(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[float]]:
    """`wound(simulated)`: pauses of `submit` take no time, but that of the cluster; the pauses."""

    def wind(simulated: Any) -> list[float]:
        pauses: list[float] = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            simulated.sleep(seconds)

        monkeypatch.setattr(cluster, "time", SimpleNamespace(sleep=sleep))
        return pauses

    return wind


def all_done_once(simulated: Any, graph: Graph, folder: Path) -> None:
    """Every task was done to its end, once."""
    simulated.finish()
    assert simulated.ran == Counter(task.key for task in graph)
    assert {state.state for state in of_folder(folder)} == {"done"}


@pytest.mark.seconds
def test_five_thousand_tasks_take_a_call_for_each_array_that_slurm_allows(
    simulated_slurm: Callable[..., Any], tmp_path: Path
) -> None:
    simulated, graph = simulated_slurm(max_array=301), campaign(1000)
    done = cluster.submit(graph, folder=tmp_path / "run")
    assert len(done.jobs) == len(graph) == 5001
    assert done.calls == simulated.calls["sbatch"] == 5 * 4 + 1  # 301 + 301 + 301 + 97 of each stage
    assert max(simulated.arrays) == 301
    assert simulated.calls["squeue"] == 0  # nothing was there to ask for
    before = simulated.calls
    simulated.sleep(600)
    found = of_folder(tmp_path / "run")
    assert simulated.calls - before == {"squeue": 1, "sacct": 1}
    words = simulated.words
    assert words["COMPLETED"] > 1000 and words["RUNNING"] == 256  # that sacct was asked for some
    assert Counter(state.state for state in found) == {
        "done": words["COMPLETED"],
        "running": words["RUNNING"],
        "pending": words["PENDING"],
    }


@pytest.mark.seconds
def test_a_limit_on_submitted_jobs_is_met_with_few_calls(
    simulated_slurm: Callable[..., Any], wound: Callable[[Any], list[float]], tmp_path: Path
) -> None:
    """Of 201 tasks SLURM takes 60 at a time, and 15 of them run."""
    simulated = simulated_slurm(max_submit=60, slots=15, seconds=300.0)
    pauses, graph, told = wound(simulated), campaign(40), list[tuple[int, int]]()
    done = cluster.submit(graph, folder=tmp_path / "run", on_full=lambda *counts: told.append(counts))
    assert len(done.jobs) + len(done.settled) == len(graph) and done.kept == ()
    assert 55 <= simulated.most <= 60
    # A quarter of the queue at a time: at the ends of arrays smaller parts, and at first some that did not fit.
    assert simulated.calls["sbatch"] <= done.calls + 10 <= 40
    assert simulated.calls["squeue"] == len(pauses) < sum(pauses) / 50  # not every 20 seconds
    assert told == sorted(told)
    all_done_once(simulated, graph, tmp_path / "run")


@pytest.mark.seconds
def test_a_limit_that_is_raised_is_found_out(
    simulated_slurm: Callable[..., Any], wound: Callable[[Any], list[float]], tmp_path: Path
) -> None:
    """Nothing ends meanwhile."""
    simulated = simulated_slurm(max_submit=40, seconds=1e6)
    wound(simulated)
    graph = campaign(20)

    def on_full(queued: int, total: int) -> None:
        if simulated.now > 1000:
            simulated.set(max_submit=1000)

    cluster.submit(graph, folder=tmp_path / "run", on_full=on_full)
    assert simulated.now < 4000
    assert simulated.calls["sbatch"] < 25
    all_done_once(simulated, graph, tmp_path / "run")


def test_what_is_submitted_again_while_half_has_ended_takes_few_calls(
    simulated_slurm: Callable[..., Any], tmp_path: Path
) -> None:
    """Only pre-trainings were queued, of which half have ended, two of them badly. Evaluations of the others wait each
    for its own."""
    simulated, graph = simulated_slurm(slots=30, fails="-(3|17)$"), campaign(60)
    cluster.submit(Graph(task for task in graph if task.stage == "pretrain"), folder=tmp_path / "run")
    simulated.sleep(90)
    simulated.set(fails="")
    ended = {state.key for state in of_folder(tmp_path / "run") if state.state == "done"}
    assert len(ended) == 28
    left = {key: tuple(parent for parent in graph[key].after if parent not in ended) for key in map(KEY, graph)}
    rest = Graph(replace(graph[key], after=after) for key, after in left.items() if key not in ended)
    done = cluster.submit(rest, folder=tmp_path / "run")
    # The two again; of each kind those of ended, of running, and of repeated pre-trainings; the table.
    assert done.calls == 1 + 3 * len(STAGES) + 1 and len(done.kept) == 30
    simulated.finish()
    assert simulated.ran == Counter([*map(KEY, graph), "pretrain-3", "pretrain-17"])
    assert {state.state for state in of_folder(tmp_path / "run")} == {"done"}


# -------------------------------------------------------------------------------------------------------- interruptions

TOUCHES = ("open", "os.rename", "os.remove", "os.symlink", "subprocess.Popen")


def submit_and_die(graph: Graph, folder: Path, last: int) -> bool:
    """Submit in a process of its own, which is gone before it touches files or starts a command for the `last`-th time;
    whether it came to that."""
    if (child := os.fork()) == 0:
        touched = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal touched
            if event in TOUCHES:
                touched += 1
                if touched == last:
                    os._exit(9)

        sys.addaudithook(count)
        cluster.submit(graph, folder=folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def interrupted_at(points: Iterable[int], simulated_slurm: Callable[..., Any], bin: Path, tmp_path: Path) -> int:
    """How many of these points a submission comes to, with nothing doubled or lost after a second one."""
    graph, died = campaign(3, STAGES[:1]), 0
    import submitit  # noqa: F401  before the first fork

    for point in points:
        (bin / "cluster.json").unlink(missing_ok=True)
        simulated, folder = simulated_slurm(seconds=1000.0), tmp_path / f"run{point}"
        if not submit_and_die(graph, folder, point):
            break
        died += 1
        simulated.sleep(point % 40)
        cluster.submit(graph, folder=folder)
        all_done_once(simulated, graph, folder)
        assert all(state.log.is_symlink() for state in of_folder(folder))
    return died


@pytest.mark.seconds
def test_a_submission_killed_anywhere_goes_on_without_doubling(
    simulated_slurm: Callable[..., Any], fake_slurm: Path, tmp_path: Path
) -> None:
    assert interrupted_at(range(8, 200, 7), simulated_slurm, fake_slurm, tmp_path) >= 10


@pytest.mark.slow
def test_a_submission_killed_at_many_points_goes_on_without_doubling(
    simulated_slurm: Callable[..., Any], fake_slurm: Path, tmp_path: Path
) -> None:
    assert interrupted_at(range(1, 400, 6), simulated_slurm, fake_slurm, tmp_path) >= 11


# -------------------------------------------------------------------------------------------------------------- silence


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8])
def test_five_minutes_without_an_answer_lose_nothing(
    simulated_slurm: Callable[..., Any], wound: Callable[[Any], list[float]], tmp_path: Path, call: int
) -> None:
    """From the first, the second, ... call on: before anything is queued the command is refused and can be repeated,
    later it waits."""
    simulated, graph, lines = simulated_slurm(seconds=3600.0), campaign(3), list[str]()
    wound(simulated)
    simulated.silence(300, at=call)
    if call <= 2:  # scontrol
        with pytest.raises(ValueError, match="scontrol"):
            cluster.submit(graph, folder=tmp_path / "run")
        simulated.sleep(300)
        cluster.submit(graph, folder=tmp_path / "run")
    else:
        done = cluster.submit(graph, folder=tmp_path / "run", on_trouble=lines.append)
        assert len(done.jobs) == len(graph)
        assert lines[0].startswith("`sbatch` got no answer: ") and "Unable to contact slurm controller" in lines[0]
        assert 300 <= simulated.now < 800
    assert len(simulated.arrays) == 6
    all_done_once(simulated, graph, tmp_path / "run")


@pytest.mark.parametrize("taken", [None, 0.0, 45.0])
def test_an_answer_that_got_lost_is_asked_for_by_name(
    simulated_slurm: Callable[..., Any], wound: Callable[[Any], list[float]], tmp_path: Path, taken: float | None
) -> None:
    """SLURM had not taken the array, or had, or takes it when nobody looks any more: then its jobs find no code."""
    simulated, graph = simulated_slurm(), campaign(3)
    wound(simulated)
    simulated.lose(taken)
    done = cluster.submit(graph, folder=tmp_path / "run")
    assert len(done.jobs) == len(graph) and done.calls == 6
    simulated.sleep(600)
    all_done_once(simulated, graph, tmp_path / "run")
    left = {None: Counter(), 0.0: Counter(CANCELLED=3), 45.0: Counter(FAILED=3)}[taken]
    assert simulated.words == Counter(COMPLETED=len(graph)) + left


def test_where_tasks_stand_is_not_guessed_while_slurm_is_silent(
    simulated_slurm: Callable[..., Any], fake_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated, graph = simulated_slurm(), campaign(3)
    cluster.submit(graph, folder=tmp_path / "run")
    journal = Folder(tmp_path / "run").journal.read_bytes()
    simulated.silence(300)
    for asked in (of_folder, lambda folder: cluster.cancel(folder, {"frozen-1"})):
        with pytest.raises(ValueError, match=r"^`squeue` failed: .*Unable to contact slurm controller"):
            asked(tmp_path / "run")
    (fake_slurm / "squeue").write_text("#!/bin/sh\nsleep 60\n")  # worse: it hangs
    monkeypatch.setattr(scheduler, "_PATIENCE", 0.1)
    with pytest.raises(ValueError, match=r"^`squeue` did not answer for .*: try again later$"):
        of_folder(tmp_path / "run")
    assert Folder(tmp_path / "run").journal.read_bytes() == journal
