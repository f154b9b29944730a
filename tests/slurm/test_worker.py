from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from slurm import progress, worker
from slurm.folder import Folder, Outcome, try_lock
from slurm.graph import Node


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv(progress.VARIABLE, "")  # `execute` sets it; put back what was there afterwards
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


def test_only_rank_0_records(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = folder.write_node(Node("a", "jobs_for_tests:add", {"a": 1, "b": 2}))
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert worker.execute(spec, wait=True) == 3
    assert folder.read_outcome("a") is None
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert worker.execute(spec, wait=True) == 3
    outcome = folder.read_outcome("a")
    assert outcome is not None
    assert (outcome.value, outcome.pid) == (3, os.getpid())


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
