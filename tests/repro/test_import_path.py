"""Whatever lies in the working folder or on PYTHONPATH: our rooms are ours, and a file in the way is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import repro

pytestmark = pytest.mark.processes

HOME = Path(repro.__file__).parents[1]
PLAN = ("plan", "--method", "aps", "--suite", "quick", "--workspace", "w")


def python(folder: Path, *arguments: str, path: str = str(HOME)) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=surroundings | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A project of somebody else that has our rooms' names."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("eval", "slurm", "repro_"):
        (folder / f"{name}.py").write_text("raise SystemExit('a stranger')")
    for name in ("methods", "leaderboards"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('a stranger')")
    return folder


@pytest.mark.parametrize("start", [("-m", "repro"), ("-P", "-c", "from repro.__main__ import main; main()")])
def test_strangers_on_the_import_path(other: Path, tmp_path: Path, start: tuple[str, ...]) -> None:
    done = python(tmp_path / "here", *start, *PLAN, path=f"{other}{os.pathsep}{HOME}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pretrain" in done.stdout


def test_strangers_in_the_working_folder(other: Path) -> None:
    for name in ("random", "token", "typing", "pathlib", "torch", "numpy"):
        (other / f"{name}.py").write_text("raise SystemExit('a stranger')")
    done = python(other, "-m", "repro", *PLAN)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_imports_us_keeps_its_working_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("word = 'mine'")
    done = python(tmp_path, "-c", "import repro, mine; from eval import protocols; print(mine.word)")
    assert (done.returncode, done.stdout) == (0, "mine\n")


@pytest.mark.parametrize("text", ["x = 1", "import nothing_of_that_name", "x ="])
def test_a_file_that_hides_a_module_of_pythons_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "random.py").write_text(text)
    done = python(tmp_path / "here", "-m", "repro", *PLAN, path=f"{tmp_path}{os.pathsep}{HOME}")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"repro: {tmp_path / 'random.py'} is imported in place of the module 'random': rename"
    )
    assert done.stderr.count("\n") == 1


def test_a_file_that_hides_a_library_is_named_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("x = 1")
    line = ("run", "--method", "random", "--eval", "knn", "--executor", "local", "--workspace", "w")
    done = python(tmp_path / "here", "-m", "repro", *line, path=f"{tmp_path}{os.pathsep}{HOME}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"repro: {tmp_path / 'torch.py'} is imported in place of the module 'torch': rename")
    assert not (tmp_path / "here" / "w" / "processes").exists()


def test_an_error_of_ours_is_not_laid_on_a_file_that_had_no_part_in_it(tmp_path: Path) -> None:
    (tmp_path / "turtle.py").write_text("x = 1")
    program = "from repro.cli import dispatch, commands\ndispatch.COMMANDS = {'plan': lambda options: 1 / 0}\n"
    program += "from repro.__main__ import main; main()"
    done = python(tmp_path / "here", "-c", program, *PLAN, path=f"{tmp_path}{os.pathsep}{HOME}")
    assert "ZeroDivisionError" in done.stderr
