"""Runs a graph on this machine: as many nodes side by side as cores, memory and GPUs allow, each a process."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from slurm import progress, states, worker
from slurm.folder import Folder, Outcome, last_line, try_lock
from slurm.graph import Graph, Node, Resources
from slurm.journal import Journal
from slurm.progress import Progress

_TICK = 0.05  # seconds between looks at the children
_ELSEWHERE_TICK = 0.5  # seconds between looks at a lock that somebody else holds
_CANCEL_TICK = 0.5  # seconds between looks for nodes that shall be cancelled
_GRACE = 10.0  # seconds that a cancelled node has to end by itself


@dataclass(frozen=True)
class Event:
    """Something the caller may want to show. "elsewhere": another process is running this very node, we wait."""

    kind: Literal["started", "progress", "elsewhere", "done", "failed", "cancelled", "blocked"]
    key: str
    progress: Progress | None = None
    outcome: Outcome | None = None


def run(
    graph: Graph,
    *,
    folder: Path,
    cores: int | None = None,
    memory_gb: float | None = None,
    gpus: Sequence[str] | None = None,
    code: worker.Code = None,
    on_event: Callable[[Event], None] = lambda event: None,
    grace: float = 10.0,
    limits: Mapping[str, float] | None = None,
) -> dict[str, Outcome]:
    """Run every node and return how each ended, whatever became of the others.

    A node that wants more than there is runs when it has the whole machine; its threads are never more than its cores.
    `Resources.minutes` bind only a cluster: on a machine that may be slow there are no time limits but those that the
    caller sets. A node's several processes, wherever they were to run, all run here.

    Args:
        folder: see slurm.folder. Two runs on one folder never run a node twice at the same time; the second waits
            and shares the result of the first.
        cores, memory_gb, gpus: what may be used; by default what this process may use and what is free now. `gpus`
            are values for CUDA_VISIBLE_DEVICES; a node that asks for none sees none.
        code: folder that the processes' modules are imported from before all others; or one for each node, by its key.
        on_event: called from this thread. Whatever it raises ends the run.
        grace: seconds between SIGTERM and SIGKILL when the run is cut short.
        limits: seconds that a node may run, by its key; then it is ended as one that is cancelled, and has failed. They
            are looked up as it runs.

    Raises:
        ValueError: before anything runs, where a node's several processes want more GPUs than there are, or where one
            of the nodes is queued or running on SLURM.
        KeyboardInterrupt: after Ctrl-C, when all children are gone.
    """
    asks_for_gpus = any(node.resources.gpus for node in graph)
    pool = _Pool(
        cores or _cores(),
        memory_gb or _memory_gb(),
        list(gpus if gpus is not None else _gpus() if asks_for_gpus else ()),
    )
    for node in graph:
        pool.fit(node.resources)
    _require_not_on_slurm(graph, Folder(folder))
    state = _Run(graph, Folder(folder), pool, code, on_event, {} if limits is None else limits)
    try:
        while state.waiting or state.running:
            state.heed_cancels()
            state.start_ready()
            state.look_at_running()
            time.sleep(_TICK)
    finally:
        state.end(grace)
    return {node.key: state.outcomes[node.key] for node in graph}


def _require_not_on_slurm(graph: Graph, place: Folder) -> None:
    """A machine without SLURM's commands cannot ask: there the nodes' own locks have to do."""
    journal, asked = Journal(place), {node.key for node in graph}
    if not any(entry.job for key, entry in journal.entries.items() if key in asked) or not shutil.which("squeue"):
        return
    queued = [state for state in states.of_journal(journal, place) if state.live and state.job and state.key in asked]
    if queued:
        first = queued[0]
        raise ValueError(f"'{first.key}' is {first.state} on SLURM (job {first.job}): let it end there, or cancel it")


def cancel(folder: Path, keys: Collection[str]) -> None:
    """Ask the runs on this folder to end these nodes; they do so within a second, from whatever machine."""
    place = Folder(folder)
    for key in keys:
        place.cancel(key).touch()


class _Pool:
    """What is free of the machine."""

    def __init__(self, cores: int, memory_gb: float, gpus: list[str]) -> None:
        self.cores, self.memory_gb, self.gpus = cores, memory_gb, gpus
        self._all = (cores, memory_gb, len(gpus))

    def fit(self, wanted: Resources) -> Resources:
        """What all processes of a job want together, cut to the size of the machine.

        Raises ValueError where some of them would have a GPU and others none.
        """
        cores, memory_gb, gpus = self._all
        count = wanted.processes
        if 0 < gpus < count * wanted.gpus and count > 1:
            raise ValueError(
                f"{count} processes want {wanted.gpus} of the GPUs each, and this machine has {gpus}: ask for fewer"
                " processes, or hide all GPUs with CUDA_VISIBLE_DEVICES= to train on its cores"
            )
        return replace(
            wanted,
            nodes=1,
            tasks=1,
            cpus=min(count * wanted.cpus, cores),
            memory_gb=min(count * wanted.memory_gb, memory_gb),
            gpus=min(count * wanted.gpus, gpus),
        )

    def take(self, share: Resources) -> list[str] | None:
        """Take a share, and return its GPUs; None when it is not free."""
        if share.cpus > self.cores or share.memory_gb > self.memory_gb + 1e-9 or share.gpus > len(self.gpus):
            return None
        self.cores -= share.cpus
        self.memory_gb -= share.memory_gb
        taken, self.gpus = self.gpus[: share.gpus], self.gpus[share.gpus :]
        return taken

    def give_back(self, share: Resources, gpus: list[str]) -> None:
        self.cores += share.cpus
        self.memory_gb += share.memory_gb
        self.gpus = sorted(self.gpus + gpus)


@dataclass
class _Child:
    node: Node
    process: subprocess.Popen[bytes]
    share: Resources
    gpus: list[str]
    started: float
    progress: Progress | None = None
    kill_at: float | None = None  # it was told to end, and has until then (monotonic time)
    late: bool = False  # it was told so because of its time limit

    def signal(self, number: signal.Signals) -> None:
        """To the whole process group. Only called while the leader is not yet reaped, so that its number is ours."""
        os.killpg(self.process.pid, number)

    def ended(self) -> bool:
        """Has the leader died? Then whatever it left running in its group dies too, and it is reaped."""
        return worker.ended(self.process)


class _Run:
    """The state of one `run`."""

    def __init__(
        self,
        graph: Graph,
        folder: Folder,
        pool: _Pool,
        code: worker.Code,
        on_event: Callable[[Event], None],
        limits: Mapping[str, float],
    ) -> None:
        self.folder, self.pool, self.code, self.on_event, self.limits = folder, pool, code, on_event, limits
        self.waiting: dict[str, Node] = {node.key: node for node in graph}
        self.running: dict[str, _Child] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.elsewhere: dict[str, tuple[float, float]] = {}  # since when, and when to look again
        self.alive, self.pipe = os.pipe()  # children hold the reading end; see worker.die_with_parent
        self.name = uuid.uuid4().hex[:12]
        self.lock = try_lock(folder.run(self.name))
        for node in graph:
            folder.write_node(node)
            folder.cancel(node.key).unlink(missing_ok=True)
        groups: dict[str, list[Node]] = defaultdict(list)
        for node in graph:
            groups[str(worker.code_of(code, node.key) or "")].append(node)
        for source, nodes in groups.items():
            Journal(folder).started(self.name, nodes, source)
        self.look_for_cancels = 0.0

    def heed_cancels(self) -> None:
        """End what somebody asked to end, or what has run too long. A child gets SIGTERM, and SIGKILL when it does not
        heed that."""
        now = time.monotonic()
        for child in self.running.values():
            if child.kill_at is not None and now >= child.kill_at:
                child.signal(signal.SIGKILL)
            elif child.kill_at is None and time.time() >= child.started + self.limits.get(child.node.key, math.inf):
                child.late, child.kill_at = True, now + _GRACE
                child.signal(signal.SIGTERM)
        if now < self.look_for_cancels:
            return
        self.look_for_cancels = now + _CANCEL_TICK
        for path in (self.folder.root / "cancel").iterdir():
            running = self.running.get(path.name)
            if running and running.kill_at is None:
                running.kill_at = now + _GRACE
                running.signal(signal.SIGTERM)
            elif node := self.waiting.get(path.name):
                self._cancelled(node)

    def _cancelled(self, node: Node) -> None:
        outcome = Outcome(node.key, "cancelled", "on request", ended=time.time(), digest=node.digest)
        self.folder.write_outcome(outcome)
        self._finish(node, outcome)

    def _too_late(self, node: Node) -> None:
        reason = f"reached its time limit of {self.limits[node.key]:.0f} s; done again, it goes on from its checkpoint"
        outcome = Outcome(node.key, "failed", reason, ended=time.time(), digest=node.digest)
        self.folder.write_outcome(outcome)
        self._finish(node, outcome)

    def start_ready(self) -> None:
        for key, node in list(self.waiting.items()):
            parents = [self.outcomes.get(parent) for parent in node.after]
            lost = next((parent for parent in parents if parent and parent.state != "done"), None)
            if lost and not node.always:
                reason = lost.reason if lost.state == "blocked" else f"'{lost.key}' {lost.state}"
                outcome = Outcome(key, "blocked", reason, ended=time.time(), digest=node.digest)
                self.folder.write_outcome(outcome)
                self._finish(node, outcome)
            elif all(parents) and not self._busy_elsewhere(node):
                share = self.pool.fit(node.resources)
                gpus = self.pool.take(share)
                if gpus is not None:
                    self._start(node, share, gpus)

    def _busy_elsewhere(self, node: Node) -> bool:
        """Is another process running this node? If it has just finished it, that is our outcome too."""
        since, look = self.elsewhere.get(node.key, (time.time(), 0.0))
        if time.time() < look:
            return True
        lock = try_lock(self.folder.lock(node.key))
        if lock is None:
            if node.key not in self.elsewhere:
                self.on_event(Event("elsewhere", node.key))
            self.elsewhere[node.key] = (since, time.time() + _ELSEWHERE_TICK)
            return True
        os.close(lock)
        if node.key in self.elsewhere and (outcome := worker.finished_since(self.folder, node, since)):
            self._finish(node, outcome)
            return True
        return False

    def _start(self, node: Node, share: Resources, gpus: list[str]) -> None:
        log = self.folder.log(node.key)
        if log.is_symlink():  # of an earlier submission to SLURM
            log.unlink()
        spec, started = self.folder.write_node(node), time.time()
        threads = max(1, share.cpus // node.resources.processes)
        environment = worker.environment(threads, worker.code_of(self.code, node.key))
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "slurm.worker", "--parent-pipe", str(self.alive), str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)},
                pass_fds=(self.alive,),
                start_new_session=True,
            )
        self.running[node.key] = _Child(node, process, share, gpus, started)
        del self.waiting[node.key]
        self.on_event(Event("started", node.key))

    def look_at_running(self) -> None:
        for key, child in list(self.running.items()):
            ended = child.ended()
            latest = progress.read(self.folder.progress(key))
            # A report older than the child is what the last one to run this node left.
            if latest and latest != child.progress and latest.time >= child.started:
                child.progress = latest
                self.on_event(Event("progress", key, progress=latest))
            if ended:
                del self.running[key]
                self.pool.give_back(child.share, child.gpus)
                if child.process.returncode == worker.BUSY:
                    self.waiting[key] = child.node  # somebody was faster
                elif child.kill_at is not None and not worker.finished_since(self.folder, child.node, child.started):
                    self._too_late(child.node) if child.late else self._cancelled(child.node)
                else:
                    self._finish(child.node, self._outcome(child))

    def _outcome(self, child: _Child) -> Outcome:
        """What the child wrote, or, if it died without a word, what can be said of it."""
        outcome = self.folder.read_outcome(child.node.key)
        if outcome and outcome.ended >= child.started:
            # Another executor's worker may have done the same work again before we looked: its result will do.
            again = child.process.returncode == 0 and outcome.state == "done" and outcome.digest == child.node.digest
            if outcome.pid == child.process.pid or again:
                return outcome
        reason = worker.death(child.process.returncode)
        log = self.folder.log(child.node.key)
        if line := last_line(log):
            reason += f"; last line of its log: {line}"
        outcome = Outcome(child.node.key, "failed", reason, log=str(log), ended=time.time(), digest=child.node.digest)
        self.folder.write_outcome(outcome)
        return outcome

    def _finish(self, node: Node, outcome: Outcome) -> None:
        self.waiting.pop(node.key, None)
        self.outcomes[node.key] = outcome
        self.on_event(Event(outcome.state, node.key, outcome=outcome))

    def end(self, grace: float) -> None:
        """Leave nothing running: SIGTERM, and SIGKILL after `grace` seconds or a second Ctrl-C."""
        left = list(self.running.values())
        try:
            for child in left:
                child.signal(signal.SIGTERM)
            limit = time.monotonic() + grace
            while left and time.monotonic() < limit:
                left = [child for child in left if not child.ended()]
                time.sleep(_TICK)
        finally:
            for child in left:
                child.signal(signal.SIGKILL)
                child.process.wait()
            os.close(self.alive)
            os.close(self.pipe)
            self.folder.run(self.name).unlink(missing_ok=True)
            if self.lock is not None:
                os.close(self.lock)


def _cores() -> int:
    """Cores this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _control_group("cpu.max").partition(" ")
    return max(1, min(cores, round(int(quota) / int(period)))) if quota.isdigit() else cores


def _memory_gb() -> float:
    """Memory that is free now, on the machine and in its container."""
    free = psutil.virtual_memory().available
    limit = _control_group("memory.max")
    if limit.isdigit():
        free = min(free, int(limit) - int(_control_group("memory.current") or 0))
    return max(free, 0) / 2**30


def _control_group(name: str) -> str:
    """A setting of the control group that a container sees as its root; empty where there is none."""
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listing.splitlines()))]
