"""The several ranks of a task: how they wait for the first, and how they are started where srun does not.

srun starts all of them, on as many machines as they want; the first takes the task's lock, and tells the others by a
word in the lock file whether to begin. On one machine the process that has the lock starts them as torchrun would.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import Any

from slurm import environment
from slurm.folder import Folder
from slurm.graph import Task
from slurm.process import death, ended

_TICK = 0.05  # seconds between looks at the ranks' processes
_WORD_TICK = 0.5  # seconds between looks for the word of rank 0
_LAST_WORDS = 5.0  # seconds that ranks which have lost one get to end by themselves
_BEGIN, _DONE = "begin", "done"


def let_begin(lock: int) -> None:
    """Tell the other ranks of this life of this job to begin. lock: descriptor of the task's lock file."""
    _write(lock, _BEGIN)


def send_home(lock: int) -> None:
    """Tell the other ranks that the task is done already."""
    _write(lock, _DONE)


def may_begin(task: Task, folder: Folder) -> bool:
    """Wait for the word of rank 0; False where the task is done."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            word = folder.lock(task.key).read_text(encoding="utf-8")
            if word in (_line(_BEGIN), _line(_DONE)):
                return word == _line(_BEGIN)
        time.sleep(_WORD_TICK)


def _write(lock: int, word: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, _line(word).encode(), 0)
    os.fsync(lock)


def _line(word: str) -> str:
    """A word for this life of this job: what an earlier one left in the file is no word for us."""
    return f"{environment.slurm_job()} {environment.restarts()} {word}"


def start_all(task: Task, folder: Folder) -> Any:
    """Start all ranks of a task on this machine, each a process; what rank 0 returns.

    Asked to end, they are asked in turn, and have as long as this process has. One that fails takes the others along.
    """
    count = task.resources.ranks
    everybody = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port(), "WORLD_SIZE": str(count)}
    alive, pipe = os.pipe()
    spec = folder.task(task.key, task.digest)
    command = [sys.executable, "-m", "slurm.worker", "--parent-pipe", str(alive), str(spec)]
    running: dict[int, subprocess.Popen[bytes]] = {}
    dead: dict[int, int] = {}  # status by rank, in the order of their deaths
    limit = float("inf")
    try:
        for rank in range(count):
            one = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
            one["CUDA_VISIBLE_DEVICES"] = environment.share_of_gpus(rank, count, task.resources.gpus)
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
        outcome = folder.read_outcome(task.key, 0)
        return outcome.value if outcome else None
    if dead[lost] > 0 and (failure := folder.first_failure(task)):
        raise SystemExit(failure.reason)
    raise SystemExit(f"rank {lost} of {count} {death(dead[lost])}")


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
