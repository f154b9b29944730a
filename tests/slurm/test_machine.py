"""What there is of a machine: by its control groups, and by what CUDA_VISIBLE_DEVICES says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from slurm import control_group, machine

GB = 2**30


def write(root: Path, **files: object) -> None:
    """Files of a control group: `memory_max=5` is written to memory.max."""
    root.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (root / name.replace("_", ".", 1)).write_text(f"{value}\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "self"


def test_the_smallest_limit_of_all_ancestors_counts(tmp_path: Path, own: Path) -> None:
    step = tmp_path / "system.slice/slurmstepd.scope/job_7/step_0"
    own.write_text("0::/system.slice/slurmstepd.scope/job_7/step_0/user\n")
    write(step / "user", memory_max="max", memory_current=GB, cpu_max="max 100000")
    write(step, memory_max=3 * GB, memory_current=2 * GB, cpu_max="250000 100000")
    write(step.parent, memory_max=20 * GB, memory_current=2 * GB, cpu_max="150000 100000")
    assert control_group.memory_left(tmp_path, own) == GB
    assert control_group.cores(tmp_path, own) == 1.5


def test_copies_of_files_count_as_free(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/\n")
    write(tmp_path, memory_max=3 * GB, memory_current=2 * GB, memory_stat=f"anon 5\ninactive_file {GB}\nfile 9")
    assert control_group.memory_left(tmp_path, own) == 2 * GB


def test_version_one_and_a_container_that_sees_only_its_own_group(tmp_path: Path, own: Path) -> None:
    own.write_text("9:memory:/docker/0123\n5:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n0::/../outside\n")
    (tmp_path / "memory").mkdir()
    for name, value in (("limit_in_bytes", 4 * GB), ("usage_in_bytes", GB)):
        (tmp_path / "memory" / f"memory.{name}").write_text(str(value))
    (tmp_path / "cpu,cpuacct").mkdir()
    for name, value in (("quota", 50_000), ("period", 100_000)):
        (tmp_path / "cpu,cpuacct" / f"cpu.cfs_{name}_us").write_text(str(value))
    assert control_group.memory_left(tmp_path, own) == 3 * GB
    assert control_group.cores(tmp_path, own) == 0.5


def test_no_limit_is_none(tmp_path: Path, own: Path) -> None:
    own.write_text("4:memory:/\n3:cpu:/\n0::/\n")
    assert control_group.memory_left(tmp_path, own) == math.inf
    write(tmp_path / "memory", memory_limit_in_bytes=0x7FFFFFFFFFFFF000, memory_usage_in_bytes=GB)
    write(tmp_path, memory_max="max", cpu_max="max 100000")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert control_group.memory_left(tmp_path, own) == math.inf
    assert control_group.cores(tmp_path, own) == math.inf
    assert control_group.memory_left(tmp_path / "none", tmp_path / "none") == math.inf


def test_more_taken_than_allowed_leaves_nothing(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/a\n")
    write(tmp_path / "a", memory_max=GB, memory_current=2 * GB)
    assert control_group.memory_left(tmp_path, own) == 0


def test_the_machine_is_no_larger_than_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)))
    for quota, cores in ((0.5, 1), (2.0, 2), (math.inf, 8), (64.0, 8)):
        monkeypatch.setattr(control_group, "cores", lambda quota=quota: quota)
        assert machine.cores_here() == cores
    monkeypatch.setattr(control_group, "memory_left", lambda: GB / 1024)
    assert machine.memory_gb_here() == pytest.approx(1 / 1024)


@pytest.mark.parametrize(
    ("visible", "usable"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("void", []),
        ("2,3", ["2", "3"]),
        (" 2 , 3", ["2", "3"]),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
        ("1,1", []),
        ("GPU-8932f937-d72c", ["GPU-8932f937-d72c"]),
        ("MIG-89c850dc,MIG-f2b5fbbd", ["MIG-89c850dc", "MIG-f2b5fbbd"]),
    ],
)
def test_gpus_are_counted_as_cuda_does(visible: str, usable: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(machine, "_listed", list)
    assert machine.gpus_here() == usable


def test_a_number_beyond_the_last_gpu_hides_what_follows() -> None:
    assert machine.usable("1,4,0", 2) == ["1"]


def test_a_divided_gpu_is_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-bbbb)
  MIG 3g.20gb     Device  1: (UUID: MIG-cccc)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-dddd)
"""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: type("Answer", (), {"stdout": answer}))
    assert machine.gpus_here() == ["MIG-bbbb", "MIG-cccc", "1"]
