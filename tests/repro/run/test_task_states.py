"""status, logs, cancel and retry, for a fake SLURM and for the local executor; the snapshot of the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.planned import PlannedJob
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.run import execute, logs, status
from repro.run.live_boards import Views
from repro.run.task_states import run_of
from repro.run.task_states import states as states_of
from repro.settings import Settings
from repro.store import records, snapshot
from repro.store.hashes import file_digest
from repro.store.source_hash import PACKAGES
from repro.store.workspace import Workspace
from slurm.folder import Folder, Outcome
from slurm.graph import Graph, Task
from slurm.journal import Journal
from slurm.profile import Profile
from slurm.states import TaskState

QUICK = ["run", "--method", "aps", "random:vit", "--suite", "quick", "--executor", "slurm"]
ABOUT_FEATURES = ("effective_rank", "feature_std", "norm_mean")


pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def submitted(fake_slurm: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Two runs of pre-training and frozen evaluations with a fake SLURM: 101_0, 101_1, 102_0, 102_1, and 103."""
    assert main(QUICK) == 0
    assert "submitted 5 tasks to SLURM in 3 calls" in capsys.readouterr().out
    (fake_slurm / "squeue.default").write_text("PENDING 0 Dependency")
    return fake_slurm


def squeue(fake: Path, *lines: str) -> None:
    (fake / "squeue.answer").write_text("".join(line + "\n" for line in lines))


def found() -> dict[str, TaskState]:
    return {state.job or state.key: state for state in states_of(Workspace(Path("repro-work")))}


def leave_records(state: TaskState) -> None:
    """Empty files under the names of the records of a process."""
    Path("repro-work/records").mkdir(exist_ok=True)
    for job in state.task.args["jobs"]:
        Path("repro-work/records", f"{job['kind']}-x-{job['fingerprint'][:12]}.json").touch()


