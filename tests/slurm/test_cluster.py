from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.run import processes
from repro.settings import Settings
from repro.store.workspace import Workspace
from slurm import cluster, local, scheduler
from slurm.folder import Folder, Outcome, try_lock
from slurm.graph import Graph, Node, Resources
from slurm.journal import Journal
from slurm.profile import Profile
from slurm.states import NodeState, states, with_dependants

SMALL = Resources(memory_gb=0.1, minutes=2)


def node(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Node:
    return Node(key, f"jobs_for_tests:{function}", args, resources, after, stage)


# ---- what is asked of SLURM, without one -------------------------------------------------------------------------


def batches(nodes: list[Node], jobs: dict[str, str], longest: int = 1000) -> list[tuple[list[str], str]]:
    return [([item.key for item in members], line) for members, line in cluster._batches(nodes, jobs, {}, longest)]


def test_equal_nodes_without_parents_are_one_array() -> None:
    nodes = [node(f"n{i}", "add", stage="train") for i in range(3)]
    other = node("large", "add", stage="train", resources=Resources(cpus=4))
    assert batches([*nodes, other], {}) == [(["n0", "n1", "n2"], ""), (["large"], "")]


def test_element_i_waits_for_element_i_whatever_the_order() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(3)} | {f"f{i}": f"8_{i}" for i in range(3)} | {"data": "5"}
    nodes = [node(f"e{i}", "add", f"t{i}", f"f{i}", "data") for i in (2, 0, 1)]
    assert batches(nodes, jobs) == [(["e0", "e1", "e2"], "afterok:5,aftercorr:7,aftercorr:8")]


def test_several_children_of_each_element_are_several_arrays() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(2)}
    nodes = [node(f"e{i}{kind}", "add", f"t{i}") for i in range(2) for kind in "ab"]
    assert batches(nodes, jobs) == [(["e0a", "e1a"], "aftercorr:7"), (["e0b", "e1b"], "aftercorr:7")]


def test_parents_in_several_arrays_keep_their_own() -> None:
    jobs = {f"t{i}": f"{7 + i // 2}_{i % 2}" for i in range(4)}
    nodes = [node(f"e{i}", "add", f"t{i}") for i in range(4)]
    assert batches(nodes, jobs) == [(["e0", "e1"], "aftercorr:7"), (["e2", "e3"], "aftercorr:8")]


@pytest.mark.parametrize(
    "parents",
    [
        [("t0",), ("t2",)],  # element 1 has no child: element numbers differ
        [("t0", "t1"), ("t1", "t2")],
        [("t0",), ("single",)],
    ],
)
def test_what_no_array_can_express_waits_for_single_jobs(parents: list[tuple[str, ...]]) -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(3)} | {"single": "9"}
    nodes = [node(f"e{i}", "add", *after) for i, after in enumerate(parents)]
    assert batches(nodes, jobs) == [
        ([f"e{i}"], f"afterok:{':'.join(sorted(jobs[parent] for parent in after))}") for i, after in enumerate(parents)
    ]


def test_children_of_the_same_parents_are_one_array() -> None:
    jobs = {"t0": "7_0", "t1": "7_1"}
    assert batches([node(f"e{i}", "add", "t0", "t1") for i in range(3)], jobs) == [
        (["e0", "e1", "e2"], "afterok:7_0:7_1")
    ]


def test_no_array_is_longer_than_slurm_takes() -> None:
    nodes = [node(f"n{i}", "add") for i in range(2500)]
    assert [len(members) for members, _ in batches(nodes, {})] == [1000, 1000, 500]


GOLDEN = """#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --array=0-1%2
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=3
#SBATCH --dependency=aftercorr:101
#SBATCH --gpus-per-node=1
#SBATCH --job-name=score.NAME
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=2560M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/submitit/%A_%a_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=15
#SBATCH --wckey=submitit

# setup
export OMP_NUM_THREADS=3
export MKL_NUM_THREADS=3
export OPENBLAS_NUM_THREADS=3
export NUMEXPR_NUM_THREADS=3
export OMP_WAIT_POLICY=PASSIVE
export GOMP_SPINCOUNT=0
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
export PYTHONPATH=PATHS
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output FOLDER/submitit/%A_%a_%t_log.out --cpus-per-task=3 --cpu-bind=none \
PYTHON -u -m submitit.core._submit FOLDER/submitit
"""


def test_the_batch_file_of_an_array_with_a_dependency(fake_slurm: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text(
        'account = "vision"\nsetup = ["module load cuda"]\ntime_scale = 1.5\n[sbatch]\nconstraint = "a100"\n'
    )
    wants = Resources(cpus=3, gpus=1, memory_gb=2.5, minutes=10)
    nodes = [node(f"t{i}", "add", stage="train", a=i, b=1) for i in range(2)]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", resources=wants, a=i, b=1) for i in range(2)]
    done = cluster.submit(Graph(nodes), folder=tmp_path / "run", profile=Profile.load(str(profile)))

    assert done.jobs == {"t0": "101_0", "t1": "101_1", "e0": "102_0", "e1": "102_1"}
    assert (done.calls, done.kept) == (2, ())
    text = (fake_slurm / "script102").read_text()
    text = text.replace(str(tmp_path / "run"), "FOLDER").replace(sys.executable, "PYTHON")
    text = re.sub(r"(?<=PYTHONPATH=).*", "PATHS", re.sub(r"score\.[0-9a-f]{8}", "score.NAME", text))
    assert text == GOLDEN
    assert "dependency" not in (fake_slurm / "script101").read_text()
    # What was about to be submitted stood in the journal before sbatch ran, its number after.
    before = [json.loads(line) for line in (fake_slurm / "journal102").read_text().split("\n") if line]
    assert [entry["event"] for entry in before] == ["planned", "submitting", "submitted", "submitting"]
    assert list(before[-1]["nodes"]) == ["e0", "e1"]
    assert Folder(tmp_path / "run").log("e1").readlink() == Path("../submitit/102_1_0_log.out")


def test_a_refusal_is_one_line_and_leaves_a_journal_to_go_on_from(fake_slurm: Path, tmp_path: Path) -> None:
    # As SLURM 22.05 said it.
    (fake_slurm / "refuse").write_text(
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n"
    )
    graph = Graph([node("a", "add", a=1, b=2)])
    with pytest.raises(ValueError, match=r"^sbatch refused 'a\.[0-9a-f]{8}': .*Invalid account or account") as error:
        cluster.submit(graph, folder=tmp_path / "run")
    assert "\n" not in str(error.value)
    (state,) = states(tmp_path / "run")
    assert state.state == "unsubmitted"
    (fake_slurm / "refuse").unlink()
    assert cluster.submit(graph, folder=tmp_path / "run").jobs == {"a": "102"}


def test_a_journal_cut_short_is_read_to_the_last_whole_line(fake_slurm: Path, tmp_path: Path) -> None:
    graph = Graph([node("a", "add", a=1, b=2)])
    cluster.submit(graph, folder=tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])  # died while it wrote "submitted"
    assert [state.state for state in states(tmp_path / "run")] == ["unsubmitted"]
    cluster.submit(graph, folder=tmp_path / "run")
    # The jobs that may be left of the first attempt were looked for by name before the second one.
    assert re.search(r"squeue --me .*--name=a\.[0-9a-f]{8}", (fake_slurm / "calls").read_text())
    assert [state.job for state in states(tmp_path / "run")] == ["102"]


