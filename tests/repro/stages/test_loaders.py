"""Processes that load pictures are no more than cores and shared memory allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.protocols.detection import DetectionProtocol
from repro.data.types import quiet
from repro.settings import Where
from repro.stages import loaders
from repro.stages.loaders import ContextHere, batch_bytes
from repro.store.job import Job
from repro.store.workspace import Workspace

PROTOCOL = DetectionProtocol(name="p", batch=2, short_side=100, long_side=200, train_sides=(80, 120)).values()
BATCH = 2 * (3 * 120 * 200 + 65536)


def workers(asked: int, tmp_path: Path) -> int:
    job = Job.__new__(Job)
    object.__setattr__(job, "spec", {"protocol": {"name": "p", "values": PROTOCOL}})
    object.__setattr__(job, "fingerprint", "0" * 64)
    return ContextHere(job, Workspace(tmp_path), Where(None, tmp_path), quiet).evaluation(asked).workers


def test_a_batch_is_its_largest_pictures() -> None:
    assert batch_bytes(PROTOCOL) == BATCH


@pytest.mark.parametrize(
    ("asked", "cores", "free", "get"),
    [
        (3, 8, 100 * BATCH, 3),
        (3, 3, 100 * BATCH, 2),
        (3, 1, 100 * BATCH, 0),
        (3, 8, 7 * BATCH, 2),  # three batches each, and one in the hand of who trains
        (3, 8, 64 * 1024, 0),
        (3, 8, 0, 0),
        (0, 8, 0, 0),
    ],
)
def test_fewer_where_the_machine_has_less(
    asked: int,
    cores: int,
    free: int,
    get: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loaders, "cores_here", lambda: cores)
    monkeypatch.setattr(loaders, "shared_memory_here", lambda: free)
    assert workers(asked, tmp_path) == get
    said = capsys.readouterr().out
    assert ("start the container with --shm-size=1g or --ipc=host" in said) == (get < min(asked, cores - 1))


@pytest.mark.parametrize(
    ("stored", "threads", "cores", "free", "get"),
    [
        ("packed", 16, 8, 10**9, 0),
        ("jpeg", 16, 8, 10**9, 7),
        ("jpeg", 4, 8, 10**9, 3),
        ("jpeg", 1, 8, 10**9, 0),
        ("jpeg", 16, 8, 7 * 16 * 3 * 24**2, 2),  # 16 pictures at a time
    ],
)
def test_processes_that_decode_leave_a_core_to_who_trains(
    stored: str, threads: int, cores: int, free: int, get: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "cores_here", lambda: cores)
    monkeypatch.setattr(loaders, "shared_memory_here", lambda: free)
    job = Job.__new__(Job)
    object.__setattr__(job, "spec", {"threads": threads, "size": 20, "stored": 24})
    assert ContextHere(job, Workspace(tmp_path), Where(None, tmp_path, stored), quiet).decoders() == get
