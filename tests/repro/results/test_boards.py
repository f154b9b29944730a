"""The workspace's boards and report: written while a run goes on, with curves and pictures of its jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from repro.results import boards
from repro.run import execute, live_boards
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace
from slurm.folder import Outcome
from slurm.graph import Graph, Resources, Task
from slurm.local import Event

Record = dict[str, Any]


@pytest.fixture
def place(
    tmp_path: Path,
    every: list[Record],
    first: Callable[..., Record],
    kin: Callable[[Record, list[Record]], list[Record]],
) -> Workspace:
    """A workspace with one method's records, one training log and one picture of detections."""
    place = Workspace(tmp_path / "work")
    for record in kin(first(kind="detection", method="aps", variant="", track="mini", seed=0), every):
        records.write(place.records, record)
        job = place.job(record["fingerprint"])
        job.mkdir(parents=True, exist_ok=True)
        if record["kind"] == "pretrain":
            lines = [{"epoch": 0, "updates": 10 * i, "loss_a": 9.0 - i, "std_z": 0.9} for i in range(1, 4)]
            lines.append({"epoch": 0, "updates": 30, "seconds": 2.0, "knn_top1": 77.25})  # a look of the monitor
            (job / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 0, "upd')  # killed there
        if record["kind"] == "detection":
            noise = np.random.default_rng(0).integers(0, 255, (900, 2400, 3), dtype=np.uint8)
            Image.fromarray(noise).save(job / "detections.png")
    return place


def test_curves_and_pictures_of_jobs_are_in_the_workspaces_report(place: Workspace) -> None:
    assert boards.write_boards(place) == []
    text = (place.boards / "report.html").read_text()
    assert "77.25" not in text  # of a look the record tells, not the log
    assert "training loss" in text and "std_z (1 = uniform)" in text
    (picture,) = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([^"]+)"', text)
    assert picture[1] == "Detections over ground truth: aps, mini, seed 0; COCO 2017, 130 pictures under free licences"
    assert "../records/knn-aps-mini-s0-" in text and "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_artifacts_outside_the_workspace_are_not_read(place: Workspace, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (path,) = place.records.glob("detection-*.json")
    record = json.loads(path.read_text())
    for file in ("../secret.png", str(tmp_path / "secret.png"), "jobs/absent.png"):
        path.write_text(json.dumps({**record, "artifacts": {"detections": file}}))
        boards.write_boards(place)
        assert "data:image" not in (place.boards / "report.html").read_text()


def test_a_workspace_without_records_is_told_so(tmp_path: Path, place: Workspace) -> None:
    (tmp_path / "new").mkdir()
    assert "0 records in" in boards.report(Settings(workspace=tmp_path / "new"))
    assert "0 records" not in boards.report(Settings(workspace=place.root))


def test_a_picture_that_cannot_be_read_costs_only_itself(place: Workspace) -> None:
    (path,) = place.root.glob("jobs/*/detections.png")
    path.write_bytes(b"no image")
    boards.write_boards(place)
    assert "data:image" not in (place.boards / "report.html").read_text()


def test_boards_are_fresh_while_a_run_goes_on(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ended process brings them up to date, but never more than a twentieth of the time goes into it."""
    clock, written = [100.0], []

    def write(_: Workspace) -> list[str]:
        written.append(clock[0])
        clock[0] += 2.0  # a slow machine
        return []

    monkeypatch.setattr(live_boards.time, "monotonic", lambda: clock[0])
    fresh = live_boards.Fresh(place, replace(live_boards.Views.none(), boards=write))
    for _ in range(100):
        fresh()
        clock[0] += 1.0
    assert written[:2] == [100.0, 140.0]  # 2 seconds of work, 38 of rest
    assert len(written) * 2.0 / (clock[0] - 100.0) <= 0.06

    def fail(_: Workspace) -> list[str]:
        raise OSError("disk full")

    live_boards.Fresh(place, replace(live_boards.Views.none(), boards=fail))()
    assert "disk full" in capsys.readouterr().err


def test_every_ended_process_asks_for_fresh_boards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from slurm import local

    ended: Any = Outcome

    def run(graph: Graph, *, on_event: Any, **_: Any) -> dict[str, Any]:
        on_event(Event("started", "a"))
        assert not asked
        on_event(Event("done", "a", outcome=ended("a", "done", seconds=1.0)))
        assert len(asked) == 1
        on_event(Event("failed", "b", outcome=ended("b", "failed", reason="why")))
        return {}

    asked: list[int] = []
    monkeypatch.setattr(local, "run", run)
    tasks = [Task(key, "json:dumps", {}, Resources()) for key in ("a", "b")]
    execute.run_here(Graph(tasks), Settings(), Workspace(tmp_path), None, lambda: asked.append(1))
    assert len(asked) == 2
