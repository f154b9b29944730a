"""`repro run` from the command to the boards, on small settings but with nothing replaced."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from repro import jobs, load
from repro.cli.dispatch import main
from repro.errors import Stopped
from repro.plan.builder import make
from repro.plan.request import Request
from repro.results.end_of_run import finish
from repro.settings import Settings
from repro.store import checkpoints
from repro.store.encoder_file import ENCODER
from repro.store.workspace import Workspace
from slurm import scheduler

pytestmark = [pytest.mark.processes, pytest.mark.trains, pytest.mark.usefixtures("own_folder")]

SMALL = (
    "--executor local --set pretrain.epochs=1 pretrain.batch=32 pretrain.warmup_epochs=0 network.depth=1 network.dim=24"
    " data.limit=200 linear.epochs=2 linear.low_shot_splits=2 knn.ks=[1,5]"
).split()


def records() -> dict[str, dict[str, object]]:
    found = [json.loads(path.read_text()) for path in sorted(Path("repro-work/records").glob("*.json"))]
    return {f"{r['kind']} {r['method']} {r['seed']}": r for r in found}


def test_a_quick_run_leaves_records_boards_and_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["run", "--method", "aps", "random:vit", "--suite", "quick", *SMALL]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert re.search(r"knn +aps", out) and re.search(r"linear +random", out) and "comparable with the papers: no" in out
    assert re.search(r"knn +aps +0 +top1 [\d.]+ +[\d.]+ \([+-][\d.]+\)", out)  # beside the network untrained
    assert "--method random:pixels" in out  # the command that makes what is missing
    left = records()
    assert set(left) == {f"{k} {m} 0" for k in ("pretrain", "features", "knn", "linear") for m in ("aps", "random")}
    pretrain = left["pretrain aps 0"]
    assert pretrain["cost"]["updates"] == 6 * 2 and pretrain["cost"]["image_passes"] == 6 * 32  # type: ignore[index]
    assert pretrain["provenance"]["threads"] == 1 and pretrain["cost"]["flops"] > 0  # type: ignore[index]
    trained_by = [left[name]["provenance"].get("training_code") for name in ("pretrain aps 0", "pretrain random 0")]  # type: ignore[attr-defined]
    assert all(re.fullmatch("[0-9a-f]{16}", code) for code in trained_by) and len(set(trained_by)) == 2
    knn = left["knn aps 0"]
    assert "training_code" not in knn["provenance"]  # type: ignore[operator]
    assert knn["protocol"]["values"]["ks"] == [1, 5]  # type: ignore[index]
    assert knn["provenance"]["data"]["source"].startswith("MNIST digits")  # type: ignore[index]
    assert "aps" in Path("repro-work/boards/knn.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in Path("repro-work/records").iterdir()}
    assert main(line) == 0
    assert "everything was cached" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in Path("repro-work/records").iterdir()}

    loaded = load("aps", overrides=[o for o in SMALL[3:] if o.startswith(("pretrain", "network", "data"))])
    assert loaded.pretrained
    mark = str(pretrain["fingerprint"])[:16]
    weights = checkpoints.load(Path("repro-work/jobs") / mark / "encoder.pt", ENCODER)["weights"]
    assert all(torch.equal(value, weights[name]) for name, value in loaded.encoder.state_dict().items())
    assert loaded.encoder.features(torch.zeros(2, 3, 32, 32)).shape == (2, 24)


def test_two_protocols_of_one_evaluation_leave_a_record_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=Path("repro-work"))
    changes = [word for word in SMALL[3:] if not word.startswith("linear.low_shot")]
    changes += ["finetune.epochs=1", "finetune.batch=10", "finetune.schedule=update", "finetune.milestones=[]"]
    names = ("linear=embedded,swav_rot", "finetune=glnet_10pct")
    request = Request(("random:vit",), evaluations=("linear", "finetune"), protocols=names, overrides=(*changes,))
    made = make(request, settings)
    monkeypatch.setattr(jobs, "settle", lambda count: None)
    jobs.run("repro-work", [job.to_json() for job in made.jobs])
    finish([job.fingerprint for job in made.jobs], made.track, Workspace(settings.workspace))
    out = capsys.readouterr().out
    assert re.search(r"linear \(embedded\) +random:vit", out) and re.search(r"linear \(swav_rot\) +random:vit", out)
    found = [json.loads(path.read_text()) for path in Path("repro-work/records").glob("*.json")]
    by_name = {r["protocol"]["name"]: r for r in found if r["protocol"]["name"]}
    assert set(by_name) == {"embedded", "swav_rot", "glnet_10pct"}
    assert len({r["protocol"]["hash"] for r in by_name.values()}) == 3
    probe = by_name["swav_rot"]
    assert probe["details"]["size"] == [32, 32] and probe["protocol"]["values"]["epochs"] == 2
    assert probe["cost"]["image_passes"] == 2 * 200 + 1000 and probe["metrics"]["top1_best_on_test"] > 5
    assert by_name["glnet_10pct"]["details"]["n_train"] == 20
    assert "top1_10pct" in by_name["embedded"]["metrics"] and "top1_1pct" not in by_name["embedded"]["metrics"]
    board = Path("repro-work/boards/linear.md").read_text()
    assert "protocol embedded" in board and "protocol swav_rot" in board  # tables of their own
    assert not list(Path("repro-work/jobs").glob("*/linear.pt")), "nobody needs it once the record is written"


def test_who_is_stopped_waits_for_slurm_before_its_end_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status of its own would make the job a failed one, which SLURM does not queue again."""
    waited = []

    def stopped(task: object) -> None:
        raise Stopped

    monkeypatch.setattr(jobs, "stage_of", lambda kind: stopped)
    monkeypatch.setattr(jobs.worker, "await_the_end", lambda: waited.append(True))
    monkeypatch.setattr(jobs, "settle", lambda count: None)
    made = make(Request(("aps",), evaluations=("knn",)), Settings(workspace=tmp_path))
    with pytest.raises(SystemExit) as left:
        jobs.run(str(tmp_path), [made.jobs[0].to_json()])
    assert left.value.code == 143 and len(waited) == 1


