"""A graph of tasks: what each calls, with which arguments, with which resources, and after which other tasks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from slurm.nearest import did_you_mean

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=,-]{0,199}")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Resources:
    """What one rank of a task needs (a task alone is one rank), and how many ranks share the task: `ranks_per_node` on
    each of `nodes` machines.

    `minutes` are the task's. Raises ValueError where an amount makes no sense.
    """

    cpus: int = 1
    gpus: int = 0
    nodes: int = 1
    ranks_per_node: int = 1
    memory_gb: float = 2.0
    minutes: int = 60

    def __post_init__(self) -> None:
        for name, least in (("cpus", 1), ("gpus", 0), ("nodes", 1), ("ranks_per_node", 1), ("minutes", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"resources: {name} = {value!r} must be a whole number of at least {least}")
        if not self.memory_gb > 0:
            raise ValueError(f"resources: memory_gb = {self.memory_gb!r} must be more than 0")

    @property
    def ranks(self) -> int:
        """Of the whole task."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Task:
    """`target(**args)` in a process of its own, once every task in `after` is done.

    Of several ranks (`resources`) each calls the target in a process of its own and finds in its environment who it is,
    by torchrun's names (RANK, WORLD_SIZE, ...) or srun's. The value of rank 0 counts; a rank that fails ends the task.

    Args:
        key: names the task and its files, so no slashes or spaces.
        target: "module:function"; imported only where the task runs.
        args: keyword arguments, plain JSON.
        stage: tasks of one stage with equal resources may become one SLURM array.
        always: run once all in `after` have ended, however they ended.
    """

    key: str
    target: str
    args: dict[str, Any] = field(default_factory=dict)
    resources: Resources = Resources()
    after: tuple[str, ...] = ()
    stage: str = ""
    always: bool = False

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"task key {self.key!r}: use letters, digits and ._:@+=,- only (at most 200)")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"task '{self.key}': target {self.target!r} must read 'module:function'")
        if self.stage and not _KEY.fullmatch(self.stage):
            raise ValueError(f"task '{self.key}': stage {self.stage!r}: use letters, digits and ._:@+=,- only")
        try:
            json.dumps(self.args)
        except (TypeError, ValueError) as error:
            raise ValueError(f"task '{self.key}': args must be plain JSON ({error})") from None

    def to_json(self) -> dict[str, Any]:
        """Its file, and what its digest is made of: older workspaces hold both, so ranks keep their old name there."""
        data = asdict(self)
        data["resources"]["tasks"] = data["resources"].pop("ranks_per_node")
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        resources = dict(data["resources"])
        resources["ranks_per_node"] = resources.pop("tasks", 1)
        return cls(**{**data, "resources": Resources(**resources), "after": tuple(data["after"])})

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits: a hash of everything that defines the work, without the tasks that it waits for."""
        work = {name: value for name, value in self.to_json().items() if name not in ("after", "always")}
        return hashlib.blake2b(json.dumps(work, sort_keys=True).encode(), digest_size=6).hexdigest()


class Graph:
    """Tasks in an order in which each comes after those it waits for.

    Raises ValueError, with one line, for a key used twice, an unknown parent, or a circle.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        given: dict[str, Task] = {}
        for task in tasks:
            if task.key in given:
                raise ValueError(f"two tasks have the key '{task.key}': give each its own")
            given[task.key] = task
        for task in given.values():
            for parent in task.after:
                if parent not in given:
                    hint = did_you_mean(parent, given)
                    absent = f"task '{task.key}' waits for '{parent}', which is not in the graph"
                    raise ValueError(f"{absent}; {hint}" if hint else absent)
        self._tasks = {task.key: task for task in _sorted(given)}

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, key: str) -> Task:
        return self._tasks[key]

    @cached_property
    def levels(self) -> list[list[Task]]:
        """Tasks without parents, then those whose longest way from there is one step, two steps, ..."""
        depth: dict[str, int] = {}
        levels: list[list[Task]] = []
        for task in self:
            depth[task.key] = 1 + max((depth[parent] for parent in task.after), default=-1)
            if depth[task.key] == len(levels):
                levels.append([])
            levels[depth[task.key]].append(task)
        return levels


def _sorted(tasks: dict[str, Task]) -> Iterator[Task]:
    """Depth first, in the order given: a parent comes right before its first child (an explicit stack: chains may
    be longer than Python's)."""
    finished: set[str] = set()
    for root in tasks:
        path: dict[str, Iterator[str]] = {root: iter(tasks[root].after)} if root not in finished else {}
        while path:
            key, parents = next(reversed(path.items()))
            parent = next((parent for parent in parents if parent not in finished), None)
            if parent is None:
                path.popitem()
                finished.add(key)
                yield tasks[key]
            elif parent in path:
                way = list(path)
                circle = [*way[way.index(parent) :], parent]
                raise ValueError(f"tasks wait for each other in a circle: {' -> '.join(circle)}")
            else:
                path[parent] = iter(tasks[parent].after)
