"""The repository's records: what was published stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboards import record_files
from repro.results import find_records
from repro.results.record_checks import contradictions, known_short
from repro.results.suite import suite
from repro.store import records
from repro.store.hashes import digest
from repro.store.records import Record

DIGESTS = Path(__file__).with_name("published_digests.txt")
"""The beginning of the fingerprint and the hash of every record from before they became lines of files."""


@pytest.fixture(scope="module")
def every() -> list[Record]:
    """The records of the repository. Nothing here changes them."""
    found, faults = records.read_published()
    assert not faults
    return found


def test_every_record_is_what_it_was_in_a_file_of_its_own(every: list[Record]) -> None:
    now = {record["fingerprint"][:12]: digest(record) for record in every}
    then = dict(line.split() for line in DIGESTS.read_text().splitlines())
    assert len(then) == 761
    assert {name: now.get(name) for name in then} == then


def test_the_files_are_as_publish_writes_them(every: list[Record]) -> None:
    written = record_files.texts(every)
    held = {p.relative_to(record_files.FOLDER).as_posix(): p for p in record_files.FOLDER.rglob("*.jsonl")}
    assert set(held) == set(written)
    assert [name for name, path in held.items() if path.read_text(encoding="utf-8") != written[name]] == []


def test_published_records_have_the_hashes_of_today(every: list[Record]) -> None:
    """What came to protocols later has left the hash of every published record alone."""
    judged = [record for record in every if (record.get("protocol") or {}).get("values")]
    assert len(judged) > 100
    for record in judged:
        stated = record["protocol"]
        assert records.protocol_of(record["kind"], stated["name"], stated["values"])["hash"] == stated["hash"]
    now = suite().protocols
    latest = {(r["kind"], r["track"]) for r in judged if now[r["kind"]][r["track"]]["hash"] == r["protocol"]["hash"]}
    assert {("knn", "mini"), ("knn", "embedded"), ("linear", "mini"), ("reid", "embedded")} <= latest


def test_published_records_contradict_nothing(every: list[Record]) -> None:
    assert list(contradictions(every)) == []
    assert sorted(record_files.address(record) for record in every if known_short(record)) == [
        "mini/moco_v3.jsonl#996a06bacd1a",
        "mini/moco_v3.jsonl#ba9289fbf6cc",
        "mini/moco_v3.jsonl#e285eb6877b0",
        "mini/rotation_aux.jsonl#dfeb36b12f8c",
    ]


def test_the_published_boards_show_no_trust() -> None:
    """All is ours, so that a column of it would say nothing."""
    assert "trust" not in (record_files.FOLDER.parent / "linear.md").read_text(encoding="utf-8")


@pytest.mark.seconds
def test_every_published_recipe_can_be_planned_again(
    every: list[Record], plans_its_recipe: Callable[[Record, list[Record]], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_records, "published_records", lambda: (every, []))  # read once, not once a recipe
    trained = [record for record in every if record["kind"] == "pretrain"]
    distinct = {
        digest([record[key] for key in ("method", "variant", "track")] + [record["details"]["recipe"]]): record
        for record in trained
    }
    assert sum(plans_its_recipe(record, every) for record in distinct.values()) > len(distinct) / 2
