from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from slurm import execution, progress
from slurm.files import try_lock
from slurm.folder import Folder, Outcome
from slurm.graph import Task


def test_a_busy_task_is_refused_or_waited_for_and_its_result_shared(folder: Folder) -> None:
    task = Task("a", "jobs_for_tests:fail", {"message": "must not run"})
    spec = folder.write_task(task)
    lock = try_lock(folder.lock("a"))
    assert lock is not None
    with pytest.raises(execution.Busy, match="'a' is being run by another process"):
        execution.execute(spec, wait=False)

    def finish() -> None:
        folder.write_outcome(Outcome("a", "done", value=42, digest=task.digest, ended=time.time()))
        os.close(lock)

    threading.Timer(0.3, finish).start()
    assert execution.execute(spec, wait=True) == 42
    # Nobody runs it now: what an earlier run left is no reason not to run.
    with pytest.raises(ValueError, match="must not run"):
        execution.execute(spec, wait=True)


def test_a_job_of_slurm_reports_every_five_seconds(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_last_report", 0.0)
    clock = [1000.0]
    monkeypatch.setattr("slurm.progress.time.time", lambda: clock[0])
    monkeypatch.setenv(progress.VARIABLE, str(folder.root / "before"))

    def written(*times: float) -> list[float]:
        seen = []
        for clock[0] in times:
            progress.report(round(clock[0]), 10**6, {})
            told = progress.read(Path(os.environ[progress.VARIABLE]))
            assert told is not None
            seen.append(told.time)
        return seen

    assert written(1000, 1000.5, 1002) == [1000, 1000, 1002]
    task = Task("a", "jobs_for_tests:add", {"a": 1, "b": 2})
    execution.execute(folder.write_task(task), wait=True)
    assert written(2000, 2004, 2006) == [2000, 2000, 2006]
