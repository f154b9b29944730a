"""From a number back to its making, over the published records."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from leaderboards import record_files
from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.request import Request
from repro.results import find_records
from repro.settings import Settings
from repro.store import records

Record = dict[str, Any]


def recipe_of(found: Record, every: list[Record]) -> Any:
    """The recipe of the pre-training behind a record."""
    known = records.by_fingerprint(every)
    while found["kind"] != "pretrain":
        found = known[found["parents"][0]]
    return found["details"]["recipe"]


@pytest.mark.seconds
@pytest.mark.parametrize("kind", ["knn", "linear", "pretrain"])
def test_the_command_plans_the_recipe_that_the_record_holds(
    kind: str, every: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(find_records, "published_records", lambda: (every, []))  # read once, not once a record
    chosen = [record for record in every if (record["kind"], record["seed"]) == (kind, 0)]
    assert chosen
    for found in chosen:
        assert main(["explain", f"leaderboards/records/{record_files.address(found)}"]) == 0
        out = capsys.readouterr().out
        assert found["provenance"]["data"]["source"] in out and found["fingerprint"][:12] in out
        if "this checkout cannot" in out:
            continue
        words = shlex.split(out.strip().splitlines()[-1])
        overrides = words[words.index("--set") + 1 :] if "--set" in words else []
        method, track = words[words.index("--method") + 1], words[words.index("--track") + 1]
        planned = make(Request((method,), track, ("knn",), (found["seed"],), overrides=tuple(overrides)), Settings())
        then, now = recipe_of(found, every), planned.recipes[method]
        for table in ("method", "network", "pretrain"):
            assert {key: value for key, value in now[table].items() if key in then[table]} == then[table], (
                records.file_name(found)
            )


@pytest.mark.parametrize("kind", ["knn", "detection", "reid"])
def test_the_command_names_the_pictures_where_a_run_could_take_others(
    kind: str, first: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a detector too: those that its encoder was trained on."""
    for track, changes in (("mini", ['data.classification="cifar10-jpeg"']), ("embedded", [])):
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
        assert f"did you mean '{name}'? give what a cell of a board links to" in err and err.count("\n") == 1
