"""Processes of a part: each begins with everything imported and a device that nobody has used.

A fault of a device spoils it for the whole process that met it, and what a process had on it is given back at its end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from slurm import temporary
from slurm.process import lead

_PRELOAD = ["repro.measure.gpu.preload"]


def start(log: Path, function: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Call it in a process that leads a group of its own, prints to that log and ends with this process."""
    temporary.shorten_sockets()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    process = context.Process(target=lead, args=(str(log), function, arguments))
    process.start()
    return process


def end(process: ForkServerProcess) -> None:
    """Leave nothing of it and its group, whatever they do, also where it has ended and others of its group have not."""
    assert process.pid
    with contextlib.suppress(ProcessLookupError):  # it leads no group yet, or all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
