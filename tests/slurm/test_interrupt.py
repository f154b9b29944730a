from __future__ import annotations

import pytest

from slurm import scheduler
from slurm.interrupt import on_slurm


def test_a_node_is_brought_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    answers = {"squeue": "7", "sinfo": "idle", "scontrol": ""}

    def ask(command: list[str]) -> str:
        asked.append(command)
        return answers[command[0]]

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler, "ask", ask)
    monkeypatch.setattr(on_slurm.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_slurm.take_down("vm", "7")
    assert [command[-1] for command in asked if command[0] == "scontrol"] == ["reason=drill", "state=resume"]


def test_a_node_that_others_use_stays_up_and_one_that_stays_down_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"squeue": "7\n8\n", "sinfo": "down", "scontrol": ""}
    monkeypatch.setattr(scheduler, "ask", lambda command: answers[command[0]])
    monkeypatch.setattr(on_slurm.time, "sleep", lambda seconds: None)
    with pytest.raises(on_slurm.NotPermitted, match="others run jobs on vm"):
        on_slurm.take_down("vm", "7")
    answers["squeue"] = "7\n"
    assert on_slurm.take_down("vm", "7") == ["vm is still down: scontrol update nodename=vm state=resume"]
