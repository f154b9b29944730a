"""The repository's records: what was published stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leaderboards import record_files
from repro.results.suite import suite
from repro.store import records
from repro.store.hashes import digest

Record = dict[str, Any]

DIGESTS = Path(__file__).with_name("published_digests.txt")
"""The beginning of the fingerprint and the hash of every record from before they became lines of files."""


def test_every_record_is_what_it_was_in_a_file_of_its_own() -> None:
    found, faults = records.read_published()
    assert not faults
    now = {record["fingerprint"][:12]: digest(record) for record in found}
    then = dict(line.split() for line in DIGESTS.read_text().splitlines())
    assert len(then) == 812
    assert {name: now.get(name) for name in then} == then


def test_the_files_are_as_publish_writes_them() -> None:
    found, _ = records.read_published()
    written = record_files.texts(found)
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