def test_without_slurm_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no `sbatch` on PATH: run this on a login node .* or use the local executor"):
        cluster.submit(Graph([node("a", "add")]), folder=tmp_path / "run")
    assert states(tmp_path / "run") == cluster.cancel(tmp_path / "run", {"a"}) == []


@pytest.mark.parametrize(
    ("squeue", "sacct", "ended", "state", "reason"),
    [
        ("PENDING 0 Priority", "", None, "pending", "Priority"),
        ("REQUEUE_HOLD 2 BeginTime", "", "failed", "pending", "BeginTime"),
        ("COMPLETING 0 None", "", None, "running", "completing"),
        ("COMPLETED 0 None", "", "done", "done", ""),
        ("COMPLETED 0 None", "", None, "failed", "SLURM calls it COMPLETED, but it left no outcome; last line"),
        ("FAILED 0 NonZeroExitCode", "", "failed", "failed", "ValueError: why"),
        ("TIMEOUT 0 TimeLimit", "", None, "timeout", "reached its time limit; last line of its log: epoch 3"),
        ("TIMEOUT 0 TimeLimit", "", "done", "done", "its result is whole, though SLURM calls it TIMEOUT"),
        ("OUT_OF_MEMORY 0 OutOfMemory", "", None, "failed", "ran out of memory; last line of its log: epoch 3"),
        ("", "OUT_OF_MEMORY|None|2026-01-01T00:00:00|2026-01-01T00:00:09", None, "failed", "ran out of memory"),
        ("", "CANCELLED by 1000|None|2026-01-01T00:00:00|2026-01-01T00:00:09", None, "cancelled", ""),
        ("", "", "done", "done", ""),
        ("", "", None, "failed", "SLURM no longer knows it"),
    ],
)
def test_what_slurm_says_and_what_the_job_left_make_one_state(
    fake_slurm: Path, tmp_path: Path, squeue: str, sacct: str, ended: Any, state: str, reason: str
) -> None:
    only = node("a", "add", a=1, b=2)
    cluster.submit(Graph([only]), folder=tmp_path / "run")
    for name, answer in (("squeue", squeue), ("sacct", sacct)):
        separator = " " if name == "squeue" else "|"
        (fake_slurm / f"{name}.answer").write_text(f"101{separator}{answer}\n" if answer else "")
    place = Folder(tmp_path / "run")
    place.log("a").resolve().write_text("epoch 2\nepoch 3\n")
    if ended:
        place.write_outcome(Outcome("a", ended, "ValueError: why", digest=only.digest, job="101"))
    (seen,) = states(tmp_path / "run")
    assert seen.state == state
    assert seen.reason.startswith(reason)
    # An outcome of another job of the same node, or of other work, is none of this one's.
    if ended == "done" and squeue.startswith("COMPLETED"):
        for other in ({"job": "100", "digest": only.digest}, {"job": "101", "digest": "0"}):
            place.write_outcome(Outcome("a", "done", **other))
            assert states(tmp_path / "run")[0].state == "failed"


def test_what_was_cancelled_and_slurm_forgot_stays_cancelled(fake_slurm: Path, tmp_path: Path) -> None:
    """sacct never lists an element of an array that was cancelled before it began."""
    cluster.submit(Graph([node("a", "add", a=1, b=2)]), folder=tmp_path / "run")
    (fake_slurm / "squeue.answer").write_text("101 PENDING 0 Priority\n")
    assert cluster.cancel(tmp_path / "run", {"a"})
    (fake_slurm / "squeue.answer").write_text("")
    (seen,) = states(tmp_path / "run")
    assert (seen.state, seen.reason) == ("cancelled", "on request")


@pytest.mark.parametrize(
    ("log", "left", "state", "reason"),
    [
        (
            "slurmstepd-vm: error: StepId=8.0 exceeded memory limit (9 > 1), being killed",
            "",
            "failed",
            "ran out of mem",
        ),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=8.0.", "", "failed", "ran out of memory"),
        ("the loss exceeded memory limit", "", "failed", "failed; last line"),
        ("", "UncompletedJobError: Job not requeued because: timed-out too many times.", "timeout", "reached its time"),
        ("", "UncompletedJobError: Job not requeued because: not preempted", "failed", "UncompletedJobError"),
    ],
)
def test_what_slurm_only_calls_failed_is_told_apart(
    fake_slurm: Path, tmp_path: Path, log: str, left: str, state: str, reason: str
) -> None:
    only = node("a", "add", a=1, b=2)
    cluster.submit(Graph([only]), folder=tmp_path / "run")
    (fake_slurm / "squeue.answer").write_text("101 FAILED 0 NonZeroExitCode\n")
    place = Folder(tmp_path / "run")
    place.log("a").resolve().write_text(f"epoch 3\n{log}\n")
    if left:
        place.write_outcome(Outcome("a", "failed", left, digest=only.digest, job="101"))
    (seen,) = states(tmp_path / "run")
    assert seen.state == state and seen.reason.startswith(reason)


def test_accounting_lists_elements_beside_the_range_they_left(fake_slurm: Path, tmp_path: Path) -> None:
    nodes = [node(f"t{i}", "add", stage="train", a=i, b=1) for i in range(3)]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", a=i, b=1) for i in range(3)]
    cluster.submit(Graph(nodes), folder=tmp_path / "run")
    rows = ["101_[0-2%3]|CANCELLED|None|None|None", "101_0|FAILED|None|2026-01-01T00:00:00|2026-01-01T00:00:09"]
    (fake_slurm / "sacct.answer").write_text("\n".join([*rows, "102_[0-2%3]|CANCELLED|None|None|None"]))
    found = states(tmp_path / "run")
    assert [state.state for state in found] == ["failed", "cancelled", "cancelled", "blocked", "blocked", "blocked"]
    assert [state.reason for state in found[3:]] == ["'t0' failed", "'t1' cancelled", "'t2' cancelled"]


