"""Which pictures a track uses where there are several, and that a plan says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eval import splits
from repro.cli.dispatch import main
from repro.errors import UserError
from repro.plan import protocol_files, tracks
from repro.plan.builder import make
from repro.plan.kinds import evaluations
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.results.suite import suite
from repro.settings import Settings

Miniature = Callable[..., Path]


@pytest.fixture
def root(miniature: Miniature, tmp_path: Path) -> Path:
    """A data root with the JPEG copy alone."""
    miniature("cifar10-jpeg", tmp_path / "data")
    return tmp_path / "data"


def official(root: Path) -> None:
    """Put the unpacked official CIFAR-10 there, as far as a plan looks."""
    (root / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)


def planned(root: Path, *overrides: str) -> Plan:
    request = Request(("random",), "mini", ("knn",), overrides=overrides)
    return make(request, Settings(workspace=root.parent / "work", data_root=root))


def names(plan: Plan) -> set[str]:
    return {job.spec["data"]["name"] for job in plan.jobs if "data" in job.spec}


def test_the_official_pictures_are_used_where_they_are_and_the_copy_where_only_it_is(root: Path) -> None:
    alone = planned(root)
    assert names(alone) == {"cifar10-jpeg"}
    assert "since cifar10 was not found" in alone.choices[0].line(here=True)
    official(root)
    both = planned(root)
    assert names(both) == {"cifar10"}
    assert both.choices[0].line(here=True).startswith("images: CIFAR-10 [cifar10], preferred to cifar10-jpeg")
    assert not {job.fingerprint for job in alone.jobs} & {job.fingerprint for job in both.jobs}


def test_who_names_the_copy_gets_the_very_jobs_that_were_done_with_it(root: Path) -> None:
    alone = planned(root)
    official(root)
    named = planned(root, "data.classification=cifar10-jpeg")
    assert [job.fingerprint for job in named.jobs] == [job.fingerprint for job in alone.jobs]
    assert named.choices == ()


def test_where_neither_is_the_preferred_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    made = planned(tmp_path / "data")
    assert names(made) == {"cifar10"}
    assert all("get it: python -m repro data get mini (" in job.missing for job in made.jobs if "data" in job.spec)
    (line,) = (choice.line(choice.here) for choice in made.choices)
    assert line == "images: none of these was found: cifar10, cifar10-jpeg"


def test_a_track_without_a_choice_says_nothing_of_one(root: Path) -> None:
    made = make(Request(("random",), "cifar", ("knn",)), Settings(workspace=root.parent / "work", data_root=root))
    assert names(made) == {"cifar10"} and made.choices == ()  # the papers' numbers are of the official pictures


def test_a_plan_on_other_pictures_says_which_jobs_have_the_tracks(root: Path, tmp_path: Path) -> None:
    """And which of them run again with the preferred scenes: theirs alone, once its origin is there."""
    request = Request(("random",), "mini", ("knn", "detection", "reid"), data="digits")
    made = make(request, Settings(workspace=tmp_path / "work", data_root=root))
    assert made.other_data_lines() == ["--data is not for detection, reid: the data of the track is used there"]
    scenes = next(choice for choice in made.choices if choice.among[0] == "cifar10-scenes").line(here=True)
    assert "With cifar10-scenes (python -m repro data get cifar10) the jobs of detection and segmentation run" in scenes
    cameras = next(choice for choice in made.choices if choice.among[0] == "cifar10-cameras").line(here=True)
    assert "(python -m repro data get cifar10) the re-ID jobs run again" in cameras
    assert planned(root).other_data_lines() == []


def test_plan_and_doctor_name_the_pictures(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    line = ["plan", "--method", "random", "--track", "mini", "--eval", "knn", "--data-root", "data"]
    assert main(line) == 0
    assert "\nimages: CIFAR-10 (JPEG copy) [cifar10-jpeg], since cifar10" in capsys.readouterr().out
    from repro.run import doctor_workspace

    found = list(doctor_workspace.data(tracks.find("mini"), Settings(data_root=Path("data"))))
    assert str(found[0]).startswith("ok       data: cifar10-jpeg (manifest ")
    (root / "cifar10-jpeg" / "cifar10_jpeg.npz").unlink()
    found = list(doctor_workspace.data(tracks.find("mini"), Settings(data_root=Path("data"))))
    assert "fault    data: CIFAR-10 [cifar10] is missing" in str(found[0]) and "data get mini" in str(found[0])


def test_scenes_and_cameras_follow_the_pictures_and_one_line_says_so(root: Path) -> None:
    request = Request(("random",), "mini", ("knn", "detection", "reid"))
    alone = make(request, Settings(workspace=root.parent / "work", data_root=root))
    assert names(alone) == {"cifar10-jpeg", "cifar10-jpeg-scenes", "cifar10-jpeg-cameras"}
    assert [choice.name for choice in alone.choices] == ["cifar10-jpeg"]
    official(root)
    both = make(request, Settings(workspace=root.parent / "work", data_root=root))
    assert names(both) == {"cifar10", "cifar10-scenes", "cifar10-cameras"}
    copy = Request(request.methods, "mini", request.evaluations, overrides=("data.classification=cifar10-jpeg",))
    asked = make(copy, Settings(workspace=root.parent / "work", data_root=root))
    assert names(asked) == {"cifar10-jpeg", "cifar10-jpeg-scenes", "cifar10-jpeg-cameras"}


def test_photographs_keep_the_protocols_that_they_had(root: Path) -> None:
    before = ("data.detection=coco-mini", "data.reid=vehicle-reid-market")
    request = Request(("random",), "mini", ("detection", "reid", "reid_finetune"), overrides=before)
    made = make(request, Settings(workspace=root.parent / "work", data_root=root))
    found = {job.kind: job.protocol for job in made.jobs if job.protocol}
    assert {kind: p["name"] for kind, p in found.items()} == {
        "detection": "coco_mini",
        "reid": "vehicles",
        "reid_finetune": "vehicles",
    }
    assert found["detection"]["values"]["overfit_pictures"] == [30, 71, 72, 73, 86, 89, 92, 127]
    # the hashes of records that were published before
    hashes = {kind: suite().protocols[kind][p["name"]]["hash"] for kind, p in found.items()}
    assert {kind: value[:8] for kind, value in hashes.items()} == {
        "detection": "61ab1a2b",
        "reid": "12b60092",
        "reid_finetune": "dbe30537",
    }
    assert tracks.find("mini").reid_size == (64, 64)


def test_what_would_train_raw_pixels_is_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "--method", "random:pixels", "--track", "mini", "--suite", "full", "--data-root", str(root)]
    assert main([*line, "--workspace", str(root.parent / "work")]) == 0
    out = capsys.readouterr().out
    assert out.count("left out: ") == 2 and "left out: detection of random:pixels" in out
    made = make(Request(("random:pixels",), "mini", tuple(evaluations())), Settings(data_root=root))
    assert {job.kind for job in made.jobs} == {"pretrain", "features", "knn", "linear", "reid"}


def test_each_seed_draws_its_own_pictures_where_there_are_more(tmp_path: Path) -> None:
    def drawn(track: str, *overrides: str, seed: int = 7) -> dict[str, object]:
        request = Request(("byol", "aps"), track, seeds=(seed,), overrides=overrides)
        jobs = [job for job in make(request, Settings(workspace=tmp_path)).jobs if "data" in job.spec]
        assert {(job.arm, job.kind) for job in jobs} >= {("byol", "features"), ("aps", "features")}
        found: dict[str, list[object]] = {}
        for job in jobs:
            found.setdefault(job.kind, []).append(job.spec["data"]["limit"])
        assert all(one == few[0] for few in found.values() for one in few)  # the same for every arm
        return {kind: few[0] for kind, few in found.items()}

    mine = {"pictures": 5000, "seed": 7}
    on_pictures = ("pretrain", "features", "knn", "linear", "finetune")
    assert drawn("mini") == dict.fromkeys(on_pictures, mine) | {"detection": 0, "reid": 0}
    assert drawn("mini", seed=8)["pretrain"] == {"pictures": 5000, "seed": 8}
    assert drawn("mini", "data.limit=300")["features"] == {"pictures": 300, "seed": 7}
    for track, *more in (("mini", "data.limit=0"), ("mini", "data.limit=50000"), ("embedded",), ("cifar",)):
        assert set(drawn(track, *more).values()) == {0}  # of all pictures there is nothing to draw
    assert drawn("embedded", "data.limit=200")["pretrain"] == {"pictures": 200, "seed": 7}
    with pytest.raises(UserError, match=r"data\.limit=-1: must be a number of images, or 0"):
        drawn("embedded", "data.limit=-1")
    with pytest.raises(UserError, match=r"data\.limit=19: CIFAR-10 has 10 classes; choose 20 or more"):
        drawn("mini", "data.limit=19")
    drawn("mini", "data.limit=20", "pretrain.batch=16")
    labels = np.repeat(np.arange(10), 2)  # what is asked for is enough for the evaluations that hold a part out
    for kind in ("knn", "linear", "finetune"):
        fit, held = splits.holdout(labels, protocol_files.load(kind, "mini").values()["holdout"], seed=0)
        assert set(labels[fit]) == set(range(10)) and len(held)
    with pytest.raises(UserError, match="byol: 60 training images do not fill a batch of 128; choose a smaller one"):
        drawn("mini", "data.limit=60")


def test_a_limit_above_what_there_is_costs_no_more(tmp_path: Path) -> None:
    costs = {
        make(Request(("byol",), "mini", overrides=(f"data.limit={limit}",)), Settings(workspace=tmp_path)).seconds
        for limit in (0, 50_000, 90_000_000)
    }
    assert len(costs) == 1