def test_status_is_runs_by_stages(submitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Folder(Path("repro-work/processes"))
    running, broken = found()["101_0"], found()["101_1"]
    now = time.time()
    report = {"done": 25, "total": 100, "info": {"job": "pretrain"}, "time": now + 1, "first": 0, "since": now - 59}
    place.progress(running.key).write_text(json.dumps(report))
    broken.log.resolve().write_text("epoch 1\nCUDA error: an illegal address\n")
    squeue(submitted, "101_0 RUNNING 2 None", "101_1 FAILED 0 NonZeroExitCode", "102_1 CANCELLED 0 Dependency")
    before = (submitted / "calls").read_text().count("squeue")
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert (submitted / "calls").read_text().count("squeue") == before + 1
    assert "sacct" not in (submitted / "calls").read_text()
    first, second = run_of(running), run_of(broken)
    assert re.search(r"^run +pretrain +frozen *$", out, re.M)
    assert re.search(rf"^{first} +running pretrain 25 %, 3 min left \[101_0\], restarted 2 times +pending: ", out, re.M)
    assert re.search(rf"^{second} +failed +blocked *$", out, re.M)
    assert f"failed: {broken.key}: failed; last line of its log: CUDA error: an illegal address" in out
    assert f"blocked: frozen-{second}: '{broken.key}' failed" in out
    assert re.search(r"^collate-embedded-\w+: pending: Dependency \[103\]", out, re.M)
    assert "1 running, 2 pending, 1 failed, 1 blocked" in out


def test_records_decide_whatever_slurm_says(submitted: Path) -> None:
    """COMPLETED without a record counts as failed; with its records a job is done, and the difference is explained."""
    place, states = Folder(Path("repro-work/processes")), found()
    squeue(submitted, "101_0 COMPLETED 0 None", "101_1 COMPLETED 0 None", "102_0 TIMEOUT 0 TimeLimit")
    for number in ("101_0", "101_1"):
        state = states[number]
        place.write_outcome(Outcome(state.key, "done", digest=state.task.digest, job=number))
    leave_records(states["101_1"])
    leave_records(states["102_0"])
    states = found()
    assert states["101_0"].state == "failed"
    assert states["101_0"].reason == "SLURM calls job 101_0 finished, but there is no record of pretrain: retry"
    assert (states["101_1"].state, states["101_1"].reason) == ("done", "")
    assert states["102_0"].state == "done"
    assert re.match(r"all its records are there, though it counts as timed out: reached its", states["102_0"].reason)


def test_retry_does_the_failed_ones_and_what_waits_for_them(
    submitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, states = Folder(Path("repro-work/processes")), found()
    squeue(submitted, "101_0 COMPLETED 0 None", "101_1 OUT_OF_MEMORY 0 OutOfMemory", "102_1 CANCELLED 0 Dependency")
    place.write_outcome(Outcome(states["101_0"].key, "done", digest=states["101_0"].task.digest, job="101_0"))
    leave_records(states["101_0"])
    code = states["101_1"].entry.code
    assert main(["retry"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"again: 3 tasks \(pretrain-\S+, frozen-\S+, collate-\S+\), with the code that was submit", out)
    states = found()
    assert {"101_0", "102_0"} < set(states)  # left alone
    new = {number: state for number, state in states.items() if number.startswith("10") and int(number[:3]) > 103}
    assert [state.task.stage for state in new.values()] == ["pretrain", "frozen", "collate"]
    assert {state.entry.code for state in new.values()} == {code}
    first, second, third = (next(iter(part)) for part in ([n] for n in new))
    assert f"dependency=afterok:{first}\n" in (submitted / f"script{second}").read_text()
    assert re.search(rf"dependency=afterany:.*{second}", (submitted / f"script{third}").read_text())
    assert re.search(rf"export PYTHONPATH={code}(:|$)", (submitted / f"script{first}").read_text(), re.MULTILINE)
    assert "scancel --quiet 103\n" in (submitted / "calls").read_text()  # the table that would have come too early
    assert main(["retry"]) == 0
    assert "nothing to retry" in capsys.readouterr().out


def finish(job: PlannedJob) -> None:
    """The record of a job, and what others read of it, as if it had run."""
    place, keys = Workspace(Path("repro-work")), ("fingerprint", "kind", "method", "variant", "track", "seed")
    record: dict[str, Any] = {key: getattr(job, key) for key in keys}
    about = {f"{split}_{name}": 1.0 for split in ("train", "test") for name in ABOUT_FEATURES}
    metrics = about if job.kind == "features" else {}
    records.write(place.records, record | {"schema": 1, "metrics": metrics, "cost": {}, "provenance": {}})
    place.job(job.fingerprint).mkdir(parents=True, exist_ok=True)
    if job.kind == "pretrain":
        place.encoder(job.fingerprint).touch()
    if job.kind == "features":
        checkpoint = {"job": job.parents[0], "sha256": file_digest(place.encoder(job.parents[0]))}
        (place.job(job.fingerprint) / "meta.json").write_text(json.dumps({"checkpoint": checkpoint}))


def kinds(state: TaskState) -> list[str]:
    return [job["kind"] for job in state.task.args["jobs"]]


def test_the_same_command_while_a_process_is_half_done(submitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pre-training and features of one run have their records; its frozen process is at its first evaluation."""
    for job in make(Request(("aps", "random:vit"), evaluations=("knn", "linear")), Settings()).jobs[:2]:
        finish(job)
    first = next(state for state in found().values() if "pretrain-aps" in state.key)
    place = Folder(Path("repro-work/processes"))
    place.write_outcome(Outcome(first.key, "done", digest=first.task.digest, job=first.job))
    squeue(submitted, f"{first.job} COMPLETED 0 None", f"{first.job.replace('101', '102')} RUNNING 0 None")
    before = {state.key: state.job for state in found().values() if state.task.stage != "collate"}
    assert main(QUICK) == 0
    assert "already queued or running, left alone: " in capsys.readouterr().out
    assert {state.key: state.job for state in found().values() if state.task.stage != "collate"} == before


def test_what_is_asked_beside_a_live_process_gets_one_of_its_own(
    fake_slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fake_slurm / "squeue.default").write_text("PENDING 0 Dependency")
    run = ["run", "--method", "aps", "--executor", "slurm", "--eval"]
    assert main([*run, "linear"]) == 0
    assert main([*run, "knn", "linear", "reid"]) == 0
    states = found()
    assert kinds(states["102"]) == ["features", "linear"] and kinds(states["104"]) == ["knn", "reid"]
    # The pre-training, and the process that makes the features.
    assert "--dependency=afterok:101:102\n" in (fake_slurm / "script104").read_text()
    assert states["104"].key.startswith(states["102"].key + "-")
    assert re.search(r"--dependency=afterany:101:102:104\n", (fake_slurm / "script105").read_text())
    before = (fake_slurm / "taken").read_text()
    assert main([*run, "knn", "linear", "reid"]) == 0  # and once more: nothing is new
    assert (fake_slurm / "taken").read_text() == before
    assert main([*run, "knn"]) == 0  # less: the process that has it, and what that waits for
    assert [kinds(state) for state in found().values() if state.task.stage == "frozen"] == [
        ["features", "linear"],
        ["knn", "reid"],
    ]


def test_retry_over_two_snapshots_keeps_what_waits_for_what(
    submitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frozen process was submitted later, with other code; the pre-training later still, again with the first."""
    states, place = found(), Folder(Path("repro-work/processes"))
    parent, child = states["101_0"], states["102_0"]
    other = Path("repro-work/code/other").absolute()
    other.mkdir()
    for state, code in ((child, str(other)), (parent, parent.entry.code)):
        Journal(place).planned([state.task], code, Profile())
        Journal(place).submitted("x", {state.key: state.job})
    squeue(submitted, "101_0 FAILED 0 None", "102_0 CANCELLED 0 Dependency")
    assert main(["retry"]) == 0
    assert "again: 3 tasks (" in capsys.readouterr().out
    new = {state.key: state for state in found().values()}
    first, second = new[parent.key], new[child.key]
    assert (first.entry.code, second.entry.code) == (parent.entry.code, str(other))
    script = (submitted / f"script{second.job}").read_text()
    assert f"--dependency=afterok:{first.job}\n" in script and f"export PYTHONPATH={other}" in script
    # A snapshot that is gone is not replaced by the code of today.
    other.rmdir()
    squeue(submitted, f"{first.job} COMPLETED 0 None", f"{second.job} FAILED 0 None")
    place.write_outcome(Outcome(first.key, "done", digest=first.task.digest, job=first.job))
    leave_records(first)
    taken = (submitted / "taken").read_text()
    assert main(["retry", second.key]) == 2
    assert f"the code of 1 task ({second.key}) is gone ({other})" in capsys.readouterr().err
    assert (submitted / "taken").read_text() == taken


def test_one_executor_at_a_time(submitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = found()
    assert main([*QUICK[:-1], "local"]) == 2
    assert re.search(r"'\S+' is pending on SLURM \(job 10\d_\d\): wait until it ends", capsys.readouterr().err)
    assert {job: state.state for job, state in found().items()} == dict.fromkeys(before, "pending")


@pytest.mark.parametrize("there", [True, False])
def test_where_a_cluster_is_named_nothing_trains_here(
    fake_slurm: Path, there: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a login node whose controller is down, and where there is no SLURM."""
    if not there:
        monkeypatch.setenv("PATH", "/nowhere")
    (fake_slurm / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert main([*QUICK[:-2], "--cluster", "a100"]) == 2
    said = "SLURM's controller is down" if there else "no `sbatch` on PATH"
    assert re.search(rf"{said}.*\(--executor local\)$", capsys.readouterr().err, re.M)
    assert not Path("repro-work/processes").exists()


def test_a_controller_that_is_down_is_said_before_jobs_run_here(
    fake_slurm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_slurm / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    ran: list[str] = []
    monkeypatch.setattr(execute, "run_here", lambda graph, *rest: ran.extend(task.key for task in graph) or {})
    main(QUICK[:-2])
    assert ran and "controller is down" in capsys.readouterr().err
    main([*QUICK[:-1], "local"])
    assert "controller is down" not in capsys.readouterr().err


def test_names_of_processes(submitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = found()
    key = states["101_0"].key
    states["101_0"].log.resolve().write_text("".join(f"line {i}\n" for i in range(50)))
    for name in (key, "101_0"):
        assert main(["logs", name]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0].startswith(f"{key}: pending") and out[1:] == [f"line {i}" for i in range(20, 50)]
    assert main(["logs", run_of(states["101_0"])]) == 2  # two processes
    assert "is 2 tasks; name one: " in capsys.readouterr().err
    assert main(["logs", key.replace("pretrain", "pretrian")]) == 2
    assert f"did you mean '{key}'?" in capsys.readouterr().err
    assert main(["cancel", run_of(states["101_0"])]) == 0
    assert "cancelled 2 tasks" in capsys.readouterr().out
    assert "scancel --quiet 101_0 102_0\n" in (submitted / "calls").read_text()
    # SLURM takes a while to end them; nobody shall take them for alive meanwhile.
    squeue(submitted, "101_0 COMPLETING 0 None")
    assert {found()[job].state for job in ("101_0", "102_0")} == {"cancelled"}
    assert found()["101_1"].live
    assert main(["cancel"]) == 0
    assert "scancel --quiet 101_1 102_1 103\n" in (submitted / "calls").read_text()
    assert main(["cancel"]) == 0
    assert "nothing is queued or running" in capsys.readouterr().out
    assert main(["retry"]) == 0
    assert "submitted 5 tasks to SLURM in 3 calls" in capsys.readouterr().out


def test_watch_ends_when_all_have_ended(submitted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(status, "_EVERY", 0.01)
    looks = []

    def sleep(seconds: float) -> None:
        if seconds != 0.01:  # somebody else's
            return
        looks.append(seconds)
        squeue(submitted, *(f"{number} CANCELLED 0 None" for number in found()))

    monkeypatch.setattr(status.time, "sleep", sleep)
    assert main(["status", "--watch"]) == 0
    out = capsys.readouterr().out
    assert looks == [0.01] and out.count("records in") == 2 and "\033" not in out  # not a terminal: plain


def test_a_watch_outlives_a_call_that_fails(
    submitted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    works, (key, *_) = (submitted / "squeue").read_text(), (state.key for state in found().values())
    looks = []

    def sleep(seconds: float) -> None:
        if seconds not in (0.01, 0.02):  # somebody else's
            return
        looks.append(seconds)
        if len(looks) % 2:
            (submitted / "squeue").write_text("#!/bin/sh\necho slurm_load_jobs error: Socket timed out >&2\nexit 1\n")
        else:
            (submitted / "squeue").write_text(works)
            squeue(submitted, *(f"{number} CANCELLED 0 None" for number in (submitted / "taken").read_text().split()))

    monkeypatch.setattr(status.time, "sleep", sleep)
    monkeypatch.setattr(status, "_EVERY", 0.01)
    assert main(["status", "--watch"]) == 0
    out = capsys.readouterr().out
    assert "`squeue` failed: slurm_load_jobs error: Socket timed out; asking again" in out and "5 cancelled" in out
    squeue(submitted)
    monkeypatch.setattr(logs, "_EVERY", -1.0)
    monkeypatch.setattr(logs, "_FOLLOW", 0.02)
    assert main(["logs", key, "--follow"]) == 0
    told = capsys.readouterr()
    assert "Socket timed out; asking again" in told.err and f"{key}: cancelled" in told.out


def test_a_grid_of_700_is_planned_in_two_seconds_and_submitted_with_a_call_a_stage(
    fake_slurm: Path, capsys: pytest.CaptureFixture[str], yardstick: Callable[[], float]
) -> None:
    settings = Settings(executor="slurm")
    request = Request(("all",), "embedded", seeds=tuple(range(12)))
    make(Request(("aps",)), settings)  # imports and files are read
    start = time.process_time()
    planned = make(request, settings)
    graph = graph_of(planned, settings)
    spent = time.process_time() - start
    assert spent < 15 * yardstick()  # two seconds
    assert len(graph) >= 700
    assert execute.carry_out(planned, settings, ["run"], Views.none()) == 0
    calls = [line for line in (fake_slurm / "calls").read_text().splitlines() if line.startswith("sbatch")]
    assert len(calls) == len({task.stage for task in graph}) + 1
    arrays = [
        re.findall(r"--(array|dependency)=(\S+)", path.read_text()) for path in sorted(fake_slurm.glob("script*"))
    ]
    runs = len(graph) // 4
    assert arrays == [
        [("array", f"0-{runs - 1}%{runs}")],
        *[[("array", f"0-{runs - 1}%{runs}"), ("dependency", "aftercorr:101")]] * 3,
        [("dependency", "afterany:101:102:103:104")],
    ]
    start = time.process_time()
    assert len(states_of(Workspace(settings.workspace))) == len(graph) + 1
    spent = time.process_time() - start
    assert spent < 22 * yardstick()


@pytest.mark.processes
def test_the_same_verbs_serve_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """A process that fails the first time, one that waits for it; retried from another call, as another day."""
    Path("targets.py").write_text(
        "from pathlib import Path\n"
        "def flaky():\n    print('trying')\n    assert Path('mended').exists(), 'not yet'\n"
        "def after():\n    print('after')\n"
    )
    os.environ["PYTHONPATH"] = f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    place, settings = Workspace(Path("repro-work")), Settings()
    first, second = Task("a-x", "targets:flaky", stage="a"), Task("b-x", "targets:after", after=("a-x",), stage="b")
    outcomes = execute.run_here(Graph([first, second]), settings, place, None, lambda: None)
    assert execute.print_failures(outcomes) == 1
    capsys.readouterr()
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "a-x: failed" in out and "b-x: blocked" in out and "AssertionError: not yet" in out
    assert main(["logs", "a-x"]) == 0
    assert "trying" in capsys.readouterr().out
    Path("mended").touch()
    assert main(["retry", "--cores", "1"]) == 0
    assert main(["status"]) == 0
    assert "2 done" in capsys.readouterr().out
    assert main(["cancel"]) == 0
    assert "nothing is queued or running" in capsys.readouterr().out
    assert main(["logs", "b-x", "--follow"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("b-x: done")


@pytest.mark.processes
def test_a_snapshot_is_the_code_as_it_was(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "work")
    taken = snapshot.take(place)
    assert taken == snapshot.take(place) and [path.resolve() for path in place.code.iterdir()] == [taken]  # once
    for room in PACKAGES:
        assert (taken / room / "__init__.py").read_bytes() == (snapshot.room_folder(room) / "__init__.py").read_bytes()
    assert (taken / "methods/recipes/aps.toml").is_file() and not list(taken.rglob("__pycache__"))
    program = (
        "import json, pathlib, repro; from repro.store import snapshot, workspace;"
        f"again = snapshot.take(workspace.Workspace(pathlib.Path({str(place.root)!r})));"
        "print(json.dumps([repro.__file__, snapshot.code(), str(again)]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(taken), "PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    file, code, again = json.loads(answer.stdout)
    assert Path(file).parent == taken / "repro" and Path(again) == taken
    assert code == {**snapshot.code(), "snapshot": taken.name}  # commit and hash of the tree that it was made of


@pytest.mark.processes
def test_another_tree_is_another_snapshot(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "work")
    copy = tmp_path / "tree"
    snapshot.take(Workspace(tmp_path / "first")).rename(copy)
    (copy / "snapshot.json").unlink()
    program = (
        "from pathlib import Path; from repro.store import snapshot, workspace;"
        "print(snapshot.take(workspace.Workspace(Path('work'))))"
    )
    names = []
    for text in ("", "# a remark\n"):
        with (copy / "eval" / "knn.py").open("a") as file:
            file.write(text)
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(copy)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        names.append(answer.stdout.strip())
    assert len(set(names)) == 2 and len(list(place.code.iterdir())) == 2
    assert not (Path(names[0]) / "eval/knn.py").read_text().endswith("# a remark\n")


def test_a_state_without_slurm_is_one_line(
    submitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["status"]) == 2
    assert "no `squeue` on PATH" in capsys.readouterr().err
