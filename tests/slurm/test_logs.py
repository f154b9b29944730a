from __future__ import annotations

from pathlib import Path

from slurm.logs import last_line


def test_last_line_sees_through_progress_bars(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("x" * 20_000 + "\n10 %\r 20 %\r\n\n")
    assert last_line(log) == "20 %"
    log.write_text("mine\nsrun: error: vm: task 0: Killed\nsrun: Force Terminated StepId=30.0\n")
    assert last_line(log) == "srun: error: vm: task 0: Killed"
