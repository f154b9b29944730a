"""Where the tasks stand that were submitted to SLURM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurm import cluster
from slurm.folder import Folder, Outcome
from slurm.graph import Graph, Resources, Task
from slurm.status import of_folder, with_dependants

SMALL = Resources(memory_gb=0.1, minutes=2)


def task(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources, after, stage)


@pytest.mark.parametrize(
    ("squeue", "sacct", "ended", "state", "reason"),
    [
        ("PENDING 0 Priority", "", None, "pending", "Priority"),
        ("REQUEUE_HOLD 2 BeginTime", "", "failed", "pending", "BeginTime"),
        ("COMPLETING 0 None", "", None, "running", "completing"),
        ("COMPLETED 0 None", "", "done", "done", ""),
        ("COMPLETED 0 None", "", None, "failed", "SLURM calls it COMPLETED, but it left no result; last line"),
        ("FAILED 0 NonZeroExitCode", "", "failed", "failed", "ValueError: why"),
        ("TIMEOUT 0 TimeLimit", "", None, "timeout", "reached its time limit; last line of its log: epoch 3"),
        ("TIMEOUT 0 TimeLimit", "", "done", "done", "its result is complete, although SLURM calls it TIMEOUT"),
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
    only = task("a", "add", a=1, b=2)
    cluster.submit(Graph([only]), folder=tmp_path / "run")
    for name, answer in (("squeue", squeue), ("sacct", sacct)):
        separator = " " if name == "squeue" else "|"
        (fake_slurm / f"{name}.answer").write_text(f"101{separator}{answer}\n" if answer else "")
    place = Folder(tmp_path / "run")
    place.log("a").resolve().write_text("epoch 2\nepoch 3\n")
    if ended:
        place.write_outcome(Outcome("a", ended, "ValueError: why", digest=only.digest, job="101"))
    (seen,) = of_folder(tmp_path / "run")
    assert seen.state == state
    assert seen.reason.startswith(reason)
    # An outcome of another job of the same task, or of other work, is none of this one's.
    if ended == "done" and squeue.startswith("COMPLETED"):
        for other in ({"job": "100", "digest": only.digest}, {"job": "101", "digest": "0"}):
            place.write_outcome(Outcome("a", "done", **other))
            assert of_folder(tmp_path / "run")[0].state == "failed"


def test_what_was_cancelled_and_slurm_forgot_stays_cancelled(fake_slurm: Path, tmp_path: Path) -> None:
    """sacct never lists an element of an array that was cancelled before it began."""
    cluster.submit(Graph([task("a", "add", a=1, b=2)]), folder=tmp_path / "run")
    (fake_slurm / "squeue.answer").write_text("101 PENDING 0 Priority\n")
    assert cluster.cancel(tmp_path / "run", {"a"})
    (fake_slurm / "squeue.answer").write_text("")
    (seen,) = of_folder(tmp_path / "run")
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
    only = task("a", "add", a=1, b=2)
    cluster.submit(Graph([only]), folder=tmp_path / "run")
    (fake_slurm / "squeue.answer").write_text("101 FAILED 0 NonZeroExitCode\n")
    place = Folder(tmp_path / "run")
    place.log("a").resolve().write_text(f"epoch 3\n{log}\n")
    if left:
        place.write_outcome(Outcome("a", "failed", left, digest=only.digest, job="101"))
    (seen,) = of_folder(tmp_path / "run")
    assert seen.state == state and seen.reason.startswith(reason)


def test_accounting_lists_elements_beside_the_range_they_left(fake_slurm: Path, tmp_path: Path) -> None:
    tasks = [task(f"t{i}", "add", stage="train", a=i, b=1) for i in range(3)]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score", a=i, b=1) for i in range(3)]
    cluster.submit(Graph(tasks), folder=tmp_path / "run")
    rows = ["101_[0-2%3]|CANCELLED|None|None|None", "101_0|FAILED|None|2026-01-01T00:00:00|2026-01-01T00:00:09"]
    (fake_slurm / "sacct.answer").write_text("\n".join([*rows, "102_[0-2%3]|CANCELLED|None|None|None"]))
    found = of_folder(tmp_path / "run")
    assert [state.state for state in found] == ["failed", "cancelled", "cancelled", "blocked", "blocked", "blocked"]
    assert [state.reason for state in found[3:]] == ["'t0' failed", "'t1' cancelled", "'t2' cancelled"]


def test_a_child_of_a_failure_that_slurm_has_forgotten_is_blocked(fake_slurm: Path, tmp_path: Path) -> None:
    """Without accounting; a child that ran and died is no such thing, and one whose parent is done neither."""
    tasks = [task("bad", "fail", stage="x"), task("child", "add", "bad"), task("grandchild", "add", "child")]
    tasks += [task("good", "add", stage="y"), task("lost", "add", "good")]
    jobs = cluster.submit(Graph(tasks), folder=tmp_path / "run").jobs
    place, graph = Folder(tmp_path / "run"), Graph(tasks)
    for key, how in (("bad", "failed"), ("good", "done")):
        place.write_outcome(Outcome(key, how, "ValueError: no", digest=graph[key].digest, job=jobs[key]))
    found = {state.key: (state.state, state.reason) for state in of_folder(tmp_path / "run")}
    assert found["child"] == found["grandchild"] == ("blocked", "'bad' failed")
    assert found["lost"] == ("failed", "SLURM no longer knows it")


def test_a_rank_that_srun_ended_before_its_word_is_spoken_for_by_another(fake_slurm: Path, tmp_path: Path) -> None:
    both = task("a", "add", resources=Resources(ranks_per_node=2))
    cluster.submit(Graph([both]), folder=tmp_path / "run")
    (fake_slurm / "squeue.answer").write_text("101 FAILED 0 NonZeroExitCode\n")
    place = Folder(tmp_path / "run")
    for job, reason in (("100", "failed; last line"), ("101", "rank 1 of 2: ValueError: why")):
        place.log("a").resolve().write_text("srun: error: vm: task 0: Killed\n")
        place.write_outcome(Outcome("a", "failed", "ValueError: why", digest=both.digest, job=job), 1)
        (state,) = of_folder(tmp_path / "run")
        assert state.state == "failed" and state.reason.startswith(reason)


def test_a_child_stands_behind_a_parent_that_was_submitted_again_alone(fake_slurm: Path, tmp_path: Path) -> None:
    graph = Graph([task("a", "add"), task("b", "add", "a", stage="x"), task("c", "add", stage="y")])
    jobs = cluster.submit(graph, folder=tmp_path / "run").jobs
    said = {"a": "FAILED 0 None", "b": "CANCELLED 0 Dependency", "c": "FAILED 0 None"}
    answer = "".join(f"{jobs[key]} {line}\n" for key, line in said.items())
    (fake_slurm / "squeue.answer").write_text(answer)
    again = cluster.submit(Graph([graph["a"]]), folder=tmp_path / "run").jobs["a"]
    (fake_slurm / "squeue.answer").write_text(f"{answer}{again} FAILED 0 None\n")
    found = of_folder(tmp_path / "run")
    assert [(state.key, state.reason) for state in found if state.key == "b"] == [("b", "'a' failed")]
    assert [state.key for state in with_dependants({"a"}, found)] == ["a", "b"]
