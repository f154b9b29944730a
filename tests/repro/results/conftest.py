"""Records to test with, in the place of the published ones: `frozen/records/` holds 68 of those of November 2026,
of mini with the subsets that each seed draws since.

They belong to the tests: what is published or withdrawn later changes no test of this room but those of
`test_published_records.py`. They are read anew for each test, which may change them as it likes.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboards import published, record_files
from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings
from repro.store import records

Record = dict[str, Any]


@pytest.fixture(autouse=True)
def frozen(own_folder: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All tests of this room run in a folder of their own, and the published records are those of this one."""
    folder = Path(__file__).with_name("frozen")
    monkeypatch.setattr(published, "FOLDER", folder)
    return folder


@pytest.fixture
def every(frozen: Path) -> list[Record]:
    """Every one of them."""
    return published.load_published(frozen)


@pytest.fixture
def first(every: list[Record]) -> Callable[..., Record]:
    """first(kind="knn", method="aps", ...) -> the first record of which that is true."""

    def find(**wanted: object) -> Record:
        return next(record for record in every if all(record[key] == value for key, value in wanted.items()))

    return find


@pytest.fixture
def kin() -> Callable[[Record, list[Record]], list[Record]]:
    """kin(record, every) -> the pre-training that it comes from, and all that comes from that."""

    def family(record: Record, every: list[Record]) -> list[Record]:
        known = {one["fingerprint"]: one for one in every}
        root = record
        while root["parents"]:
            root = known[root["parents"][0]]
        names, found = {root["fingerprint"]}, [root]
        for _ in range(2):
            below = [one for one in every if names & set(one["parents"]) and one["fingerprint"] not in names]
            found, names = found + below, names | {one["fingerprint"] for one in below}
        return found

    return family


@pytest.fixture
def plans_its_recipe(capsys: pytest.CaptureFixture[str]) -> Callable[[Record, list[Record]], bool]:
    """plans_its_recipe(record, every): the command that `explain` tells plans the recipe of the record's pre-training.

    False where `explain` says that this checkout cannot.
    """

    def check(found: Record, every: list[Record]) -> bool:
        assert main(["explain", f"leaderboards/records/{record_files.address(found)}"]) == 0
        out = capsys.readouterr().out
        assert found["provenance"]["data"]["source"] in out and found["fingerprint"][:12] in out
        if "this checkout cannot" in out:
            return False
        words = shlex.split(out.strip().splitlines()[-1])
        overrides = words[words.index("--set") + 1 :] if "--set" in words else []
        method, track = words[words.index("--method") + 1], words[words.index("--track") + 1]
        planned = make(Request((method,), track, ("knn",), (found["seed"],), overrides=tuple(overrides)), Settings())
        known, root = records.by_fingerprint(every), found
        while root["kind"] != "pretrain":
            root = known[root["parents"][0]]
        then, now = root["details"]["recipe"], planned.recipes[method]
        for table in ("method", "network", "pretrain"):
            assert {key: value for key, value in now[table].items() if key in then[table]} == then[table], (
                records.file_name(found)
            )
        return True

    return check
