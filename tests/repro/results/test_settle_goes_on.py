"""`settle` goes on, whatever ends it: killed here at any moment, and on a SLURM that is not there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_lab
import pytest
from made_up_lab import CLAIM, Reach, alone, noisy, record_of, rough

from repro.cli import settling
from repro.cli.dispatch import main
from repro.errors import UserError
from repro.plan.budget import Budget
from repro.plan.tasks import TARGET
from repro.results import find_records, settle_cluster
from repro.results.settle_ledger import Ledger
from repro.run import submit
from repro.run.task_states import states
from repro.store import records
from repro.store.job import Job
from repro.store.workspace import Workspace
from slurm import cluster, watch

PLACE = Workspace(Path("repro-work"))


@pytest.mark.slow
@pytest.mark.processes
def test_killed_at_any_moment_it_goes_on_and_makes_nothing_twice(tmp_path: Path, data_root: Path) -> None:
    """Two workspaces, one left alone and one whose settle is killed over and over, end with the same."""
    ends, rng = {}, random.Random(3)
    line = [sys.executable, made_up_lab.__file__, "rough", "0.05", "settle", CLAIM, "--budget", "10d"]
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": root, "REPRO_DATA": str(data_root)}
    for way in ("alone", "killed"):
        folder, deaths = tmp_path / way, 0
        folder.mkdir()
        while True:
            process = subprocess.Popen(
                [*line, "--executor", "local"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
            )
            if way == "killed" and deaths < 6:
                made = _made(folder)
                while process.poll() is None and len(_made(folder)) <= len(made):
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.25))
                process.send_signal(signal.SIGKILL)
                killed = process.wait() == -signal.SIGKILL
                process.communicate()
                assert killed or deaths >= 4, "it ended before it could be killed"
                deaths = deaths + 1 if killed else 6
                continue
            out, _ = process.communicate(timeout=300)
            assert process.returncode == 0
            break
        found = {r["fingerprint"]: r["metrics"] for r in records.read_all(folder / "repro-work" / "records")[0]}
        ends[way] = found, next(said for said in out.splitlines() if "holds on mini" in said and "decided" in said)
        written = [name for name, ours in _made(folder) if ours == "True"]
        assert len(written) == len(set(written)) and set(written) <= found.keys()  # it may die before it says so
        spent = out.splitlines()[-1]
        assert spent.endswith("of 10d spent")
    (first, said), (second, said_then) = ends["alone"], ends["killed"]
    assert first == second and len(first) == 42  # seven pairs of pre-training, features and linear probe
    assert said.split()[:6] == said_then.split()[:6]


def _made(folder: Path) -> list[tuple[str, str]]:
    file = folder / "made.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(name, ours) for name, _, ours in (line.partition(" ") for line in lines)]


class Night:
    """A settlement on a simulated cluster, step by step."""

    def __init__(self, cluster: Any, reach: Reach) -> None:
        self.cluster, self.reach = cluster, reach
        self.lost: set[str] = set()  # methods whose trainings leave no record

    def pairs_end(self) -> None:
        """All that is queued runs; the pairs leave their records."""
        self.cluster.finish()
        for state in states(PLACE):
            for job in state.task.args["jobs"] if state.task.target == TARGET else ():
                if job["method"] not in self.lost:
                    records.write(PLACE.records, record_of(Job.from_json(job), self.reach))

    def looks(self) -> list[Any]:
        """The looks that were submitted, in their order."""
        return [state for state in states(PLACE) if state.task.stage == "settle"]

    def look(self) -> int:
        """The newest look, as its job would do it."""
        module, _, function = self.looks()[-1].task.target.partition(":")
        assert module == settling.__name__
        status: int = getattr(settling, function)(**self.looks()[-1].task.args)
        return status


@pytest.fixture
def night(
    simulated_slurm: Callable[..., Any], own_folder: None, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Reach], Night]:
    monkeypatch.setenv("REPRO_DATA", str(data_root))
    monkeypatch.setattr(find_records, "every_claim", alone(find_records.every_claim))
    monkeypatch.setattr(watch, "_resting", threading.Event())  # a look sets it for the rest of its process
    return lambda reach: Night(simulated_slurm(), reach)


def to_the_end(night: Night) -> int:
    for _ in range(40):
        before = len(night.looks())
        night.pairs_end()
        status = night.look()
        if len(night.looks()) == before:
            return status
    raise AssertionError("it never ends")


@pytest.mark.seconds
def test_on_slurm_it_submits_and_looks_until_the_claim_is_decided(
    night: Callable[[Reach], Night], capsys: pytest.CaptureFixture[str]
) -> None:
    made = night(rough)
    line = ["settle", CLAIM, "--budget", "2000h", "--executor", "slurm"]
    assert main(line) == 0
    assert "submitted 21 tasks to SLURM" in capsys.readouterr().out  # both arms of five seeds, and the look after them
    assert main(line) == 0
    assert "already running: settle-mini-" in capsys.readouterr().out
    assert to_the_end(made) == 0
    out = capsys.readouterr().out
    assert "holds on mini (n = 7)" in out and "GPU time spent" in out
    assert "42 min of 2000h spent" in out  # seven pairs of six jobs, a minute each by their records, all without a GPU
    assert set(made.cluster.ran.values()) == {1} and len(made.looks()) == 3  # after five pairs, six, seven


@pytest.mark.seconds
def test_on_slurm_the_cap_ends_it(night: Callable[[Reach], Night], capsys: pytest.CaptureFixture[str]) -> None:
    made = night(noisy)
    assert main(["settle", CLAIM, "--budget", "1h", "--executor", "slurm"]) == 0
    assert "submitted 21 tasks" in capsys.readouterr().out
    assert to_the_end(made) == 0
    out = capsys.readouterr().out
    assert "not decided yet on mini" in out and ("futile" in out or "more than the budget has left" in out)
    spent = sum(r["cost"]["wall_s"] for r in records.read_all(PLACE.records)[0])
    assert spent <= 3600 and set(made.cluster.ran.values()) == {1}


@pytest.mark.seconds
def test_a_look_waits_for_a_slurm_that_does_not_answer(
    night: Callable[[Reach], Night], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(noisy)
    assert main(["settle", CLAIM, "--budget", "30h", "--executor", "slurm"]) == 0
    made.pairs_end()
    told = made.looks()[-1].task.args
    made.cluster.silence(300.0)
    monkeypatch.setattr(time, "sleep", made.cluster.sleep)
    assert settling.again(**told) == 0
    out = capsys.readouterr().out
    assert "looking again in 3 min" in out and len(made.looks()) == 2
    assert set(made.cluster.ran.values()) == {1}


@pytest.mark.seconds
def test_a_look_that_came_further_goes_on_from_there(
    night: Callable[[Reach], Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that finds all of a round made begins the next; where SLURM is silent then, it does not fall back."""
    made, tried = night(noisy), list[int]()
    assert main(["settle", CLAIM, "--budget", "30h", "--executor", "slurm"]) == 0
    told = made.looks()[-1].task.args

    def comes_further(_: object, __: object, ledger: Ledger, number: int) -> int:
        tried.append(number)
        ledger.begin_round(number)
        if len(tried) > 1:
            return 0
        ledger.begin_round(number + 1)
        raise UserError("SLURM does not answer")

    monkeypatch.setattr(settle_cluster, "_round", comes_further)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert settling.again(**told) == 0
    assert tried == [told["number"], told["number"] + 1]


