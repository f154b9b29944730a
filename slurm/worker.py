"""The process of one node: `python -m slurm.worker NODE.json`, or the callable that submitit runs.

Both call `execute`: take the node's lock, import its target, call it, leave an outcome. Being interrupted (a signal,
Ctrl-C, death) is no outcome: the node may be started again and is expected to go on from its own checkpoints.

Of a node of several processes, srun starts all of them, each with `execute`: the first does as above, the others call
the target as soon as the first has the lock. On one machine the process that has the lock starts them as torchrun
would and calls nothing itself. Each leaves an outcome of its own among `parts`; one that fails ends the others.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from slurm import progress
from slurm.folder import Folder, Outcome, read_node, try_lock
from slurm.graph import Node

if TYPE_CHECKING:
    import submitit

BUSY = os.EX_TEMPFAIL  # exit status: another process is running this node
LONGEST = 1000  # characters kept of what an error says; its cause may follow a long path
_TICK = 0.05  # seconds between looks at the processes of a node
_WORD_TICK = 0.5  # seconds between looks for the first one's word
_LAST_WORDS = 5.0  # seconds that processes which have lost one get to end by themselves
_REPORT_EVERY = 5.0  # seconds between two reports of a job of SLURM: many at once share one file server
_UNTIL_KILLED = 600.0  # seconds to wait for SIGKILL after SIGTERM
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


# The folder that modules are imported from before all others: of all nodes, or of each by its key. None: our own.
Code = Path | Mapping[str, Path | None] | None


def code_of(code: Code, key: str) -> Path | None:
    """The folder of the node of that key."""
    return code.get(key) if isinstance(code, Mapping) else code


class Busy(Exception):
    """Another process is running this node."""


def environment(cpus: int, code: Path | None) -> dict[str, str]:
    """Variables that must be set before the worker's Python starts: threads, and where modules come from.

    PYTHONSAFEPATH keeps the working directory (which may hold folders of our names) off the import path. First on it
    comes `code`, else this package's own parent, unless it is installed where every Python of this environment looks
    anyway (there it would come before the standard library).
    """
    variables = dict.fromkeys(_THREADS, str(cpus))
    # Threads that wait must sleep: beside another job on the same cores, spinning ones made a step seven times slower.
    variables |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    variables |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    home = str(code.absolute() if code else Path(__file__).absolute().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    if home not in installed and (code or home not in paths):
        paths.insert(0, home)
    if paths:
        variables["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths)
    return variables


def execute(spec: Path, *, wait: bool) -> Any:
    """Run the node described in FOLDER/nodes/KEY-DIGEST.json and return what its target returns.

    Args:
        wait: where another process runs this node, wait for it, and take over its result if it did the same work;
            otherwise raise `Busy`. With it, the node's other processes have been started (by srun); without, they are
            started here.

    Whatever the target raises is recorded in one line and raised again. Of a node of several processes only the first
    locks and records.
    """
    node, folder = read_node(spec), Folder(spec.parents[1])
    several, call = node.resources.processes > 1, partial(_call, node)
    if several and wait:
        if node.resources.gpus:
            place = int(os.environ.get("SLURM_LOCALID", 0))
            os.environ["CUDA_VISIBLE_DEVICES"] = _share_of_gpus(place, node.resources.tasks, node.resources.gpus)
        if rank := int(os.environ.get("SLURM_PROCID", 0)):
            return part(node, folder, rank) if _may_begin(node, folder) else None
    if several:
        call = partial(_first if wait else _together, node, folder)
    lock = try_lock(folder.lock(node.key))
    asked = time.time()
    waited = lock is None
    while lock is None:
        if not wait:
            raise Busy(f"'{node.key}' is being run by another process")
        time.sleep(1)
        lock = try_lock(folder.lock(node.key))
    try:
        if waited and (outcome := finished_since(folder, node, asked)):
            _tell_the_others(lock, "done")
            return outcome.value
        folder.progress(node.key).unlink(missing_ok=True)
        os.environ[progress.VARIABLE] = str(folder.progress(node.key))
        if wait:
            progress.at_most_every(_REPORT_EVERY)
        if several:
            folder.forget_parts(node)
            _tell_the_others(lock, "begin")
        return _record(node, folder, call)
    finally:
        os.close(lock)


def finished_since(folder: Folder, node: Node, start: float) -> Outcome | None:
    """The outcome of the same work, done by somebody else since `start` (unix time)."""
    outcome = folder.read_outcome(node.key)
    if outcome and outcome.state == "done" and outcome.digest == node.digest and outcome.ended >= start:
        return outcome
    return None


def _record(node: Node, folder: Folder, call: Callable[[], Any], rank: int | None = None) -> Any:
    """What `call` returns; how that ended is written down, of the node or of one of its several processes."""
    start, cpu_start = time.time(), _cpu_seconds()

    def record(state: Any, reason: str, value: Any) -> None:
        outcome = Outcome(
            key=node.key,
            state=state,
            reason=reason,
            value=value,
            log=str(folder.log(node.key)),
            seconds=time.time() - start,
            cpu_seconds=_cpu_seconds() - cpu_start,
            peak_memory_mb=_peak_memory_mb(),
            ended=time.time(),
            digest=node.digest,
            pid=os.getpid(),
            job=slurm_job(),
            restarts=int(os.environ.get("SLURM_RESTART_COUNT", 0)),
        )
        folder.write_outcome(outcome, rank)

    try:
        value = call()
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{node.target} must return plain JSON ({error})") from None
    except SystemExit as error:
        if isinstance(error.code, str):  # the target's own words, which Python prints and turns into status 1
            record("failed", error.code[:LONGEST], None)
        raise
    except Exception as error:
        record("failed", one_line(error), None)
        raise
    record("done", "", value)
    return value


def _call(node: Node) -> Any:
    module, function = node.target.split(":")
    return getattr(importlib.import_module(module), function)(**node.args)


# ------------------------------------------------------------------------------------------- nodes of several processes


def part(node: Node, folder: Folder, rank: int) -> Any:
    """Call the target as one of several processes; the first alone reports progress."""
    if rank:
        os.environ.pop(progress.VARIABLE, None)
    return _record(node, folder, partial(_call, node), rank)


def _first(node: Node, folder: Folder) -> Any:
    """The first of several processes that srun started: where they fail, the reason is that of whichever was first."""
    try:
        return part(node, folder, 0)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise  # interrupted
        traceback.print_exc()
        failure = folder.first_failure(node)
        raise SystemExit(failure.reason if failure else one_line(error)) from None


def _tell_the_others(lock: int, word: str) -> None:
    """Write into the lock file whether the node is `done` already or may `begin`, in this life of this job."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{_life()} {word}".encode(), 0)
    os.fsync(lock)


