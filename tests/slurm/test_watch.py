"""A task in which nothing moves is ended; the local executor's part of it is in test_local.py."""

from __future__ import annotations

import multiprocessing.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from slurm import temporary, watch
from slurm.files import held_by, holder, lock_soon, try_lock
from slurm.folder import Folder
from slurm.graph import Resources, Task
from slurm.progress import Progress
from slurm.watch import Watch, _Signs

HERE = Path(__file__).parent


class Clock:
    """Time that passes where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def looked_at(monkeypatch: pytest.MonkeyPatch, clock: Clock, signs: list[_Signs]) -> list[bool]:
    """Whether a watch of a minute's patience finds that it hangs, at looks ten seconds apart."""
    every = iter([_Signs((), 0, 0.0, 0, False), *signs])
    monkeypatch.setattr(Watch, "_look", lambda self: next(every))
    mine, found = Watch(1, patience=60.0), []
    mine.every = 10.0
    for _ in signs:
        clock.now += 10
        found.append(mine.hangs())
    return found


def test_nothing_that_moves_for_a_minute_is_a_hang(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    assert looked_at(monkeypatch, clock, [_Signs((), 0, 0.0, 0, False)] * 7) == [False] * 5 + [True] * 2


@pytest.mark.parametrize(
    ("moves", "sign"),
    [
        (True, lambda look: _Signs((look // 5, 9, "knn"), 0, 0.0, 0, False)),  # a step in 50 s
        (True, lambda look: _Signs((), look // 5, 0.0, 0, False)),  # a character printed
        (True, lambda look: _Signs((), 0, 0.2 * look, 0, False)),  # 2 % of a core
        (False, lambda look: _Signs((), 0, 0.05 * look, 0, False)),  # 0.5 %: it only looks whether it may go on
        (True, lambda look: _Signs((), 0, 0.0, 200_000 * look, False)),  # 20 kB a second
        (False, lambda look: _Signs((), 0, 0.0, 50_000 * look, False)),
        (True, lambda look: _Signs((), 0, 0.0, 0, True)),  # stopped by somebody
        (True, lambda look: _Signs((), 0, float(look % 2), 0, False)),  # a process of it ended and took its count along
    ],
)
def test_what_counts_as_a_movement(moves: bool, sign: object, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    found = looked_at(monkeypatch, clock, [sign(look) for look in range(1, 13)])  # type: ignore[operator]
    assert any(found) is not moves


def test_time_in_which_the_watch_did_not_run_counts_little(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(Watch, "_look", lambda self: _Signs((), 0, 0.0, 0, False))
    mine = Watch(1, patience=60.0)
    clock.now += 3600  # the machine slept
    assert not mine.hangs() and mine.still == 2.0


def test_patience_of_zero_never_ends_anything(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(Watch, "_look", lambda self: _Signs((), 0, 0.0, 0, False))
    mine = Watch(1, patience=0.0)
    clock.now += 1e6
    assert not mine.hangs()


def test_the_words_name_the_last_step_and_the_last_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("loading\nwaiting\n")
    mine = Watch(os.getpid(), tmp_path / "log", tmp_path / "report.json", 1800.0)
    said = "no progress for 30 min (no step, no output, no work of its processes), so it was stopped; "
    assert mine.words() == said + "it reported no step; last line of its log: waiting"
    (tmp_path / "report.json").write_text('{"done": 7, "total": 9, "info": {"job": "linear"}}')
    assert mine.words() == said + "its last step: 7 of 9 of linear; last line of its log: waiting"
    assert Progress(7, 9) != mine


@pytest.mark.processes
@pytest.mark.parametrize("function", ["wait_for_nobody", "compute_in_silence"])
def test_a_job_of_slurms_watches_itself(tmp_path: Path, function: str) -> None:
    place = Folder(tmp_path)
    arguments = {"seconds": 2.5} if function == "compute_in_silence" else {}
    task = Task("a", f"jobs_for_tests:{function}", arguments, Resources(memory_gb=0.1))
    spec = place.write_task(task)
    program = f"from slurm.worker import Task; Task({str(spec)!r})()"
    surroundings = os.environ | {"SUBMITIT_EXECUTOR": "slurm", watch.VARIABLE: "0.03", "SLURM_JOB_ID": "7"}
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    with place.log("a").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=surroundings | {"PYTHONPATH": os.pathsep.join(paths)},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
    outcome = place.read_outcome("a")
    assert outcome is not None
    if function == "compute_in_silence":
        assert (done.returncode, outcome.state, outcome.value) == (0, "done", "computed")
        return
    assert (done.returncode, outcome.state, outcome.job) == (1, "failed", "7")
    assert outcome.reason.startswith("no progress for 1.8 s ")
    assert "in wait_for_nobody" in place.log("a").read_text()


def test_who_holds_a_lock_is_named(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert holder(tmp_path / "lock") == os.getpid()
    assert held_by(tmp_path / "lock") == f"process {os.getpid()}"
    os.close(lock)
    assert holder(tmp_path / "lock") is None


def test_a_lock_that_stays_locked_is_one_line_with_its_holder(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "journal")
    assert lock is not None
    with (tmp_path / "journal").open("ab") as file:
        with pytest.raises(ValueError, match=f"^process {os.getpid()} keeps .*journal locked: end it"):
            lock_soon(file.fileno(), tmp_path / "journal", patience=0.05)
        os.close(lock)
        lock_soon(file.fileno(), tmp_path / "journal", patience=0.05)


# ------------------------------------------------------------------------------------------------ temporary files


@pytest.fixture
def own_tempdir(monkeypatch: pytest.MonkeyPatch) -> None:
    """tempfile and multiprocessing forget where they put files, before the test and after it."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", None)


@pytest.mark.usefixtures("own_tempdir")
def test_sockets_get_a_short_folder_where_tmpdir_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 70) / ("y" * 70)
    long.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(long))
    assert temporary.settle() == ""
    temporary.shorten_sockets()
    assert tempfile.gettempdir() == str(long)  # files stay where they are wanted
    assert len(multiprocessing.util.get_temp_dir()) < 40
    from multiprocessing.connection import Listener

    Listener(family="AF_UNIX").close()  # "AF_UNIX path too long" otherwise


@pytest.mark.usefixtures("own_tempdir")
def test_a_tmpdir_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    assert temporary.settle() == f"TMPDIR={tmp_path / 'none'} cannot be written: temporary files go to /tmp"
    assert os.environ["TMPDIR"] == "/tmp"
    assert temporary.settle() == ""


@pytest.mark.usefixtures("own_tempdir")
def test_no_folder_for_temporary_files_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with pytest.raises(ValueError, match=r"^cannot write temporary files \(TMPDIR=.*none; /tmp and"):
        temporary.settle()


@pytest.mark.processes
def test_what_cannot_be_handed_on_ends_the_process_that_tried(tmp_path: Path) -> None:
    program = """
import multiprocessing
from slurm.process import end_when_a_queue_fails

class Stubborn:
    def __reduce__(self):
        raise OSError("AF_UNIX path too long")

def hand_on(queue):
    queue.put(Stubborn())
    queue.close()
    queue.join_thread()
    import time
    time.sleep(600)

end_when_a_queue_fails()
context = multiprocessing.get_context("fork")
process = context.Process(target=hand_on, args=(context.Queue(),))
process.start()
process.join()
print(process.exitcode)
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert (done.stdout, time.monotonic() - start < 300) == ("1\n", True)
    assert "AF_UNIX path too long" in done.stderr
    assert not [child for child in psutil.Process().children() if "hand_on" in " ".join(child.cmdline())]
