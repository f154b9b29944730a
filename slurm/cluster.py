"""Runs a graph on SLURM through submitit: one array a stage where possible, dependencies between them, no waiting.

    submit   journal -> sbatch (arrays, afterok/aftercorr/afterany) -> journal, then return
    cancel   one scancel

The journal gets a line before every sbatch and one after it, so that jobs of a submission that died in between are
found (by their unique name) and cancelled instead of running without their code. slurm.states says how they fare.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import re
import shlex
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm import scheduler, states, worker
from slurm.folder import Folder, try_lock
from slurm.graph import Graph, Node, Resources
from slurm.journal import Journal
from slurm.profile import Profile

available = scheduler.available

# What sbatch says where a limit on queued jobs is reached or the controller is too busy: the same call may succeed
# later. After the last two it may even have succeeded.
_FULL = re.compile(
    r"\b(Assoc|QOS)\w*Submit\w*Limit\b|temporarily unable to accept job|Slurm job queue full"
    r"|Unable to create job record|Job creation temporarily disabled|Resource temporarily unavailable"
)
_UNCERTAIN = re.compile(r"Socket timed out|Unable to contact slurm controller")
_PAUSE = 20.0  # seconds until the next attempt


@dataclass(frozen=True)
class Submission:
    """What `submit` did: SLURM's job number of every node, how often sbatch was called with success, and the nodes that
    were queued or running already and therefore left alone.

    `settled` are the nodes that ended while `submit` waited for room in the queue, or that never can run because of
    one that did: they have no number.
    """

    folder: Path
    jobs: dict[str, str]
    calls: int
    kept: tuple[str, ...]
    settled: tuple[str, ...] = ()


class _Full(Exception):
    """SLURM takes no more jobs of ours for now."""


def submit(
    graph: Graph,
    *,
    folder: Path,
    profile: Profile | None = None,
    code: worker.Code = None,
    on_full: Callable[[int, int], None] = lambda queued, total: None,
    on_trouble: Callable[[str], None] = lambda line: None,
    pause: float = _PAUSE,
) -> Submission:
    """Queue every node of the graph and return at once. `folder` must be seen by the cluster's machines.

    Nodes of this folder that are queued or running already are left alone (and waited for by their children), so a
    submission that stopped half-way is simply repeated. Where a machine of the profile has fewer GPUs than a node's
    processes want, they are spread over several. Where SLURM takes no more jobs for now (a limit on submitted
    jobs), what fits is queued and the rest follows as soon as there is room; only then does the call take long, and
    others may submit and cancel from this folder meanwhile.

    Args:
        code: folder that the jobs' modules are imported from before all others; or one for each node, by its key.
        on_full: called with (nodes queued or done, nodes) before every pause of `pause` seconds for want of room.
        on_trouble: called with a line where SLURM does not answer during such a pause, which then takes longer.

    Raises ValueError, in one line, where there is no SLURM, where it refuses, where a node is queued with other
    settings than the graph's or runs on this machine, or where a submission of somebody else died half-way.
    """
    if reason := available():
        raise ValueError(reason)
    place, profile = Folder(folder), profile or Profile()
    graph = Graph(dataclasses.replace(node, resources=profile.spread(node.resources)) for node in graph)
    with _only_writer(place):
        submitter = _Submitter(graph, place, profile, code)
        whole = submitter.begin()
    while not whole:
        on_full(len(submitter.jobs) + len(submitter.settled), len(graph))
        time.sleep(pause)
        try:
            with _only_writer(place):
                submitter.look_again()
                whole = submitter.go_on()
        except (scheduler.NoAnswer, _Busy) as error:
            on_trouble(str(error))
    return submitter.submission()


class _Busy(ValueError):
    """Another process submits or cancels."""


class _Submitter:
    """One call of `submit`; whoever calls a method of it holds the folder's lock."""

    def __init__(self, graph: Graph, place: Folder, profile: Profile, code: worker.Code) -> None:
        self.graph, self.place, self.profile, self.code = graph, place, profile, code
        self.journal = Journal(place)
        self.kept: tuple[str, ...] = ()
        self.longest = scheduler.longest_array()
        self.calls = 0
        self.jobs: dict[str, str] = {}
        self.settled: set[str] = set()

    def begin(self) -> bool:
        """Write down what is to be queued, and go on."""
        _require_no_orphans(self.journal)
        self.kept = self._keep_live()
        groups: dict[str, list[Node]] = defaultdict(list)
        for node in self.graph:
            if node.key not in self.kept:
                self.place.write_node(node)
                groups[str(worker.code_of(self.code, node.key) or "")].append(node)
        for code, nodes in groups.items():
            self.journal.planned(nodes, code, self.profile)
        return self.go_on()

    def go_on(self) -> bool:
        """Queue what is not queued yet, as far as there is room; whether that was all of it."""
        try:
            self._round()
        except _Full:
            return False
        return True

    def submission(self) -> Submission:
        jobs = {node.key: self.jobs[node.key] for node in self.graph if node.key in self.jobs}
        return Submission(self.place.root, jobs, self.calls, self.kept, tuple(sorted(self.settled)))

    def _keep_live(self) -> tuple[str, ...]:
        """Take over what is queued or running, but for nodes that wait for all and would miss what is new."""
        asked = {node.key: node for node in self.graph}
        found = [state for state in states.of_journal(self.journal, self.place) if state.live and state.key in asked]
        kept = {state.key for state in found if not state.node.always}
        for state in found:
            node = asked[state.key]
            if node.always and state.job and not (state.entry.digest == node.digest and kept.issuperset(node.after)):
                if state.entry.owner in ("", scheduler.user()):  # another's may run too early: ours comes after it
                    scheduler.cancel([state.job])
                continue
            self._take_over(state)
        return tuple(key for key in asked if key in self.jobs)

    def _round(self) -> None:
        """Queue what is not queued yet, level by level. Raises _Full where SLURM takes only a part of it."""
        shapes = _shapes(self.graph, self.jobs.keys() | self.settled)
        for level in self.graph.levels:
            nodes = [node for node in level if node.key not in self.jobs and node.key not in self.settled]
            for batch, dependency in _batches(nodes, self.jobs, shapes, self.longest, self.code):
                self._as_many_as_fit(batch, dependency)

    def _as_many_as_fit(self, nodes: list[Node], dependency: str) -> None:
        count = len(nodes)
        while count:
            try:
                self.jobs |= self._sbatch(nodes[:count], dependency)
                self.calls += 1
                break
            except _Full:
                count //= 2  # the beginning of an array still fits element to element
        if count < len(nodes):
            raise _Full

    def look_again(self) -> None:
        """After a pause: what SLURM forgot of parents that ended, and what others submitted or cancelled meanwhile."""
        self.journal = Journal(self.place)
        _require_no_orphans(self.journal)
        mine = {node.key: node for node in self.graph}
        for state in states.of_journal(self.journal, self.place):
            if state.key not in mine:
                continue
            if state.live and not (state.node.always and state.entry.digest != mine[state.key].digest):
                self._take_over(state)
                self.settled.discard(state.key)
            elif state.live or state.job or state.state == "blocked":
                self.jobs.pop(state.key, None)
                self.settled.add(state.key)
            elif state.entry.digest != mine[state.key].digest:
                raise ValueError(f"'{state.key}' was submitted anew with other settings: give the command again")
            else:  # never queued, or to be done again
                self.jobs.pop(state.key, None)

    def _take_over(self, state: states.NodeState) -> None:
        if state.entry.run:
            raise ValueError(f"'{state.key}' is under way on this machine: let it end there, or cancel it first")
        if state.entry.digest != self.graph[state.key].digest:
            raise ValueError(f"'{state.key}' is queued with other settings: cancel that first (job {state.job})")
        self.jobs[state.key] = state.job

    def _sbatch(self, nodes: list[Node], dependency: str) -> dict[str, str]:
        import submitit

        name = f"{nodes[0].stage or nodes[0].key}.{uuid.uuid4().hex[:8]}"
        specs = [self.place.node(node.key, node.digest) for node in nodes]
        # Whose time is cut to the profile's limit reaches that limit so often anyway.
        wanted, limit = _minutes(nodes[0], self.profile)
        timeouts = self.profile.requeues + math.ceil(wanted / limit) - 1
        executor = submitit.SlurmExecutor(
            self.place.submitit, max_num_timeout=timeouts, python=self.profile.python or None
        )
        executor.update_parameters(
            **_parameters(name, nodes[0], dependency, self.profile, worker.code_of(self.code, nodes[0].key))
        )
        self.journal.submitting(name, nodes)
        try:
            # submitit prints what sbatch said before it raises it.
            with contextlib.redirect_stderr(io.StringIO()):
                submitted = executor.submit_array([worker.Task(spec) for spec in specs])
        except submitit.core.utils.FailedJobError as error:
            if _UNCERTAIN.search(str(error)):
                raise _Full from None  # whether it got in is found out by its name
            self.journal.dropped(name)
            if _FULL.search(str(error)):
                raise _Full from None
            said = str(error).strip().splitlines() or ["no message"]
            raise ValueError(
                f"sbatch refused '{name}': {said[-1].removeprefix('sbatch: error: ')} "
                "(jobs submitted before it stay queued: cancel them, or submit again)"
            ) from None
        jobs = {node.key: job.job_id for node, job in zip(nodes, submitted, strict=True)}
        self.journal.submitted(name, jobs)
        for node, job in zip(nodes, submitted, strict=True):
            log = self.place.log(node.key)
            log.unlink(missing_ok=True)
            log.symlink_to(os.path.relpath(job.paths.stdout, log.parent))
        return jobs