def test_one_job_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["run", "--method", "aps", "random:vit", "--suite", "quick", *SMALL, "pretrain.lr=1e30"])
    out = capsys.readouterr().out
    assert status == 1
    assert re.search(r"failed: pretrain-aps\S+: .*the loss became .*\(log: ", out)
    assert re.search(r"blocked: frozen-aps", out)
    assert "linear random 0" in records() and "linear aps 0" not in records()


def test_killed_in_the_middle_and_run_again() -> None:
    line = [sys.executable, "-m", "repro", "run", "--method", "aps", "--eval", "knn", "finetune", *SMALL]
    line += ["finetune.epochs=200", "finetune.train_pictures=200"]
    running = subprocess.Popen(line, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while "knn aps 0" not in records() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running.poll() is None, "the fine-tuning should still be running"
        os.kill(running.pid, signal.SIGKILL)
    finally:
        running.wait()
    kept = {path: path.stat().st_mtime_ns for path in Path("repro-work/records").glob("*.json")}
    assert {"pretrain aps 0", "features aps 0", "knn aps 0"} <= set(records())
    deadline = time.monotonic() + 120
    while _workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _workers(), "a killed run leaves no process behind"
    line[-2] = "finetune.epochs=1"
    again = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 jobs" in again.stdout and "finetune aps 0" in records()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def _workers() -> list[str]:
    here = str(Path.cwd())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if "slurm.worker" in command and here in command:
            found.append(command)
    return found


def test_ctrl_c_says_what_is_kept_and_how_to_go_on() -> None:
    line = [sys.executable, "-m", "repro", "run", "--method", "aps", "--eval", "knn", *SMALL, "pretrain.epochs=500"]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(Path("repro-work/jobs").glob("*/log.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 130
    last = out.strip().splitlines()[-1]
    assert last.startswith("interrupted:") and "python -m repro run --method aps" in last
    assert list(Path("repro-work/jobs").glob("*/training.pt")), "the checkpoint of the interrupted training"


@pytest.mark.slurm
def test_the_same_graph_on_slurm(capsys: pytest.CaptureFixture[str]) -> None:
    if reason := scheduler.available():
        pytest.skip(f"{reason} (tests/slurm/cluster.sh starts one)")
    line = ["run", "--method", "random:vit", "--suite", "quick", *SMALL]
    line[line.index("local")] = "slurm"
    assert main(line) == 0
    assert "linear random 0" not in records(), "it waited for what it submitted"
    out = capsys.readouterr().out
    assert re.search(r"submitted 3 tasks to SLURM in 3 calls", out)
    deadline = time.monotonic() + 180
    while "linear random 0" not in records() and time.monotonic() < deadline:
        time.sleep(1)
    assert set(records()) == {f"{kind} random 0" for kind in ("pretrain", "features", "knn", "linear")}
    about = records()["linear random 0"]["provenance"]
    assert about["slurm"]["SLURM_JOB_ID"]  # type: ignore[index]
    assert Path("repro-work/code", about["snapshot"]).is_dir()  # type: ignore[index]
    assert main(["status", "--watch"]) == 0
    said = capsys.readouterr().out.rpartition("run ")[2]
    assert re.search(r"^random-vit-embedded-s0-\w+ +done +done$", said, re.M) and "4 records" in said
    collate = re.search(r"^(collate-\S+): done$", said, re.M)
    assert collate is not None
    assert main(["logs", collate[1]]) == 0
    told = capsys.readouterr().out
    assert "knn" in told and "4 of 4 jobs have their records" in told and "all 2 tasks are done" in told
    assert Path("repro-work/boards/knn.md").is_file()
    assert main(line) == 0
    assert "everything was cached" in capsys.readouterr().out


def test_own_pictures(miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    folder = miniature("folder", tmp_path / "mine")
    line = ["run", "--method", "supervised:vit", "--suite", "quick", "--data", str(folder), *SMALL]
    line = [word for word in line if not word.startswith("data.limit")] + ["pretrain.batch=4"]
    assert main(line) == 0, capsys.readouterr().out
    assert "mine" in json.dumps(records()["knn supervised 0"]["provenance"])
    capsys.readouterr()
    moved = folder.rename(tmp_path / "elsewhere")
    assert main([str(moved) if word == str(folder) else word for word in line]) == 0
    said = capsys.readouterr().out
    assert "everything was cached" in said
    assert "36 images of 4 classes (n01440764, n01443537, n01484850, ...) taken: 24 train (from train), 12 test" in said
