from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm import cluster
from slurm.folder import Folder
from slurm.graph import Graph, Resources, Task
from slurm.profile import Profile
from slurm.status import of_folder

SMALL = Resources(memory_gb=0.1, minutes=2)


def task(key: str, function: str, *after: str, stage: str = "", resources: Resources = SMALL, **args: Any) -> Task:
    return Task(key, f"jobs_for_tests:{function}", args, resources, after, stage)


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
export PYTHONIOENCODING=utf-8:backslashreplace
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
    tasks = [task(f"t{i}", "add", stage="train", a=i, b=1) for i in range(2)]
    tasks += [task(f"e{i}", "add", f"t{i}", stage="score", resources=wants, a=i, b=1) for i in range(2)]
    done = cluster.submit(Graph(tasks), folder=tmp_path / "run", profile=Profile.load(str(profile)))

    assert done.jobs == {"t0": "101_0", "t1": "101_1", "e0": "102_0", "e1": "102_1"}
    assert (done.calls, done.kept) == (2, ())
    text = (fake_slurm / "script102").read_text()
    text = text.replace(str(tmp_path / "run"), "FOLDER").replace(sys.executable, "PYTHON")
    text = re.sub(r"(?<=PYTHONPATH=).*", "PATHS", re.sub(r"score\.[0-9a-f]{8}", "score.NAME", text))
    assert text == GOLDEN
    assert "dependency" not in (fake_slurm / "script101").read_text()
    # What was about to be submitted stood in the journal before sbatch ran, its number after.
    before = [json.loads(line) for line in (fake_slurm / "journal102").read_text().split("\n") if line]
    assert [entry["event"] for entry in before] == ["planned", "submitting", "submitted", "submitting"]
    assert list(before[-1]["nodes"]) == ["e0", "e1"]
    assert Folder(tmp_path / "run").log("e1").readlink() == Path("../submitit/102_1_0_log.out")


def test_what_a_profile_says_is_in_the_batch_file(fake_slurm: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'gpus_per_node = 2\nmax_minutes = 30\nscratch = "/scratch/$USER"\nsrun = ["--container-image=/i m.sqsh"]\n'
        'python = "apptainer exec /image.sif python"\n'
    )
    profile = Profile.load(str(file))
    long = task("a", "add", resources=Resources(gpus=2, minutes=600))
    cluster.submit(Graph([long]), folder=tmp_path / "run", profile=profile, code=tmp_path / "code")
    text = (fake_slurm / "script101").read_text()
    assert "#SBATCH --time=30\n" in text and "#SBATCH --gpus-per-node=2\n" in text
    assert 'export TMPDIR="/scratch/$USER"\nmkdir -p "$TMPDIR"\n' in text
    assert "'--container-image=/i m.sqsh' apptainer exec /image.sif python -u -m submitit" in text
    assert f"export PYTHONPATH={tmp_path}/code:" in text
    with pytest.raises(ValueError, match=r"a task wants 3 GPUs of one machine, .* gpus_per_node = 2"):
        cluster.submit(Graph([task("b", "add", resources=Resources(gpus=3))]), folder=tmp_path / "run", profile=profile)
    # Another day, without the file: the journal has it.
    file.unlink()
    assert Profile.from_json(of_folder(tmp_path / "run")[0].entry.profile, "journal") == profile


@pytest.mark.parametrize(
    ("minutes", "limit", "timeouts"), [(600, 30, 3 + 19), (601, 30, 3 + 20), (30, 30, 3), (600, 0, 3)]
)
def test_who_needs_more_than_the_limit_reaches_it_so_often(
    fake_slurm: Path, tmp_path: Path, minutes: int, limit: int, timeouts: int
) -> None:
    """What submitit counts down in the job, as it is written for it; profile.requeues is 3."""
    from submitit.core.utils import DelayedSubmission

    wants = Resources(minutes=minutes)
    cluster.submit(
        Graph([task("a", "add", resources=wants)]), folder=tmp_path / "run", profile=Profile(max_minutes=limit)
    )
    (pickled,) = (tmp_path / "run" / "submitit").glob("*_submitted.pkl")
    assert DelayedSubmission.load(pickled)._timeout_countdown == timeouts


def test_the_ranks_of_a_task_over_machines_with_few_gpus(fake_slurm: Path, tmp_path: Path) -> None:
    wants = Resources(cpus=8, gpus=1, ranks_per_node=6, memory_gb=10.0)
    four = Profile(gpus_per_node=4)
    cluster.submit(Graph([task("a", "add", resources=wants)]), folder=tmp_path / "run", profile=four)
    text = (fake_slurm / "script101").read_text()
    for option in ("nodes=2", "ntasks-per-node=3", "cpus-per-task=8", "gpus-per-node=3", "mem=30720M"):
        assert f"#SBATCH --{option}\n" in text
    assert " --cpus-per-task=8 --cpu-bind=none --kill-on-bad-exit=1 " in text
    (state,) = of_folder(tmp_path / "run")
    assert (state.task.resources.nodes, state.task.resources.ranks_per_node) == (2, 3)  # what the ranks will read
    assert state.log.name == "a.log" and state.log.readlink() == Path("../submitit/101_0_log.out")
    # Nothing is spread that fits, or that no machine is known to be too small for.
    assert four.spread(Resources(gpus=2, nodes=3, ranks_per_node=2)) == Resources(gpus=2, nodes=3, ranks_per_node=2)
    assert Profile().spread(wants) == wants
    assert four.spread(Resources(gpus=1, ranks_per_node=7)) == Resources(gpus=1, nodes=7)
    # The scarcer of the two decides.
    both = Profile(gpus_per_node=4, cpus_per_node=16)
    assert both.spread(Resources(cpus=8, gpus=1, ranks_per_node=8)) == Resources(
        cpus=8, gpus=1, nodes=4, ranks_per_node=2
    )
    assert both.spread(Resources(cpus=2, gpus=1, ranks_per_node=8)) == Resources(
        cpus=2, gpus=1, nodes=2, ranks_per_node=4
    )
    assert both.spread(Resources(cpus=2, ranks_per_node=8)) == Resources(cpus=2, ranks_per_node=8)
    with pytest.raises(ValueError, match=r"wants 17 CPUs of one machine, and .* cpus_per_node = 16"):
        both.spread(Resources(cpus=17))


def test_patience_with_a_job_that_hangs_is_the_profiles(fake_slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("hang_minutes = 7.5\n")
    profile = Profile.load(str(tmp_path / "mine.toml"))
    cluster.submit(Graph([task("a", "add")]), folder=tmp_path / "run", profile=profile)
    assert "\nexport REPRO_HANG_MINUTES=7.5\n" in (fake_slurm / "script101").read_text()