def _shapes(graph: Graph, settled: Collection[str]) -> dict[str, frozenset[Any]]:
    """Of every node, what kinds of children are still to be queued behind it: nodes that have the same ones make an
    array whose elements the children's arrays can follow one to one."""
    shapes: dict[str, set[Any]] = defaultdict(set)
    for node in graph:
        if not node.always and node.key not in settled:
            for parent in node.after:
                shapes[parent].add((node.stage, node.resources))
    return {key: frozenset(kinds) for key, kinds in shapes.items()}


def _batches(
    nodes: Sequence[Node],
    jobs: Mapping[str, str],
    shapes: Mapping[str, frozenset[Any]],
    longest: int,
    code: worker.Code = None,
) -> Iterator[tuple[list[Node], str]]:
    """Split nodes into arrays: equal stage, resources and code, and parents that one dependency can express.

    `jobs` holds the numbers of what is queued; parents that are not in it have ended and are waited for no more.
    Yields the nodes of each sbatch call, in the order of the array's elements, and its dependency ("" for none).
    """
    alike: dict[Any, list[Node]] = defaultdict(list)
    for node in nodes:
        kind = (node.stage, node.resources, node.always, shapes.get(node.key, frozenset()))
        alike[kind, worker.code_of(code, node.key)].append(node)
    for group in alike.values():
        for members, dependency in _by_parents(group, jobs):
            for start in range(0, len(members), longest):
                yield members[start : start + longest], dependency


