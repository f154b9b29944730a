"""Interrupted at random in every way, the same job leaves the same bits: here thirty times, on SLURM nine times."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch

from repro.cli.dispatch import main
from repro.plan.kinds import KINDS
from repro.run import drill
from repro.run.drill import Drill, Score
from repro.store import checkpoints
from repro.store.encoder_file import ENCODER
from repro.store.workspace import Workspace
from slurm import scheduler
from slurm.interrupt import on_machine, on_slurm
from slurm.interrupt.spells import Spell
from slurm.profile import Profile

pytestmark = [pytest.mark.processes, pytest.mark.trains]

# What needs an executor starts a Python for each interruption, with seconds of imports.
TIMES = {"sigterm": 5, "kill": 5, "truncated": 5, "damaged": 4, "woken": 3}
TIMES |= {"group": 2, "machine": 2, "cancel": 2, "limit": 2}
SLOW = ("machine", "cancel")


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Drill:
    return Drill(tmp_path_factory.mktemp("drill"), seed=7)


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if way in SLOW else way for way in on_machine.WAYS]
)
def test_what_is_interrupted_leaves_what_is_not(drilled: Drill, way: str) -> None:
    score = drilled.local(way, TIMES[way])
    assert score.faults == ()
    assert (score.interruptions, score.records) == (TIMES[way], 3)
    assert 0 < score.begun[1] < score.begun[-1] < score.updates == 60, "it went on, and not from zero"
    assert list(score.begun) == sorted(score.begun)


@pytest.mark.parametrize(
    ("stage", "updates"),
    [
        ("finetune", 24),
        *(
            pytest.param(stage, updates, marks=pytest.mark.slow)
            for stage, updates in {"linear": 24, "detection": 24, "reid_finetune": 36}.items()
        ),
    ],
)
def test_an_evaluation_that_trains_and_is_interrupted_leaves_the_same(tmp_path: Path, stage: str, updates: int) -> None:
    drill = Drill(tmp_path, seed=7, stage=stage)
    for way in ("sigterm", "truncated", "woken"):
        score = drill.local(way, 2)
        assert score.faults == ()
        assert (score.interruptions, score.records) == (2, 2)
        assert 0 < score.begun[1] < score.begun[2] < score.updates == updates


def test_every_kind_that_keeps_a_checkpoint_of_a_training_can_be_drilled() -> None:
    assert list(drill.STAGES) == [name for name, kind in KINDS.items() if kind.scratch]


def test_the_drill_sees_what_differs(drilled: Drill) -> None:
    place = drilled.place("spoilt")
    tasks = drilled.tasks(place, 0.0)
    on_machine.MachineInterrupter(place.processes, tasks[0], **drilled.about(place, 0.0)).finish(tasks)
    assert list(drilled.differences(place)) == []
    (record,) = place.records.glob("knn-*")
    told = json.loads(record.read_text())
    assert told["provenance"]["attempt"] == 1
    told["metrics"] = {name: value / 2 for name, value in told["metrics"].items()}
    record.write_text(json.dumps(told))
    encoder = place.encoder(drilled.pretrain)
    state = checkpoints.load(encoder, ENCODER)
    name, value = next(iter(state["weights"].items()))
    state["weights"][name] = torch.nextafter(value, value + 1)
    checkpoints.save(encoder, state)
    assert list(drilled.differences(place)) == ["the metrics of knn differ", "the weights of the encoder differ"]
    record.rename(record.with_name(f"{record.stem}-again.json"))
    (fault,) = drilled.differences(place)
    assert re.match(r"its records are features-\S+, knn-\S+-again\.json, pretrain-\S+$", fault)


def test_work_that_was_lost_or_begun_from_zero_is_a_fault(drilled: Drill) -> None:
    def faults(*spells: tuple[int, int]) -> list[str]:
        return list(drilled.lost([Spell(begun, reached) for begun, reached in spells]))

    assert faults((0, 10), (10, 20), (18, 30)) == []
    assert faults((0, 10), (7, 30)) == ["interruption 1: stopped at step 10, went on from 7"]
    assert faults((0, 10), (9, 20), (0, 30)) == ["interruption 2: stopped at step 20, went on from 0"]
    assert faults((0, 1), (0, 30)) == ["interruption 1: stopped at step 1, went on from 0"]


def test_the_table_and_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fake:
        faults: tuple[str, ...] = ()

        def __init__(self, folder: Path, seed: int, stage: str) -> None:
            assert (seed, stage) == (5, "pretrain") and folder.parent == tmp_path

        def local(self, way: str, times: int) -> Score:
            return Score(on_machine.WAYS[way], (0, 20, 76), 120, 3, self.faults if way == "kill" else ())

    monkeypatch.setattr(drill, "Drill", Fake)
    line = ["drill", "--executor", "local", "--seed", "5", "--workspace", str(tmp_path)]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert re.search(r"^kill -9 of the job +2 +20, 76 of 120 +yes +3 of 3$", out, re.M)
    assert (
        "18 interruptions; 9 of 9 kinds of interruption gave results identical to an uninterrupted run" in out
        and not list(tmp_path.iterdir())
    )
    Fake.faults = ("the weights of the encoder differ",)
    assert main(line) == 1
    out = capsys.readouterr().out
    assert "kill -9 of the job: the weights of the encoder differ" in out and "8 of 9 kinds" in out
    assert f"kept for a look: {next(tmp_path.iterdir())}" in out
    assert main([*line, "--times", "99"]) == 2
    assert "--times 99: " in capsys.readouterr().err
    assert main([*line, "--stage", "finetuning"]) == 2
    assert "unknown stage 'finetuning'; did you mean 'finetune'?" in capsys.readouterr().err


def test_as_often_as_it_is_interrupted_slurm_may_queue_it_again(
    drilled: Drill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Fake:
        def __init__(self, *arguments: object, **more: object) -> None: ...

        def finish(self, tasks: object) -> None: ...

        def interrupt(self, way: str, times: int, profile: Profile) -> list[Spell]:
            used.append(profile.requeues)
            raise on_slurm.NotPermitted("enough")

    monkeypatch.setattr(on_slurm, "SlurmInterrupter", Fake)
    monkeypatch.setattr(drilled, "place", lambda way: Workspace(tmp_path))
    for times in (2, 7):
        drilled.cluster("preempt", times, Profile())
    assert used == [3, 7]


@pytest.fixture
def real_slurm() -> None:
    if reason := scheduler.available():
        pytest.skip(f"{reason} (tests/slurm/cluster.sh starts one)")


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_six_interruptions_on_slurm(drilled: Drill) -> None:
    times = {"requeue": 1, "preempt": 1, "scancel": 2, "slurm-kill": 2}
    scores = drilled.together(times, Profile(), at_once=2)  # others test beside us, on the same four slots
    assert [(score.way, score.faults) for score in scores] == [(on_slurm.WAYS[way], ()) for way in times]
    assert [score.interruptions for score in scores] == list(times.values())
    assert all(score.begun[1] > 0 and score.records == 3 for score in scores)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("real_slurm")
def test_a_time_limit_of_slurm(drilled: Drill) -> None:
    """SLURM's shortest is a minute; on a slow machine it strikes more than once."""
    score = drilled.cluster("slurm-limit", 1, Profile())
    assert (score.faults, score.records) == ((), 3) and score.interruptions >= 1 and score.begun[1] > 0


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_node_that_goes_down(drilled: Drill) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("it would take the jobs of tests beside it along")
    score = drilled.cluster("down", 1, Profile())
    assert (score.faults, score.interruptions, score.records) == ((), 1, 3) and score.begun[1] > 0


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_job_that_slurm_preempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM takes the machine for a job of a partition of higher rank: SIGTERM, and the end five seconds later."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("it needs the whole machine for a moment")
    if "PartitionName=lent" not in scheduler.ask(["scontrol", "show", "partitions"]):
        pytest.skip("needs a partition `lent` whose jobs make room, as tests/slurm/cluster.sh has it")
    every = f"--nodes={len(set(scheduler.ask(['sinfo', '--noheader', '--Node', '--format=%N']).split()))}"
    urgent = ["sbatch", "--parsable", "--partition=main", "--exclusive", every, "--output=/dev/null", "--wrap=true"]
    monkeypatch.setattr(on_slurm.SlurmInterrupter, "_strike", lambda self, way: scheduler.ask(urgent))
    monkeypatch.setattr(on_slurm.SlurmInterrupter, "steps", lambda self, times: [3])
    monkeypatch.setattr(drill, "_CLUSTER_PAUSE", 1.5)  # it takes SLURM a quarter of a minute
    score = Drill(tmp_path, seed=7).cluster("preempt", 1, Profile(partition="lent"))
    assert (score.faults, score.interruptions, score.records) == ((), 1, 3)
    assert score.begun[1] >= 6, "it went on from the third step of two updates or later"
    told = "\n".join(path.read_text() for path in tmp_path.glob("preempt/processes/submitit/*.out"))
    assert "DUE TO PREEMPTION" in told
