from __future__ import annotations

from typing import Any

import pytest

from slurm import arrays
from slurm.graph import Resources, Task

SMALL = Resources(memory_gb=0.1, minutes=2)


def task(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources, after, stage)


def batches(tasks: list[Task], jobs: dict[str, str], longest: int = 1000) -> list[tuple[list[str], str]]:
    found = arrays.batches(tasks, jobs, longest)
    return [([item.key for item in batch.tasks], batch.dependency) for batch in found]


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
        [("t0", "t1"), ("t1", "t2"), ("t0", "t2")],
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


def test_elements_without_a_child_are_left_out_of_the_childrens_array() -> None:
    """Of six runs two have nothing left to evaluate, one has no pre-training left, and one is alone of its kind."""
    jobs = {f"t{i}": f"7_{i}" for i in range(6)} | {"alone": "8_3"}
    parents = {"e1": "t1", "e3": "t3", "e4": "t4", "e5": "t5", "f3": "alone"}
    tasks = [task("e9", "add"), *(task(key, "add", parent) for key, parent in reversed(parents.items()))]
    found = list(arrays.batches(tasks, jobs, 1000))
    assert [([item.key for item in batch.tasks], batch.dependency, batch.elements) for batch in found] == [
        (["e9"], "", ()),
        (["e1", "e3", "e4", "e5"], "aftercorr:7", (1, 3, 4, 5)),
        (["f3"], "afterok:8_3", ()),
    ]
    # In pieces each keeps its element.
    pieces = [batch for batch in arrays.batches(tasks, jobs, 3) if batch.elements]
    assert [batch.elements for batch in pieces] == [(1, 3, 4), (5,)]
    assert pieces[1].dependency == "aftercorr:7" and pieces[1].tasks[0].key == "e5"


def test_a_task_that_runs_whatever_happens_waits_for_whole_arrays() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(300)} | {"single": "9"}
    last = Task("last", "jobs_for_tests:add", after=tuple(jobs), always=True)
    assert batches([last], jobs) == [(["last"], "afterany:7:9")]
    assert batches([last], {}) == [(["last"], "")]
