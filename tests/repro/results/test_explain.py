"""From a number back to its making."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from leaderboards import record_files
from repro.cli.dispatch import main
from repro.store import records

Record = dict[str, Any]


@pytest.mark.parametrize("kind", ["knn", "linear", "pretrain"])
def test_the_command_plans_the_recipe_that_the_record_holds(
    kind: str, every: list[Record], plans_its_recipe: Callable[[Record, list[Record]], bool]
) -> None:
    chosen = [record for record in every if (record["kind"], record["seed"]) == (kind, 0)]
    assert sum(plans_its_recipe(record, every) for record in chosen) > 2


@pytest.mark.parametrize(
    ("track", "kind", "changes"),
    [
        ("mini", "knn", ['data.classification="cifar10-jpeg"']),
        (
            "mini",
            "detection",
            ['data.classification="cifar10-jpeg"', 'data.detection="coco-mini"'],
        ),  # its encoder was trained on them
        ("mini", "reid", ['data.classification="cifar10-jpeg"', 'data.reid="vehicle-reid-market"']),
        ("embedded", "knn", []),  # there are no others
    ],
)
def test_the_command_names_the_pictures_where_a_run_could_take_others(
    track: str, kind: str, changes: list[str], first: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", first(kind=kind, track=track)["fingerprint"]]) == 0
    words = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])
    assert [word for word in words if word.startswith("data.")] == changes


def test_a_record_is_found_by_link_file_name_and_fingerprint(
    every: list[Record], first: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    found = first(kind="knn")
    said = set()
    for name in (
        f"records/{record_files.address(found)}",
        record_files.address(found).rpartition("/")[2],
        f"../records/{records.file_name(found)}",
        records.file_name(found),  # as the published files were called too
        found["fingerprint"],
        found["fingerprint"][:12],
    ):
        assert main(["explain", name]) == 0
        said.add(capsys.readouterr().out)
    assert len(said) == 1 and found["fingerprint"][:12] in said.pop()
    assert main(["explain", "0"]) == 2  # too short to be a fingerprint
    start = first(kind="knn")["fingerprint"][:5]
    assert main(["explain", start]) == 2


def test_explain_names_the_nearest_record(first: Callable[..., Record], capsys: pytest.CaptureFixture[str]) -> None:
    found = first(kind="knn")
    for name in (records.file_name(found), record_files.address(found).rpartition("/")[2]):
        wrong = f"{name[:-6]}x.json" if name.endswith(".json") else f"{name[:-1]}x"
        assert main(["explain", wrong]) == 2
        err = capsys.readouterr().err
        assert f"did you mean '{name}'? give a record link from a board" in err and err.count("\n") == 1
