"""The process of one node: `python -m slurm.worker NODE.json`, or the callable that submitit runs.

Both call `execute`: take the node's lock, import its target, call it, leave an outcome. Being interrupted (a signal,
Ctrl-C, death) is no outcome: the node may be started again and is expected to go on from its own checkpoints.
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
import sys
import sysconfig
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from slurm import progress
from slurm.folder import Folder, Outcome, read_node, try_lock
from slurm.graph import Node

if TYPE_CHECKING:
    import submitit

BUSY = os.EX_TEMPFAIL  # exit status: another process is running this node
LONGEST = 1000  # characters kept of what an error says; its cause may follow a long path
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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
            otherwise raise `Busy`.

    Whatever the target raises is recorded in one line and raised again. Of a node spread over several machines only
    rank 0 locks and records.
    """
    node, folder = read_node(spec), Folder(spec.parents[1])
    if int(os.environ.get("SLURM_PROCID", 0)):
        return _call(node)
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
            return outcome.value
        return _record(node, folder)
    finally:
        os.close(lock)


def finished_since(folder: Folder, node: Node, start: float) -> Outcome | None:
    """The outcome of the same work, done by somebody else since `start` (unix time)."""
    outcome = folder.read_outcome(node.key)
    if outcome and outcome.state == "done" and outcome.digest == node.digest and outcome.ended >= start:
        return outcome
    return None


def _record(node: Node, folder: Folder) -> Any:
    folder.progress(node.key).unlink(missing_ok=True)
    os.environ[progress.VARIABLE] = str(folder.progress(node.key))
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
        folder.write_outcome(outcome)

    try:
        value = _call(node)
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
        execute(options.spec, wait=False)
    except Busy as busy:
        sys.stderr.write(f"{busy}\n")
        return BUSY
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
