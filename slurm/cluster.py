"""Runs a graph on SLURM through submitit: one array a stage where possible, dependencies between them, no waiting.

    submit   journal -> sbatch (arrays, afterok/aftercorr) -> journal, then return
    status   journal + squeue (+ sacct for what squeue has forgotten) + outcomes + progress -> one NodeState a node
    cancel   the same, then one scancel

The journal gets a line before every sbatch and one after it, so that jobs of a submission that died in between are
found (by their unique name) and cancelled instead of running without their code.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.resources
import io
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from slurm import progress, worker
from slurm.folder import Folder, Outcome, last_line, read_node, try_lock
from slurm.graph import Graph, Node, Resources
from slurm.progress import Progress

_MAX_ARRAY = 1000  # elements; SLURM's own default for MaxArraySize is 1001
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
_ENDED = {
    "COMPLETED": "finished",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "reached its time limit",
    "OUT_OF_MEMORY": "ran out of memory",
    "NODE_FAIL": "its machine failed",
    "PREEMPTED": "was preempted",
    "BOOT_FAIL": "its machine did not boot",
    "DEADLINE": "reached its deadline",
}


@dataclass(frozen=True)
class Profile:
    """What a cluster wants to be told; profiles/default.toml explains the fields."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    setup: tuple[str, ...] = ()
    time_scale: float = 1.0
    parallel: int = 256
    requeues: int = 3
    sbatch: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Profile:
        """A profile that comes with the package, by its name, or anybody's, by its path (ending in .toml).

        Raises ValueError where there is none, or where one holds an unknown key or a value of the wrong type.
        """
        if name.endswith(".toml"):
            if not Path(name).is_file():
                raise ValueError(f"cluster profile {name}: no such file")
            text = Path(name).read_text()
        else:
            folder = importlib.resources.files("slurm") / "profiles"
            names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
            if name not in names:
                raise ValueError(f"no cluster profile '{name}': name one of {', '.join(names)}, or give a .toml file")
            text = (folder / f"{name}.toml").read_text()
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"cluster profile {name}: not valid TOML ({error})") from None
        defaults = {item.name: getattr(cls(), item.name) for item in fields(cls)}
        for key, value in data.items():
            if key not in defaults:
                near = difflib.get_close_matches(key, defaults, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(defaults)}"
                raise ValueError(
                    f"cluster profile {name}: unknown key '{key}'; {hint} (other sbatch options: [sbatch])"
                )
            if not _same_kind(value, defaults[key]):
                kind = {"tuple": "list of strings", "dict": "table"}.get(kind := type(defaults[key]).__name__, kind)
                raise ValueError(f"cluster profile {name}: {key} = {value!r} must be a {kind}")
        data["setup"] = tuple(data.get("setup", ()))
        return cls(**data)


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, list) and all(isinstance(line, str) for line in value)
    if isinstance(default, float):
        return type(value) in (int, float) and value > 0
    return type(value) is type(default)


@dataclass(frozen=True)
class Submission:
    """What `submit` did: SLURM's job number of every node, how often sbatch was called, and the nodes that were queued
    or running already and therefore left alone."""

    folder: Path
    jobs: dict[str, str]
    calls: int
    kept: tuple[str, ...]


@dataclass(frozen=True)
class NodeState:
    """Where a submitted node stands.

    Attributes:
        state: "unsubmitted": the submission died before SLURM knew this node; submit again. "blocked": a node it
            waits for did not finish, so SLURM cancelled it.
        reason: one line: what a pending node waits for, why one did not finish.
        job: SLURM's number ("7", "7_2"), empty when unsubmitted.
        progress: last report of the job, when it runs.
        outcome: what the node left, when it ended in this job.
    """

    key: str
    stage: str
    state: Literal["unsubmitted", "pending", "running", "done", "failed", "timeout", "cancelled", "blocked"]
    reason: str
    job: str
    log: Path
    progress: Progress | None = None
    outcome: Outcome | None = None

    @property
    def live(self) -> bool:
        return self.state in ("pending", "running")


def available() -> str | None:
    """None where jobs can be submitted from this machine, else one line that says why not and what to do."""
    for command in ("sbatch", "srun", "squeue", "scancel"):
        if not shutil.which(command):
            return f"no `{command}` on PATH: run this on a login node of a SLURM cluster, or use the local executor"
    try:
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "SLURM's controller does not answer `scontrol ping`: wait for it, or use the local executor"
    if ping.returncode:
        return "SLURM's controller is down (`scontrol ping`): wait for it, or use the local executor"
    return None


