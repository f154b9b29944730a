"""Pictures may be packed or stay in their files: the plan says what either takes, and the jobs are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.errors import UserError
from repro.plan import disk
from repro.plan.builder import make
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path / "w")


def plan(settings: Settings, track: str, *overrides: str) -> Plan:
    return make(Request(("simclr",), track=track, evaluations=("knn",), overrides=overrides), settings)


def test_both_ways_are_told_and_their_jobs_are_the_same(settings: Settings) -> None:
    packed, files = plan(settings, "imagenet"), plan(settings, "imagenet", "data.stored=jpeg")
    assert [job.fingerprint for job in packed.jobs] == [job.fingerprint for job in files.jobs]
    assert {task.args.get("stored") for task in graph_of(packed, settings)} == {None}
    assert {task.args["stored"] for task in graph_of(files, settings)} == {"jpeg"}
    need = f"{(1_281_167 + 50_000) * 3 * 256 * 256 / 1e9:.0f} GB"
    (said,) = disk.lines(packed, settings)
    assert f"1,331,167 images, decoded once to 256 x 256, need {need}" in said and "--set data.stored=jpeg" in said
    (said,) = disk.lines(files, settings)
    assert need in said and "here images are decoded while training" in said


def test_where_there_is_no_choice_nothing_is_said(settings: Settings) -> None:
    assert disk.lines(plan(settings, "embedded"), settings) == []


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "data.stored=jpeg",
            "--set data.stored=jpeg: the images of 'digits' are not files; leave it out",
        ),
        (
            "data.stored=jpg",
            "--set data.stored: unknown way to store images 'jpg'; did you mean 'jpeg'? valid: jpeg, packed",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: Settings, override: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(settings, "embedded", override)
    assert str(caught.value) == line
