"""Records of generated forms: imported whole and as they are, or refused in one line with nothing written."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leaderboards import published, record_json
from repro.cli import commands
from repro.errors import UserError
from repro.results import explain, find_records, import_records, record_checks
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

Record = dict[str, Any]

ARMS = [("aps", "mini", 0), ("glnet", "mini", 1), ("random", "embedded", 0)]
BY_HAND = [
    {
        **{"kind": "linear", "method": "glnet", "track": "cifar", "seed": 0, "metrics": {"top1": 91.0, "top5": 99.0}},
        "provenance": {"data": {"name": "cifar10"}},
    }
]
VALUES = [
    *(None, True, 0, -1, 1.5, 1e308, 2**62, 2**63, -(2**70), 10**400, "", "x", "a/b", "../x", "x" * 300, "\x1b[31m"),
    *("a\nb", "\ud800", "<script>", "|", [], [1], ["x"], [[1]], [None], {}, {"a": 1}, {"a": [1]}, {"": None}, [{}]),
    *("2200-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01"),
]
GONE = "gone"
TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda text: text,
    "windows": lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"),
    "nan": lambda text: text.replace(b"91.0", b"NaN"),
    "inf": lambda text: text.replace(b'"seed": ', b'"seed": 1e999, "x": ', 1),
    "twice": lambda text: text.replace(b'"seed"', b'"seed": 0, "seed"', 1),
    "latin": lambda text: text.replace(b'"kind"', b'"k\xfcnd"', 1),
    "cut": lambda text: text[: len(text) // 2],
    "deep": lambda text: b"[" * 9999 + text,
}
STILL_JSON = ("", "windows")


@dataclass(frozen=True)
class Case:
    """A file. changes: (which record, which of its entries or its path, an index of VALUES for its place or GONE)."""

    arm: int = len(ARMS)
    changes: Sequence[tuple[int, int | tuple[str, ...], int | str]] = ()
    text: str = ""
    lines: bool = False


CASES = st.builds(
    Case,
    arm=st.integers(0, len(ARMS)),
    changes=st.lists(
        st.tuples(
            st.integers(0, 9),
            st.integers(0, 10**6),
            st.one_of(st.integers(0, len(VALUES) - 1), st.just(GONE)),
        ),
        max_size=2,
    ),
    text=st.one_of(st.just(""), st.just(""), st.just(""), st.sampled_from(sorted(TEXTS))),
    lines=st.booleans(),
)


@cache
def arms() -> list[list[Record]]:
    every = published.load_published(Path(__file__).with_name("frozen"))
    return [[r for r in every if (r["method"], r["track"], r["seed"], r["variant"]) == (*arm, "")] for arm in ARMS]


def entries(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(2, len(value))):
            yield from entries(value[key], (*way, key))


def changed(case: Case) -> list[Record]:
    found = copy.deepcopy([*arms(), BY_HAND][case.arm])
    for which, entry, value in case.changes:
        record = found[which % len(found)]
        if not (ways := sorted(entries(record), key=lambda way: (len(way), str(way)))):
            continue
        # The upper ones more often: of most there are many below.
        if isinstance(entry, int):
            entry = ways[entry % len(ways) if entry % 2 else entry // 2 % min(len(ways), 30)]
        *above, last = entry
        table: Any = record
        for key in above:
            table = table[key]
        if isinstance(value, str):
            del table[last]
        else:
            table[last] = copy.deepcopy(VALUES[value])
    return found


seen: Counter[str] = Counter()


def check(case: Case) -> None:
    given_ones = changed(case)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("given.jsonl" if case.lines else "given.json")
        text = "\n".join(map(json.dumps, given_ones)) if case.lines else json.dumps(given_ones, indent=1)
        content = TEXTS[case.text](text.encode())
        file.write_bytes(content)
        there = replace(Settings(), workspace=Path(folder) / "w")
        seen["all"] += 1
        with contextlib.suppress(ValueError):
            for part in content.split(b"\n") if case.lines else [content]:
                record_json.parse(part)
            seen["json"] += 1
        try:
            import_records.bring_in(file, "author", there, commands.parse)
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000, str(error)
            assert str(file) in str(error)
            assert case.changes or case.text not in STILL_JSON, str(error)
            assert not there.workspace.exists() or not list(there.workspace.rglob("*.json"))
            return
        seen["imported"] += 1
        found, faults = records.read_all(Workspace(there.workspace).records)
        assert not faults
        told = [json.dumps(r["metrics"], sort_keys=True) for r in found]
        assert sorted(told) == sorted(json.dumps(r["metrics"], sort_keys=True) for r in given_ones)
        assert {record["provenance"]["trust"] for record in found} == {"author"}
        assert all(set(path.name) & {"/", "\\"} == set() for path in there.workspace.rglob("*"))
        for _, fault in record_checks.contradictions(found):
            assert fault.isprintable()
        for record in found:
            assert explain.explain(record["fingerprint"], there).replace("\n", "").isprintable()


# What once went wrong: a number of pictures that no memory holds.
MORE_PICTURES_THAN_ANSWERS = Case(0, [(2, ("details", "n_test"), VALUES.index(2**62))])


def run(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_records, "published_records", lambda: ([], []))
    seen.clear()
    test = given(CASES)(check)
    for case in (Case(), Case(0), MORE_PICTURES_THAN_ANSWERS):
        test = example(case)(test)
    settings(max_examples=count, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))(test)()
    assert 2 * seen["json"] > seen["all"] and 4 * seen["imported"] > seen["all"], dict(seen)


@pytest.mark.seconds
def test_any_record(monkeypatch: pytest.MonkeyPatch) -> None:
    run(20, monkeypatch)


@pytest.mark.slow
def test_two_thousand_files_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    run(2000, monkeypatch)