def submit(graph: Graph, *, folder: Path, profile: Profile | None = None) -> Submission:
    """Queue every node of the graph and return at once. `folder` must be seen by the cluster's machines.

    Nodes of this folder that are queued or running already are left alone (and waited for by their children), so a
    submission that stopped half-way is simply repeated.

    Raises ValueError, in one line, where there is no SLURM, where it refuses, or where a node is queued with other
    settings than the graph's.
    """
    if reason := available():
        raise ValueError(reason)
    place, profile = Folder(folder), profile or Profile()
    with _only_writer(place):
        return _submit(graph, place, profile)


def _submit(graph: Graph, place: Folder, profile: Profile) -> Submission:
    journal = _Journal(place)
    _cancel_orphans(journal)
    jobs: dict[str, str] = {}
    for state in _states(journal, place):
        if state.live and any(node.key == state.key for node in graph):
            if journal.digest[state.key] != graph[state.key].digest:
                raise ValueError(
                    f"'{state.key}' is queued with other settings: cancel that first (scancel {state.job})"
                )
            jobs[state.key] = state.job
    kept = tuple(jobs)
    calls = 0
    for level in graph.levels:
        for nodes, dependency in _batches([node for node in level if node.key not in jobs], jobs):
            jobs |= _sbatch(nodes, dependency, journal, place, profile)
            calls += 1
    return Submission(place.root, {node.key: jobs[node.key] for node in graph}, calls, kept)


def _batches(nodes: Sequence[Node], jobs: Mapping[str, str]) -> Iterator[tuple[list[Node], str]]:
    """Split nodes into arrays: equal stage and resources, and parents that one dependency can express.

    Yields the nodes of each sbatch call, in the order of the array's elements, and its dependency ("" for none).
    """
    alike: dict[tuple[str, Resources], list[Node]] = defaultdict(list)
    for node in nodes:
        alike[node.stage, node.resources].append(node)
    for group in alike.values():
        for members, dependency in _by_parents(group, jobs):
            for start in range(0, len(members), _MAX_ARRAY):
                yield members[start : start + _MAX_ARRAY], dependency


def _by_parents(nodes: Sequence[Node], jobs: Mapping[str, str]) -> Iterator[tuple[list[Node], str]]:
    families: dict[frozenset[str], list[Node]] = defaultdict(list)
    for node in nodes:
        families[frozenset(jobs[parent] for parent in node.after)].append(node)
    common = frozenset.intersection(*families)
    elementwise = _elementwise({parents - common: children for parents, children in families.items()})
    if elementwise is None:
        for parents, children in families.items():
            yield children, _dependency(parents, [])
    else:
        for members, arrays in elementwise:
            yield members, _dependency(common, arrays)


def _elementwise(families: Mapping[frozenset[str], list[Node]]) -> list[tuple[list[Node], tuple[str, ...]]] | None:
    """Arrays in which element i waits for element i of other arrays, with the numbers of those (aftercorr).

    Where the elements have several children each, the first children make one array, the second ones another.
    None unless every node waits for one same element of each of its arrays, and every element from 0 has its child.
    """
    placed: dict[tuple[tuple[str, ...], int], dict[int, Node]] = defaultdict(dict)  # (arrays, turn) -> index -> node
    for parents, children in families.items():
        pairs = [parent.partition("_") for parent in parents]
        indices = {index for _, _, index in pairs}
        if len(indices) != 1 or "" in indices:
            return None
        arrays, index = tuple(sorted((array for array, _, _ in pairs), key=int)), int(indices.pop())
        for turn, node in enumerate(children):
            placed[arrays, turn][index] = node
    if any(len(nodes) == 1 or sorted(nodes) != list(range(len(nodes))) for nodes in placed.values()):
        return None
    return [([nodes[index] for index in sorted(nodes)], arrays) for (arrays, _), nodes in placed.items()]


def _dependency(jobs: Iterable[str], arrays: Iterable[str]) -> str:
    whole = [f"afterok:{':'.join(sorted(jobs))}"] if jobs else []
    return ",".join([*whole, *(f"aftercorr:{array}" for array in arrays)])


