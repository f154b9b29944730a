"""Published records to test with. They are read anew for each test, which may change them as it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from leaderboards import published

Record = dict[str, Any]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(own_folder: None) -> None:
    """All tests of this room."""


@pytest.fixture
def every() -> list[Record]:
    """Every published record."""
    return published.load_published()


@pytest.fixture
def first(every: list[Record]) -> Callable[..., Record]:
    """first(kind="knn", method="aps", ...) -> the first published record of which that is true."""

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
