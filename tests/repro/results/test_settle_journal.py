"""The journal of a settlement, as others may have left it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.errors import UserError, unwritable
from repro.plan.budget import Budget
from repro.results.settle_ledger import Ledger
from repro.store.workspace import Workspace

_BEGAN = {"event": "began", "claim": "a", "commands": [["run"]], "jobs": {"x": [60.0, 0]}}
_ENDED = {"event": "ended", "claim": "a", "seconds": 50.0, "failed": ""}


def _opened(place: Path, content: bytes) -> Ledger:
    (place / "settle").mkdir(exist_ok=True)
    (place / "settle" / "mini.jsonl").write_bytes(content)
    return Ledger.open(Workspace(place), "mini", Budget.parse("1h"))


def test_lines_cut_short_count_as_not_there(tmp_path: Path) -> None:
    lines = [json.dumps(_BEGAN).encode(), b'{"event": "clo', b"\xff\xfe", b"\0\0\0", b"", json.dumps(_ENDED).encode()]
    ledger = _opened(tmp_path, b"\n".join(lines))
    ledger.reckon({})
    assert [pair.seconds for pair in ledger.pairs] == [50.0]
    assert ledger.spent == 50.0


def test_a_journal_of_before_says_no_claims_where_pairs_ended(tmp_path: Path) -> None:
    ended = {key: value for key, value in _ENDED.items() if key != "claim"}
    ledger = _opened(tmp_path, b"\n".join(json.dumps(said).encode() for said in (_BEGAN, ended)))
    assert [pair.seconds for pair in ledger.pairs] == [50.0]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "3",
        "{}",
        json.dumps(_ENDED),  # of a pair that was never begun
        json.dumps(_BEGAN) + "\n" + json.dumps(_ENDED | {"claim": "b"}),
        '{"event": "round"}',
        '{"event": "round", "number": "x"}',
        json.dumps(_BEGAN | {"jobs": {"x": 60.0}}),
        json.dumps(_BEGAN | {"jobs": {"x": [float("nan"), 0]}}),
        json.dumps(_BEGAN | {"commands": 3}),
        json.dumps(_BEGAN) + "\n" + json.dumps(_ENDED | {"seconds": -1}),
        json.dumps(_BEGAN) + "\n" + json.dumps(_ENDED | {"seconds": "soon"}),
    ],
)
def test_a_line_that_is_no_entry_is_named(line: str, tmp_path: Path) -> None:
    last = 2 + line.count("\n")
    with pytest.raises(UserError, match=rf"mini\.jsonl:{last}: no entry of this journal"):
        _opened(tmp_path, b"\n" + line.encode())


def test_what_stands_in_the_way_of_the_journal_is_named(tmp_path: Path) -> None:
    place = tmp_path / "settle" / "mini.jsonl"
    place.mkdir(parents=True)
    with pytest.raises(OSError, match="directory") as caught:
        _opened(tmp_path, b"")
    assert f"cannot open {place} (is a directory)" in unwritable(caught.value)
    place.rmdir()
    place.parent.rmdir()
    place.parent.write_text("a file")
    ledger = Ledger(Budget.parse("1h"), path=place)
    with pytest.raises(OSError, match="exists") as caught, ledger.held():
        pass
    assert f"cannot open {place.parent} (file exists)" in unwritable(caught.value)
