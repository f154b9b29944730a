from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm import local
from slurm.files import holder
from slurm.folder import Folder
from slurm.graph import Graph, Resources, Task
from slurm.local import Event

pytestmark = pytest.mark.processes

HELPER = Path(__file__).parent / "jobs_for_tests.py"


def task(key: str, function: str, *after: str, resources: Resources | None = None, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources or Resources(memory_gb=0.1), after)


def run(folder: Path, *tasks: Task, **more: Any) -> dict[str, Any]:
    return local.run(Graph(tasks), folder=folder, **{"cores": 4, "memory_gb": 4.0, **more})


def most_at_once(notes: Path) -> int:
    """From the [start, end] that each job noted."""
    spans = [json.loads(line) for line in notes.read_text().splitlines()]
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120  # the processes of these tests would stay for 300
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def drive(folder: Path, *tasks: Task, grace: float = 10.0) -> subprocess.Popen[str]:
    """An executor in a process of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "graph.json").write_text(json.dumps([item.to_json() for item in tasks]))
    command = [sys.executable, str(HELPER), str(folder), str(folder / "graph.json"), str(grace)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_values_logs_costs_and_order(tmp_path: Path) -> None:
    events: list[Event] = []
    start = time.monotonic()
    outcomes = run(tmp_path, task("sum", "add", "a", a=1, b=2), task("a", "add", a=[1], b=[2]), on_event=events.append)
    assert {key: outcome.value for key, outcome in outcomes.items()} == {"a": [1, 2], "sum": 3}
    assert [(event.kind, event.key) for event in events] == [
        ("started", "a"),
        ("done", "a"),
        ("started", "sum"),
        ("done", "sum"),
    ]
    assert Path(outcomes["sum"].log).read_text() == "adding 1 and 2\n"
    assert 5 < outcomes["sum"].peak_memory_mb < 300
    assert 0 <= outcomes["sum"].seconds <= time.monotonic() - start


def test_as_many_at_once_as_there_are_cores(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    run(tmp_path, *(task(f"n{i}", "nap", seconds=1.2, notes=str(notes)) for i in range(4)), cores=2)
    assert most_at_once(notes) == 2


def test_as_many_at_once_as_memory_holds(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    wants = Resources(memory_gb=1.0)
    naps = (task(f"n{i}", "nap", resources=wants, seconds=1.2, notes=str(notes)) for i in range(3))
    run(tmp_path, *naps, memory_gb=2.5)
    assert most_at_once(notes) == 2


def test_a_job_larger_than_the_machine_has_it_for_itself(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    small = [task(f"n{i}", "nap", seconds=0.5, notes=str(notes)) for i in range(2)]
    large = task("large", "nap", resources=Resources(memory_gb=500), seconds=0.5, notes=str(notes))
    outcomes = run(tmp_path, small[0], large, small[1])
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    spans = sorted(json.loads(line) for line in notes.read_text().splitlines())
    (alone,) = [span for span in spans if sum(span[0] < e and s < span[1] for s, e in spans) == 1]
    assert alone is spans[-1] or alone is spans[0]


def test_threads_gpus_and_import_path_are_set_for_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder of our name in the working directory must not hide the package.
    (tmp_path / "here" / "slurm").mkdir(parents=True)
    (tmp_path / "here" / "slurm" / "__init__.py").write_text("raise SystemExit('wrong package')")
    monkeypatch.chdir(tmp_path / "here")
    outcomes = run(
        tmp_path / "run",
        task("two", "surroundings", resources=Resources(cpus=2, gpus=1, memory_gb=0.1)),
        task("many", "surroundings", resources=Resources(cpus=64, memory_gb=0.1)),
        gpus=["3", "5"],
    )
    same = {"cwd_on_path": False, "directory": str(tmp_path / "here")}
    assert outcomes["two"].value == {"threads": "2", "gpus": "3", **same}
    assert outcomes["many"].value == {"threads": "4", "gpus": "", **same}


def test_a_failure_blocks_its_descendants_only(tmp_path: Path) -> None:
    outcomes = run(
        tmp_path,
        task("bad", "fail", message="no such image"),
        task("child", "add", "bad", a=1, b=1),
        task("grandchild", "add", "child", "good", a=1, b=1),
        task("good", "add", a=1, b=1),
    )
    assert [(o.key, o.state) for o in sorted(outcomes.values(), key=lambda o: o.key)] == [
        ("bad", "failed"),
        ("child", "blocked"),
        ("good", "done"),
        ("grandchild", "blocked"),
    ]
    assert outcomes["bad"].reason == "ValueError: no such image"
    assert outcomes["child"].reason == outcomes["grandchild"].reason == "'bad' failed"
    assert "Traceback" in Path(outcomes["bad"].log).read_text()


def test_deaths_without_a_word_are_told_apart(tmp_path: Path) -> None:
    # An outcome of an earlier life must not be taken for one of this.
    run(tmp_path, task("dead", "add", a=1, b=1))
    outcomes = run(
        tmp_path,
        task("dead", "die"),
        task("mute", "quit_without_a_word"),
        task("odd", "not_json"),
        task("lost", "no_such_function"),
        task("gone", "add", a=1, b=1, c=2),
    )
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    reasons = {key: outcome.reason for key, outcome in outcomes.items()}
    assert reasons["dead"] == "killed by signal 9: out of memory?; last line of its log: allocating far too much"
    assert reasons["mute"] == "ended with exit status 3 and left no result"
    assert reasons["odd"].startswith("TypeError: jobs_for_tests:not_json must return plain JSON")
    assert "no_such_function" in reasons["lost"]
    assert "unexpected keyword argument 'c'" in reasons["gone"]


def test_progress_reaches_the_caller(tmp_path: Path) -> None:
    events: list[Event] = []
    for _ in range(2):  # the second run must not show what the first one left
        events.clear()
        run(tmp_path, task("counter", "count", total=4), on_event=events.append)
        reports = [event.progress for event in events if event.progress]
        steps = [report.done for report in reports]
        assert steps == sorted(steps)
        assert steps[0] < 4
        assert (steps[-1], reports[-1].total, reports[-1].info) == (4, 4, {"loss": 1.0})


def test_a_task_that_runs_longer_than_its_limit_is_ended_and_has_failed(tmp_path: Path) -> None:
    pids, limits = tmp_path / "pids", {}

    def heed(event: Event) -> None:
        if event.kind == "started" and event.key == "long":
            limits["long"] = 1.5

    tasks = [task("long", "wait_with_child", pids=str(pids)), task("child", "add", "long", a=1, b=1)]
    outcomes = run(tmp_path, *tasks, task("other", "count", total=10), limits=limits, on_event=heed)
    assert (outcomes["long"].state, outcomes["child"].state, outcomes["other"].state) == ("failed", "blocked", "done")
    assert outcomes["long"].reason.startswith("reached its time limit of 2 s")
    assert not pids.exists() or Path(f"{pids}.farewell").exists(), "it was asked to end"


def test_kill_9_of_a_child_leaves_the_others_and_none_of_its_own(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    killed: list[int] = []

    def kill(event: Event) -> None:
        if not killed and event.progress and event.progress.done:
            killed.append(int(pids.read_text().split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    outcomes = run(
        tmp_path, task("victim", "wait_with_child", pids=str(pids)), task("other", "count", total=8), on_event=kill
    )
    assert outcomes["victim"].reason.startswith("killed by signal 9")
    assert outcomes["other"].state == "done"
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.parametrize("polite", [True, False])
def test_ctrl_c_ends_the_children_and_is_raised_again(tmp_path: Path, polite: bool) -> None:
    pids = tmp_path / "pids"
    waiting = task("waiting", "wait_with_child", pids=str(pids), polite=polite)
    grace = 3600 if polite else 1  # not waited for where the children end when they are asked to
    executor = drive(tmp_path / "run", waiting, grace=grace)
    wait_until(pids.exists)
    start = time.monotonic()
    executor.send_signal(signal.SIGINT)
    _, errors = executor.communicate(timeout=240)
    assert "KeyboardInterrupt" in errors
    assert executor.returncode == -signal.SIGINT
    assert polite or time.monotonic() - start > grace
    assert Path(f"{pids}.farewell").exists() == polite
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_kill_9_of_the_executor_takes_everything_along(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    executor = drive(tmp_path / "run", task("waiting", "wait_with_child", pids=str(pids), polite=False))
    wait_until(pids.exists)
    assert all(alive(int(pid)) for pid in pids.read_text().split())
    executor.kill()
    executor.communicate()
    wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_two_executors_on_one_folder_run_a_task_once_and_share_its_result(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tasks = [task("shared", "nap", seconds=2.5, notes=str(notes)), task("next", "add", "shared", a=1, b=2)]
    executors = [drive(tmp_path / "run", *tasks) for _ in range(2)]
    outputs = [executor.communicate(timeout=240)[0].splitlines() for executor in executors]
    assert len(notes.read_text().splitlines()) == 1
    assert [json.loads(lines[-1]) for lines in outputs] == [{"shared": None, "next": 3}] * 2
    assert sum("elsewhere" in lines for lines in outputs) >= 1


def test_other_work_under_the_same_key_waits_for_its_turn(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    executor = drive(tmp_path / "run", task("same", "nap", seconds=1.5, notes=str(notes)))
    assert executor.stdout is not None
    assert executor.stdout.readline() == "started\n"
    lock = Folder(tmp_path / "run").lock("same")
    wait_until(lock.exists)
    time.sleep(0.2)
    outcomes = run(tmp_path / "run", task("same", "nap", seconds=0.1, notes=str(notes)))
    executor.communicate(timeout=240)
    assert outcomes["same"].state == "done"
    first, second = [json.loads(line) for line in notes.read_text().splitlines()]
    assert second[0] >= first[1]
    assert second[1] - second[0] < first[1] - first[0], "it slept the shorter time"


def test_what_the_caller_raises_ends_the_run(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def stop(event: Event) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(tmp_path, task("waiting", "wait_with_child", pids=str(pids)), on_event=stop, grace=2)
    assert not pids.exists() or not any(alive(int(pid)) for pid in pids.read_text().split())


def test_a_tasks_several_ranks_are_told_who_they_are(tmp_path: Path) -> None:
    wants = Resources(cpus=2, gpus=1, nodes=2, ranks_per_node=1, memory_gb=0.1)
    outcomes = run(tmp_path, task("two", "who", resources=wants, folder=str(tmp_path)), gpus=["3", "5", "6"])
    assert (outcomes["two"].state, outcomes["two"].value) == ("done", "0")
    told = [json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1)]
    assert told[0].pop("port") == told[1].pop("port") != ""
    same = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "2"}
    assert told == [
        {**same, "RANK": rank, "LOCAL_RANK": rank, "CUDA_VISIBLE_DEVICES": gpu, "reports": rank == "0"}
        for rank, gpu in (("0", "3"), ("1", "5"))
    ]
    with pytest.raises(ValueError, match="2 ranks need 1 GPU each, but this machine has 1: use fewer"):
        run(tmp_path, task("two", "who", resources=wants, folder=str(tmp_path)), gpus=["3"])


@pytest.mark.parametrize(
    ("how", "reason"),
    [("no luck", "rank 1 of 2: ValueError: no luck"), ("kill", "rank 1 of 2 killed by signal 9: out of memory?")],
)
def test_one_of_several_ranks_that_dies_ends_the_task(tmp_path: Path, how: str, reason: str) -> None:
    wants = Resources(ranks_per_node=2, memory_gb=0.1)
    outcomes = run(
        tmp_path / "run", task("a", "one_of_them", resources=wants, marks=str(tmp_path), deaths={"1": [0, how]})
    )
    assert (outcomes["a"].state, outcomes["a"].reason) == ("failed", reason)
    assert not any(alive(int((tmp_path / rank).read_text())) for rank in "01")


@pytest.mark.parametrize("how", ["cancel", "kill -9"])
def test_what_ends_a_task_reaches_all_its_ranks(tmp_path: Path, how: str) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    waiting = task(
        "a", "one_of_them", resources=Resources(ranks_per_node=2, memory_gb=0.1), marks=str(marks), deaths={}
    )
    executor = drive(tmp_path / "run", waiting)
    wait_until(lambda: (marks / "0").exists() and (marks / "1").exists())
    if how == "cancel":
        local.cancel(tmp_path / "run", ["a"])
        executor.communicate(timeout=240)
        outcome = Folder(tmp_path / "run").read_outcome("a")
        assert outcome is not None and outcome.state == "cancelled"
        assert {path.name for path in marks.iterdir()} == {"0", "1", "0.farewell", "1.farewell"}
    else:
        executor.kill()
        executor.communicate()
    wait_until(lambda: not any(alive(int((marks / rank).read_text())) for rank in "01"))


def test_a_task_that_fails_by_a_file_in_pythons_place_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "wave.py").write_text("x = 1")
    paths = [str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    outcome = run(tmp_path / "run", task("sound", "open_a_sound"))["sound"]
    assert outcome.reason.startswith(
        f"{tmp_path / 'path' / 'wave.py'} is imported in place of the module 'wave': rename"
    )


def test_a_name_that_is_no_text_and_a_locale_of_ascii_end_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    outcome = run(tmp_path, task("a", "say", words=["é", "\udce9"]))["a"]
    assert (outcome.state, outcome.value) == ("done", ["é", "\udce9"])
    assert Path(outcome.log).read_bytes() == b"\xc3\xa9\n\\udce9\n"


def test_a_task_in_which_nothing_moves_is_ended_and_says_what_it_last_did(tmp_path: Path) -> None:
    outcomes = run(
        tmp_path,
        task("hangs", "wait_for_nobody"),
        task("ranks", "wait_for_nobody", resources=Resources(ranks_per_node=2, memory_gb=0.1)),
        task("child", "add", "hangs", a=1, b=1),
        patience=3.0,
    )
    said = "no progress for 3 s (no step, no output, no work of its processes), so it was stopped; "
    said += "its last step: 3 of 20 of knn; last line of its log: waiting for a word"
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        "hangs": "failed",
        "ranks": "failed",
        "child": "blocked",
    }
    assert outcomes["hangs"].reason == outcomes["ranks"].reason == said
    assert "in wait_for_nobody" in Path(outcomes["hangs"].log).read_text()  # where it hung


def test_a_long_silent_computation_is_no_hang(tmp_path: Path) -> None:
    outcome = run(tmp_path, task("silent", "compute_in_silence", seconds=2.5), patience=2.0)["silent"]
    assert (outcome.state, outcome.value) == ("done", "computed")


def test_who_was_stopped_does_not_hang(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "a.lock"

    def stop(event: Event) -> None:
        if event.kind == "progress" and event.progress and event.progress.done == 0:
            worker = holder(lock)
            assert worker is not None
            os.kill(worker, signal.SIGSTOP)
            threading.Timer(3.0, os.kill, (worker, signal.SIGCONT)).start()

    outcome = run(tmp_path, task("a", "count", total=4), patience=2.0, on_event=stop)["a"]
    assert outcome.state == "done", outcome.reason


def test_a_clock_that_goes_back_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = time.time() + 3600
    monkeypatch.setattr(local.time, "time", lambda: ahead)  # ours was an hour ahead when the task began
    outcomes = run(tmp_path, task("a", "add", a=1, b=2), task("b", "add", "a", a=3, b=4))
    assert {key: (outcome.state, outcome.value) for key, outcome in outcomes.items()} == {
        "a": ("done", 3),
        "b": ("done", 7),
    }
