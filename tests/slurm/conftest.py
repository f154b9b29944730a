"""The tasks' targets are in jobs_for_tests.py, which workers find through PYTHONPATH."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm import progress, scheduler
from slurm.folder import Folder
from slurm.states import TaskState
from slurm.status import of_folder


@pytest.fixture(autouse=True)
def _targets_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{rooms}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder whose tasks this process can run itself."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    # `execute` sets both; what was there is put back afterwards.
    monkeypatch.setenv(progress.VARIABLE, "")
    monkeypatch.setattr(progress, "_seconds_between", 1.0)
    return Folder(tmp_path)


@pytest.fixture
def states_when() -> Callable[..., dict[str, TaskState]]:
    """`states_when(folder, true, seconds)`: the states of a folder's tasks, by their keys, as soon as that is true.

    The time only bounds a failure: other tests use the same cluster, and a job queued again waits for its turn.
    """

    def wait(folder: Path, true: Callable[[dict[str, TaskState]], bool], seconds: float = 240) -> dict[str, TaskState]:
        end = time.monotonic() + seconds
        while True:
            found = {state.key: state for state in of_folder(folder)}
            if found and true(found):
                return found
            assert time.monotonic() < end, found
            time.sleep(0.2)

    return wait


@pytest.fixture(scope="session")
def real_slurm() -> None:
    if reason := scheduler.available():
        pytest.skip(f"{reason} (tests/slurm/cluster.sh starts one)")