def _by_parents(nodes: Sequence[Node], jobs: Mapping[str, str]) -> Iterator[tuple[list[Node], str]]:
    families: dict[frozenset[str], list[Node]] = defaultdict(list)
    for node in nodes:
        families[frozenset(jobs[parent] for parent in node.after if parent in jobs)].append(node)
    if nodes[0].always:
        for parents, children in families.items():
            # Of an array all elements: its number alone, so that the line stays short.
            whole = sorted({parent.partition("_")[0] for parent in parents}, key=int)
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
    families: Mapping[frozenset[str], list[Node]],
) -> tuple[list[tuple[list[Node], tuple[str, ...]]], dict[frozenset[str], list[Node]]]:
    """Arrays in which element i waits for element i of other arrays, with the numbers of those (aftercorr); and the
    families (by their parents) that no such array can take.

    Where the elements have several children each, the first children make one array, the second ones another.
    A node fits that waits for one same element of each of its arrays, if every element from 0 has its child.
    """
    placed: dict[tuple[tuple[str, ...], int], dict[int, tuple[Node, frozenset[str]]]] = defaultdict(dict)
    others: dict[frozenset[str], list[Node]] = defaultdict(list)
    for parents, children in families.items():
        pairs = [parent.partition("_") for parent in parents]
        indices = {index for _, _, index in pairs}
        if len(indices) != 1 or "" in indices:
            others[parents] += children
            continue
        arrays, index = tuple(sorted((array for array, _, _ in pairs), key=int)), int(indices.pop())
        for turn, node in enumerate(children):
            placed[arrays, turn][index] = node, parents
    matched = []
    for (arrays, _), members in placed.items():
        if len(members) > 1 and sorted(members) == list(range(len(members))):
            matched.append(([members[index][0] for index in sorted(members)], arrays))
        else:
            for node, parents in members.values():
                others[parents].append(node)
    return matched, {parents: others[parents] for parents in families if parents in others}


