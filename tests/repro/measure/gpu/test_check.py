"""`repro gpu`: what is recorded and told of the parts, whatever becomes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.errors import UserError
from repro.measure.gpu import check, processes, stages, working
from repro.measure.gpu.part import Case, Figures, Found, Tell
from repro.measure.gpu.parts import PARTS, Part

pytestmark = pytest.mark.usefixtures("own_folder")

NAME = "Card of a test"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No part runs: what became of each, by its name; "done" where nothing is said. A part sees the file so far."""
    states: dict[str, str] = {}
    monkeypatch.setattr(check, "begin", lambda kind, threads, log: {"name": NAME})

    def one(name: str, case: Case, limit: float, threads: int, log: Path) -> dict[str, Any]:
        assert 0 < case.seconds < limit and threads >= 1
        seen = json.loads(Path("out/gpu.json").read_text()) if Path("out/gpu.json").exists() else {"parts": {}}
        figures = {"before": list(seen["parts"]), "small": case.small, "tests": list(case.tests)}
        return {"state": states.get(name, "done"), "seconds": 1.26, "line": f"of {name}", "figures": figures}

    monkeypatch.setattr(check, "one", one)
    return states


def test_every_part_is_recorded_as_soon_as_it_is_done(parts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("test_gpu.py").touch()
    assert main("gpu --output out --tests test_gpu.py".split()) == 0
    out = json.loads(Path("out/gpu.json").read_text())
    assert out["device"] == {"name": NAME} and list(out["parts"]) == list(PARTS)
    for number, told in enumerate(out["parts"].values()):
        assert told["figures"] == {"before": list(PARTS)[:number], "small": False, "tests": ["test_gpu.py"]}
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [f"{name} (1 s): of {name}" for name in PARTS]
    assert lines[-1] == f"7 of 7 parts as they must be on {NAME}; figures in out/gpu.json"


def test_a_part_that_fails_stops_no_other(parts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    parts |= {"agreement": "failed", "speed": "ended"}
    assert main("gpu --device cpu --output out".split()) == 1
    out = capsys.readouterr().out
    assert "agreement (1 s): FAILED: of agreement\n" in out
    assert "speed (1 s): FAILED: ended by its time limit; of speed\n" in out
    assert "training (1 s): of training\n" in out and "5 of 7 parts" in out
    kept = json.loads(Path("out/gpu.json").read_text())["parts"]
    assert [told["state"] for told in kept.values()].count("done") == 5 and kept["resume"]["figures"]["small"]


def test_the_place_of_the_figures(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main("gpu --part resume".split()) == 0 and Path("repro-work/gpu.json").is_file()
    monkeypatch.setenv("OUT", "elsewhere")
    assert main("gpu --part resume memory".split()) == 0
    assert list(json.loads(Path("elsewhere/gpu.json").read_text())["parts"]) == ["memory", "resume"]


@pytest.mark.parametrize(
    "words, told",
    [
        ("--device tpu", "unknown device 'tpu'"),
        ("--part agrement", "unknown part 'agrement'; did you mean 'agreement'?"),
        ("--minutes 0", "--minutes must be positive"),
        ("--minutes nan", "--minutes must be positive"),
        ("--minutes inf", "--minutes must be positive"),
        ("--tests no.py", "no test file no.py; fix --tests"),
    ],
)
def test_wrong_use_is_one_line(parts: Any, refused: Callable[[str], str], words: str, told: str) -> None:
    assert told in refused(f"gpu --output out {words}")


# ------------------------------------------------------------------------------------------------ in the process


def _good(case: Case, tell: Tell) -> Found:
    tell({"first": 1})
    return Found(True, "well", {"second": case.seconds})


def _bad(case: Case, tell: Tell) -> Found:
    return Found(False, "off", {})


def _raises(case: Case, tell: Tell) -> Found:
    tell({"first": 1})
    raise RuntimeError("CUDA error\nmore")


def _refuses(case: Case, tell: Tell) -> Found:
    raise UserError("no images")


def _leaves(case: Case, tell: Tell) -> Found:
    raise SystemExit("knn: it fails")


def _dies(case: Case, tell: Tell) -> Found:
    tell({"first": 1})
    raise KeyboardInterrupt


@pytest.fixture
def answer_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Any], Figures]:
    def answered(function: Any) -> Figures:
        monkeypatch.setitem(working.PARTS, "memory", Part("memory", f"{__name__}:{function.__name__}", 1))
        monkeypatch.setattr(working, "import_module", lambda name: __import__("types").SimpleNamespace(**globals()))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        file = tmp_path / "answer.json"
        working.work("memory", Case("cpu", True, 7.0, tmp_path), 1, file)
        found: Figures = json.loads(file.read_text())
        return found

    return answered


@pytest.mark.parametrize(
    "function, expected",
    [
        (_good, {"good": True, "line": "well", "figures": {"first": 1, "second": 7.0}}),
        (_bad, {"good": False, "line": "off", "figures": {}}),
        (_raises, {"good": False, "line": "RuntimeError: CUDA error", "figures": {"first": 1}}),
        (_refuses, {"good": False, "line": "no images", "figures": {}}),
        (_leaves, {"good": False, "line": "knn: it fails", "figures": {}}),
    ],
)
def test_what_a_part_leaves(answer_of: Any, function: Any, expected: Figures) -> None:
    assert answer_of(function) == expected


def test_what_a_part_had_found_when_it_was_ended_is_kept(answer_of: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        answer_of(_dies)
    assert json.loads((tmp_path / "answer.json").read_text()) == {"good": None, "line": "", "figures": {"first": 1}}


@pytest.mark.processes
@pytest.mark.seconds
def test_the_parts_are_processes_that_end_in_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main("gpu --device cpu --part stages --output out".split()) == 0
    assert "stages (" in (out := capsys.readouterr().out) and "left out: no files of tests are given" in out
    assert json.loads(Path("out/gpu.json").read_text())["device"]["name"].startswith("CPU (")
    looked = "import torch, pathlib; pathlib.Path('out/looked').write_text(str(torch.cuda._is_in_bad_fork()))"
    processes.start(Path("out/gpu.log"), exec, looked).join()
    assert Path("out/looked").read_text() == "False"  # else torch refuses the GPU to every part
    case = Case("cpu", True, 60.0, tmp_path)
    told = check.one("agreement", case, 0.0, 1, Path("out/gpu.log"))
    assert told["state"] == "ended" and told["line"].startswith("after 0 s") and told["seconds"] < 30


# ------------------------------------------------------------------------------------------------ the stages' tests


def test_what_pytest_said_is_counted() -> None:
    good = stages.judge("....\n31 passed, 2 skipped in 4.1s\n", 0, False)
    assert good.good and good.line == "31 passed, 2 skipped" and good.figures["counts"] == {"passed": 31, "skipped": 2}
    bad = stages.judge("FAILED tests/test_a_gpu.py::test_x - Boom\n1 failed, 30 passed in 4.1s\n", 1, False)
    assert not bad.good and bad.line == "1 failed, 30 passed; tests/test_a_gpu.py::test_x"
    late = stages.judge("!!!! KeyboardInterrupt !!!!\n12 passed in 60.0s\n", 2, True)
    assert late.good and late.line == "12 passed; stopped when its time was up" and late.figures["stopped"]
    none = stages.judge("138 deselected in 33.24s\n", 2, late=True)
    assert not none.good and none.line.endswith("before a first test had ended; allow more with --minutes")
    assert not stages.judge("FAILED a::b\n1 failed, 3 passed in 60.0s\n", 2, True).good
    assert not stages.judge("2 skipped in 0.1s\n", 0, False).good  # nothing was tested
    assert not stages.judge("no tests ran in 0.01s\n", 5, False).good


@pytest.mark.processes
@pytest.mark.seconds
def test_pytest_runs_on_the_real_device(tmp_path: Path) -> None:
    file = tmp_path / "test_one_gpu.py"
    file.write_text("import os\ndef test_real(): assert os.environ.get('REPRO_GPU') == 'real'\n")
    real = stages.run(Case("cuda", False, 60.0, tmp_path, tests=(str(file),)), lambda figures: None)
    assert real.good and real.line == "1 passed"
    pretended = stages.run(Case("cpu", True, 60.0, tmp_path, tests=(str(file),)), lambda figures: None)
    assert not pretended.good and pretended.line.startswith("1 failed; ") and "test_real" in pretended.line
