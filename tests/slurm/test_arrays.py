from __future__ import annotations

from typing import Any

import pytest

from slurm import arrays
from slurm.graph import Graph, Resources, Task

SMALL = Resources(memory_gb=0.1, minutes=2)


def task(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources, after, stage)


def batches(tasks: list[Task], jobs: dict[str, str], longest: int = 1000) -> list[tuple[list[str], str]]:
    return [([item.key for item in members], line) for members, line in arrays.batches(tasks, jobs, {}, longest)]


def test_equal_tasks_without_parents_are_one_array() -> None:
    tasks = [task(f"n{i}", "add", stage="train") for i in range(3)]
    other = task("large", "add", stage="train", resources=Resources(cpus=4))
    assert batches([*tasks, other], {}) == [(["n0", "n1", "n2"], ""), (["large"], "")]


def test_element_i_waits_for_element_i_whatever_the_order() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(3)} | {f"f{i}": f"8_{i}" for i in range(3)} | {"data": "5"}
    tasks = [task(f"e{i}", "add", f"t{i}", f"f{i}", "data") for i in (2, 0, 1)]
    assert batches(tasks, jobs) == [(["e0", "e1", "e2"], "afterok:5,aftercorr:7,aftercorr:8")]


def test_several_children_of_each_element_are_several_arrays() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(2)}
    tasks = [task(f"e{i}{kind}", "add", f"t{i}") for i in range(2) for kind in "ab"]
    assert batches(tasks, jobs) == [(["e0a", "e1a"], "aftercorr:7"), (["e0b", "e1b"], "aftercorr:7")]


def test_parents_in_several_arrays_keep_their_own() -> None:
    jobs = {f"t{i}": f"{7 + i // 2}_{i % 2}" for i in range(4)}
    tasks = [task(f"e{i}", "add", f"t{i}") for i in range(4)]
    assert batches(tasks, jobs) == [(["e0", "e1"], "aftercorr:7"), (["e2", "e3"], "aftercorr:8")]


@pytest.mark.parametrize(
    "parents",
    [
        [("t0",), ("t2",)],  # element 1 has no child: element numbers differ
        [("t0", "t1"), ("t1", "t2")],
        [("t0",), ("single",)],
    ],
)
def test_what_no_array_can_express_waits_for_single_jobs(parents: list[tuple[str, ...]]) -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(3)} | {"single": "9"}
    tasks = [task(f"e{i}", "add", *after) for i, after in enumerate(parents)]
    assert batches(tasks, jobs) == [
        ([f"e{i}"], f"afterok:{':'.join(sorted(jobs[parent] for parent in after))}") for i, after in enumerate(parents)
    ]


def test_children_of_the_same_parents_are_one_array() -> None:
    jobs = {"t0": "7_0", "t1": "7_1"}
    assert batches([task(f"e{i}", "add", "t0", "t1") for i in range(3)], jobs) == [
        (["e0", "e1", "e2"], "afterok:7_0:7_1")
    ]


def test_no_array_is_longer_than_slurm_takes() -> None:
    tasks = [task(f"n{i}", "add") for i in range(2500)]
    assert [len(members) for members, _ in batches(tasks, {})] == [1000, 1000, 500]


def test_a_partly_finished_grid_is_still_one_array_for_each_shape() -> None:
    """Of six runs two have nothing left to evaluate and one has no pre-training left."""
    stages = ("frozen", "finetune")
    tasks = [task(f"t{i}", "add", stage="train") for i in range(6)]
    tasks += [task(f"{stage}{i}", "add", f"t{i}", stage=stage) for i in (1, 3, 4, 5) for stage in stages]
    tasks += [task(f"{stage}9", "add", stage=stage) for stage in stages]
    graph, jobs, seen = Graph(tasks), {}, []
    children = arrays.kinds_of_children(graph, set())
    for level in graph.levels:
        for number, (members, line) in enumerate(arrays.batches(level, jobs, children, 1000), 7 + len(seen)):
            seen.append(([item.key for item in members], line))
            jobs |= {item.key: f"{number}_{i}" if len(members) > 1 else f"{number}" for i, item in enumerate(members)}
    assert [keys for keys, _ in seen[:2]] == [["t0", "t2"], ["t1", "t3", "t4", "t5"]]
    assert sorted(line for _, line in seen) == ["", "", "", "", "aftercorr:8", "aftercorr:8"]
    for keys, line in seen:
        if line:  # element i belongs to element i
            assert [key[-1] for key in keys] == ["1", "3", "4", "5"]


def test_a_task_that_runs_whatever_happens_waits_for_whole_arrays() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(300)} | {"single": "9"}
    last = Task("last", "jobs_for_tests:add", after=tuple(jobs), always=True)
    assert batches([last], jobs) == [(["last"], "afterany:7:9")]
    assert batches([last], {}) == [(["last"], "")]
