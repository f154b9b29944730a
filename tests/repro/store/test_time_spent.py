"""What a job costs that was killed and went on: held against clocks around its attempts."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from repro import jobs
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings
from repro.store import checkpoints, records, time_spent
from slurm import progress

TINY = "data.limit=50 pretrain.epochs=6 pretrain.batch=16 pretrain.warmup_epochs=0 network.depth=1 network.dim=24"
BURNT = 0.05  # CPU seconds a report


class Killed(BaseException):
    pass


def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a pre-training and a fine-tuning burns CPU time; both are killed twice."""
    monkeypatch.setattr(jobs, "settle", lambda count: None)
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0.0)
    left = {"pretrain": [9, 4], "finetune": [5, 3]}  # steps before each blow
    steps = dict.fromkeys(left, 0)

    def report(done: int, total: int, info: dict[str, Any]) -> None:
        kind, until = info["job"], time.process_time() + BURNT
        if kind not in left or "note" in info:
            return
        while time.process_time() < until:
            pass
        if left[kind]:
            left[kind][0] -= 1
            if not left[kind][0]:
                left[kind].pop(0)
                raise Killed
        steps[kind] += 1

    monkeypatch.setattr(progress, "report", report)
    settings = Settings(workspace=tmp_path)
    overrides = (*TINY.split(), "finetune.epochs=4")
    given = make(Request(("aps",), evaluations=("finetune",), overrides=overrides), settings).jobs
    attempts: dict[str, list[tuple[float, float]]] = {kind: [] for kind in left}
    for job in given:
        while job.fingerprint not in records.by_fingerprint(records.read_all(tmp_path / "records")[0]):
            wall, cpu = time.monotonic(), time.process_time()
            try:
                jobs.run(str(tmp_path), [job.to_json()])
            except Killed:
                assert (tmp_path / "jobs" / job.fingerprint[:16] / time_spent.FILE).is_file()
            attempts[job.kind].append((time.monotonic() - wall, time.process_time() - cpu))
    for record in records.read_all(tmp_path / "records")[0]:
        kind, cost = record["kind"], record["cost"]
        walls, cpus = zip(*attempts[kind], strict=True)
        assert len(walls) == record["provenance"]["attempt"] == 3
        assert walls[-1] < cost["wall_s"] < sum(walls) and cpus[-1] < cost["cpu_s"] < sum(cpus)
        assert cost["cpu_s"] > BURNT * steps[kind] and cost["wall_s"] >= cost["device_s"]
        assert not (tmp_path / "jobs" / record["fingerprint"][:16] / time_spent.FILE).exists()


@pytest.mark.processes
@pytest.mark.trains
def test_seconds_are_those_of_all_attempts(tmp_path: Path) -> None:
    """In a process of its own: the CPU time of this one is that of whatever other tests left running, too."""
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True, timeout=300)


def test_nothing_is_counted_that_no_checkpoint_holds(tmp_path: Path) -> None:
    (tmp_path / time_spent.FILE).write_text('{"wall_s": 1000.0, "cpu_s": 500.0}')
    with time_spent.counted(tmp_path) as clock:
        assert 0 <= clock.wall < 100 and 0 <= clock.cpu < 100
    (tmp_path / "training.pt").touch()
    with time_spent.counted(tmp_path) as clock:
        assert clock.wall >= 1000 and clock.cpu >= 500
        (tmp_path / time_spent.FILE).write_text("{")
    with time_spent.counted(tmp_path) as clock:
        assert clock.wall < 100


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as changed:
        measure(Path(sys.argv[1]), changed)
