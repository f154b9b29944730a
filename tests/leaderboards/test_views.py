"""The picture, and the published boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from leaderboards import boards, claim_files, pictures, published, record_files, report
from leaderboards.arms import Arms
from repro.results.suite import suite

Record = dict[str, Any]
Make = Callable[..., list[Record]]


def sheet(records: list[Record]) -> str:
    return pictures.sheet(boards.compose(Arms(records, suite()), claim_files.load(suite()), lambda record: "x"))


def test_picture_has_labels_units_and_every_arm(make: Make) -> None:
    records = []
    for seed in range(2):
        records += make("aps", "knn", {"top1": 40.0 + seed}, seed=seed)
        records += make("moco_v3", "knn", {"top1": 38.0 + seed}, seed=seed)
    text = sheet(records)
    ElementTree.fromstring(text)
    for words in ("operations of pre-training (TFLOP)", "knn top1 (%)", ">aps@16<", ">moco_v3@16<", "mini: CIFAR-10"):
        assert words in text
    assert sheet(list(reversed(records))) == text
    assert "No records yet." in sheet([])


@pytest.mark.seconds
def test_the_published_boards_are_what_their_records_give() -> None:
    assert published.drift(suite()) == []


@pytest.mark.seconds
def test_rebuild_drift_and_hand_edits(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, judged = make("aps", "knn", {"top1": 40.0})
    record_files.write(tmp_path / "records", [trained, judged])
    again = "delete it, or run python -m repro report --published"
    assert len(published.drift(suite(), tmp_path)) == 14
    assert len(published.rebuild(suite(), tmp_path)) == 14
    assert published.drift(suite(), tmp_path) == []
    assert published.rebuild(suite(), tmp_path) == []
    board = tmp_path / "knn.md"
    assert f"records/mini/aps.jsonl#{judged['fingerprint'][:12]}" in board.read_text()
    assert (tmp_path / report.PICTURE).is_file() and (tmp_path / report.FILE).is_file()

    board.write_text(board.read_text().replace("40.00", "41.00"))
    (tmp_path / "own.md").write_text("mine")
    (tmp_path / "README.md").write_text("how the room is read")  # nobody makes it from records, and it stays
    assert [line.split()[0] for line in published.drift(suite(), tmp_path)] == ["knn.md", "own.md"]
    assert [path.name for path in published.rebuild(suite(), tmp_path)] == ["knn.md", "own.md"]
    assert published.drift(suite(), tmp_path) == [] and (tmp_path / "README.md").is_file()
    page = tmp_path / report.FILE
    page.write_text(page.read_text().replace("40.00", "41.00"))
    assert [line.split()[0] for line in published.drift(suite(), tmp_path)] == [report.FILE]
    assert published.rebuild(suite(), tmp_path) == [page]
    picture = tmp_path / "records" / published.picture(judged, "ranking")
    picture.write_bytes(bytes(50_000))  # of this record, so the report shows it
    assert published.rebuild(suite(), tmp_path) == [page] and "data:image/webp;base64,AAAA" in page.read_text()
    monkeypatch.setattr(published, "LARGEST", len(page.read_bytes()) - 1)  # without it the report is small enough
    assert published.rebuild(suite(), tmp_path) == [page] and "data:image" not in page.read_text()
    stranger = picture.rename(picture.with_name("aps-0123456789ab.ranking.webp"))
    assert published.drift(suite(), tmp_path) == [f"aps-0123456789ab.ranking.webp comes from no record; {again}"]
    assert published.rebuild(suite(), tmp_path) == [stranger] and not stranger.exists()
    page.write_text(page.read_text().replace("40.00", "41.00"))
    monkeypatch.setattr(published, "LARGEST", 10)  # too large to be published: the old one goes
    assert [path.name for path in published.rebuild(suite(), tmp_path)] == [report.FILE]
    assert not page.exists() and published.drift(suite(), tmp_path) == []

    (tmp_path / "records" / "mini" / "bad.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.jsonl:1: not a record"):
        published.load_published(tmp_path)
