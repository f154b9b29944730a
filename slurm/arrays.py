"""Which tasks become one array of SLURM's, and by what dependency its jobs wait for those of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from slurm import scheduler
from slurm.environment import Code, code_of
from slurm.graph import Graph, Task


def kinds_of_children(graph: Graph, settled: Collection[str]) -> dict[str, frozenset[Any]]:
    """Of every task, what kinds of children are still to be queued behind it: tasks that have the same ones make an
    array whose elements the children's arrays can follow one to one."""
    found: dict[str, set[Any]] = defaultdict(set)
    for task in graph:
        if not task.always and task.key not in settled:
            for parent in task.after:
                found[parent].add((task.stage, task.resources))
    return {key: frozenset(kinds) for key, kinds in found.items()}


def batches(
    tasks: Sequence[Task],
    jobs: Mapping[str, str],
    children: Mapping[str, frozenset[Any]],
    longest: int,
    code: Code = None,
) -> Iterator[tuple[list[Task], str]]:
    """Split tasks into arrays: equal stage, resources and code, and parents that one dependency can express.

    `jobs` holds the numbers of what is queued; parents that are not in it have ended and are waited for no more.
    `children` is that of `kinds_of_children`.
    Yields the tasks of each sbatch call, in the order of the array's elements, and its dependency ("" for none).
    """
    alike: dict[Any, list[Task]] = defaultdict(list)
    for task in tasks:
        kind = (task.stage, task.resources, task.always, children.get(task.key, frozenset()))
        alike[kind, code_of(code, task.key)].append(task)
    for group in alike.values():
        for members, dependency in _by_parents(group, jobs):
            for start in range(0, len(members), longest):
                yield members[start : start + longest], dependency


def _by_parents(tasks: Sequence[Task], jobs: Mapping[str, str]) -> Iterator[tuple[list[Task], str]]:
    families: dict[frozenset[str], list[Task]] = defaultdict(list)
    for task in tasks:
        families[frozenset(jobs[parent] for parent in task.after if parent in jobs)].append(task)
    if tasks[0].always:
        for parents, children in families.items():
            # Of an array all elements: its number alone, so that the line stays short.
            whole = sorted({scheduler.array_of(parent) for parent in parents}, key=int)
            yield children, f"afterany:{':'.join(whole)}" if whole else ""
        return
    if free := families.pop(frozenset(), None):
        yield free, ""
    common = frozenset.intersection(*families) if families else frozenset()
    matched, others = _elementwise({parents - common: children for parents, children in families.items()})
    for members, arrays in matched:
        yield members, _dependency(common, arrays)
    for parents, children in others.items():
        yield children, _dependency(common | parents, [])


def _elementwise(
    families: Mapping[frozenset[str], list[Task]],
) -> tuple[list[tuple[list[Task], tuple[str, ...]]], dict[frozenset[str], list[Task]]]:
    """Arrays in which element i waits for element i of other arrays, with the numbers of those (aftercorr); and the
    families (by their parents) that no such array can take.

    Where the elements have several children each, the first children make one array, the second ones another.
    A task fits that waits for one same element of each of its arrays, if every element from 0 has its child.
    """
    placed: dict[tuple[tuple[str, ...], int], dict[int, tuple[Task, frozenset[str]]]] = defaultdict(dict)
    others: dict[frozenset[str], list[Task]] = defaultdict(list)
    for parents, children in families.items():
        indices = {scheduler.index_of(parent) for parent in parents}
        index = indices.pop() if len(indices) == 1 else None
        if index is None:
            others[parents] += children
            continue
        arrays = tuple(sorted(map(scheduler.array_of, parents), key=int))
        for turn, task in enumerate(children):
            placed[arrays, turn][index] = task, parents
    matched = []
    for (arrays, _), members in placed.items():
        if len(members) > 1 and sorted(members) == list(range(len(members))):
            matched.append(([members[index][0] for index in sorted(members)], arrays))
        else:
            for task, parents in members.values():
                others[parents].append(task)
    return matched, {parents: others[parents] for parents in families if parents in others}


def _dependency(jobs: Iterable[str], arrays: Iterable[str]) -> str:
    whole = [f"afterok:{':'.join(sorted(jobs))}"] if jobs else []
    return ",".join([*whole, *(f"aftercorr:{array}" for array in arrays)])
