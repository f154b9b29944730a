"""Records: atomic, published once, checked when read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from repro import jobs
from repro.errors import UserError
from repro.stages.context import JobContext
from repro.store import records
from repro.store.job import Job


def record(fingerprint: str = "ab" * 32, **metrics: float) -> records.Record:
    return {
        "schema": 1,
        "fingerprint": fingerprint,
        "kind": "knn",
        "method": "aps",
        "variant": "",
        "track": "embedded",
        "seed": 0,
        "metrics": metrics or {"top1": 50.0, "top5": 90.0},
        "cost": {"wall_s": 1.0},
        "provenance": {},
    }


def test_a_record_survives_the_way_to_the_disk_and_back(tmp_path: Path) -> None:
    path, ours = records.write(tmp_path, record())
    assert ours and records.read(path) == record()
    assert path.name == "knn-aps-embedded-s0-abababababab.json"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file stays behind


def test_of_many_writers_one_wins_and_the_file_is_whole(tmp_path: Path) -> None:
    def write(number: int) -> bool:
        return records.write(tmp_path, record(top1=float(number), top5=99.0))[1]

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(50)))
    assert won.count(True) == 1
    found, faults = records.read_all(tmp_path)
    assert len(found) == 1 and not faults and found[0]["metrics"]["top1"] == won.index(True)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"schema": 3}, "newer repro"),
        ({"schema": 2}, "top1_nearest is missing"),
        ({"schema": 2, "kind": "reid", "metrics": {"rank1": 1.0}}, "query_effective_rank is missing"),
        ({"schema": 2, "kind": "linear", "protocol": {"values": {"crop_scale": [0.08, 1.0]}}}, "test_effective_rank"),
        ({"metrics": {"top1": 90.0, "top5": 10.0}}, "top5"),
        ({"metrics": {"top1": "90"}}, "finite number"),
        ({"metrics": {"top1": True}}, "finite number"),
        ({"schema": True}, "no schema version"),
        ({"seed": "0"}, "'seed' is '0', not a whole number"),
        ({"seed": -1}, "below 0"),
        ({"cost": {"wall_s": -1.0}}, "cost 'wall_s' is -1.0, not a number from 0 on"),
        ({"cost": {"wall_s": "1"}}, "cost 'wall_s' is '1'"),
        ({"method": "../up"}, "'method' is '../up'; letters, digits"),
        ({"variant": "a/b"}, "'variant' is 'a/b'; letters"),
        ({"track": "/etc"}, "'track' is '/etc'; letters"),
        ({"fingerprint": "../../x"}, "'fingerprint' is '../../x'"),
        ({"artifacts": {"log": "/etc/passwd"}}, "artifact 'log' is '/etc/passwd', not a path within"),
        ({"artifacts": {"log": "jobs/../../x"}}, "artifact 'log'"),
        ({"parents": [1]}, "'parents' holds 1"),
        ({"parents": -1}, "'parents' is -1, not a list"),
        ({"provenance": {"packages": []}}, r"'provenance.packages' is \[\], not an object"),
        ({"details": {"recipe": {"network": {"depth": [1]}}}}, "'details.recipe.network.depth'"),
        ({"details": {"note": "\x1b[31m"}}, "details.note holds '.x1b'"),
    ],
)
def test_what_cannot_be_true_is_refused_and_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**record(), **change}))
    with pytest.raises(UserError, match=words) as caught:
        records.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_came_later_is_not_asked_of_older_records() -> None:
    crops = {"protocol": {"values": {"crop_scale": [0.08, 1.0]}}}
    for change in ({}, {"kind": "reid"}, {"kind": "reid_finetune"}, {"kind": "linear", **crops}):
        assert records.problems({**record(), **change}) == []
        assert len(records.problems({**record(), **change, "schema": 2})) == 1
    cached = {"kind": "linear", "protocol": {"values": {"crop_scale": []}}, "schema": 2}
    assert records.problems({**record(), **cached}) == []  # its features have a record of their own
    assert records.problems({**record(top1=50.0, top1_nearest=40.0), "schema": 2}) == []


def test_nan_never_becomes_a_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finite"):
        records.write(tmp_path, record(top1=float("nan")))
    assert list(tmp_path.iterdir()) == []


def test_one_damaged_file_does_not_hide_the_others(tmp_path: Path) -> None:
    records.write(tmp_path, record())
    (tmp_path / "torn.json").write_text('{"schema": 1, "finger')
    found, faults = records.read_all(tmp_path)
    assert len(found) == 1 and len(faults) == 1 and "torn.json" in faults[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"schema": 1, "schema": 1}', "'schema' is there twice"),
        (b'{"metrics": {"top1": 1e999}}', "no finite number"),
        (b"[" * 100_000, "more than 50 levels of tables"),
        (b"\xff{}", "not UTF-8"),
        (b"[]", "no JSON object"),
    ],
)
def test_a_file_that_is_no_record_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    found, (fault,) = records.read_all(tmp_path)
    assert not found and words in fault and str(tmp_path / "x.json") in fault and fault.isprintable()


def test_a_name_that_cannot_be_printed_is_escaped_where_it_is_written(tmp_path: Path) -> None:
    path, _ = records.write(tmp_path, {**record(), "details": {"file": "a\x1b\udc80.pth"}})
    assert records.read(path)["details"] == {"file": r"a\x1b\udc80.pth"}


def test_every_record_is_checked_where_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train_effective_rank is missing"):
        records.write(tmp_path, {**record(), "kind": "features"})
    with pytest.raises(UserError, match="top1_k1 = 50 is not top1_nearest = 51"):
        records.write(tmp_path, record(top1=50.0, top1_k1=50.0, top1_nearest=51.0))
    assert list(tmp_path.iterdir()) == []


def test_a_job_whose_record_is_refused_fails_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(context: JobContext) -> records.Record:
        job = context.job
        return {**record(job.fingerprint, top1=50.0, top5=10.0 if job.seed == 0 else 99.0), "seed": job.seed}

    monkeypatch.setattr(jobs, "_one", one)
    same = Job("knn", "aps", "", "", "embedded", 0, {}, ())
    with pytest.raises(SystemExit, match="knn aps seed 0: record refused, top1 = 50 is above top5 = 10"):
        jobs.run(str(tmp_path), [replace(same, seed=seed, fingerprint=f"{seed}" * 64).to_json() for seed in (0, 1)])
    assert "knn aps seed 1: wrote" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "records").iterdir()] == [f"knn-aps-embedded-s1-{'1' * 12}.json"]


def test_a_rank_that_writes_nothing_says_all_the_same_which_jobs_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(context: JobContext) -> None:
        if context.job.seed != 1:
            raise UserError(f"no good seed {context.job.seed}")

    monkeypatch.setattr(jobs, "_one", one)
    monkeypatch.setenv("RANK", "1")
    same = Job("knn", "aps", "", "", "embedded", 0, {}, ())
    with pytest.raises(SystemExit, match=r"^knn aps seed 0: no good seed 0; knn aps seed 2: no good seed 2$"):
        jobs.run(str(tmp_path), [replace(same, seed=seed, fingerprint=f"{seed}" * 64).to_json() for seed in (0, 1, 2)])
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(("key", "value"), [("metrics", "x"), ("metrics", []), ("protocol", "x"), ("kind", [])])
def test_a_key_of_another_type_is_one_line(key: str, value: object) -> None:
    (problem,) = records.problems({**record(), key: value})
    assert f"key '{key}' is {value!r}, not " in problem
