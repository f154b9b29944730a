"""Which tasks become one array of SLURM's, and by what dependency its jobs wait for those of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slurm import scheduler
from slurm.environment import Code, code_of
from slurm.graph import Task


@dataclass(frozen=True)
class Batch:
    """The tasks of one call of sbatch.

    Attributes:
        dependency: sbatch's, "" for none.
        elements: the number of each task in the array, where it follows another element to element; else empty, for
            0, 1, 2, ... and where a task alone is no array.
    """

    tasks: Sequence[Task]
    dependency: str = ""
    elements: Sequence[int] = ()

    def part(self, start: int, count: int) -> Batch:
        """Some of its tasks."""
        chosen = slice(start, start + count)
        return replace(self, tasks=self.tasks[chosen], elements=self.elements[chosen])


def batches(tasks: Sequence[Task], jobs: Mapping[str, str], longest: int, code: Code = None) -> Iterator[Batch]:
    """Split tasks into arrays: equal stage, resources and code, and parents that one dependency can express.

    `jobs` holds the numbers of what is queued; parents that are not in it have ended and are waited for no more.
    """
    alike: dict[Any, list[Task]] = defaultdict(list)
    for task in tasks:
        alike[task.stage, task.resources, task.always, code_of(code, task.key)].append(task)
    for group in alike.values():
        for batch in _by_parents(group, jobs):
            for start in range(0, len(batch.tasks), longest):
                yield batch.part(start, longest)


def _by_parents(tasks: Sequence[Task], jobs: Mapping[str, str]) -> Iterator[Batch]:
    families: dict[frozenset[str], list[Task]] = defaultdict(list)
    for task in tasks:
        families[frozenset(jobs[parent] for parent in task.after if parent in jobs)].append(task)
    if tasks[0].always:
        for parents, children in families.items():
            # Of an array all elements: its number alone, so that the line stays short.
            whole = sorted({scheduler.array_of(parent) for parent in parents}, key=int)
            yield Batch(children, f"afterany:{':'.join(whole)}" if whole else "")
        return
    if free := families.pop(frozenset(), None):
        yield Batch(free)
    common = frozenset.intersection(*families) if families else frozenset()
    matched, others = _elementwise({parents - common: children for parents, children in families.items()})
    for members, arrays in matched:
        yield Batch(list(members.values()), _dependency(common, arrays), tuple(members))
    for parents, children in others.items():
        yield Batch(children, _dependency(common | parents, []))


def _elementwise(
    families: Mapping[frozenset[str], list[Task]],
) -> tuple[list[tuple[dict[int, Task], tuple[str, ...]]], dict[frozenset[str], list[Task]]]:
    """Arrays (task by element) in which element i waits for element i of other arrays, with the numbers of those
    (aftercorr); and the families (by their parents) that no such array can take.

    Where the elements have several children each, the first children make one array, the second ones another.
    A task fits that waits for one same element of each of its arrays. An array need not have all elements: of the
    others the parents may have ended, or have no such child.
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
        if len(members) > 1:
            matched.append(({index: members[index][0] for index in sorted(members)}, arrays))
        else:
            for task, parents in members.values():
                others[parents].append(task)
    return matched, {parents: others[parents] for parents in families if parents in others}


def _dependency(jobs: Iterable[str], arrays: Iterable[str]) -> str:
    whole = [f"afterok:{':'.join(sorted(jobs))}"] if jobs else []
    return ",".join([*whole, *(f"aftercorr:{array}" for array in arrays)])
