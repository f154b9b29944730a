from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm import cluster
from slurm.cluster import NodeState, Profile
from slurm.folder import Folder, Outcome
from slurm.graph import Graph, Node, Resources

SMALL = Resources(memory_gb=0.1, minutes=2)


def node(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Node:
    return Node(key, f"jobs_for_tests:{function}", args, resources, after, stage)


# ---- what is asked of SLURM, without one -------------------------------------------------------------------------


def batches(nodes: list[Node], jobs: dict[str, str]) -> list[tuple[list[str], str]]:
    return [([item.key for item in members], line) for members, line in cluster._batches(nodes, jobs)]


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


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that write down how they were called; sbatch counts from 101; the others say what NAME.answer holds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "squeue", "scancel", "scontrol", "sacct"):
        answer = f"cat {folder}/{name}.answer 2>/dev/null"
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{folder}/calls\n{answer} || true\n')
    (folder / "sbatch").write_text(
        f"""#!/bin/sh
echo sbatch "$@" >>{folder}/calls
[ -e {folder}/refuse ] && {{ echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1; }}
number=$((100 + $(grep -c ^sbatch {folder}/calls)))
cp "$1" {folder}/script$number
cp {tmp_path}/run/journal.jsonl {folder}/journal$number
echo Submitted batch job $number
"""
    )
    for file in folder.iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


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
    assert [entry["event"] for entry in before] == ["submitting", "submitted", "submitting"]
    assert list(before[-1]["nodes"]) == ["e0", "e1"]
    assert Folder(tmp_path / "run").log("e1").readlink() == Path("../submitit/102_1_0_log.out")


def test_a_refusal_is_one_line_and_leaves_a_journal_to_go_on_from(fake_slurm: Path, tmp_path: Path) -> None:
    (fake_slurm / "refuse").touch()
    graph = Graph([node("a", "add", a=1, b=2)])
    with pytest.raises(ValueError, match=r"^sbatch refused 'a\.[0-9a-f]{8}': AssocMaxSubmitJobLimit") as error:
        cluster.submit(graph, folder=tmp_path / "run")
    assert "\n" not in str(error.value)
    (state,) = cluster.status(tmp_path / "run")
    assert state.state == "unsubmitted"
    (fake_slurm / "refuse").unlink()
    assert cluster.submit(graph, folder=tmp_path / "run").jobs == {"a": "102"}


def test_a_journal_cut_short_is_read_to_the_last_whole_line(fake_slurm: Path, tmp_path: Path) -> None:
    graph = Graph([node("a", "add", a=1, b=2)])
    cluster.submit(graph, folder=tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])  # died while it wrote "submitted"
    assert [state.state for state in cluster.status(tmp_path / "run")] == ["unsubmitted"]
    cluster.submit(graph, folder=tmp_path / "run")
    # The jobs that may be left of the first attempt were looked for by name before the second one.
    assert re.search(r"squeue --me .*--name=a\.[0-9a-f]{8}", (fake_slurm / "calls").read_text())
    assert [state.job for state in cluster.status(tmp_path / "run")] == ["102"]


