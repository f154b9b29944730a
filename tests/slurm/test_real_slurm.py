"""What needs a running SLURM: all in one file, for what needs accounting may not run beside the test that stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_lab import CLAIM, alone

from repro.cli.dispatch import main
from repro.results import find_records
from repro.run import cancel_retry
from repro.run.live_boards import Views
from repro.settings import Settings
from repro.store.workspace import Workspace
from slurm import cluster, scheduler
from slurm.folder import Folder
from slurm.graph import Graph, Resources, Task
from slurm.journal import Journal
from slurm.profile import Profile
from slurm.states import TaskState
from slurm.status import of_folder

StatesWhen = Callable[..., dict[str, TaskState]]
SMALL = Resources(memory_gb=0.1, minutes=2)


def task(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources, after, stage)


def settled(found: dict[str, TaskState]) -> bool:
    return not any(state.live for state in found.values())


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_three_stages_with_arrays_run_and_a_failure_ends_only_what_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states_when: StatesWhen
) -> None:
    # A folder of our name where the jobs run must not hide the package.
    (tmp_path / "here" / "slurm").mkdir(parents=True)
    (tmp_path / "here" / "slurm" / "__init__.py").write_text("raise SystemExit('wrong package')")
    monkeypatch.chdir(tmp_path / "here")
    tasks = [task("data", "add", stage="data", a="da", b="ta")]
    tasks += [task(f"t{i}", "surroundings", "data", stage="train") for i in range(2)]
    tasks += [task("t2", "fail", "data", stage="train", message="no luck")]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score", a=i, b=10) for i in range(3)]
    tasks += [task("good", "add", "e0", "e1", a=1, b=2), task("bad", "add", "e1", "e2", a=1, b=2), task("dead", "die")]
    submission = cluster.submit(Graph(tasks), folder=tmp_path)
    assert any(state.live for state in of_folder(tmp_path)), "it returns, and does not wait for the jobs"
    assert submission.calls == 5  # good and bad are one array: both wait for e1, one for e0 too, one for e2

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
def test_cancelled_jobs_and_a_second_submission_beside_live_ones(tmp_path: Path, states_when: StatesWhen) -> None:
    notes = str(tmp_path / "notes")
    tasks = [
        task("one", "nap", seconds=300, notes=notes),
        task("two", "nap", stage="other", seconds=300, notes=notes),
        task("child", "add", "one", a=1, b=2),
    ]
    first = cluster.submit(Graph(tasks), folder=tmp_path)
    found = states_when(tmp_path, lambda found: found["one"].state == found["two"].state == "running")
    assert (found["child"].state, found["child"].reason) == ("pending", "Dependency")

    again = cluster.submit(Graph([*tasks, task("more", "add", a=1, b=2)]), folder=tmp_path)
    assert (again.calls, set(again.kept)) == (1, {"one", "two", "child"})
    assert {key: again.jobs[key] for key in first.jobs} == first.jobs
    with pytest.raises(ValueError, match="'one' is queued with other settings: cancel it first"):
        cluster.submit(Graph([task("one", "nap", seconds=1, notes=notes)]), folder=tmp_path)

    subprocess.run(["scancel", first.jobs["one"]], check=True)
    found = states_when(tmp_path, lambda found: not found["child"].live and not found["one"].live)
    assert found["one"].state == "cancelled"
    assert (found["child"].state, found["child"].reason) == ("blocked", "'one' cancelled")
    assert found["two"].state == "running"
    assert "two" in cluster.cancel(tmp_path, {"one", "two", "child", "more"})
    assert states_when(tmp_path, settled)["two"].state == "cancelled"


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path, states_when: StatesWhen) -> None:
    notes = tmp_path / "notes"
    job = cluster.submit(Graph([task("a", "second_time_lucky", notes=str(notes))]), folder=tmp_path).jobs["a"]
    states_when(tmp_path, lambda _: notes.exists())
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    found = states_when(tmp_path, lambda found: found["a"].state == "done")
    outcome = found["a"].outcome
    assert outcome is not None
    assert (outcome.value, outcome.job) == ("first second", job)


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_jobs_of_a_submission_that_died_are_found_and_cancelled(tmp_path: Path, states_when: StatesWhen) -> None:
    graph = Graph([task("a", "add", a=1, b=2)])
    place = Folder(tmp_path)
    place.write_task(graph["a"])
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
def test_a_queued_job_runs_the_code_that_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states_when: StatesWhen
) -> None:
    tree, kept = tmp_path / "tree", tmp_path / "kept"
    for folder in (tree, kept):
        folder.mkdir()
        (folder / "edited.py").write_text("def tell():\n    return 'as submitted'\n")
    monkeypatch.setenv("PYTHONPATH", f"{tree}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.chdir(tree)
    graph, held = Graph([Task("a", "edited:tell", resources=SMALL)]), Profile(sbatch={"hold": True})
    job = cluster.submit(graph, folder=tmp_path / "run", profile=held, code=kept).jobs["a"]
    (state,) = of_folder(tmp_path / "run")
    assert (state.state, state.reason) == ("pending", "JobHeldUser")
    (tree / "edited.py").write_text("def tell():\n    return 'as edited'\n")
    subprocess.run(["scontrol", "release", job], check=True)
    outcome = states_when(tmp_path / "run", settled)["a"].outcome
    assert outcome is not None
    assert outcome.value == "as submitted"


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_task_that_always_runs_is_last_and_a_requeued_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states_when: StatesWhen
) -> None:
    notes = tmp_path / "notes"
    tasks = [
        task("lucky", "second_time_lucky", notes=str(notes)),
        task("bad", "fail", stage="x", message="no"),
        task("child", "add", "bad", a=1, b=2),
    ]
    last = Task("last", "jobs_for_tests:add", {"a": 1, "b": 2}, SMALL, ("lucky", "bad", "child"), always=True)
    jobs = cluster.submit(Graph([*tasks, last]), folder=tmp_path / "run").jobs
    states_when(tmp_path / "run", lambda _: notes.exists())
    subprocess.run(["scontrol", "requeue", jobs["lucky"]], check=True)
    found = states_when(tmp_path / "run", settled)
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
    assert [state.state for state in of_folder(tmp_path / "run")] == [state.state for state in found.values()]


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_several_processes_start_fail_and_are_queued_again_together(tmp_path: Path, states_when: StatesWhen) -> None:
    two, notes = Resources(ranks_per_node=2, memory_gb=0.1, minutes=2), tmp_path / "notes"
    for name in ("who", "bad"):
        (tmp_path / name).mkdir()
    tasks = [
        task("who", "who", resources=two, folder=str(tmp_path / "who")),
        task("bad", "one_of_them", stage="x", resources=two, marks=str(tmp_path / "bad"), deaths={"1": [0, "no luck"]}),
    ]
    cluster.submit(Graph(tasks), folder=tmp_path / "run")
    found = states_when(tmp_path / "run", settled)
    told = [json.loads((tmp_path / "who" / str(rank)).read_text()) for rank in (0, 1)]
    assert [each["reports"] for each in told] == [True, False]
    outcome = found["who"].outcome
    assert outcome is not None and outcome.value == "0"
    # The other one waited for it (300 s), and was ended.
    assert (found["bad"].state, found["bad"].reason) == ("failed", "rank 1 of 2: ValueError: no luck")

    again = Graph([task("again", "second_time_lucky", resources=two, notes=str(notes))])
    job = cluster.submit(again, folder=tmp_path / "run").jobs["again"]
    states_when(tmp_path / "run", lambda _: notes.exists())
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    found = states_when(tmp_path / "run", lambda found: not found["again"].live)
    assert (found["again"].state, found["again"].restarts) == ("done", 1)


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_who_takes_more_memory_than_it_asked_for_is_ended_and_said_to_have(
    tmp_path: Path, states_when: StatesWhen
) -> None:
    tasks = [task("greedy", "eat", megabytes=600), task("child", "add", "greedy", a=1, b=2)]
    cluster.submit(Graph([*tasks, task("modest", "add", a=1, b=2)]), folder=tmp_path)
    found = states_when(tmp_path, settled)
    assert (found["greedy"].state, found["child"].state, found["modest"].state) == ("failed", "blocked", "done")
    assert found["greedy"].reason.startswith("ran out of memory; last line of its log: ")
    assert found["child"].reason == "'greedy' failed"


@pytest.fixture
def drained(real_slurm: None) -> Iterator[Callable[[str], None]]:
    """Sets the state of all tasks; they are back whatever the test does."""

    def update(state: str) -> None:
        reason = ["reason=test"] if state == "drain" else []
        subprocess.run(["scontrol", "update", "nodename=ALL", f"state={state}", *reason], check=True)

    update("drain")
    yield update
    if "drain" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=True).stdout:
        update("resume")


@pytest.mark.slurm
def test_where_a_node_is_drained_jobs_wait_and_say_why_and_run_when_it_is_back(
    drained: Callable[[str], None], tmp_path: Path, states_when: StatesWhen
) -> None:
    tasks = [task("first", "add", a=1, b=2), task("second", "add", "first", stage="x", a=1, b=2)]
    cluster.submit(Graph(tasks), folder=tmp_path)
    found = states_when(tmp_path, lambda found: found["first"].reason not in ("None", "Priority", ""))
    assert (found["first"].state, found["second"].state) == ("pending", "pending")
    assert re.search("Resources|NodeNotAvail|Nodes.required|NodeDown", found["first"].reason), found["first"].reason
    drained("resume")
    found = states_when(tmp_path, settled)
    assert {state.state for state in found.values()} == {"done"} and not any(s.restarts for s in found.values())


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_retry_does_what_failed_and_what_waits_for_it_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], states_when: StatesWhen
) -> None:
    settings = Settings(workspace=tmp_path, executor="slurm")
    folder = Workspace(tmp_path).processes
    tasks = [task(f"t{i}", "add", stage="train", a=i, b=1) for i in range(2)]
    tasks += [task("t2", "second_try", stage="other", notes=str(tmp_path / "notes"))]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score", a=i, b=1) for i in range(3)]
    first = cluster.submit(Graph(tasks), folder=folder).jobs
    found = states_when(folder, settled)
    assert {key for key, state in found.items() if state.state != "done"} == {"t2", "e2"}
    assert cancel_retry.retry(settings, [], Views.none()) == 0
    assert re.search(r"^again: 2 \w+ \(t2, e2\)", capsys.readouterr().out, re.M)
    found = states_when(folder, settled)
    assert {state.state for state in found.values()} == {"done"}
    assert found["t2"].outcome is not None and found["t2"].outcome.value == "done at last"
    assert {key for key in first if found[key].job != first[key]} == {"t2", "e2"}
    assert cancel_retry.retry(settings, [], Views.none()) == 0
    assert "nothing to retry" in capsys.readouterr().out


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("real_slurm")
def test_settle_looks_and_submits_by_itself_until_its_claim_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path, states_when: StatesWhen
) -> None:
    """Its jobs are real, and in place of trainings they leave made-up records: see made_up_lab.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find_records, "every_claim", alone(find_records.every_claim))
    monkeypatch.setattr(find_records, "published_records", lambda: ([], []))  # which would decide the claim at once
    Path("patch").mkdir()
    Path("patch/sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parents[1])!r})\n"
        "import made_up_lab, repro.jobs\nfrom repro.results import find_records\n"
        "repro.jobs.run = made_up_lab.leave_records\n"
        "find_records.every_claim = made_up_lab.alone(find_records.every_claim)\n"
        "find_records.published_records = lambda: ([], [])\n"
    )
    Path("mine.toml").write_text(f"setup = ['export PYTHONPATH={tmp_path}/patch:$PYTHONPATH']\n")
    line = ["settle", CLAIM, "--budget", "2000h", "--executor", "slurm", "--cluster", "mine.toml"]
    assert main([*line, "--data-root", str(data_root)]) == 0
    place = Workspace(Path("repro-work"))
    found = states_when(place.processes, lambda found: len(found) >= 21 and settled(found), 900)
    looks = [state for state in found.values() if state.task.stage == "settle"]
    assert {state.state for state in found.values()} == {"done"} and len(looks) == 3
    assert "holds on mini (n = 7)" in looks[-1].log.read_text()
    assert len(list(place.records.glob("linear-*.json"))) == 14


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
    assert re.search(r"^ok +node: repro: .* from .*/repro-work/code/[0-9a-f]{16}$", out, re.M)
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
    end = time.monotonic() + 120
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states_when: StatesWhen
) -> None:
    tasks = [task("good", "add", a=1, b=2), task("bad", "fail", stage="x", message="no luck")]
    tasks += [task("child", "add", "bad", a=1, b=2), task("long", "nap", stage="y", seconds=300, notes=str(tmp_path))]
    cluster.submit(Graph(tasks), folder=tmp_path / "run")
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
    found = {state.key: state for state in of_folder(tmp_path / "run")}
    assert (found["good"].state, found["bad"].state, found["bad"].reason) == ("done", "failed", "ValueError: no luck")
    assert (found["child"].state, found["child"].reason) == ("blocked", "'bad' failed")


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("real_slurm")
def test_at_its_time_limit_a_job_goes_on_as_often_as_the_profile_allows(
    tmp_path: Path, states_when: StatesWhen
) -> None:
    """A limit of one minute, of which 15 s are for the last checkpoint."""
    short = Resources(memory_gb=0.1, minutes=1)
    again = task("a", "second_time_lucky", resources=short, notes=str(tmp_path / "notes"))
    never = task("b", "nap", resources=short, seconds=300, notes=str(tmp_path / "naps"))
    cluster.submit(Graph([again]), folder=tmp_path / "again")
    cluster.submit(Graph([never]), folder=tmp_path / "never", profile=Profile(requeues=0))
    (allowed,) = states_when(tmp_path / "again", settled).values()
    assert (allowed.state, allowed.restarts) == ("done", 1)
    assert allowed.outcome is not None and allowed.outcome.value == "first second"
    (refused,) = states_when(tmp_path / "never", settled).values()
    assert (refused.state, refused.restarts) == ("timeout", 0), refused


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_children_of_the_elements_that_have_not_ended_wait_each_for_its_own(
    tmp_path: Path, states_when: StatesWhen
) -> None:
    """Submitted when one of four has ended: their array has no element 0."""
    notes = str(tmp_path / "notes")
    tasks = [task("t0", "add", stage="train", a=0, b=1)]
    tasks += [task(f"t{i}", "nap", stage="train", seconds=10 + 2 * i, notes=notes) for i in (1, 2)]
    tasks += [task("t3", "fail", stage="train", message="no luck")]
    cluster.submit(Graph(tasks), folder=tmp_path)
    states_when(tmp_path, lambda found: found["t0"].state == "done" and found["t1"].live and found["t2"].live)
    children = [task(f"e{i}", "add", f"t{i}", stage="score", a=i, b=10) for i in (1, 2, 3)]
    done = cluster.submit(Graph([*tasks[1:3], tasks[3], *children]), folder=tmp_path)
    assert done.calls <= 3 and set(done.kept) >= {"t1", "t2"}  # t3, which failed, is queued anew, and e3 waits for it
    assert {scheduler.index_of(done.jobs[key]) for key in ("e1", "e2")} == {1, 2}
    found = states_when(tmp_path, settled)
    assert [found[key].state for key in ("e1", "e2", "e3")] == ["done", "done", "blocked"]
    for child, parent in (("e1", "t1"), ("e2", "t2")):
        begun, ended = found[child].outcome, found[parent].outcome
        assert begun is not None and ended is not None and begun.ended - begun.seconds >= ended.ended
