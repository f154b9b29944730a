"""Many writers on one folder, a full disk, a folder that may not be written to: nothing is lost, doubled or damaged."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from repro import jobs
from repro.cli.dispatch import main
from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.request import Request
from repro.results import boards
from repro.settings import Settings
from repro.store import checkpoints, records
from slurm.files import write_atomic
from slurm.folder import Folder, Outcome
from slurm.graph import Task
from slurm.journal import Journal

pytestmark = pytest.mark.processes

RECORD = {
    "schema": 1,
    "kind": "knn",
    "method": "aps",
    "variant": "",
    "track": "embedded",
    "seed": 0,
    "metrics": {"top1": 50.0},
    "cost": {},
    "provenance": {"notes": "x" * 20_000},
}
PROCESSES, THREADS = 8, 25
WRITER = f"""
import hashlib, json, os, sys, threading, time
from pathlib import Path
from repro.store import records
from slurm.folder import Folder, Outcome
from slurm.graph import Task
from slurm.journal import Journal

root, number, record = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.stdin.read())
place, won = Folder(root / "processes"), []
tasks = [Task(f"n{{i}}-{{'x' * 150}}", "a:b") for i in range(100)]  # a line of the journal longer than any buffer

def finish(me):
    mark = hashlib.sha256(str(me).encode()).hexdigest()
    while not (root / "go").exists():
        time.sleep(0.005)
    won.append(records.write(root / "records", {{**record, "fingerprint": mark}})[1])
    won.append(records.write(root / "records", {{**record, "fingerprint": "f" * 64, "seed": 0}})[1])
    place.write_outcome(Outcome(f"job{{me}}", "done", value=me))
    place.write_outcome(Outcome("shared", "done", value="y" * 10_000))
    if me % 5 == 0:
        Journal(place).started(f"run{{me}}", tasks, "")

threads = [threading.Thread(target=finish, args=(number * {THREADS} + i,)) for i in range({THREADS})]
[t.start() for t in threads]
(root / f"ready{{number}}").touch()
[t.join() for t in threads]
assert not {{"torch", "numpy"}} & set(sys.modules)
print(sum(won))
"""


def test_of_200_jobs_that_finish_at_once_none_is_lost_and_none_counts_twice(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        writers = []
        for number in range(PROCESSES):
            command = [sys.executable, "-c", WRITER, str(tmp_path), str(number)]
            writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            assert writers[-1].stdin is not None
            writers[-1].stdin.write(json.dumps(RECORD))
            writers[-1].stdin.close()
        end = time.monotonic() + 120
        while len(list(tmp_path.glob("ready*"))) < PROCESSES:
            assert time.monotonic() < end
            time.sleep(0.05)
        (tmp_path / "go").touch()
        won = [int(writer.stdout.read()) for writer in writers if writer.stdout is not None]
        assert [writer.wait() for writer in writers] == [0] * PROCESSES
    finally:
        os.umask(umask)
    count = PROCESSES * THREADS
    assert sum(won) == count + 1  # of the one that all wrote, one counts
    found, faults = records.read_all(tmp_path / "records")
    assert not faults and len({record["fingerprint"] for record in found}) == len(found) == count + 1
    assert all(record["provenance"] == RECORD["provenance"] for record in found)
    place = Folder(tmp_path / "processes")
    assert {place.read_outcome(f"job{me}").value for me in range(count)} == set(range(count))  # type: ignore[union-attr]
    told = [json.loads(line) for line in place.journal.read_text().splitlines() if line]
    assert {entry["run"] for entry in told} == {f"run{me}" for me in range(0, count, 5)} and len(told) == count // 5
    left = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
    assert not left
    # Whoever shares the folder can read what others wrote.
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "records").iterdir()} == {0o644}


@pytest.mark.slow
def test_two_who_run_the_same_plan_share_the_work(tmp_path: Path) -> None:
    line = "run --method random byol --suite quick --executor local --cores 1 --set data.limit=200 pretrain.epochs=1"
    line += " pretrain.batch=32 network.width=8 linear.epochs=2 linear.low_shot_splits=2 knn.ks=[1,5]"
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "repro", *line.split()], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=500)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert all(re.search(r"knn +byol", text) and re.search(r"linear +random", text) for text in said)
    place = tmp_path / "repro-work"
    assert len(list((place / "records").glob("*.json"))) == 8
    wrote = "".join(path.read_text() for path in (place / "processes" / "logs").iterdir())
    assert len(re.findall(r": wrote ", wrote)) == 8 and "was already in" not in wrote  # each job was done once


# ------------------------------------------------------------------------------------------- no room, or no right to


def full(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_damages_nothing_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, other = "a" * 64, "b" * 64
    records.write(tmp_path / "records", {**RECORD, "fingerprint": mark})
    write_atomic(tmp_path / "board.md", "whole")
    checkpoints.save(tmp_path / "training.pt", {"form": "test", "step": 1})
    place, task = Folder(tmp_path / "processes"), Task("a", "b:c")
    place.write_outcome(Outcome("a", "done", value=1))
    Journal(place).started("first", [task], "")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: records.write(tmp_path / "records", {**RECORD, "fingerprint": other}),
        lambda: write_atomic(tmp_path / "board.md", "half"),
        lambda: place.write_outcome(Outcome("a", "failed")),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    with pytest.raises(UserError, match=r"cannot write .*training.pt \(No space left on device\); free some space"):
        checkpoints.save(tmp_path / "training.pt", {"form": "test", "step": 2})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    assert checkpoints.load(tmp_path / "training.pt", "test")["step"] == 1
    # A line of the journal that was cut short hides none of the others.
    with place.journal.open("a") as file:
        file.write('\n{"event": "started", "ru')
    Journal(place).started("second", [task], "")
    assert Journal(place).entries["a"].run == "second"


def test_a_disk_that_is_full_from_the_start_is_one_line_and_status_2(tmp_path: Path) -> None:
    """By a limit on the size of files, which a process meets as it meets a full disk: in the middle of a write."""
    done = subprocess.run(
        [sys.executable, "-m", "repro", *"run --method random --suite quick --executor local".split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"repro: cannot write .*\(file too large\); what was finished is kept: .*\n", done.stderr)
    left = [path for path in (tmp_path / "repro-work").rglob("*") if path.is_file()]
    assert not left, left


NO_ROOM = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from repro.store import atomic, checkpoints
from repro.errors import UserError
from repro.stages.features import save_array

folder = Path(sys.argv[1])
def write(size):
    checkpoints.save(folder / "training.pt", {"form": "test", "w": torch.full((size,), 7.0)})
def write_many(size):
    state = {str(i): torch.full((1000,), 7.0) for i in range(size // 1000)}
    checkpoints.save(folder / "training.pt", {"form": "test", **state})
def write_features(size):
    save_array(folder / "train_x.npy", np.full(size, 7.0, np.float32))

write(100)
write_features(100)
with atomic.attempt(folder):
    write(200)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # Python ignores the signal that comes with it
for end in range(2):
    for write_it in (write, write_many, write_features):
        try:
            write_it(1_000_000)
        except UserError as error:
            print(error)
    if not end:
        atomic._attempts[folder] = atomic.fence.claim(folder / "attempts")
"""


