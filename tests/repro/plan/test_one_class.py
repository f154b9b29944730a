"""Own pictures that leave nothing to judge on: refused with the plan, before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest

from repro.data.layouts.class_folders import read
from repro.errors import UserError
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings


def pictures(root: Path, folders: Iterable[str]) -> Path:
    """Four files in each folder: a plan decodes none."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            (root / folder / f"{i}.png").write_bytes(f"{folder} {i}".encode())
    return root


ONE_CLASS: dict[str, tuple[tuple[str, ...], str]] = {
    "images with labels beside": (("train/images", "valid/images"), r"one class \(images\).*; sort the images"),
    "one level too high": (("dataset/a", "dataset/b"), r"one class \(dataset\).*; give .*own/dataset if its folders"),
    "two levels too high": (("x/dataset/a", "x/dataset/b"), "give .*own/x/dataset if"),
    "a doubled folder": (("train/train/a", "train/train/b"), "give .*own/train/train if"),
    "a doubled folder of each split": (
        ("train/images/a", "train/images/b", "val/images/a", "val/images/b"),
        "deeper, in .*own/train/images and .*own/val/images; move them up",
    ),
    "a hidden class": ((".a", "b"), r"one class \(b\).*passed over: 1 hidden folder \(\.a\)"),
    "no class": (
        ("",),
        r"have no classes, .*; sort them into one folder per class; .*--eval detection segm",
    ),
    "one folder with folders": (("cat/new", "cat"), r"one class \(cat\), .*; sort the images"),
}


@pytest.mark.parametrize("case", ONE_CLASS)
def test_one_class_is_trained_on_and_never_judged(case: str, tmp_path: Path) -> None:
    folders, words = ONE_CLASS[case]
    request = Request(("random",), data=str(pictures(tmp_path / "own", folders)), evaluations=())
    settings = Settings(workspace=tmp_path / "w")
    assert [job.kind for job in make(request, settings).jobs] == ["pretrain"]
    for name in ("knn", "linear", "finetune"):
        with pytest.raises(UserError, match=words) as caught:
            make(dataclasses.replace(request, evaluations=(name,)), settings)
        assert f"nothing to evaluate {name} on" in str(caught.value) and "\n" not in str(caught.value)


DOUBLED = {
    "both splits": (
        ("training_set/training_set/a", "training_set/training_set/b", "test_set/test_set/a", "test_set/test_set/b"),
        "the classes are deeper, in .*own/training_set/training_set and .*own/test_set/test_set; move them up",
    ),
    "one split": (
        ("train/a", "train/b", "val/val/a", "val/val/b"),
        "the classes are deeper, in .*own/val/val; move them up",
    ),
}


@pytest.mark.parametrize("case", DOUBLED)
def test_classes_a_folder_too_deep_are_told(case: str, tmp_path: Path) -> None:
    folders, words = DOUBLED[case]
    with pytest.raises(UserError, match=words):
        read(pictures(tmp_path / "own", folders))
