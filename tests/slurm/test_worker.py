from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slurm import progress, worker
from slurm.folder import Folder, Outcome, try_lock
from slurm.graph import Node, Resources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    # `execute` sets both; what was there is put back afterwards.
    monkeypatch.setenv(progress.VARIABLE, "")
    monkeypatch.setattr(progress, "_seconds_between", 1.0)
    return Folder(tmp_path)


def test_a_busy_node_is_refused_or_waited_for_and_its_result_shared(folder: Folder) -> None:
    node = Node("a", "jobs_for_tests:fail", {"message": "must not run"})
    spec = folder.write_node(node)
    lock = try_lock(folder.lock("a"))
    assert lock is not None
    with pytest.raises(worker.Busy, match="'a' is being run by another process"):
        worker.execute(spec, wait=False)

    def finish() -> None:
        folder.write_outcome(Outcome("a", "done", value=42, digest=node.digest, ended=time.time()))
        os.close(lock)

    threading.Timer(0.3, finish).start()
    assert worker.execute(spec, wait=True) == 42
    # Nobody runs it now: what an earlier run left is no reason not to run.
    with pytest.raises(ValueError, match="must not run"):
        worker.execute(spec, wait=True)


def started(spec: Path, rank: int) -> subprocess.Popen[bytes]:
    """One of a node's several processes as srun starts it, when it is about to execute the node."""
    code = f"import pathlib, slurm.worker as w; print(1, flush=True); w.execute(pathlib.Path({str(spec)!r}), wait=True)"
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
def test_of_several_processes_the_first_records_and_the_others_wait_for_it(folder: Folder) -> None:
    node = Node("a", "jobs_for_tests:who", {"folder": str(folder.root)}, Resources(tasks=2, gpus=2))
    spec = folder.write_node(node)
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
def test_where_another_job_has_just_done_the_same_none_of_the_processes_does_it_again(folder: Folder) -> None:
    node = Node("a", "jobs_for_tests:fail", {"message": "must not run"}, Resources(tasks=2))
    spec = folder.write_node(node)
    lock = try_lock(folder.lock("a"))
    assert lock is not None
    both = [started(spec, rank) for rank in (0, 1)]
    time.sleep(1.0)
    folder.write_outcome(Outcome("a", "done", value=42, digest=node.digest, ended=time.time()))
    os.close(lock)
    assert [process.wait(20) for process in both] == [0, 0]


@pytest.mark.processes
def test_the_reason_is_that_of_the_process_that_failed_first(folder: Folder) -> None:
    deaths = {"0": (0.5, "lost the others"), "1": (0, "no luck")}
    node = Node("a", "jobs_for_tests:one_of_them", {"marks": str(folder.root), "deaths": deaths}, Resources(nodes=2))
    both = [started(folder.write_node(node), rank) for rank in range(2)]
    assert [process.wait(20) for process in both] == [1, 1]
    outcome = folder.read_outcome("a")
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("failed", "process 1 of 2: ValueError: no luck")


def test_reports_are_whole_and_few_and_the_last_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(progress.VARIABLE, str(file))
    assert progress.read(file) is None
    seen = set()
    for done in range(1001):
        progress.report(done, 1000)
        latest = progress.read(file)
        assert latest is not None
        seen.add(latest.done)
    assert 1000 in seen
    assert len(seen) < 100
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot create .*file/run.*: Not a directory; choose another folder"):
        Folder(tmp_path / "file" / "run")


WAITS = """
import sys
from pathlib import Path
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJobEnvironment
from slurm import worker
task = DelayedSubmission(worker.Task(Path("node.json")))
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


def test_a_job_of_slurm_reports_every_five_seconds(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_last_report", 0.0)
    clock = [1000.0]
    monkeypatch.setattr("slurm.progress.time.time", lambda: clock[0])
    monkeypatch.setenv(progress.VARIABLE, str(folder.root / "before"))

    def written(*times: float) -> list[float]:
        seen = []
        for clock[0] in times:
            progress.report(round(clock[0]), 10**6)
            told = progress.read(Path(os.environ[progress.VARIABLE]))
            assert told is not None
            seen.append(told.time)
        return seen

    assert written(1000, 1000.5, 1002) == [1000, 1000, 1002]
    node = Node("a", "jobs_for_tests:add", {"a": 1, "b": 2})
    worker.execute(folder.write_node(node), wait=True)
    assert written(2000, 2004, 2006) == [2000, 2000, 2006]