def _dependency(jobs: Iterable[str], arrays: Iterable[str]) -> str:
    whole = [f"afterok:{':'.join(sorted(jobs))}"] if jobs else []
    return ",".join([*whole, *(f"aftercorr:{array}" for array in arrays)])


def refusal(resources: Resources, profile: Profile) -> str:
    """Why sbatch would not take a job that wants this (`sbatch --test-only`), in one line; empty where it would."""
    node = Node("test", "test:only", resources=profile.spread(resources))
    options = _options("test", node, "", profile) | dict(profile.sbatch)
    long = [f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}") for key, value in options.items()]
    try:
        scheduler.ask(["sbatch", "--test-only", *long, "--wrap=true"])
    except scheduler.NoAnswer as error:
        return str(error)
    return ""


def _minutes(node: Node, profile: Profile) -> tuple[int, int]:
    """What a node wants, and how much of that one job of the profile may last."""
    wanted = math.ceil(node.resources.minutes * profile.time_scale)
    return wanted, min(wanted, profile.max_minutes or wanted)


def _parameters(name: str, node: Node, dependency: str, profile: Profile, code: Path | None) -> dict[str, Any]:
    resources, (_, minutes) = node.resources, _minutes(node, profile)
    exports = [f"export {key}={shlex.quote(value)}" for key, value in worker.environment(resources.cpus, code).items()]
    # Unquoted on purpose, for the job's shell to put its variables in; a folder with spaces keeps together.
    scratch = [f'export TMPDIR="{profile.scratch}"', 'mkdir -p "$TMPDIR"'] if profile.scratch else []
    return _options(name, node, dependency, profile) | {
        "array_parallelism": profile.parallel,
        "setup": [*exports, *scratch, *profile.setup],
        # Time to write a last checkpoint before the limit, and most of a short job left to work in.
        "signal_delay_s": min(90, 15 * minutes),
        "stderr_to_stdout": True,
        # srun no longer takes --cpus-per-task from the job it runs in. Processes that have lost one wait in vain.
        "srun_args": [
            f"--cpus-per-task={resources.cpus}",
            "--cpu-bind=none",
            *(["--kill-on-bad-exit=1"] if resources.processes > 1 else []),
            *profile.srun,
        ],
        "additional_parameters": {"kill-on-invalid-dep": "yes", "requeue": True, **profile.sbatch},
    }


def _options(name: str, node: Node, dependency: str, profile: Profile) -> dict[str, Any]:
    """What a job asks for, by sbatch's long options."""
    resources, (_, minutes) = node.resources, _minutes(node, profile)
    options = {
        "job_name": name,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "time": minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus * resources.tasks,
        "mem": f"{math.ceil(resources.memory_gb * resources.tasks * 1024)}M",
        "dependency": dependency,
    }
    return {key: value for key, value in options.items() if value}


def _cancel_orphans(journal: Journal) -> set[str]:
    """Cancel what a submission of ours that died left in the queue: submitit had not yet put the code in its place.
    Returns who has left such a thing beside us."""
    us = scheduler.user()
    if names := [name for name, owner in journal.open.items() if owner in (us, "")]:
        scheduler.cancel(scheduler.named(names))
        for name in names:
            journal.dropped(name)
    return set(journal.open.values())


def _require_no_orphans(journal: Journal) -> None:
    if others := _cancel_orphans(journal):
        who = sorted(others)[0]
        raise ValueError(
            f"a submission of {who} from this folder ended half-way, and only {who} can cancel what it left queued:"
            " let them give their command again, or cancel"
        )


def cancel(folder: Path, keys: Collection[str]) -> list[str]:
    """Cancel those of these nodes that are queued or running on SLURM, and return their keys."""
    place = Folder(folder)
    with _only_writer(place):
        journal = Journal(place)
        live = [state for state in states.of_journal(journal, place) if state.live and state.job and state.key in keys]
        scheduler.cancel(state.job for state in live)
        if live:
            journal.cancelled(state.key for state in live)
        _cancel_orphans(journal)
    return [state.key for state in live]


@contextlib.contextmanager
def _only_writer(place: Folder) -> Iterator[None]:
    lock = try_lock(place.lock("submit"))
    if lock is None:
        raise _Busy(f"another submission from {place.root} is under way: let it finish")
    try:
        yield
    finally:
        os.close(lock)
