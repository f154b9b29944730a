"""What is queued, cancelled and left alone, with a SLURM whose commands only write down how they are called."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm import cluster, local, scheduler
from slurm.files import try_lock
from slurm.folder import Folder, Outcome
from slurm.graph import Graph, Resources, Task
from slurm.journal import Journal
from slurm.profile import Profile
from slurm.status import of_folder

SMALL = Resources(memory_gb=0.1, minutes=2)


def task(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources, after, stage)


def test_a_refusal_is_one_line_and_leaves_a_journal_to_go_on_from(fake_slurm: Path, tmp_path: Path) -> None:
    # As SLURM 22.05 said it.
    (fake_slurm / "refuse").write_text(
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n"
    )
    graph = Graph([task("a", "add", a=1, b=2)])
    with pytest.raises(ValueError, match=r"^sbatch refused 'a\.[0-9a-f]{8}': .*Invalid account or account") as error:
        cluster.submit(graph, folder=tmp_path / "run")
    assert "\n" not in str(error.value)
    (state,) = of_folder(tmp_path / "run")
    assert state.state == "unsubmitted"
    (fake_slurm / "refuse").unlink()
    assert cluster.submit(graph, folder=tmp_path / "run").jobs == {"a": "102"}


def test_a_journal_cut_short_is_read_to_the_last_whole_line(fake_slurm: Path, tmp_path: Path) -> None:
    graph = Graph([task("a", "add", a=1, b=2)])
    cluster.submit(graph, folder=tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])  # died while it wrote "submitted"
    assert [state.state for state in of_folder(tmp_path / "run")] == ["unsubmitted"]
    cluster.submit(graph, folder=tmp_path / "run")
    # The jobs that may be left of the first attempt were looked for by name before the second one.
    assert re.search(r"squeue --me .*--name=a\.[0-9a-f]{8}", (fake_slurm / "calls").read_text())
    assert [state.job for state in of_folder(tmp_path / "run")] == ["102"]


def test_without_slurm_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no `sbatch` on PATH: run this on a login node .* or use the local executor"):
        cluster.submit(Graph([task("a", "add")]), folder=tmp_path / "run")
    assert of_folder(tmp_path / "run") == cluster.cancel(tmp_path / "run", {"a"}) == []


def test_slurms_own_limit_of_arrays_is_asked_for(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "scontrol.answer").write_text("MaxArraySize            = 3\nMaxJobCount             = 10000\n")
    tasks = [task(f"t{i}", "add", stage="train") for i in range(7)]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score") for i in range(7)]
    cluster.submit(Graph(tasks), folder=tmp_path / "run")
    scripts = [path.read_text() for path in sorted(fake_slurm.glob("script*"))]
    arrays = [re.findall(r"#SBATCH --(?:array|dependency)=(.*)", text) for text in scripts]
    # The seventh of each is alone, so it is no array and waits for a job.
    assert arrays == [["0-2%3"], ["0-2%3"], [], ["0-2%3", "aftercorr:101"], ["0-2%3", "aftercorr:102"], ["afterok:103"]]


def test_where_the_queue_is_full_what_fits_is_queued_and_the_rest_follows(fake_slurm: Path, tmp_path: Path) -> None:
    """A limit of 4 jobs; while submit waits, all that is queued ends: t2 badly, so that e2 can never run."""
    tasks = [task(f"t{i}", "add", stage="train", a=i) for i in range(6)]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score", a=i) for i in range(6)]
    (fake_slurm / "limit").write_text("4")
    place, waits = Folder(tmp_path / "run"), []

    def on_full(queued: int, total: int) -> None:
        waits.append((queued, total))
        live = [state for state in of_folder(place.root) if state.live]
        (fake_slurm / "queued").write_text("0")
        lines = [f"{state.job} {'FAILED' if state.key == 't2' else 'COMPLETED'} 0 None" for state in live]
        with (fake_slurm / "squeue.answer").open("a") as answer:
            answer.write("\n".join(lines) + "\n")
        for state in live:
            if state.key != "t2":
                place.write_outcome(Outcome(state.key, "done", digest=state.task.digest, job=state.job))

    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    done = cluster.submit(Graph(tasks), folder=place.root, on_full=on_full, pause=0.01)
    found = {state.key: state for state in of_folder(place.root)}
    assert len(waits) >= 2 and waits[0] == (4, 12) and all(total == 12 for _, total in waits)
    assert found["t2"].state == "failed" and found["e2"].state == "blocked" and found["e2"].reason == "'t2' failed"
    assert "e2" in done.settled and "e2" not in done.jobs
    others = set(found) - {"t2", "e2"}
    assert all(found[key].job for key in others)
    lines = (fake_slurm / "calls").read_text().splitlines()
    assert sum(line.startswith("sbatch") for line in lines) > done.calls  # those that were refused
    # Every task got in once and only once.
    journal = [json.loads(line) for line in place.journal.read_text().splitlines() if line]
    taken = [key for entry in journal if entry["event"] == "submitted" for key in entry["jobs"]]
    assert sorted(taken) == sorted(others | {"t2"})


def test_a_call_whose_answer_was_lost_is_looked_for_by_name(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "refuse").write_text("sbatch: error: Batch job submission failed: Socket timed out on send/recv\n")
    done = cluster.submit(
        Graph([task("a", "add")]),
        folder=tmp_path / "run",
        on_trouble=lambda line: (fake_slurm / "refuse").unlink(),
        pause=0.01,
    )
    assert done.calls == 1
    calls = (fake_slurm / "calls").read_text()
    assert re.search(r"sbatch .*\n(?:.*\n)*?squeue --me .*--name=a\.[0-9a-f]{8}(?:.*\n)*?.*sbatch", calls)


def test_the_collating_task_is_queued_anew_behind_what_is_new(fake_slurm: Path, tmp_path: Path) -> None:
    tasks = [task(key, "add", stage="train") for key in "ab"]
    last = Task("last", "jobs_for_tests:add", {}, SMALL, ("a", "b"), "collate", always=True)
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    first = cluster.submit(Graph([*tasks, last]), folder=tmp_path / "run")
    assert cluster.submit(Graph([*tasks, last]), folder=tmp_path / "run").calls == 0
    more = [*tasks, task("c", "add", stage="other")]
    again = Task("last", "jobs_for_tests:add", {}, SMALL, ("a", "b", "c"), "collate", always=True)
    second = cluster.submit(Graph([*more, again]), folder=tmp_path / "run")
    assert set(second.kept) == {"a", "b"} and second.calls == 2
    assert f"scancel --quiet {first.jobs['last']}\n" in (fake_slurm / "calls").read_text()
    array, single = first.jobs["a"].partition("_")[0], second.jobs["c"]
    assert f"--dependency=afterany:{array}:{single}\n" in (fake_slurm / f"script{second.jobs['last']}").read_text()


def test_code_is_that_of_each_task_and_splits_no_dependency(fake_slurm: Path, tmp_path: Path) -> None:
    tasks = [task(f"t{i}", "add", stage="train", a=i) for i in range(2)]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score", a=i) for i in range(2)]
    code = {"t0": tmp_path / "old", "t1": tmp_path / "new", "e0": tmp_path / "new", "e1": None}
    cluster.submit(Graph(tasks), folder=tmp_path / "run", code=code)
    found = {state.key: state for state in of_folder(tmp_path / "run")}
    assert {key: state.entry.code for key, state in found.items()} == {key: str(c or "") for key, c in code.items()}
    for child, parent in (("e0", "t0"), ("e1", "t1")):
        script = (fake_slurm / f"script{found[child].job}").read_text()
        assert f"--dependency=afterok:{found[parent].job}\n" in script
        assert (f"export PYTHONPATH={tmp_path}/new:" in script) == (child == "e0")


def test_a_task_of_the_other_executor_is_left_to_it(fake_slurm: Path, tmp_path: Path) -> None:
    graph, place = Graph([task("a", "add", a=1, b=2), task("b", "add", "a", a=1, b=2)]), Folder(tmp_path / "run")
    place.write_task(graph["a"])
    Journal(place).started("here", [graph["a"]], "")
    running = try_lock(place.run("here"))
    assert running is not None
    with pytest.raises(ValueError, match="'a' is running on this machine: wait until it ends, or cancel it first"):
        cluster.submit(graph, folder=place.root)
    assert not (fake_slurm / "taken").exists()
    os.close(running)
    cluster.submit(graph, folder=place.root)
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    before = place.journal.read_text()
    with pytest.raises(ValueError, match=r"'a' is pending on SLURM \(job 101\): wait until it ends, or cancel it"):
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
    place.write_task(task("z", "add"))
    Journal(place).planned([task("z", "add")], "", Profile())
    Journal(place).submitted("x", {"z": "99"})
    done = cluster.submit(
        Graph([task("a", "add")]), folder=place.root, on_full=on_full, on_trouble=on_trouble, pause=0.01
    )
    assert troubles == ["`squeue` failed: slurm_load_jobs error: Socket timed out"]
    assert list(done.jobs) == ["a"]


def test_what_another_submits_while_one_waits_is_not_submitted_twice(fake_slurm: Path, tmp_path: Path) -> None:
    place, graph = Folder(tmp_path / "run"), Graph([task("a", "add"), task("b", "add", "a", stage="x")])
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
        cluster.submit(Graph([task("a", "add")]), folder=place.root)
    cluster.submit(Graph([task("b", "add")]), folder=place.root)
    (fake_slurm / "calls").write_text("")
    of_folder(place.root)
    calls = (fake_slurm / "calls").read_text()
    assert f"squeue --user={','.join(sorted([me, 'zoe']))} " in calls and "sacct -X --allusers " in calls
    # A table that would come too early is taken back only where it is ours.
    (fake_slurm / "squeue.default").write_text("PENDING 0 Priority")
    last = Task("last", "jobs_for_tests:add", {}, SMALL, ("a",), "collate", always=True)
    with monkeypatch.context() as theirs:
        theirs.setattr("slurm.journal.user", lambda: "zoe")
        cluster.submit(Graph([task("a", "add"), last]), folder=place.root)
    more = replace(last, after=("a", "d"))
    assert cluster.submit(Graph([task("a", "add"), task("d", "add"), more]), folder=place.root).calls == 2
    assert "scancel" not in (fake_slurm / "calls").read_text()
    with monkeypatch.context() as theirs:
        theirs.setattr("slurm.journal.user", lambda: "zoe")
        Journal(place).submitting("c.0rphan00", [task("c", "add")])
    with pytest.raises(
        ValueError, match=r"a submission by zoe .* stopped half-way, .*: ask them to run their command again"
    ):
        cluster.submit(Graph([task("c", "add")]), folder=place.root)
    assert Journal(place).open == {"c.0rphan00": "zoe"}


@pytest.mark.parametrize("name", ["run%j", "100%", "back\\slash", "two\nlines"])
def test_a_path_that_slurm_reads_otherwise_is_refused(fake_slurm: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"SLURM cannot write to .* choose a folder whose path does not contain it"):
        cluster.submit(Graph([Task("a", "jobs_for_tests:add")]), folder=tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["with space", "quote's", 'double"', "$HOME", "`id`", "semi;&|", "é"])
def test_any_other_path_reaches_slurm_as_it_is(fake_slurm: Path, tmp_path: Path, name: str) -> None:
    cluster.submit(Graph([Task("a", "jobs_for_tests:add")]), folder=tmp_path / name)
    script = (fake_slurm / "script101").read_text(encoding="utf-8").splitlines()
    (output,) = [line.removeprefix("#SBATCH ") for line in script if "--output=" in line]
    assert shlex.split(output) == [f"--output={tmp_path / name / 'submitit'}/%j_0_log.out"]
    (call,) = [line for line in script if line.startswith("srun")]
    words = shlex.split(call)
    assert words[words.index("--output") + 1] == f"{tmp_path / name / 'submitit'}/%j_%t_log.out"
    assert words[-1] == str(tmp_path / name / "submitit")
