"""Published records: taken apart into lines, and whole again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboards import record_files

Record = dict[str, Any]
Make = Callable[..., list[Record]]


def test_records_come_back_whole_and_shared_parts_stand_once(make: Make, tmp_path: Path) -> None:
    arms = {("aps", ""), ("aps", "small"), ("moco_v3", "")}
    given = [
        record
        for method, variant in arms
        for seed in range(3)
        for record in make(method, "knn", {"top1": 40.0 + seed}, variant=variant, seed=seed)
    ]
    record_files.write(tmp_path, given)
    found, faults = record_files.read(tmp_path)
    assert not faults
    key = lambda record: record["fingerprint"]  # noqa: E731
    assert sorted((line.record for line in found), key=key) == sorted(given, key=key)
    for line in found:
        assert list(line.record) == list(given[0])  # in the order of the keys too
        assert line.path == tmp_path / record_files.arm_file(line.record)
    names = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.jsonl")}
    assert set(names) == {"mini/aps.jsonl", "mini/aps-small.jsonl", "mini/moco_v3.jsonl", "shared.jsonl"}
    assert names["mini/aps.jsonl"].count("\n") == 6 and names["shared.jsonl"].count('"part":"recipe"') == 1
    assert record_files.write(tmp_path, reversed(given)) == []  # the same text, in whatever order they come


def test_no_two_records_share_an_object(make: Make, tmp_path: Path) -> None:
    record_files.write(tmp_path, make("aps", "knn", {"top1": 40.0}))
    (one, _), (_, other) = (record_files.read(tmp_path)[0] for _ in range(2))
    same, _ = record_files.read(tmp_path)
    first, second = (line.record for line in same)
    first["provenance"]["data"]["name"] = "changed"
    assert second["provenance"]["data"] == one.record["provenance"]["data"] == other.record["provenance"]["data"]


def test_a_file_that_is_no_text_is_a_fault_and_the_others_are_read(make: Make, tmp_path: Path) -> None:
    record_files.write(tmp_path, [*make("aps", "knn", {"top1": 40.0}), *make("byol", "knn", {"top1": 40.0})])
    (tmp_path / "mini/aps.jsonl").write_bytes(b"\xff")
    found, (fault,) = record_files.read(tmp_path)
    assert {line.record["method"] for line in found} == {"byol"}
    assert str(fault).startswith(f"{tmp_path / 'mini/aps.jsonl'}:1: not a record (byte 0 is not UTF-8")
    assert "with git" in str(fault)
    (tmp_path / "shared.jsonl").write_bytes(b"\xff")
    found, faults = record_files.read(tmp_path)
    assert not found and str(faults[0]).startswith(
        f"{tmp_path / 'shared.jsonl'}:1: not a shared part (byte 0 is not UTF-8"
    )


@pytest.mark.parametrize("lacking", ["provenance", "details", "protocol"])
def test_a_record_without_a_part_has_none_afterwards(make: Make, tmp_path: Path, lacking: str) -> None:
    trained = {key: value for key, value in make("aps", "pretrain", {})[0].items() if key != lacking}
    odd = {**make("byol", "pretrain", {})[0], "provenance": None, "details": {"recipe": None}}
    record_files.write(tmp_path, [trained, odd])
    assert [line.record for line in record_files.read(tmp_path)[0]] == [trained, odd]


def test_the_key_of_a_reference_is_refused(make: Make) -> None:
    (trained,) = make("aps", "pretrain", {})
    trained["provenance"]["$code"] = "mine"
    with pytest.raises(ValueError, match=r"has a key '\$code'"):
        record_files.texts([trained])


def test_addresses(make: Make) -> None:
    (trained,) = make("aps", "pretrain", {}, variant="small")
    assert record_files.address(trained) == f"mini/aps-small.jsonl#{trained['fingerprint'][:12]}"


KEYS = b'{"fingerprint": "x", "kind": "knn", "method": "a", "variant": "", "track": "mini", "seed": 0}'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"method": NaN}', "NaN is no finite number"),
        (b'{"a": 1, "a": 2}', "key 'a' is there twice"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "more than 50 levels of tables"),
        (b"3", "no JSON object"),
        (b'{"$protocol": ["x"]}', r"no protocol \['x'\]"),
        (KEYS.replace(b'"x"', b'["x"]'), "not a text"),
        (KEYS.replace(b'"a"', b"1"), "not a text"),
        (KEYS.replace(b'"a"', b'"../a"'), "a record of"),
    ],
)
def test_a_damaged_line_is_named_and_hides_no_other(make: Make, tmp_path: Path, line: bytes, words: str) -> None:
    given = make("aps", "knn", {"top1": 40.0})
    record_files.write(tmp_path, given)
    path = tmp_path / "mini/aps.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    found, (fault,) = record_files.read(tmp_path)
    assert len(found) == len(given) and (fault.path, fault.line) == (path, 1)
    assert str(fault).startswith(f"{path}:1: ") and str(fault).isprintable()
    assert re.search(words, fault.problem)


@pytest.mark.parametrize(
    "line",
    [
        b'{"part": "protocol"}',
        b'{"part": ["x"], "hash": "y", "content": {}}',
        b'{"part": "else", "hash": "y", "content": {}}',
        b'{"part": "code", "hash": "y", "content": 3}',
        b'{"part": "code", "hash": ["y"], "content": {}}',
        b"\xff",
    ],
)
def test_a_damaged_shared_part_is_named(make: Make, tmp_path: Path, line: bytes) -> None:
    record_files.write(tmp_path, make("aps", "knn", {"top1": 40.0}))
    shared = tmp_path / "shared.jsonl"
    shared.write_bytes(shared.read_bytes() + line + b"\n")
    found, (fault,) = record_files.read(tmp_path)
    assert found and fault.path == shared and fault.line == shared.read_bytes().count(b"\n")
    assert str(fault).isprintable()