def test_who_takes_over_a_journal_reads_it_again(tmp_path: Path) -> None:
    """What another process wrote between the reading of a journal and the lock counts."""
    place, budget = Workspace(tmp_path), Budget.parse("1h")
    late, first = (Ledger.open(place, "one", budget) for _ in range(2))
    with first.held():
        first.begin("claim", (), ())
        first.end("claim", 600.0)
    with late.held():
        late.reckon({})
        assert late.spent == 600.0
    again = Ledger.open(place, "one", budget)
    with again.held():
        again.reckon({})
        assert again.spent == 600.0  # and nothing counts twice


@pytest.mark.seconds
def test_on_slurm_a_claim_whose_jobs_leave_no_record_is_left(
    night: Callable[[Reach], Night], capsys: pytest.CaptureFixture[str]
) -> None:
    made = night(rough)
    made.lost = {"glnet"}
    assert main(["settle", CLAIM, "--budget", "2000h", "--executor", "slurm"]) == 0
    made.pairs_end()
    assert made.look() == 1
    out = capsys.readouterr().out
    assert "a job left no record (" in out and len(made.looks()) == 1
    made.lost = set()
    assert main(["settle", CLAIM, "--budget", "2000h", "--executor", "slurm"]) == 0  # who asks again tries again
    assert "submitted 11 tasks" in capsys.readouterr().out  # one arm is there


class Died(BaseException):
    """The end of a process, as far as a test can have it."""


def dies_after(calls: int, patched: pytest.MonkeyPatch) -> None:
    """The next submission dies when it has called sbatch so often, or when it has done all."""
    queue, whole, done = cluster._Submitter._sbatch, submit.submit, list[None]()

    def sbatch(self: Any, batch: Any) -> Any:
        if len(done) == calls:
            raise Died
        done.append(None)
        return queue(self, batch)

    def submits(*given: Any, **named: Any) -> None:
        whole(*given, **named)
        raise Died

    patched.setattr(cluster._Submitter, "_sbatch", sbatch)
    patched.setattr(submit, "submit", submits)


@pytest.mark.seconds
def test_a_look_that_dies_anywhere_begins_again_and_submits_nothing_twice(
    night: Callable[[Reach], Night], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where SLURM takes the node away: before the pairs are queued, when a part of them is, and when all are."""
    made = night(noisy)
    assert main(["settle", CLAIM, "--budget", "30h", "--executor", "slurm"]) == 0
    made.pairs_end()
    first = made.looks()[-1].task.args
    for calls in (0, 1, 99):
        with monkeypatch.context() as patched:
            dies_after(calls, patched)
            with pytest.raises(Died):
                settling.again(**first)
    assert settling.again(**first) == 0
    made.pairs_end()
    assert settling.again(**made.looks()[-1].task.args) == 0
    made.pairs_end()
    assert set(made.cluster.ran.values()) == {1}
    capsys.readouterr()
    assert settling.again(**first) == 0
    assert "a later look has gone on from here" in capsys.readouterr().out
    events = [json.loads(line) for line in _journal().read_text().split("\n") if line]
    pairs = Counter(name for event in events if event["event"] == "began" for name in event["jobs"])
    assert len(pairs) == len(records.read_all(PLACE.records)[0])


def _journal() -> Path:
    (file,) = (PLACE.root / "settle").glob("*.jsonl")
    return file
