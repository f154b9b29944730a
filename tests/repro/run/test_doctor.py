"""doctor: each thing that can be wrong is named with what mends it, and ends in status 1."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from repro.cli.dispatch import main
from repro.plan import tracks
from repro.run import doctor, doctor_cluster, doctor_workspace
from repro.run.doctor_findings import Finding

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the imports of a machine's own findings, which take seconds."""
    for module in (doctor, doctor_cluster):
        monkeypatch.setattr(module, "on_machine", lambda gpus: iter([Finding("ok", "GPUs", f"asked for {gpus}")]))


def test_a_laptop_is_looked_at_as_far_as_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--executor", "local"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for what in ("workspace", "python", "repro", "packages", "operators", "GPUs", "data", "disk", "SLURM"):
        assert any(re.match(rf"(ok|warning) +{what}: ", line) for line in lines), what
    import torch

    assert any(f"torch {torch.__version__}" in line for line in lines)
    assert "ok       SLURM: jobs run on this machine (--executor local)" in lines
    timeout = "a task on this machine without progress for 30 min is stopped (hang_minutes in repro.toml)"
    assert f"ok       timeout: {timeout}" in lines


@pytest.mark.usefixtures("light")
def test_what_is_missing_for_a_track_is_a_fault_with_its_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_workspace.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    assert main(["doctor", "--executor", "local", "--track", "imagenet", "--method", "aps", "--seed", "0", "1"]) == 1
    out = capsys.readouterr().out
    assert "ok       GPUs: asked for 1" in out
    assert re.search(r"^fault +data: ImageNet-1k \[imagenet\] is missing \(no data root is set", out, re.M)
    # 2 runs of 15 GB, and 1,281,167 pictures of 256 x 256 in three bytes.
    need = 2 * 15 + 1_281_167 * 3 * 256**2 / 2**30
    assert f"fault    disk: 1.0 GB free, 2 runs on imagenet need about {need:.1f} GB; free space in " in out


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (
            'partitoin = "x"',
            "fault    profile: cluster profile mine.toml: unknown key 'partitoin'; did you mean 'parti",
        ),
        ("", "fault    SLURM: no `sbatch` on PATH: run this on a login node of a SLURM cluster"),
    ],
)
def test_a_profile_that_was_named_must_be_of_use(
    profile: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    Path("mine.toml").write_text(profile)
    assert main(["doctor", "--cluster", "mine.toml"]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.processes
def test_a_room_from_elsewhere_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").touch()
    program = "import eval; from repro.run import doctor_machine; print(doctor_machine.rooms())"
    path = f"{tmp_path}{os.pathsep}{Path(doctor.__file__).parents[2]}"
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"fault    repro: 'eval' is imported from {tmp_path}, the others from ")


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("queue", "sacct", "line"),
    [
        (
            "101 FAILED 0 NonZeroExitCode",
            "x",
            r"fault +small job: job 101 failed: .*; read .*doctor.log; the profile's set",
        ),
        (
            "101 PENDING 0 Resources",
            "x",
            r"warning +small job: job 101 is still pending \(Resources\) after 0 s, cancelled",
        ),
        ("101 FAILED 0 None", "", r"warning +accounting: switched off; "),
    ],
)
def test_a_small_job_that_does_not_come_back(
    queue: str,
    sacct: str,
    line: str,
    fake_slurm: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor_cluster, "_WAIT", 0.2)
    monkeypatch.setattr(doctor_cluster, "_TICK", 0.05)
    (fake_slurm / "squeue.answer").write_text(queue + "\n")
    storage = "accounting_storage/slurmdbd" if sacct else "accounting_storage/none"
    (fake_slurm / "scontrol.answer").write_text(
        f"AccountingStorageType   = {storage}\nClusterName             = onenode\nMaxArraySize            = 1001\n"
    )
    status = main(["doctor"])
    out = capsys.readouterr().out
    assert re.search(f"^{line}", out, re.M), out
    assert status == (1 if "FAILED" in queue else 0)
    assert "ok       commands: sbatch, squeue, scancel, srun, scontrol and sacct on this machine" in out
    assert ("scancel --quiet 101" in (fake_slurm / "calls").read_text()) == ("PENDING" in queue)


@pytest.mark.usefixtures("light")
def test_what_the_partition_would_not_take_is_said_before_anything_is_queued(
    fake_slurm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_cluster, "_WAIT", 0.0)
    (fake_slurm / "scontrol.answer").write_text("MaxArraySize            = 1001\n")
    (fake_slurm / "squeue.answer").write_text("101 PENDING 0 Resources\n")
    Path("mine.toml").write_text('partition = "short"\ntime_scale = 2\n[sbatch]\nconstraint = "a100"\n')
    assert main(["doctor", "--cluster", "mine.toml"]) == 0
    asked = [line for line in (fake_slurm / "calls").read_text().splitlines() if line.startswith("test")]
    wants = tracks.find("embedded").resources
    assert len(asked) == len(set(wants.values()))  # those that want the same are asked for once
    for need in wants.values():
        options = f"--partition=short --time={2 * need.minutes} "
        mine = [line for line in asked if options in line and f"--cpus-per-task={need.cpus} " in line]
        assert mine and all(line.endswith("--constraint=a100 --wrap=true") for line in mine)
    assert re.search("^ok +limits: SLURM takes jobs such as pretrain", capsys.readouterr().out, re.M)
    said = "allocation failure: Requested time limit is invalid (missing or exceeds some limit)"
    (fake_slurm / "limits").write_text(f"{said}\n")
    assert main(["doctor", "--cluster", "mine.toml"]) == 1
    out = capsys.readouterr().out
    assert re.search(rf"^fault +limits: pretrain.*: `sbatch` failed: {re.escape(said)}; choose another part", out, re.M)


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("broken", ["flock", "link"])
def test_a_file_system_without_locks_or_links_is_a_fault_here_and_on_the_node(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl if broken == "flock" else os, broken, refuse)
    assert main(["doctor", "--executor", "local"]) == 1
    said = "cannot lock " if broken == "flock" else "no hard links in "
    assert re.search(rf"^fault +file system: {said}.*\(?Operation not supported", capsys.readouterr().out, re.M)
    (tmp_path / "from-here").write_text("token")
    found = doctor_cluster.on_node(str(tmp_path), "token", 0, None)["findings"]
    assert [item["level"] for item in found if item["what"] == "file system"] == ["fault"]
    assert not list(tmp_path.glob(".probe*"))


def test_a_node_that_cannot_write_or_lacks_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: None
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    found = doctor_cluster.on_node(str(tmp_path / "unseen"), "token", 2, str(tmp_path / "data"))["findings"]
    lines = [str(Finding(**item)) for item in found]
    assert any(
        re.match(r"fault +shared directory: cannot write to .*unseen .*; choose a --workspace", line) for line in lines
    )
    assert any(re.match(r"fault +data: no folder .*/data on the node; ", line) for line in lines)
    assert any(re.match(r"fault +scratch: .*absent is not writable; correct scratch", line) for line in lines)
    assert any(
        re.match(r"warning +commands: no scontrol on the node; a job that reaches its time", line) for line in lines
    )
    assert "ok       GPUs: asked for 2" in lines
    # Another folder of that name: writable, but not what the login node wrote.
    folder = tmp_path / "other"
    folder.mkdir()
    assert doctor_cluster.on_node(str(folder), "token", 0, None)["findings"][0]["level"] == "fault"
    (folder / "from-here").write_text("token")
    assert doctor_cluster.on_node(str(folder), "token", 0, None)["findings"][0]["level"] == "ok"
