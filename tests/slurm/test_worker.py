from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WAITS = """
import sys
from pathlib import Path
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJobEnvironment
from slurm import worker
task = DelayedSubmission(worker.Task(Path("task.json")))
task.set_timeout(600, 3)
SlurmJobEnvironment()._handle_signals(JobPaths(sys.argv[1], "7"), task)
worker._UNTIL_KILLED = float(sys.argv[2])
print("saved", flush=True)
worker.await_the_end()
sys.exit(143)
"""


@pytest.mark.parametrize(("seconds", "submitit", "status"), [(60, "slurm", 255), (0.2, "slurm", 255), (60, "", 143)])
def test_who_was_asked_to_end_by_slurm_waits_to_be_queued_again(
    fake_slurm: Path, tmp_path: Path, seconds: float, submitit: str, status: int
) -> None:
    """By submitit's signal, or by itself where no signal comes; an end of its own would count as a failure."""
    (tmp_path / "7").mkdir()
    waiting = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(tmp_path / "%j"), str(seconds)],
        env={**os.environ, "SLURM_JOB_ID": "7", "SUBMITIT_EXECUTOR": submitit},
        stdout=subprocess.PIPE,
        text=True,
    )
    with waiting:
        assert waiting.stdout is not None
        while waiting.stdout.readline() not in ("saved\n", ""):
            pass
        if seconds == 60 and submitit:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1)
            waiting.send_signal(signal.SIGUSR2)
        assert waiting.wait(60) == status
    calls = fake_slurm / "calls"
    assert (calls.exists() and "scontrol requeue 7" in calls.read_text()) == bool(submitit)