def test_what_accounting_says_of_a_job_that_was_queued_again() -> None:
    """Lines of a real sacct 22.05 (-X --duplicates): 78 was requeued once; a child of 77_1 and 80, 81 never ran, for
    want of what they waited for; 82 and 83 were cancelled by hand, 83 in its first second.
    """
    said = """78|REQUEUED|None|2026-11-22T12:26:57|2026-11-22T12:27:00
77_0|COMPLETED|None|2026-11-22T12:26:57|2026-11-22T12:26:58
77_1|FAILED|None|2026-11-22T12:26:57|2026-11-22T12:26:58
77_2|COMPLETED|JobArrayTaskLimit|2026-11-22T12:27:00|2026-11-22T12:27:01
79_1|CANCELLED|Dependency|None|2026-11-22T12:26:59
80|CANCELLED|None|None|2026-11-22T12:26:59
81|CANCELLED|None|2026-11-23T01:49:23|2026-11-23T01:49:23
82|CANCELLED by 0|None|2026-11-23T01:48:57|2026-11-23T01:49:02
83|CANCELLED by 0|None|2026-11-23T01:48:57|2026-11-23T01:48:57
78|RUNNING|BeginTime|2026-11-22T12:27:10|Unknown
"""
    found = scheduler._accounted(said)
    assert found["78"] == scheduler.Job("RUNNING", "BeginTime", 1)
    assert found["77_1"] == scheduler.Job("FAILED", "None", 0)
    assert {found[number] for number in ("79_1", "80", "81")} == {scheduler.Job("CANCELLED", "Dependency", 0)}
    assert {found[number] for number in ("82", "83")} == {scheduler.Job("CANCELLED", "None", 0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partitoin = "gpu"', "unknown key 'partitoin'; did you mean 'partition'?"),
        ("partition = 3", "partition = 3 must be a text"),
        ('setup = "module load"', "setup = 'module load' must be a list of texts"),
        ("time_scale = 0", "time_scale = 0 must be a number above 0"),
        ("partition =", "not valid TOML"),
        ("gpus_per_node = -1", "gpus_per_node = -1 must be a whole number from 0"),
        ('[sbatch]\nqos = "long"', "sbatch.qos: write qos above [sbatch] instead"),
        ('[sbatch]\narray = "0-3"', "sbatch.array: this option is set for every job"),
        ("[sbatch]\nlicenses = [1]", "sbatch.licenses = [1] must be a text, a number or true"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        Profile.load(str(tmp_path / "p.toml"))


def test_profiles_by_name() -> None:
    assert Profile.load("default") == Profile()
    assert Profile.load("a100").gpus_per_node == 4
    with pytest.raises(ValueError, match="no cluster profile 'defautl': did you mean 'default'"):
        Profile.load("defautl")


@pytest.mark.parametrize(
    ("ids", "jobs"),
    [
        ("7", ["7"]),
        ("7_2", ["7_2"]),
        ("7_[0-2,5%4]", ["7_0", "7_1", "7_2", "7_5"]),
        ("7_[3]", ["7_3"]),
        ("7_[2-17:15]", ["7_2", "7_17"]),
        ("7_[1,4-8:2%3]", ["7_1", "7_4", "7_6", "7_8"]),
    ],
)
def test_abbreviated_job_numbers(ids: str, jobs: list[str]) -> None:
    assert scheduler.expand(ids) == jobs


def test_a_partly_finished_grid_is_still_one_array_for_each_shape() -> None:
    """Of six runs two have nothing left to evaluate and one has no pre-training left."""
    stages = ("frozen", "finetune")
    nodes = [node(f"t{i}", "add", stage="train") for i in range(6)]
    nodes += [node(f"{stage}{i}", "add", f"t{i}", stage=stage) for i in (1, 3, 4, 5) for stage in stages]
    nodes += [node(f"{stage}9", "add", stage=stage) for stage in stages]
    graph, jobs, seen = Graph(nodes), {}, []
    shapes = cluster._shapes(graph, set())
    for level in graph.levels:
        for number, (members, line) in enumerate(cluster._batches(level, jobs, shapes, 1000), 7 + len(seen)):
            seen.append(([item.key for item in members], line))
            jobs |= {item.key: f"{number}_{i}" if len(members) > 1 else f"{number}" for i, item in enumerate(members)}
    assert [keys for keys, _ in seen[:2]] == [["t0", "t2"], ["t1", "t3", "t4", "t5"]]
    assert sorted(line for _, line in seen) == ["", "", "", "", "aftercorr:8", "aftercorr:8"]
    for keys, line in seen:
        if line:  # element i belongs to element i
            assert [key[-1] for key in keys] == ["1", "3", "4", "5"]


def test_a_node_that_runs_whatever_happens_waits_for_whole_arrays() -> None:
    jobs = {f"t{i}": f"7_{i}" for i in range(300)} | {"single": "9"}
    last = Node("last", "jobs_for_tests:add", after=tuple(jobs), always=True)
    assert batches([last], jobs) == [(["last"], "afterany:7:9")]
    assert batches([last], {}) == [(["last"], "")]


def test_slurms_own_limit_of_arrays_is_asked_for(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "scontrol.answer").write_text("MaxArraySize            = 3\nMaxJobCount             = 10000\n")
    nodes = [node(f"t{i}", "add", stage="train") for i in range(7)]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score") for i in range(7)]
    cluster.submit(Graph(nodes), folder=tmp_path / "run")
    scripts = [path.read_text() for path in sorted(fake_slurm.glob("script*"))]
    arrays = [re.findall(r"#SBATCH --(?:array|dependency)=(.*)", text) for text in scripts]
    # The seventh of each is alone, so it is no array and waits for a job.
    assert arrays == [["0-2%3"], ["0-2%3"], [], ["0-2%3", "aftercorr:101"], ["0-2%3", "aftercorr:102"], ["afterok:103"]]


def test_where_the_queue_is_full_what_fits_is_queued_and_the_rest_follows(fake_slurm: Path, tmp_path: Path) -> None:
    """A limit of 4 jobs; while submit waits, all that is queued ends: t2 badly, so that e2 can never run."""
    nodes = [node(f"t{i}", "add", stage="train", a=i) for i in range(6)]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", a=i) for i in range(6)]
    (fake_slurm / "limit").write_text("4")
    place, waits = Folder(tmp_path / "run"), []

    def on_full(queued: int, total: int) -> None:
        waits.append((queued, total))
        live = [state for state in states(place.root) if state.live]
        (fake_slurm / "queued").write_text("0")
        lines = [f"{state.job} {'FAILED' if state.key == 't2' else 'COMPLETED'} 0 None" for state in live]
        with (fake_slurm / "squeue.answer").open("a") as answer:
            answer.write("\n".join(lines) + "\n")
        for state in live:
            if state.key != "t2":
                place.write_outcome(Outcome(state.key, "done", digest=state.node.digest, job=state.job))

    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    done = cluster.submit(Graph(nodes), folder=place.root, on_full=on_full, pause=0.01)
    found = {state.key: state for state in states(place.root)}
    assert len(waits) >= 2 and waits[0] == (3, 12) and all(total == 12 for _, total in waits)
    assert found["t2"].state == "failed" and found["e2"].state == "blocked" and found["e2"].reason == "'t2' failed"
    assert "e2" in done.settled and "e2" not in done.jobs
    others = set(found) - {"t2", "e2"}
    assert all(found[key].job for key in others)
    lines = (fake_slurm / "calls").read_text().splitlines()
    assert sum(line.startswith("sbatch") for line in lines) > done.calls  # those that were refused
    # Every node got in once and only once.
    journal = [json.loads(line) for line in place.journal.read_text().splitlines() if line]
    taken = [key for entry in journal if entry["event"] == "submitted" for key in entry["jobs"]]
    assert sorted(taken) == sorted(others | {"t2"})


def test_a_call_whose_answer_was_lost_is_looked_for_by_name(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "refuse").write_text("sbatch: error: Batch job submission failed: Socket timed out on send/recv\n")
    done = cluster.submit(
        Graph([node("a", "add")]),
        folder=tmp_path / "run",
        on_full=lambda queued, total: (fake_slurm / "refuse").unlink(),
        pause=0.01,
    )
    assert done.calls == 1
    calls = (fake_slurm / "calls").read_text()
    assert re.search(r"sbatch .*\n(?:.*\n)*?squeue --me .*--name=a\.[0-9a-f]{8}(?:.*\n)*?.*sbatch", calls)


def test_what_a_profile_says_is_in_the_batch_file(fake_slurm: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'gpus_per_node = 2\nmax_minutes = 30\nscratch = "/scratch/$USER"\nsrun = ["--container-image=/i m.sqsh"]\n'
        'python = "apptainer exec /image.sif python"\n'
    )
    profile = Profile.load(str(file))
    long = node("a", "add", resources=Resources(gpus=2, minutes=600))
    cluster.submit(Graph([long]), folder=tmp_path / "run", profile=profile, code=tmp_path / "code")
    text = (fake_slurm / "script101").read_text()
    assert "#SBATCH --time=30\n" in text and "#SBATCH --gpus-per-node=2\n" in text
    assert 'export TMPDIR="/scratch/$USER"\nmkdir -p "$TMPDIR"\n' in text
    assert "'--container-image=/i m.sqsh' apptainer exec /image.sif python -u -m submitit" in text
    assert f"export PYTHONPATH={tmp_path}/code:" in text
    with pytest.raises(ValueError, match=r"a job wants 3 GPUs of one machine, .* gpus_per_node = 2"):
        cluster.submit(Graph([node("b", "add", resources=Resources(gpus=3))]), folder=tmp_path / "run", profile=profile)
    # Another day, without the file: the journal has it.
    file.unlink()
    assert Profile.from_json(states(tmp_path / "run")[0].entry.profile, "journal") == profile


@pytest.mark.parametrize(
    ("minutes", "limit", "timeouts"), [(600, 30, 3 + 19), (601, 30, 3 + 20), (30, 30, 3), (600, 0, 3)]
)
def test_who_needs_more_than_the_limit_reaches_it_so_often(
    fake_slurm: Path, tmp_path: Path, minutes: int, limit: int, timeouts: int
) -> None:
    """What submitit counts down in the job, as it is written for it; profile.requeues is 3."""
    from submitit.core.utils import DelayedSubmission

    wants = Resources(minutes=minutes)
    cluster.submit(
        Graph([node("a", "add", resources=wants)]), folder=tmp_path / "run", profile=Profile(max_minutes=limit)
    )
    (task,) = (tmp_path / "run" / "submitit").glob("*_submitted.pkl")
    assert DelayedSubmission.load(task)._timeout_countdown == timeouts


def test_a_child_of_a_failure_that_slurm_has_forgotten_is_blocked(fake_slurm: Path, tmp_path: Path) -> None:
    """Without accounting; a child that ran and died is no such thing, and one whose parent is done neither."""
    nodes = [node("bad", "fail", stage="x"), node("child", "add", "bad"), node("grandchild", "add", "child")]
    nodes += [node("good", "add", stage="y"), node("lost", "add", "good")]
    jobs = cluster.submit(Graph(nodes), folder=tmp_path / "run").jobs
    place, graph = Folder(tmp_path / "run"), Graph(nodes)
    for key, how in (("bad", "failed"), ("good", "done")):
        place.write_outcome(Outcome(key, how, "ValueError: no", digest=graph[key].digest, job=jobs[key]))
    found = {state.key: (state.state, state.reason) for state in states(tmp_path / "run")}
    assert found["child"] == found["grandchild"] == ("blocked", "'bad' failed")
    assert found["lost"] == ("failed", "SLURM no longer knows it")


def test_accounting_is_asked_for_whole_ranges(fake_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_BITSTR_LEN", raising=False)
    (fake_slurm / "sacct").write_text('#!/bin/sh\necho "7_[0-1]|PENDING|None|Unknown|${SLURM_BITSTR_LEN:-64}"\n')
    assert scheduler.ask(["sacct"]).rstrip().endswith("|0")


def test_several_processes_of_a_job_over_machines_with_few_gpus(fake_slurm: Path, tmp_path: Path) -> None:
    wants = Resources(cpus=8, gpus=1, tasks=6, memory_gb=10.0)
    four = Profile(gpus_per_node=4)
    cluster.submit(Graph([node("a", "add", resources=wants)]), folder=tmp_path / "run", profile=four)
    text = (fake_slurm / "script101").read_text()
    for option in ("nodes=2", "ntasks-per-node=3", "cpus-per-task=8", "gpus-per-node=3", "mem=30720M"):
        assert f"#SBATCH --{option}\n" in text
    assert " --cpus-per-task=8 --cpu-bind=none --kill-on-bad-exit=1 " in text
    (state,) = states(tmp_path / "run")
    assert (state.node.resources.nodes, state.node.resources.tasks) == (2, 3)  # what the job's processes will read
    assert state.log.name == "a.log" and state.log.readlink() == Path("../submitit/101_0_log.out")
    # Nothing is spread that fits, or that no machine is known to be too small for.
    assert four.spread(Resources(gpus=2, nodes=3, tasks=2)) == Resources(gpus=2, nodes=3, tasks=2)
    assert Profile().spread(wants) == wants
    assert four.spread(Resources(gpus=1, tasks=7)) == Resources(gpus=1, nodes=7)


def test_a_process_that_srun_ended_before_its_word_is_spoken_for_by_another(fake_slurm: Path, tmp_path: Path) -> None:
    both = node("a", "add", resources=Resources(tasks=2))
    cluster.submit(Graph([both]), folder=tmp_path / "run")
    (fake_slurm / "squeue.answer").write_text("101 FAILED 0 NonZeroExitCode\n")
    place = Folder(tmp_path / "run")
    for job, reason in (("100", "failed; last line"), ("101", "process 1 of 2: ValueError: why")):
        place.log("a").resolve().write_text("srun: error: vm: task 0: Killed\n")
        place.write_outcome(Outcome("a", "failed", "ValueError: why", digest=both.digest, job=job), 1)
        (state,) = states(tmp_path / "run")
        assert state.state == "failed" and state.reason.startswith(reason)


def test_the_collating_node_is_queued_anew_behind_what_is_new(fake_slurm: Path, tmp_path: Path) -> None:
    nodes = [node(key, "add", stage="train") for key in "ab"]
    last = Node("last", "jobs_for_tests:add", {}, SMALL, ("a", "b"), "collate", always=True)
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    first = cluster.submit(Graph([*nodes, last]), folder=tmp_path / "run")
    assert cluster.submit(Graph([*nodes, last]), folder=tmp_path / "run").calls == 0
    more = [*nodes, node("c", "add", stage="other")]
    again = Node("last", "jobs_for_tests:add", {}, SMALL, ("a", "b", "c"), "collate", always=True)
    second = cluster.submit(Graph([*more, again]), folder=tmp_path / "run")
    assert set(second.kept) == {"a", "b"} and second.calls == 2
    assert f"scancel --quiet {first.jobs['last']}\n" in (fake_slurm / "calls").read_text()
    array, single = first.jobs["a"].partition("_")[0], second.jobs["c"]
    assert f"--dependency=afterany:{array}:{single}\n" in (fake_slurm / f"script{second.jobs['last']}").read_text()


def test_a_child_stands_behind_a_parent_that_was_submitted_again_alone(fake_slurm: Path, tmp_path: Path) -> None:
    graph = Graph([node("a", "add"), node("b", "add", "a", stage="x"), node("c", "add", stage="y")])
    jobs = cluster.submit(graph, folder=tmp_path / "run").jobs
    said = {"a": "FAILED 0 None", "b": "CANCELLED 0 Dependency", "c": "FAILED 0 None"}
    answer = "".join(f"{jobs[key]} {line}\n" for key, line in said.items())
    (fake_slurm / "squeue.answer").write_text(answer)
    again = cluster.submit(Graph([graph["a"]]), folder=tmp_path / "run").jobs["a"]
    (fake_slurm / "squeue.answer").write_text(f"{answer}{again} FAILED 0 None\n")
    found = states(tmp_path / "run")
    assert [(state.key, state.reason) for state in found if state.key == "b"] == [("b", "'a' failed")]
    assert [state.key for state in with_dependants({"a": 0}, found)] == ["a", "b"]


def test_code_is_that_of_each_node_and_splits_no_dependency(fake_slurm: Path, tmp_path: Path) -> None:
    nodes = [node(f"t{i}", "add", stage="train", a=i) for i in range(2)]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", a=i) for i in range(2)]
    code = {"t0": tmp_path / "old", "t1": tmp_path / "new", "e0": tmp_path / "new", "e1": None}
    cluster.submit(Graph(nodes), folder=tmp_path / "run", code=code)
    found = {state.key: state for state in states(tmp_path / "run")}
    assert {key: state.entry.code for key, state in found.items()} == {key: str(c or "") for key, c in code.items()}
    for child, parent in (("e0", "t0"), ("e1", "t1")):
        script = (fake_slurm / f"script{found[child].job}").read_text()
        assert f"--dependency=afterok:{found[parent].job}\n" in script
        assert (f"export PYTHONPATH={tmp_path}/new:" in script) == (child == "e0")


def test_a_node_of_the_other_executor_is_left_to_it(fake_slurm: Path, tmp_path: Path) -> None:
    graph, place = Graph([node("a", "add", a=1, b=2), node("b", "add", "a", a=1, b=2)]), Folder(tmp_path / "run")
    place.write_node(graph["a"])
    Journal(place).started("here", [graph["a"]], "")
    running = try_lock(place.run("here"))
    assert running is not None
    with pytest.raises(ValueError, match="'a' is under way on this machine: let it end there, or cancel it first"):
        cluster.submit(graph, folder=place.root)
    assert not (fake_slurm / "taken").exists()
    os.close(running)
    cluster.submit(graph, folder=place.root)
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    before = place.journal.read_text()
    with pytest.raises(ValueError, match=r"'a' is pending on SLURM \(job 101\): let it end there, or cancel it"):
        local.run(graph, folder=place.root)
    assert place.journal.read_text() == before
    (fake_slurm / "squeue.default").write_text("CANCELLED 0 None")
    assert local.run(Graph([graph["a"]]), folder=place.root)["a"].state == "done"


@pytest.mark.parametrize(
    "said",
    [
        "Slurm job queue full, sleeping and retrying",
        "Batch job submission failed: Unable to create job record, try again",
        "Job creation temporarily disabled",
        "Batch job submission failed: Resource temporarily unavailable",
    ],
)
def test_while_it_waits_slurm_may_fail_and_others_may_cancel(fake_slurm: Path, tmp_path: Path, said: str) -> None:
    place, troubles = Folder(tmp_path / "run"), []
    squeue = fake_slurm / "squeue"
    works = squeue.read_text()
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    (fake_slurm / "refuse").write_text(f"sbatch: error: {said}\n")

    def on_full(queued: int, total: int) -> None:
        assert cluster.cancel(place.root, {"nothing"}) == []  # the folder is not locked meanwhile
        if not troubles:
            squeue.write_text("#!/bin/sh\necho slurm_load_jobs error: Socket timed out >&2\nexit 1\n")

    def on_trouble(line: str) -> None:
        troubles.append(line)
        squeue.write_text(works)
        (fake_slurm / "refuse").unlink()

    # Something must be with SLURM, or nobody need ask.
    place.write_node(node("z", "add"))
    Journal(place).planned([node("z", "add")], "", Profile())
    Journal(place).submitted("x", {"z": "99"})
    done = cluster.submit(
        Graph([node("a", "add")]), folder=place.root, on_full=on_full, on_trouble=on_trouble, pause=0.01
    )
    assert troubles == ["`squeue` failed: slurm_load_jobs error: Socket timed out"]
    assert list(done.jobs) == ["a"]


def test_what_another_submits_while_one_waits_is_not_submitted_twice(fake_slurm: Path, tmp_path: Path) -> None:
    place, graph = Folder(tmp_path / "run"), Graph([node("a", "add"), node("b", "add", "a", stage="x")])
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    (fake_slurm / "limit").write_text("0")
    theirs: dict[str, str] = {}

    def on_full(queued: int, total: int) -> None:
        (fake_slurm / "limit").unlink()
        theirs.update(cluster.submit(Graph([graph["a"]]), folder=place.root).jobs)

    done = cluster.submit(graph, folder=place.root, on_full=on_full, pause=0.01)
    assert done.jobs["a"] == theirs["a"] and done.calls == 1
    assert f"--dependency=afterok:{theirs['a']}\n" in (fake_slurm / f"script{done.jobs['b']}").read_text()


def test_jobs_of_another_person_are_asked_for_and_their_orphans_left(
    fake_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, me = Folder(tmp_path / "run"), scheduler.user()
    with monkeypatch.context() as theirs:
        theirs.setattr("slurm.journal.user", lambda: "zoe")
        cluster.submit(Graph([node("a", "add")]), folder=place.root)
    cluster.submit(Graph([node("b", "add")]), folder=place.root)
    (fake_slurm / "calls").write_text("")
    states(place.root)
    calls = (fake_slurm / "calls").read_text()
    assert f"squeue --user={','.join(sorted([me, 'zoe']))} " in calls and "sacct -X --allusers " in calls
    # A table that would come too early is taken back only where it is ours.
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    last = Node("last", "jobs_for_tests:add", {}, SMALL, ("a",), "collate", always=True)
    with monkeypatch.context() as theirs:
        theirs.setattr("slurm.journal.user", lambda: "zoe")
        cluster.submit(Graph([node("a", "add"), last]), folder=place.root)
    more = replace(last, after=("a", "d"))
    assert cluster.submit(Graph([node("a", "add"), node("d", "add"), more]), folder=place.root).calls == 2
    assert "scancel" not in (fake_slurm / "calls").read_text()
    with monkeypatch.context() as theirs:
        theirs.setattr("slurm.journal.user", lambda: "zoe")
        Journal(place).submitting("c.0rphan00", [node("c", "add")])
    with pytest.raises(
        ValueError, match=r"a submission of zoe .* ended half-way, .*: let them give their command again"
    ):
        cluster.submit(Graph([node("c", "add")]), folder=place.root)
    assert Journal(place).open == {"c.0rphan00": "zoe"}


def test_the_controllers_own_limit_of_elements_counts_too(fake_slurm: Path) -> None:
    answer = "MaxArraySize            = 1001\nSchedulerParameters     = defer,max_array_tasks=3,bf_interval=2\n"
    (fake_slurm / "scontrol.answer").write_text(answer)
    assert scheduler.longest_array() == 3


# ---- a real one --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real_slurm() -> None:
    if reason := cluster.available():
        pytest.skip(f"{reason} (tests/slurm/cluster.sh starts one)")


def states_when(
    folder: Path, true: Callable[[dict[str, NodeState]], bool], seconds: float = 60
) -> dict[str, NodeState]:
    end = time.monotonic() + seconds
    while True:
        found = {state.key: state for state in states(folder)}
        if true(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.5)


def settled(found: dict[str, NodeState]) -> bool:
    return not any(state.live for state in found.values())


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_three_stages_with_arrays_run_and_a_failure_ends_only_what_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of our name where the jobs run must not hide the package.
    (tmp_path / "here" / "slurm").mkdir(parents=True)
    (tmp_path / "here" / "slurm" / "__init__.py").write_text("raise SystemExit('wrong package')")
    monkeypatch.chdir(tmp_path / "here")
    nodes = [node("data", "add", stage="data", a="da", b="ta")]
    nodes += [node(f"t{i}", "surroundings", "data", stage="train") for i in range(2)]
    nodes += [node("t2", "fail", "data", stage="train", message="no luck")]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", a=i, b=10) for i in range(3)]
    nodes += [node("good", "add", "e0", "e1", a=1, b=2), node("bad", "add", "e1", "e2", a=1, b=2), node("dead", "die")]
    start = time.monotonic()
    submission = cluster.submit(Graph(nodes), folder=tmp_path)
    assert time.monotonic() - start < 10  # returns, and does not wait for the jobs
    assert submission.calls == 6

    found = states_when(tmp_path, settled)
    assert {key: state.state for key, state in found.items()} == {
        "data": "done",
        **{"t0": "done", "t1": "done", "t2": "failed"},
        **{"e0": "done", "e1": "done", "e2": "blocked"},
        **{"good": "done", "bad": "blocked", "dead": "failed"},
    }
    assert found["t2"].reason == "ValueError: no luck"
    assert found["e2"].reason == found["bad"].reason == "'t2' failed"
    assert re.fullmatch("failed; last line of its log: srun: error: .*Killed", found["dead"].reason)
    outcome = found["e1"].outcome
    assert outcome is not None
    assert (outcome.value, outcome.job) == (11, submission.jobs["e1"])
    assert "adding 1 and 10" in found["e1"].log.read_text()
    trained = found["t0"].outcome
    assert trained is not None
    assert (trained.value["threads"], trained.value["cwd_on_path"]) == ("1", False)

    # Once squeue has forgotten the jobs, accounting tells the same; it learns of an end some seconds later.
    ask = scheduler.ask
    monkeypatch.setattr(scheduler, "ask", lambda command: "" if command[0] == "squeue" else ask(command))
    told = {key: (state.state, state.reason) for key, state in found.items()}
    states_when(tmp_path, lambda now: {key: (state.state, state.reason) for key, state in now.items()} == told)


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_cancelled_jobs_and_a_second_submission_beside_live_ones(tmp_path: Path) -> None:
    notes = str(tmp_path / "notes")
    nodes = [
        node("one", "nap", seconds=300, notes=notes),
        node("two", "nap", stage="other", seconds=300, notes=notes),
        node("child", "add", "one", a=1, b=2),
    ]
    first = cluster.submit(Graph(nodes), folder=tmp_path)
    found = states_when(tmp_path, lambda found: found["one"].state == found["two"].state == "running")
    assert (found["child"].state, found["child"].reason) == ("pending", "Dependency")

    again = cluster.submit(Graph([*nodes, node("more", "add", a=1, b=2)]), folder=tmp_path)
    assert (again.calls, set(again.kept)) == (1, {"one", "two", "child"})
    assert {key: again.jobs[key] for key in first.jobs} == first.jobs
    with pytest.raises(ValueError, match="'one' is queued with other settings: cancel that first"):
        cluster.submit(Graph([node("one", "nap", seconds=1, notes=notes)]), folder=tmp_path)

    subprocess.run(["scancel", first.jobs["one"]], check=True)
    found = states_when(tmp_path, lambda found: not found["child"].live and not found["one"].live)
    assert found["one"].state == "cancelled"
    assert (found["child"].state, found["child"].reason) == ("blocked", "'one' cancelled")
    assert found["two"].state == "running"
    assert "two" in cluster.cancel(tmp_path, {"one", "two", "child", "more"})
    assert states_when(tmp_path, settled)["two"].state == "cancelled"


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = cluster.submit(Graph([node("a", "second_time_lucky", notes=str(notes))]), folder=tmp_path).jobs["a"]
    states_when(tmp_path, lambda _: notes.exists())
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    found = states_when(tmp_path, lambda found: found["a"].state == "done")
    outcome = found["a"].outcome
    assert outcome is not None
    assert (outcome.value, outcome.job) == ("first second", job)


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_jobs_of_a_submission_that_died_are_found_and_cancelled(tmp_path: Path) -> None:
    graph = Graph([node("a", "add", a=1, b=2)])
    place = Folder(tmp_path)
    place.write_node(graph["a"])
    # As if death had come right after sbatch: the job is queued, its code is not in place, its number not noted.
    journal = Journal(place)
    journal.planned(graph, "", Profile())
    journal.submitting("a.0rphan00", graph)
    command = ["sbatch", "--parsable", "--hold", "--mem=50M", "--job-name=a.0rphan00", "--wrap=true", "-o", "/dev/null"]
    orphan = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    job = cluster.submit(graph, folder=tmp_path).jobs["a"]
    assert job != orphan
    assert scheduler.jobs({orphan})[orphan].word == "CANCELLED"
    assert states_when(tmp_path, settled)["a"].state == "done"


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_queued_job_runs_the_code_that_was_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, kept = tmp_path / "tree", tmp_path / "kept"
    for folder in (tree, kept):
        folder.mkdir()
        (folder / "edited.py").write_text("def tell():\n    return 'as submitted'\n")
    monkeypatch.setenv("PYTHONPATH", f"{tree}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.chdir(tree)
    graph, held = Graph([Node("a", "edited:tell", resources=SMALL)]), Profile(sbatch={"hold": True})
    job = cluster.submit(graph, folder=tmp_path / "run", profile=held, code=kept).jobs["a"]
    (state,) = states(tmp_path / "run")
    assert (state.state, state.reason) == ("pending", "JobHeldUser")
    (tree / "edited.py").write_text("def tell():\n    return 'as edited'\n")
    subprocess.run(["scontrol", "release", job], check=True)
    outcome = states_when(tmp_path / "run", settled)["a"].outcome
    assert outcome is not None
    assert outcome.value == "as submitted"


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_node_that_always_runs_is_last_and_a_requeued_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    nodes = [
        node("lucky", "second_time_lucky", notes=str(notes)),
        node("bad", "fail", stage="x", message="no"),
        node("child", "add", "bad", a=1, b=2),
    ]
    last = Node("last", "jobs_for_tests:add", {"a": 1, "b": 2}, SMALL, ("lucky", "bad", "child"), always=True)
    jobs = cluster.submit(Graph([*nodes, last]), folder=tmp_path / "run").jobs
    states_when(tmp_path / "run", lambda _: notes.exists())
    subprocess.run(["scontrol", "requeue", jobs["lucky"]], check=True)
    found = states_when(tmp_path / "run", settled, 90)
    assert {key: (state.state, state.restarts) for key, state in found.items()} == {
        "lucky": ("done", 1),
        "bad": ("failed", 0),
        "child": ("blocked", 0),
        "last": ("done", 0),
    }
    ended = {key: state.outcome.ended for key, state in found.items() if state.outcome}
    assert ended["last"] == max(ended.values())

    # Accounting tells the same once squeue has forgotten, and counts the restart.
    ask = scheduler.ask
    monkeypatch.setattr(scheduler, "ask", lambda command: "" if command[0] == "squeue" else ask(command))
    again = scheduler.jobs(jobs.values())[jobs["lucky"]]
    assert (again.word, again.restarts) == ("COMPLETED", 1)
    assert [state.state for state in states(tmp_path / "run")] == [state.state for state in found.values()]


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_several_processes_start_fail_and_are_queued_again_together(tmp_path: Path) -> None:
    two, notes = Resources(tasks=2, memory_gb=0.1, minutes=2), tmp_path / "notes"
    for name in ("who", "bad"):
        (tmp_path / name).mkdir()
    nodes = [
        node("who", "who", resources=two, folder=str(tmp_path / "who")),
        node("bad", "one_of_them", stage="x", resources=two, marks=str(tmp_path / "bad"), deaths={"1": [0, "no luck"]}),
    ]
    cluster.submit(Graph(nodes), folder=tmp_path / "run")
    found = states_when(tmp_path / "run", settled, 90)
    told = [json.loads((tmp_path / "who" / str(rank)).read_text()) for rank in (0, 1)]
    assert [each["reports"] for each in told] == [True, False]
    outcome = found["who"].outcome
    assert outcome is not None and outcome.value == "0"
    # The other one waited for it (300 s), and was ended.
    assert (found["bad"].state, found["bad"].reason) == ("failed", "process 1 of 2: ValueError: no luck")

    again = Graph([node("again", "second_time_lucky", resources=two, notes=str(notes))])
    job = cluster.submit(again, folder=tmp_path / "run").jobs["again"]
    states_when(tmp_path / "run", lambda _: notes.exists())
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    found = states_when(tmp_path / "run", lambda found: not found["again"].live, 90)
    assert (found["again"].state, found["again"].restarts) == ("done", 1)


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_who_takes_more_memory_than_it_asked_for_is_ended_and_said_to_have(tmp_path: Path) -> None:
    nodes = [node("greedy", "eat", megabytes=600), node("child", "add", "greedy", a=1, b=2)]
    cluster.submit(Graph([*nodes, node("modest", "add", a=1, b=2)]), folder=tmp_path)
    found = states_when(tmp_path, settled)
    assert (found["greedy"].state, found["child"].state, found["modest"].state) == ("failed", "blocked", "done")
    assert found["greedy"].reason.startswith("ran out of memory; last line of its log: ")
    assert found["child"].reason == "'greedy' failed"


@pytest.fixture
def drained(real_slurm: None) -> Iterator[Callable[[str], None]]:
    """Sets the state of all nodes; they are back whatever the test does."""

    def update(state: str) -> None:
        reason = ["reason=test"] if state == "drain" else []
        subprocess.run(["scontrol", "update", "nodename=ALL", f"state={state}", *reason], check=True)

    update("drain")
    yield update
    if "drain" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=True).stdout:
        update("resume")


@pytest.mark.slurm
def test_where_a_node_is_drained_jobs_wait_and_say_why_and_run_when_it_is_back(
    drained: Callable[[str], None], tmp_path: Path
) -> None:
    nodes = [node("first", "add", a=1, b=2), node("second", "add", "first", stage="x", a=1, b=2)]
    cluster.submit(Graph(nodes), folder=tmp_path)
    found = states_when(tmp_path, lambda found: found["first"].reason not in ("None", "Priority", ""))
    assert (found["first"].state, found["second"].state) == ("pending", "pending")
    assert re.search("Resources|NodeNotAvail|Nodes_required|NodeDown", found["first"].reason), found["first"].reason
    drained("resume")
    found = states_when(tmp_path, settled)
    assert {state.state for state in found.values()} == {"done"} and not any(s.restarts for s in found.values())


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_retry_does_what_failed_and_what_waits_for_it_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(workspace=tmp_path, executor="slurm")
    folder = Workspace(tmp_path).processes
    nodes = [node(f"t{i}", "add", stage="train", a=i, b=1) for i in range(2)]
    nodes += [node("t2", "second_try", stage="other", notes=str(tmp_path / "notes"))]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", a=i, b=1) for i in range(3)]
    first = cluster.submit(Graph(nodes), folder=folder).jobs
    found = states_when(folder, settled)
    assert {key for key, state in found.items() if state.state != "done"} == {"t2", "e2"}
    assert processes.retry(settings, []) == 0
    assert "again: 2 processes (t2, e2)" in capsys.readouterr().out
    found = states_when(folder, settled)
    assert {state.state for state in found.values()} == {"done"}
    assert found["t2"].outcome is not None and found["t2"].outcome.value == "done at last"
    assert {key for key in first if found[key].job != first[key]} == {"t2", "e2"}
    assert processes.retry(settings, []) == 0
    assert "nothing to retry" in capsys.readouterr().out


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_the_small_job_of_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here and not with its like: whatever needs accounting may not run beside the test that switches it off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_DATA", raising=False)
    Path("mine.toml").write_text(f'scratch = "{tmp_path}/scratch/$SLURM_JOB_ID"\n')
    assert main(["doctor", "--cluster", "mine.toml"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ok +accounting: accounting_storage/slurmdbd$", out, re.M)
    assert re.search(r"^ok +limits: SLURM takes jobs such as pretrain", out, re.M)
    assert re.search(r"^ok +small job: job \d+ ran on ", out, re.M)
    assert re.search(rf"^ok +node: scratch: {tmp_path}/scratch/\d+$", out, re.M)
    assert re.search(r"^ok +node: rooms: .* from .*/repro-work/code/[0-9a-f]{16}$", out, re.M)
    for what in ("shared directory", "file system", "commands", "python", "packages", "operators", "GPUs"):
        assert re.search(rf"^ok +node: {what}: ", out, re.M), what


@pytest.fixture
def without_accounting(real_slurm: None) -> Iterator[None]:
    """slurmdbd of the cluster that cluster.sh started is stopped, and started again."""
    home = Path(os.environ.get("SLURM_TEST_HOME", "/var/lib/slurm-one-node"))
    try:
        os.kill(int((home / "run" / "slurmdbd.pid").read_text()), signal.SIGTERM)
    except (OSError, ValueError):
        pytest.skip("this is not the cluster of cluster.sh, or we may not stop its accounting")
    end = time.monotonic() + 30
    while subprocess.run(["sacct", "-X"], capture_output=True).returncode == 0:
        assert time.monotonic() < end
        time.sleep(0.2)
    try:
        yield
    finally:
        subprocess.run([Path(__file__).with_name("cluster.sh"), "start"], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slurm
@pytest.mark.usefixtures("without_accounting")
def test_without_accounting_states_come_from_squeue_and_from_what_jobs_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node("good", "add", a=1, b=2), node("bad", "fail", stage="x", message="no luck")]
    nodes += [node("child", "add", "bad", a=1, b=2), node("long", "nap", stage="y", seconds=300, notes=str(tmp_path))]
    cluster.submit(Graph(nodes), folder=tmp_path / "run")
    ended = states_when(tmp_path / "run", lambda found: not any(s.live for k, s in found.items() if k != "long"))
    expected = {"good": ("done", ""), "bad": ("failed", "ValueError: no luck"), "child": ("blocked", "'bad' failed")}
    assert {key: (ended[key].state, ended[key].reason) for key in expected} == expected
    states_when(tmp_path / "run", lambda found: found["long"].state == "running")
    assert cluster.cancel(tmp_path / "run", {"long"}) == ["long"]

    # Once squeue has forgotten them too, what they left must do.
    states_when(tmp_path / "run", settled)
    ask = scheduler.ask
    monkeypatch.setattr(scheduler, "ask", lambda command: "" if command[0] == "squeue" else ask(command))
    with pytest.raises(ValueError, match="sacct"):
        scheduler.ask(["sacct", "-X"])
    found = {state.key: state for state in states(tmp_path / "run")}
    assert (found["good"].state, found["bad"].state, found["bad"].reason) == ("done", "failed", "ValueError: no luck")
    assert (found["child"].state, found["child"].reason) == ("blocked", "'bad' failed")


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("real_slurm")
def test_at_its_time_limit_a_job_goes_on_as_often_as_the_profile_allows(tmp_path: Path) -> None:
    """A limit of one minute, of which 15 s are for the last checkpoint."""
    short = Resources(memory_gb=0.1, minutes=1)
    again = node("a", "second_time_lucky", resources=short, notes=str(tmp_path / "notes"))
    never = node("b", "nap", resources=short, seconds=300, notes=str(tmp_path / "naps"))
    cluster.submit(Graph([again]), folder=tmp_path / "again")
    cluster.submit(Graph([never]), folder=tmp_path / "never", profile=Profile(requeues=0))
    (allowed,) = states_when(tmp_path / "again", settled, 180).values()
    assert (allowed.state, allowed.restarts) == ("done", 1)
    assert allowed.outcome is not None and allowed.outcome.value == "first second"
    (refused,) = states_when(tmp_path / "never", settled, 120).values()
    assert (refused.state, refused.restarts) == ("timeout", 0), refused
