"""The process of one task: `python -m slurm.worker TASK.json`, or the callable that submitit runs.

Both end in slurm.execution. A task that is done again runs with the code that it was first submitted with, which may be
older than the executor's: so this module, its `Task` and the arguments of its command line keep their names.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slurm import watch
from slurm.execution import Busy, execute, run_rank
from slurm.folder import Folder, read_task
from slurm.process import die_with_parent

if TYPE_CHECKING:
    import submitit

BUSY = os.EX_TEMPFAIL  # exit status: another process is running this task
_UNTIL_KILLED = 600.0  # seconds to wait for SIGKILL after SIGTERM


class Task:
    """A task as submitit calls it. Interrupted, it asks to be queued again as it is: the target resumes itself."""

    def __init__(self, spec: Path) -> None:
        self.spec = str(spec)

    def __call__(self) -> None:
        execute(Path(self.spec), wait=True)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def await_the_end() -> None:
    """For who has saved its state when SIGTERM came: in a job of SLURM, wait for what follows that signal.

    It announces SIGKILL: of a preemption, GraceTime later, after which SLURM queues the job again, but only where it
    has not ended by then; of scancel, KillWait later. Before either, submitit's own signal may come and queue it anew.
    Where nothing follows for minutes we give ourselves that signal. Outside SLURM this returns at once.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return
    watch.rest()
    time.sleep(_UNTIL_KILLED)
    signal.raise_signal(signal.SIGUSR2)
    time.sleep(_UNTIL_KILLED)  # of several ranks only the first is heard, and its end is that of all


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="slurm.worker", description="Run one task of a graph.")
    parser.add_argument("spec", type=Path, help="FOLDER/nodes/KEY-DIGEST.json")
    parser.add_argument("--parent-pipe", type=int, help="file descriptor that closes when the executor dies")
    parser.add_argument("--rank", type=int, help="which of the task's several ranks to be")
    options = parser.parse_args(arguments)
    if options.parent_pipe is not None:
        os.set_inheritable(options.parent_pipe, False)
        die_with_parent(options.parent_pipe)
    # When memory runs out, the kernel should take a task and not the executor.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")

    def leave(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)  # unwinds, so that the target's `finally` blocks run

    signal.signal(signal.SIGTERM, leave)
    watch.show_stacks_on_request()
    try:
        if options.rank is None:
            execute(options.spec, wait=False)
        else:
            run_rank(read_task(options.spec), Folder(options.spec.parents[1]), options.rank)
    except Busy as busy:
        sys.stderr.write(f"{busy}\n")
        return BUSY
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
