from __future__ import annotations

import random

import pytest

from slurm.graph import Graph, Resources, Task


def task(key: str, *after: str, **more: object) -> Task:
    return Task(key, "jobs_for_tests:add", after=after, **more)


def test_parents_come_before_children_whatever_the_order_given() -> None:
    draw = random.Random(0)
    tasks = [task(f"n{i}", *(f"n{j}" for j in range(i) if draw.random() < 0.2)) for i in range(60)]
    draw.shuffle(tasks)
    graph = Graph(tasks)
    seen: set[str] = set()
    for item in graph:
        assert set(item.after) <= seen
        seen.add(item.key)
    assert len(graph) == len(seen) == 60
    depth = {item.key: level for level, items in enumerate(graph.levels) for item in items}
    assert all(depth[item.key] == 1 + max((depth[p] for p in item.after), default=-1) for item in graph)


def test_a_chain_longer_than_pythons_stack() -> None:
    tasks = [task("n0"), *(task(f"n{i}", f"n{i - 1}") for i in range(1, 3000))]
    assert [item.key for item in Graph(reversed(tasks))] == [f"n{i}" for i in range(3000)]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task("a"), task("a")], "two tasks have the key 'a': give each its own"),
        (
            [task("train"), task("b", "trian")],
            "task 'b' waits for 'trian', which is not in the graph; did you mean 'train'?",
        ),
        ([task("a", "c"), task("b", "a"), task("c", "b")], "in a circle: a -> c -> b -> a"),
        ([task("a", "a")], "in a circle: a -> a"),
    ],
)
def test_what_is_no_graph_is_refused_in_one_line(tasks: list[Task], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Graph(tasks)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "a/b"}, "task key 'a/b'"),
        ({"key": ".hidden"}, "task key '.hidden'"),
        ({"target": "module.function"}, "must read 'module:function'"),
        ({"args": {"x": {1}}}, "args must be plain JSON"),
        ({"stage": "two words"}, "stage 'two words'"),
    ],
)
def test_a_malformed_task_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        Task(**{"key": "a", "target": "m:f", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"cpus": 0}, {"gpus": -1}, {"minutes": 0.5}, {"memory_gb": 0}, {"cpus": True}])
def test_impossible_resources_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Resources(**fields)  # type: ignore[arg-type]


def test_a_task_survives_json_and_its_digest_tells_work_apart() -> None:
    first = Task("a", "m:f", {"x": [1, None]}, Resources(cpus=2), ("p",), "s")
    assert Task.from_json(first.to_json()) == first
    assert Task.from_json(first.to_json()).digest == first.digest
    assert Task("a", "m:f", {"x": [1, 2]}, Resources(cpus=2), ("p",), "s").digest != first.digest
