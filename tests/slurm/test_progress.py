from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurm import progress
from slurm.folder import Folder
from slurm.progress import Progress


def test_reports_are_whole_and_few_and_the_last_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(progress.VARIABLE, str(file))
    assert progress.read(file) is None
    seen = set()
    for done in range(1001):
        progress.report(done, 1000, {})
        latest = progress.read(file)
        assert latest is not None
        seen.add(latest.done)
    assert 1000 in seen
    assert len(seen) < 100
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_time_left_follows_the_rate_since_the_first_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "p"))
    clock = [1000.0]
    monkeypatch.setattr("slurm.progress.time.time", lambda: clock[0])
    monkeypatch.setattr(progress, "_latest", None)
    monkeypatch.setattr(progress, "_last_report", 0.0)

    def report(seconds: float, done: int, total: int, job: str) -> Progress:
        clock[0] += seconds
        progress.report(done, total, {"job": job})
        told = progress.read(tmp_path / "p")
        assert told is not None
        return told

    assert report(0, 40, 100, "train").seconds_left(clock[0]) is None  # resumed at step 40: no rate yet
    told = report(30, 50, 100, "train")
    assert told.seconds_left(clock[0]) == pytest.approx(50 * 3.0)
    assert told.seconds_left(clock[0] + 60) == pytest.approx(50 * 3.0 - 60)
    assert told.seconds_left(clock[0] + 1e6) == 0
    for done, total, job in ((0, 100, "train"), (60, 70, "train"), (61, 70, "score")):  # each a new task
        assert report(1, done, total, job).seconds_left(clock[0]) is None
    assert report(5, 65, 70, "score").seconds_left(clock[0]) == pytest.approx(5 / 4 * 5)


def test_a_report_of_an_earlier_process_is_not_this_ones(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.progress("a").write_text(json.dumps({"done": 5, "total": 9, "info": {}, "time": 100.0}))
    assert place.read_progress("a", since=101.0) is None
    assert place.read_progress("a", since=99.0) == Progress(5, 9, {}, 100.0)