def _sbatch(nodes: list[Node], dependency: str, journal: _Journal, place: Folder, profile: Profile) -> dict[str, str]:
    import submitit

    name = f"{nodes[0].stage or nodes[0].key}.{uuid.uuid4().hex[:8]}"
    specs = [place.write_node(node) for node in nodes]
    executor = submitit.SlurmExecutor(place.submitit, max_num_timeout=profile.requeues)
    executor.update_parameters(**_parameters(name, nodes[0].resources, dependency, profile))
    journal.write(event="submitting", name=name, nodes={node.key: node.digest for node in nodes})
    try:
        # submitit prints what sbatch said before it raises it.
        with contextlib.redirect_stderr(io.StringIO()):
            submitted = executor.submit_array([worker.Task(spec) for spec in specs])
    except submitit.core.utils.FailedJobError as error:
        journal.write(event="dropped", name=name)
        said = str(error).strip().splitlines() or ["no message"]
        raise ValueError(
            f"sbatch refused '{name}': {said[-1].removeprefix('sbatch: error: ')} "
            "(jobs submitted before it stay queued: cancel them, or submit again)"
        ) from None
    jobs = {node.key: job.job_id for node, job in zip(nodes, submitted, strict=True)}
    journal.write(event="submitted", name=name, jobs=jobs)
    for node, job in zip(nodes, submitted, strict=True):
        log = place.log(node.key)
        log.unlink(missing_ok=True)
        log.symlink_to(os.path.relpath(job.paths.stdout, log.parent))
    return jobs


def _parameters(name: str, resources: Resources, dependency: str, profile: Profile) -> dict[str, Any]:
    minutes = math.ceil(resources.minutes * profile.time_scale)
    exports = [f"export {key}={shlex.quote(value)}" for key, value in worker.environment(resources.cpus).items()]
    parameters = {
        "job_name": name,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "time": minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus,
        "mem": f"{math.ceil(resources.memory_gb * 1024)}M",
        "dependency": dependency,
    }
    return {key: value for key, value in parameters.items() if value} | {
        "array_parallelism": profile.parallel,
        "setup": [*exports, *profile.setup],
        # Time to write a last checkpoint before the limit, and most of a short job left to work in.
        "signal_delay_s": min(90, 15 * minutes),
        "stderr_to_stdout": True,
        # srun no longer takes --cpus-per-task from the job it runs in.
        "srun_args": [f"--cpus-per-task={resources.cpus}", "--cpu-bind=none"],
        "additional_parameters": {"kill-on-invalid-dep": "yes", "requeue": True, **profile.sbatch},
    }


class _Journal:
    """What was handed to sbatch, in lines of JSON, and what follows from them all."""

    def __init__(self, place: Folder) -> None:
        self.path = place.journal
        self.digest: dict[str, str] = {}  # of the node last submitted under a key
        self.jobs: dict[str, str] = {}  # its number
        self.batches: dict[str, dict[str, str]] = {}  # name -> nodes whose sbatch was begun and not seen to end
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                # Blank, or cut short by a death before what it announced.
                with contextlib.suppress(json.JSONDecodeError):
                    self._apply(json.loads(line))

    def write(self, **entry: Any) -> None:
        with self.path.open("a") as file:
            # The line break comes first, so that a line cut short by death spoils no other.
            file.write("\n" + json.dumps({**entry, "time": time.time()}))
            file.flush()
            os.fsync(file.fileno())
        self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        if entry["event"] == "submitting":
            self.batches[entry["name"]] = entry["nodes"]
            for key, digest in entry["nodes"].items():
                self.jobs.pop(key, None)
                self.digest.pop(key, None)  # to the end: parents stay before their children
                self.digest[key] = digest
        else:
            self.batches.pop(entry["name"], None)
            self.jobs |= entry.get("jobs", {})


def _cancel_orphans(journal: _Journal) -> None:
    """Cancel what a submission that died left in the queue: submitit had not yet put the code in its place."""
    names = list(journal.batches)
    if not names:
        return
    found = _ask(["squeue", "--me", "--noheader", f"--name={','.join(names)}", "--format=%A"]).split()
    if found:
        _ask(["scancel", "--quiet", *sorted(set(found))])
    for name in names:
        journal.write(event="dropped", name=name)


def status(folder: Path) -> list[NodeState]:
    """Every node ever submitted from this folder, in the order of submission, as it stands now.

    Empty where nothing was submitted. Raises ValueError where something was and SLURM does not answer.
    """
    place = Folder(folder)
    return _states(_Journal(place), place)


def cancel(folder: Path) -> list[str]:
    """Cancel what is queued or running, and return the keys of those nodes."""
    place = Folder(folder)
    with _only_writer(place):
        live = [state for state in status(folder) if state.live]
        if live:
            # Quiet about those that have ended since.
            _ask(["scancel", "--quiet", *(state.job for state in live)])
        _cancel_orphans(_Journal(place))
    return [state.key for state in live]