def test_a_write_that_fails_in_the_middle_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    """torch and numpy raise errors of their own then, the second one without a number."""
    done = subprocess.run([sys.executable, "-c", NO_ROOM, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    line = "cannot write {} (File too large); free some space or choose another --workspace"
    names = ("training.pt", "training.pt", "train_x.npy")
    assert done.stdout.splitlines() == 2 * [line.format(tmp_path / name) for name in names]
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"training.pt", "training.pt.prev", "train_x.npy"}
    sizes = [len(checkpoints.load(tmp_path / name, "test")["w"]) for name in ("training.pt", "training.pt.prev")]
    assert sizes == [200, 100] and len(np.load(tmp_path / "train_x.npy")) == 100


def test_a_job_that_finds_no_room_says_so_in_one_line_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "settle", lambda count: None)
    settings = Settings(workspace=tmp_path / "work")
    (job,) = (job for job in make(Request(("random",), evaluations=("knn",)), settings).jobs if not job.parents)
    given = [job.to_json()]
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(
            SystemExit, match=r"^pretrain random seed 0: cannot write its files \(no space left on device"
        ):
            jobs.run(str(settings.workspace), given)
    assert "Traceback" not in capsys.readouterr().err and not list((settings.workspace / "records").iterdir())
    jobs.run(str(settings.workspace), given)
    assert len(records.read_all(settings.workspace / "records")[0]) == 1


def test_a_folder_that_may_not_be_written_to_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    records.write(work / "records", {**RECORD, "fingerprint": "a" * 64})
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}

    def refuse(path: Path, *_: Any) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(boards, "write_atomic", refuse)
    assert main(["report", "--workspace", str(work)]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"repro: cannot write .*work/boards/.* \(read-only file system\); what was .*\n", said)
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(boards, "write_atomic", lambda *_: 1 / 0)  # any other error keeps its origin
    with pytest.raises(ZeroDivisionError):
        main(["report", "--workspace", str(work)])
