"""`publish`: what it adds to a repository's records, and the boards that are made of those."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from leaderboards import claim_files, published, record_files
from leaderboards.references import Reference
from repro.cli.dispatch import main
from repro.errors import UserError
from repro.results import publish
from repro.results.suite import suite
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

Record = dict[str, Any]
Kin = Callable[[Record, list[Record]], list[Record]]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the boards of an empty repository."""
    folder = tmp_path / "clone" / "leaderboards"
    folder.mkdir(parents=True)
    (folder.parent / ".git").mkdir()
    monkeypatch.setattr(published, "FOLDER", folder)
    return folder


def lines(folder: Path) -> set[tuple[str, str]]:
    """(file, line) of all records and shared parts."""
    return {
        (str(path.relative_to(folder)), line)
        for path in (folder / "records").rglob("*.jsonl")
        for line in path.read_text().splitlines()
    }


def test_one_more_seed_is_a_few_more_lines(every: list[Record], first: Callable[..., Record], clone: Path) -> None:
    """Each record once, whoever publishes it again; nothing that was there changes."""
    place = Workspace(Path("work"))
    arm = {"method": "glnet", "variant": "", "track": "mini"}
    recipe = first(kind="pretrain", **arm)["details"]["recipe"]
    roots = [r for r in every if r["kind"] == "pretrain" and r["details"]["recipe"] == recipe]
    counts, before = [], set[tuple[str, str]]()
    for seed in range(2):
        known = {root["fingerprint"] for root in roots if root["seed"] == seed}
        mine = [r for r in every if r["fingerprint"] in known or known & set(r["parents"])]
        for record in mine:
            records.write(place.records, record)
        said = publish.publish(Settings(workspace=place.root), ["glnet"], "mini")
        assert f"{len(mine)} records published, {sum(counts)} were there" in said
        counts.append(len(mine))
        now = lines(clone)
        assert before <= now
        assert seed == 0 or len(now - before) <= len(mine) + 4  # nearly all that it shares is there
        before = now
        assert published.drift(suite(), clone) == []
    assert "0 records published" in publish.publish(Settings(workspace=place.root), None, None)
    assert lines(clone) == before
    found = records.by_fingerprint(published.load_published(clone))
    assert found == records.by_fingerprint(records.read_all(place.records)[0])


def test_nothing_is_published_over_a_damaged_line(first: Callable[..., Record], clone: Path) -> None:
    """Writing the files anew would lose it."""
    record_files.write(clone / "records", [first(kind="features")])
    records.write(Path("repro-work/records"), first(kind="features", seed=1))
    (path,) = (clone / "records").glob("*/*.jsonl")
    text = path.read_text() + "{half a line\n"
    path.write_text(text)
    assert main(["publish"]) == 2 and path.read_text() == text
    assert main(["report", "--published"]) == 2 and not (clone / "index.md").exists()


def test_only_pictures_of_our_own_data_are_published(
    every: list[Record], first: Callable[..., Record], kin: Kin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photographs stay in the workspace; what is made of digits stands beside its record and in the report."""
    place = Workspace(tmp_path / "work")
    judged = first(kind="detection", method="aps", variant="", track="mini", seed=0)
    assert judged["provenance"]["data"]["name"] == "coco-mini"
    chosen = kin(judged, every)
    place.job(judged["fingerprint"]).mkdir(parents=True)
    Image.new("RGB", (900, 2400)).save(place.job(judged["fingerprint"]) / "detections.png")
    for name, taken in (("coco-mini", 0), ("digit-scenes", 1)):
        judged["provenance"]["data"]["name"] = name
        (place.records / records.file_name(judged)).unlink(missing_ok=True)
        for record in chosen:
            records.write(place.records, record)
        folder = tmp_path / name / "leaderboards"
        (folder.parent / ".git").mkdir(parents=True)
        monkeypatch.setattr(published, "FOLDER", folder)
        said = publish.publish(Settings(workspace=place.root), None, None)
        assert f"{len(chosen)} records published" in said
        names = [path.name for path in folder.glob("records/mini/*.webp")]
        assert names == [f"aps-{judged['fingerprint'][:12]}.detections.webp"] * taken
        assert (folder / "report.html").read_text().count("data:image/webp") == taken
        assert published.drift(suite(), folder) == []


@pytest.mark.parametrize("line", ["claims", "report", "report --published", "publish", "records --to latex --out x"])
def test_claims_that_are_damaged_are_one_line_and_change_nothing(
    line: str, clone: Path, first: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, refused: Callable[[str], str]
) -> None:
    records.write(Path("repro-work/records"), first(kind="knn", track="embedded", method="random"))

    def damaged() -> list[Reference]:
        raise ValueError("references.csv: line 2: 3 columns, not 16")

    monkeypatch.setattr(claim_files, "references", damaged)
    assert "references.csv: line 2" in refused(line)
    assert {path.name for path in clone.rglob("*")} <= {".lock"} and not Path("repro-work/boards").exists()


def test_a_damaged_board_differs(clone: Path, first: Callable[..., Record]) -> None:
    record_files.write(clone / "records", [first(kind="knn", track="embedded", method="random")])
    publish.rebuild()
    (clone / "knn.md").write_bytes(b"\xff")
    (line,) = published.drift(suite(), clone)
    assert line.startswith("knn.md does not match") and publish.rebuild() == [clone / "knn.md"]


def test_of_two_that_publish_at_once_one_is_refused_and_nothing_is_lost(
    clone: Path, first: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first one stands between reading the records and writing them."""
    places = {method: Workspace(Path(method)) for method in ("glnet", "random")}
    for method, place in places.items():
        records.write(place.records, first(kind="knn", track="mini", method=method))
    reading, going_on, read = threading.Event(), threading.Event(), records.read_published

    def slow(folder: Path) -> tuple[list[Record], list[str]]:
        found = read(folder)
        reading.set()
        assert going_on.wait(60)
        return found

    monkeypatch.setattr(records, "read_published", slow)
    with ThreadPoolExecutor() as pool:
        one = pool.submit(publish.publish, Settings(workspace=places["glnet"].root), None, None)
        assert reading.wait(60)
        try:
            for other in (
                publish.report_published,
                lambda: publish.publish(Settings(workspace=Path("random")), None, None),
            ):
                with pytest.raises(UserError, match=f"another command is writing the boards of {clone}; run this one"):
                    other()
        finally:
            going_on.set()
        assert "1 records published" in one.result()
    assert "1 records published" in publish.publish(Settings(workspace=Path("random")), None, None)
    assert {record["method"] for record in published.load_published(clone)} == {"glnet", "random"}
    assert published.drift(suite(), clone) == []


def test_report_published_is_what_mends_drift(
    tmp_path: Path, first: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a repository of one record: the command brings back what was edited, and drift names the command."""
    folder = tmp_path / "clone" / "leaderboards"
    record_files.write(folder / "records", [first(kind="knn", track="embedded", method="random")])
    monkeypatch.setattr(published, "FOLDER", folder)
    assert main(["report", "--published"]) == 2
    assert "run it in a clone" in capsys.readouterr().err and not (folder / "knn.md").exists()
    (tmp_path / "clone" / ".git").mkdir()
    assert main(["report", "--published"]) == 0
    assert "knn.md" in capsys.readouterr().out and published.drift(suite(), folder) == []
    (folder / "knn.md").write_text("mine")
    (line,) = published.drift(suite(), folder)
    assert "python -m repro report --published" in line
    assert main(["report", "--published"]) == 0
    assert "changed: knn.md" in capsys.readouterr().out and published.drift(suite(), folder) == []