@contextlib.contextmanager
def _only_writer(place: Folder) -> Iterator[None]:
    lock = try_lock(place.lock("submit"))
    if lock is None:
        raise ValueError(f"another submission from {place.root} is under way: let it finish")
    try:
        yield
    finally:
        os.close(lock)


def _states(journal: _Journal, place: Folder) -> list[NodeState]:
    known = _scheduler(set(journal.jobs.values()))
    states: dict[str, NodeState] = {}
    for key, digest in journal.digest.items():
        node = read_node(place.node(key, digest))
        parents = [states[parent] for parent in node.after if parent in states]
        states[key] = _state(node, journal.jobs.get(key, ""), known, parents, place)
    return list(states.values())


def _state(
    node: Node, job: str, known: Mapping[str, tuple[str, str]], parents: Sequence[NodeState], place: Folder
) -> NodeState:
    log = place.log(node.key)
    outcome = place.read_outcome(node.key)
    if outcome and (outcome.job != job or outcome.digest != node.digest):
        outcome = None

    def state(name: Any, reason: str = "", report: Progress | None = None) -> NodeState:
        return NodeState(node.key, node.stage, name, reason, job, log, report, outcome)

    if not job:
        return state("unsubmitted", "not queued: if no submission is under way, submit again")
    word, reason = known.get(job, ("", ""))
    ended = _ENDED.get(word)
    if word in _RUNNING:
        return state("running", "" if word == "RUNNING" else word.lower(), progress.read(place.progress(node.key)))
    if word and not ended:
        return state("pending", reason)
    if outcome and outcome.state == "done":
        return state("done", "" if word in ("COMPLETED", "") else f"its result is whole, though SLURM calls it {word}")
    if outcome:
        return state("failed", outcome.reason)
    lost = next((parent for parent in parents if not parent.live and parent.state != "done"), None)
    if word == "CANCELLED" and reason in ("Dependency", "DependencyNeverSatisfied") and lost:
        return state("blocked", lost.reason if lost.state == "blocked" else f"'{lost.key}' {lost.state}")
    if word == "CANCELLED":
        return state("cancelled", "by hand, or by the cluster")
    if not ended:
        ended = "SLURM no longer knows it"
    elif word == "COMPLETED":
        ended = "SLURM calls it COMPLETED, but it left no outcome"
    line = last_line(log)
    return state(
        "timeout" if word == "TIMEOUT" else "failed", f"{ended}; last line of its log: {line}" if line else ended
    )


def _scheduler(jobs: set[str]) -> dict[str, tuple[str, str]]:
    """SLURM's state and reason of each job: from squeue, which remembers a job for some minutes, else from sacct."""
    if not jobs:
        return {}
    known = {}
    for line in _ask(["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%r"]).splitlines():
        job, word, reason = line.split("|", 2)
        known[job] = (word, reason)
    forgotten = {job.partition("_")[0] for job in jobs - known.keys()}
    if forgotten:
        columns = "--format=JobID,State,Reason,Start"
        command = [
            "sacct",
            "-X",
            "--noheader",
            "--parsable2",
            columns,
            f"--jobs={','.join(sorted(forgotten, key=int))}",
        ]
        # Without accounting the outcomes must do.
        with contextlib.suppress(ValueError):
            # Single elements first: a range that was cancelled as one ("7_[0-2]") includes those that had left it.
            for line in sorted(_ask(command).splitlines(), key=lambda line: "[" in line):
                ids, word, reason, start = line.split("|", 3)
                word = word.partition(" ")[0]  # "CANCELLED by 1000"
                if word == "CANCELLED" and start in ("None", "Unknown"):
                    reason = "Dependency"  # accounting does not always keep it
                for job in _expand(ids):
                    known.setdefault(job, (word, reason))
    return known


def _expand(ids: str) -> list[str]:
    """Job numbers as sacct abbreviates them: "7", "7_2", "7_[0-2,5%4]"."""
    match = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", ids)
    if not match:
        return [ids]
    numbers: list[str] = []
    for part in match[2].split(","):
        first, _, last = part.partition("-")
        numbers += [f"{match[1]}_{index}" for index in range(int(first), int(last or first) + 1)]
    return numbers


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise ValueError(f"no `{command[0]}` on PATH: run this on a login node of a SLURM cluster") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"`{command[0]}` did not answer for two minutes: try again later") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"`{command[0]}` failed: {said}")
    return done.stdout