def test_without_slurm_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no `sbatch` on PATH: run this on a login node .* or use the local executor"):
        cluster.submit(Graph([node("a", "add")]), folder=tmp_path / "run")
    assert cluster.status(tmp_path / "run") == cluster.cancel(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("squeue", "sacct", "ended", "state", "reason"),
    [
        ("PENDING|Priority", "", None, "pending", "Priority"),
        ("REQUEUE_HOLD|BeginTime", "", "failed", "pending", "BeginTime"),
        ("COMPLETING|None", "", None, "running", "completing"),
        ("COMPLETED|None", "", "done", "done", ""),
        ("COMPLETED|None", "", None, "failed", "SLURM calls it COMPLETED, but it left no outcome; last line"),
        ("FAILED|NonZeroExitCode", "", "failed", "failed", "ValueError: why"),
        ("TIMEOUT|TimeLimit", "", None, "timeout", "reached its time limit; last line of its log: epoch 3"),
        ("TIMEOUT|TimeLimit", "", "done", "done", "its result is whole, though SLURM calls it TIMEOUT"),
        ("OUT_OF_MEMORY|OutOfMemory", "", None, "failed", "ran out of memory; last line of its log: epoch 3"),
        ("", "OUT_OF_MEMORY|None|2026-01-01T00:00:00", None, "failed", "ran out of memory"),
        ("", "CANCELLED by 1000|None|2026-01-01T00:00:00", None, "cancelled", ""),
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
        (fake_slurm / f"{name}.answer").write_text(f"101|{answer}\n" if answer else "")
    place = Folder(tmp_path / "run")
    place.log("a").resolve().write_text("epoch 2\nepoch 3\n")
    if ended:
        place.write_outcome(Outcome("a", ended, "ValueError: why", digest=only.digest, job="101"))
    (seen,) = cluster.status(tmp_path / "run")
    assert seen.state == state
    assert seen.reason.startswith(reason)
    # An outcome of another job of the same node, or of other work, is none of this one's.
    if ended == "done" and squeue.startswith("COMPLETED"):
        for other in ({"job": "100", "digest": only.digest}, {"job": "101", "digest": "0"}):
            place.write_outcome(Outcome("a", "done", **other))
            assert cluster.status(tmp_path / "run")[0].state == "failed"


def test_accounting_lists_elements_beside_the_range_they_left(fake_slurm: Path, tmp_path: Path) -> None:
    nodes = [node(f"t{i}", "add", stage="train", a=i, b=1) for i in range(3)]
    nodes += [node(f"e{i}", "add", f"t{i}", stage="score", a=i, b=1) for i in range(3)]
    cluster.submit(Graph(nodes), folder=tmp_path / "run")
    rows = ["101_[0-2%3]|CANCELLED|None|None", "101_0|FAILED|None|2026-01-01T00:00:00"]
    (fake_slurm / "sacct.answer").write_text("\n".join([*rows, "102_[0-2%3]|CANCELLED|None|None"]))
    states = cluster.status(tmp_path / "run")
    assert [state.state for state in states] == ["failed", "cancelled", "cancelled", "blocked", "blocked", "blocked"]
    assert [state.reason for state in states[3:]] == ["'t0' failed", "'t1' cancelled", "'t2' cancelled"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partitoin = "gpu"', "unknown key 'partitoin'; did you mean 'partition'?"),
        ("partition = 3", "partition = 3 must be a str"),
        ('setup = "module load"', "setup = 'module load' must be a list of strings"),
        ("time_scale = 0", "time_scale = 0 must be a float"),
        ("partition =", "not valid TOML"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        Profile.load(str(tmp_path / "p.toml"))


def test_profiles_by_name() -> None:
    assert Profile.load("default") == Profile()
    with pytest.raises(ValueError, match="no cluster profile 'defautl': name one of default"):
        Profile.load("defautl")


@pytest.mark.parametrize(
    ("ids", "jobs"),
    [("7", ["7"]), ("7_2", ["7_2"]), ("7_[0-2,5%4]", ["7_0", "7_1", "7_2", "7_5"]), ("7_[3]", ["7_3"])],
)
def test_abbreviated_job_numbers(ids: str, jobs: list[str]) -> None:
    assert cluster._expand(ids) == jobs


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
        states = {state.key: state for state in cluster.status(folder)}
        if true(states):
            return states
        assert time.monotonic() < end, states
        time.sleep(0.5)


def settled(states: dict[str, NodeState]) -> bool:
    return not any(state.live for state in states.values())


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

    states = states_when(tmp_path, settled)
    assert {key: state.state for key, state in states.items()} == {
        "data": "done",
        **{"t0": "done", "t1": "done", "t2": "failed"},
        **{"e0": "done", "e1": "done", "e2": "blocked"},
        **{"good": "done", "bad": "blocked", "dead": "failed"},
    }
    assert states["t2"].reason == "ValueError: no luck"
    assert states["e2"].reason == states["bad"].reason == "'t2' failed"
    assert re.fullmatch("failed; last line of its log: srun: error: .*Killed", states["dead"].reason)
    outcome = states["e1"].outcome
    assert outcome is not None
    assert (outcome.value, outcome.job) == (11, submission.jobs["e1"])
    assert "adding 1 and 10" in states["e1"].log.read_text()
    trained = states["t0"].outcome
    assert trained is not None
    assert (trained.value["threads"], trained.value["cwd_on_path"]) == ("1", False)

    # Once squeue has forgotten the jobs, accounting tells the same.
    ask = cluster._ask
    monkeypatch.setattr(cluster, "_ask", lambda command: "" if command[0] == "squeue" else ask(command))
    assert {state.key: (state.state, state.reason) for state in cluster.status(tmp_path)} == {
        key: (state.state, state.reason) for key, state in states.items()
    }


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
    states = states_when(tmp_path, lambda states: states["one"].state == states["two"].state == "running")
    assert (states["child"].state, states["child"].reason) == ("pending", "Dependency")

    again = cluster.submit(Graph([*nodes, node("more", "add", a=1, b=2)]), folder=tmp_path)
    assert (again.calls, set(again.kept)) == (1, {"one", "two", "child"})
    assert {key: again.jobs[key] for key in first.jobs} == first.jobs
    with pytest.raises(ValueError, match="'one' is queued with other settings: cancel that first"):
        cluster.submit(Graph([node("one", "nap", seconds=1, notes=notes)]), folder=tmp_path)

    subprocess.run(["scancel", first.jobs["one"]], check=True)
    states = states_when(tmp_path, lambda states: not states["child"].live and not states["one"].live)
    assert states["one"].state == "cancelled"
    assert (states["child"].state, states["child"].reason) == ("blocked", "'one' cancelled")
    assert states["two"].state == "running"
    assert "two" in cluster.cancel(tmp_path)
    assert states_when(tmp_path, settled)["two"].state == "cancelled"


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = cluster.submit(Graph([node("a", "second_time_lucky", notes=str(notes))]), folder=tmp_path).jobs["a"]
    states_when(tmp_path, lambda _: notes.exists())
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    states = states_when(tmp_path, lambda states: states["a"].state == "done")
    outcome = states["a"].outcome
    assert outcome is not None
    assert (outcome.value, outcome.job) == ("first second", job)


@pytest.mark.slurm
@pytest.mark.usefixtures("real_slurm")
def test_jobs_of_a_submission_that_died_are_found_and_cancelled(tmp_path: Path) -> None:
    graph = Graph([node("a", "add", a=1, b=2)])
    place = Folder(tmp_path)
    place.write_node(graph["a"])
    # As if death had come right after sbatch: the job is queued, its code is not in place, its number not noted.
    cluster._Journal(place).write(event="submitting", name="a.0rphan00", nodes={"a": graph["a"].digest})
    command = ["sbatch", "--parsable", "--hold", "--mem=50M", "--job-name=a.0rphan00", "--wrap=true", "-o", "/dev/null"]
    orphan = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    job = cluster.submit(graph, folder=tmp_path).jobs["a"]
    assert job != orphan
    assert cluster._scheduler({orphan})[orphan][0] == "CANCELLED"
    assert states_when(tmp_path, settled)["a"].state == "done"