def _may_begin(node: Node, folder: Folder) -> bool:
    """Wait for the first process's word; False where the node is done."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            life, _, word = folder.lock(node.key).read_text().rpartition(" ")
            if life == _life() and word in ("begin", "done"):
                return word == "begin"
        time.sleep(_WORD_TICK)


def _life() -> str:
    return f"{slurm_job()} {os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _together(node: Node, folder: Folder) -> Any:
    """Start all processes of a node on this machine; what the first one returns.

    Asked to end, they are asked in turn, and have as long as this process has. One that fails takes the others along.
    """
    count = node.resources.processes
    everybody = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port(), "WORLD_SIZE": str(count)}
    alive, pipe = os.pipe()
    command = [
        sys.executable,
        "-m",
        "slurm.worker",
        "--parent-pipe",
        str(alive),
        str(folder.node(node.key, node.digest)),
    ]
    running: dict[int, subprocess.Popen[bytes]] = {}
    dead: dict[int, int] = {}  # status by rank, in the order of their deaths
    limit = float("inf")
    try:
        for rank in range(count):
            one = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
            one["CUDA_VISIBLE_DEVICES"] = _share_of_gpus(rank, count, node.resources.gpus)
            running[rank] = subprocess.Popen(
                [*command, "--rank", str(rank)],
                stdin=subprocess.DEVNULL,
                env=os.environ | everybody | one,
                pass_fds=(alive,),
                start_new_session=True,
            )
        while running and time.monotonic() < limit:
            time.sleep(_TICK)
            for rank, process in list(running.items()):
                if ended(process):
                    dead[rank] = running.pop(rank).returncode
            if limit == float("inf") and any(dead.values()):
                limit = time.monotonic() + _LAST_WORDS
    except SystemExit:  # SIGTERM
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        raise
    finally:
        os.close(pipe)  # what still runs dies of it
        for process in running.values():
            process.wait()
        os.close(alive)
    lost = next((rank for rank, status in dead.items() if status), None)
    if lost is None:
        outcome = folder.read_outcome(node.key, 0)
        return outcome.value if outcome else None
    if dead[lost] > 0 and (failure := folder.first_failure(node)):
        raise SystemExit(failure.reason)
    raise SystemExit(f"process {lost} of {count} {death(dead[lost])}")


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Has the leader of a process group died? Then whatever it left running in its group dies too, and it is reaped."""
    if not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def death(status: int) -> str:
    """What can be said of a process that died without a word."""
    if status == -signal.SIGKILL:
        return "killed by signal 9: out of memory?"
    if status < 0:
        return f"killed by signal {-status} ({signal.Signals(-status).name})"
    return f"ended with status {status} and no outcome"


