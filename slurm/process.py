"""Processes of the operating system: how one ends, takes its children along, and what it used."""

from __future__ import annotations

import contextlib
import multiprocessing.queues
import os
import resource
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the leader of a process group has died. If so, what is left in its group is killed, and it is reaped."""
    if not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def death(status: int) -> str:
    """What can be said of a process that died without an error message."""
    if status == -signal.SIGKILL:
        return "killed by signal 9: out of memory?"
    if status < 0:
        return f"killed by signal {-status} ({signal.Signals(-status).name})"
    return f"ended with exit status {status} and left no result"


def die_with_parent(pipe: int) -> None:
    """Kill this process group (we lead one) as soon as the pipe's writing end, held by the executor alone, is closed.

    So even kill -9 of the executor leaves nothing running. Unlike PR_SET_PDEATHSIG it takes our own children along,
    and has no window between fork and the call.
    """

    def watch() -> None:
        os.read(pipe, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def lead(log: str, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """What a process of multiprocessing does first and last: lead a group of its own, which ends with the process that
    started it; print to the end of that log; call the function."""
    os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    with Path(log).open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    function(*arguments)


def end_when_a_queue_fails() -> None:
    """Let this process, and those that it forks, end where something cannot be handed to another process.

    multiprocessing only prints such an error (shared memory is full, say), and who waits for the thing waits for ever.
    The death of a process is noticed.
    """

    def end(error: Exception, thing: object) -> None:
        traceback.print_exception(error)
        os._exit(1)

    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


def peak_memory_mb() -> float:
    """The peak of this process, that of its largest child added."""
    # Not ru_maxrss for ourselves: it starts at what the process that forked us had.
    own = 0
    with contextlib.suppress(FileNotFoundError):
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    itself, children = _usages()
    return ((own or itself.ru_maxrss) + children.ru_maxrss) / 1024


def _usages() -> tuple[resource.struct_rusage, resource.struct_rusage]:
    return resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
