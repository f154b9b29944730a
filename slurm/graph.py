"""A graph of jobs: what to call, with what, on how much of a machine, after whom."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=,-]{0,199}")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Resources:
    """What one process of a job needs, and how many processes make the job: `tasks` on each of `nodes` machines.

    `minutes` are the job's. Raises ValueError where an amount makes no sense.
    """

    cpus: int = 1
    gpus: int = 0
    nodes: int = 1
    tasks: int = 1
    memory_gb: float = 2.0
    minutes: int = 60

    def __post_init__(self) -> None:
        for name, least in (("cpus", 1), ("gpus", 0), ("nodes", 1), ("tasks", 1), ("minutes", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"resources: {name} = {value!r} must be a whole number of at least {least}")
        if not self.memory_gb > 0:
            raise ValueError(f"resources: memory_gb = {self.memory_gb!r} must be more than 0")

    @property
    def processes(self) -> int:
        """Of the whole job."""
        return self.nodes * self.tasks


@dataclass(frozen=True)
class Node:
    """One job: `target(**args)` in a process of its own, once every job in `after` is done.

    Of several processes (`resources`) each calls the target and finds in its environment who it is, by torchrun's names
    (RANK, WORLD_SIZE, ...) or srun's; the first one's value counts, and one that fails ends the job.

    Args:
        key: names the job and its files, so no slashes or spaces.
        target: "module:function"; imported only where the job runs.
        args: keyword arguments, plain JSON.
        stage: nodes of one stage with equal resources may become one SLURM array.
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
            raise ValueError(f"node key {self.key!r}: use letters, digits and ._:@+=,- only (at most 200)")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"node '{self.key}': target {self.target!r} must read 'module:function'")
        if self.stage and not _KEY.fullmatch(self.stage):
            raise ValueError(f"node '{self.key}': stage {self.stage!r}: use letters, digits and ._:@+=,- only")
        try:
            json.dumps(self.args)
        except (TypeError, ValueError) as error:
            raise ValueError(f"node '{self.key}': args must be plain JSON ({error})") from None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Node:
        return cls(**{**data, "resources": Resources(**data["resources"]), "after": tuple(data["after"])})

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits over all that makes the work: whom it waits for is no part of it."""
        work = {name: value for name, value in self.to_json().items() if name not in ("after", "always")}
        return hashlib.blake2b(json.dumps(work, sort_keys=True).encode(), digest_size=6).hexdigest()


class Graph:
    """Nodes in an order in which every job comes after those it waits for.

    Raises ValueError, with one line, for a key used twice, an unknown parent, or a circle.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        given: dict[str, Node] = {}
        for node in nodes:
            if node.key in given:
                raise ValueError(f"two nodes have the key '{node.key}': give each its own")
            given[node.key] = node
        for node in given.values():
            for parent in node.after:
                if parent not in given:
                    near = difflib.get_close_matches(parent, given, n=1)
                    hint = f"; did you mean '{near[0]}'?" if near else ""
                    raise ValueError(f"node '{node.key}' waits for '{parent}', which is not in the graph{hint}")
        self._nodes = {node.key: node for node in _sorted(given)}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, key: str) -> Node:
        return self._nodes[key]

    @cached_property
    def levels(self) -> list[list[Node]]:
        """Nodes without parents, then those whose longest way from there is one step, two steps, ..."""
        depth: dict[str, int] = {}
        levels: list[list[Node]] = []
        for node in self:
            depth[node.key] = 1 + max((depth[parent] for parent in node.after), default=-1)
            if depth[node.key] == len(levels):
                levels.append([])
            levels[depth[node.key]].append(node)
        return levels


def _sorted(nodes: dict[str, Node]) -> Iterator[Node]:
    """Depth first, in the order given: a parent comes right before its first child (an explicit stack: chains may
    be longer than Python's)."""
    finished: set[str] = set()
    for root in nodes:
        path: dict[str, Iterator[str]] = {root: iter(nodes[root].after)} if root not in finished else {}
        while path:
            key, parents = next(reversed(path.items()))
            parent = next((parent for parent in parents if parent not in finished), None)
            if parent is None:
                path.popitem()
                finished.add(key)
                yield nodes[key]
            elif parent in path:
                way = list(path)
                circle = [*way[way.index(parent) :], parent]
                raise ValueError(f"jobs wait for each other in a circle: {' -> '.join(circle)}")
            else:
                path[parent] = iter(nodes[parent].after)