def _share_of_gpus(place: int, count: int, each: int) -> str:
    """CUDA_VISIBLE_DEVICES of one of `count` processes on this machine, `each` of which wants so many GPUs.

    All that are visible where they are fewer: srun has dealt them out already, or there are none.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [str(number) for number in range(count * each)] if visible is None else visible.split(",")
    return ",".join(found if len(found) < count * each else found[place * each : (place + 1) * each])


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


# ---------------------------------------------------------------------------------------------------------------- words


def one_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:LONGEST] if text else type(error).__name__


def slurm_job() -> str:
    """The number of the SLURM job we are, as squeue prints it ("7", "7_2"); empty outside SLURM."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def _cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


def _peak_memory_mb() -> float:
    # Not ru_maxrss for ourselves: it starts at what the process that forked us had.
    own = 0
    with contextlib.suppress(FileNotFoundError):
        status = Path("/proc/self/status").read_text()
        own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    itself, children = _usages()
    return ((own or itself.ru_maxrss) + children.ru_maxrss) / 1024


def _usages() -> tuple[resource.struct_rusage, resource.struct_rusage]:
    return resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)


def await_the_end() -> None:
    """For who has saved its state when SIGTERM came: in a job of SLURM, wait for what follows that signal.

    It announces SIGKILL: of a preemption, GraceTime later, after which SLURM queues the job again, but only where it
    has not ended by then; of scancel, KillWait later. Before either, submitit's own signal may come and queue it anew.
    Where nothing follows for minutes we give ourselves that signal. Outside SLURM this returns at once.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return
    time.sleep(_UNTIL_KILLED)
    signal.raise_signal(signal.SIGUSR2)
    time.sleep(_UNTIL_KILLED)  # of several processes only the first is heard, and its end is that of all


class Task:
    """The callable handed to submitit. Interrupted, it asks to be queued again as it is: the target resumes itself."""

    def __init__(self, spec: Path) -> None:
        self.spec = str(spec)

    def __call__(self) -> None:
        execute(Path(self.spec), wait=True)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def die_with_parent(pipe: int) -> None:
    """Kill this process group (we lead one) as soon as the pipe's writing end, held by the executor alone, is closed.

    So even kill -9 of the executor leaves nothing running. Unlike PR_SET_PDEATHSIG it takes our own children along,
    and has no window between fork and the call.
    """

    def watch() -> None:
        os.read(pipe, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="slurm.worker", description="Run one node of a graph.")
    parser.add_argument("spec", type=Path, help="FOLDER/nodes/KEY-DIGEST.json")
    parser.add_argument("--parent-pipe", type=int, help="file descriptor that closes when the executor dies")
    parser.add_argument("--rank", type=int, help="which of the node's several processes to be")
    options = parser.parse_args(arguments)
    if options.parent_pipe is not None:
        os.set_inheritable(options.parent_pipe, False)
        die_with_parent(options.parent_pipe)
    # When memory runs out, the kernel should take a job and not the executor.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")

    def leave(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)  # unwinds, so that the target's `finally` blocks run

    signal.signal(signal.SIGTERM, leave)
    try:
        if options.rank is None:
            execute(options.spec, wait=False)
        else:
            part(read_node(options.spec), Folder(options.spec.parents[1]), options.rank)
    except Busy as busy:
        sys.stderr.write(f"{busy}\n")
        return BUSY
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
