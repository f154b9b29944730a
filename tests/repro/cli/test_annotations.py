"""Annotation files that a user brings are checked before anything is computed, and what was mended is said once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.data import loading

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(miniature: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on a tiny COCO 2017: exit status, what it printed, its errors."""
    (tmp_path / "root").mkdir()
    miniature("coco2017", tmp_path / "root")

    def call(words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*words.split(), "--data-root", str(tmp_path / "root"), "--workspace", str(tmp_path / "work")])
        return status, *capsys.readouterr()

    return call


def edit(root: Path, **values: object) -> None:
    """Change the second object to judge by."""
    path = root / "root" / "coco2017" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1].update(values)
    path.write_text(json.dumps(content))


PLAN = "plan --method random --track imagenet100 --eval detection"


def test_prepare_says_what_it_mended(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("data prepare coco2017")
    assert status == 0 and out.startswith("checked, to be read from ") and out.count("\n") == 1
    edit(tmp_path, area=0)
    status, out, _ = run("data prepare coco2017")
    first, second = out.splitlines()
    assert status == 0 and second.startswith("checked")
    assert first == (
        "instances_val2017.json: 1 of 9 annotations (annotation 2 of '000000000001.jpg'): area missing, not positive or"
        " larger than the image; computed from the mask or the box"
    )


@pytest.mark.parametrize("words", [PLAN, "data prepare coco2017"])
def test_what_cannot_be_read_is_refused_before_any_work(run: Run, tmp_path: Path, words: str) -> None:
    edit(tmp_path, bbox=[float("nan"), 1, 2, 3])
    status, out, errors = run(words)
    assert (status, out) == (2, "") and errors.count("\n") == 1
    assert "instances_val2017.json: annotation 2 of '000000000001.jpg': its bbox [nan, 1, 2, 3] is not a list" in errors


def test_a_plan_checks_a_content_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = loading.coco_set
    monkeypatch.setattr(loading, "coco_set", lambda name, *a, **more: (read.append(name), whole(name, *a, **more))[1])
    for _ in range(2):
        status, out, _ = run(PLAN)
        assert status == 0 and "detection" in out
    assert read == ["coco2017"]
    edit(tmp_path, area=1)
    run(PLAN)
    assert read == ["coco2017"] * 2


def test_verify_checks_annotations_too(run: Run, tmp_path: Path) -> None:
    edit(tmp_path, iscrowd="perhaps")
    status, out, _ = run("data verify coco2017")
    assert status == 1 and "annotation 2 of '000000000001.jpg': its iscrowd is 'perhaps', not 0 or 1" in out
