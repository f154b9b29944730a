from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.files import try_lock
from slurm.folder import Folder, Outcome
from slurm.graph import Resources, Task


def started(spec: Path, rank: int) -> subprocess.Popen[bytes]:
    """One of a task's several ranks as srun starts it, when it is about to execute the task."""
    code = (
        f"import pathlib, slurm.execution as e; print(1, flush=True); e.execute(pathlib.Path({str(spec)!r}), wait=True)"
    )
    told = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | told | {"CUDA_VISIBLE_DEVICES": "4,5,6,7"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None and process.stdout.readline() == b"1\n"
    return process


@pytest.mark.processes
def test_of_several_ranks_the_first_records_and_the_others_wait_for_it(folder: Folder) -> None:
    task = Task("a", "jobs_for_tests:who", {"folder": str(folder.root)}, Resources(ranks_per_node=2, gpus=2))
    spec = folder.write_task(task)
    folder.lock("a").write_text("7 0 begin")  # of an earlier life of this job
    other = started(spec, 1)
    time.sleep(1.0)
    assert other.poll() is None and not (folder.root / "1").exists()
    assert started(spec, 0).wait(20) == other.wait(20) == 0
    told = [json.loads((folder.root / str(rank)).read_text()) for rank in (0, 1)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in told] == ["4,5", "6,7"]
    assert [each["reports"] for each in told] == [True, False]
    outcome = folder.read_outcome("a")
    assert outcome is not None
    assert (outcome.value, outcome.job, outcome.restarts) == ("0", "7", 1)


@pytest.mark.processes
def test_where_another_job_has_just_done_the_same_none_of_the_ranks_does_it_again(folder: Folder) -> None:
    task = Task("a", "jobs_for_tests:fail", {"message": "must not run"}, Resources(ranks_per_node=2))
    spec = folder.write_task(task)
    lock = try_lock(folder.lock("a"))
    assert lock is not None
    both = [started(spec, rank) for rank in (0, 1)]
    time.sleep(1.0)
    folder.write_outcome(Outcome("a", "done", value=42, digest=task.digest, ended=time.time()))
    os.close(lock)
    assert [process.wait(20) for process in both] == [0, 0]


@pytest.mark.processes
def test_the_reason_is_that_of_the_rank_that_failed_first(folder: Folder) -> None:
    deaths = {"0": (0.5, "lost the others"), "1": (0, "no luck")}
    task = Task("a", "jobs_for_tests:one_of_them", {"marks": str(folder.root), "deaths": deaths}, Resources(nodes=2))
    both = [started(folder.write_task(task), rank) for rank in range(2)]
    assert [process.wait(20) for process in both] == [1, 1]
    outcome = folder.read_outcome("a")
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("failed", "rank 1 of 2: ValueError: no luck")
