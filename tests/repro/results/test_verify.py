"""`verify` on the published records, and on copies of them in which one thing was changed."""

from __future__ import annotations

import copy
import datetime
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from leaderboards import published
from repro.cli.dispatch import main
from repro.results import verify
from repro.store import records
from repro.store.records import Record

PUBLISHED = published.FOLDER / "records"


@pytest.fixture(scope="module")
def every() -> list[Record]:
    found, faults = records.read_all(PUBLISHED)
    assert found and not faults
    return found


def chain(record: Record, every: list[Record]) -> list[Record]:
    """A record with all that it comes from and that comes from it."""
    by_mark = {one["fingerprint"]: one for one in every}
    root = record
    while root["parents"]:
        root = by_mark[root["parents"][0]]
    marks, found = {root["fingerprint"]}, [root]
    for _ in range(2):
        below = [one for one in every if marks & set(one["parents"]) and one["fingerprint"] not in marks]
        found, marks = found + below, marks | {one["fingerprint"] for one in below}
    return found


def told(record: Record, kin: list[Record]) -> list[str]:
    """What is said of a changed copy of one of them."""
    kin = [record if one["fingerprint"] == record["fingerprint"] else one for one in kin]
    return [fault for where, fault in verify.contradictions(kin) if where is record]


def test_published_records_contradict_nothing(every: list[Record]) -> None:
    assert list(verify.contradictions(every)) == []


def future(_: str) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)).isoformat()


TAMPERED: Mapping[str, tuple[str, tuple[str, ...], Callable[[Any], Any], str]] = {
    "trials": ("pretrain", ("provenance", "trials"), lambda trials: trials + 4, "trials is"),
    "trials of an evaluation": ("knn", ("provenance", "trials"), lambda _: 1, "trials is 1"),
    "flops": ("pretrain", ("cost", "flops"), lambda flops: flops / 2, "flops is"),
    "operations an image": ("pretrain", ("cost", "flops_per_image"), lambda flops: flops / 2, "flops is"),
    "epochs": ("pretrain", ("details", "recipe", "pretrain", "epochs"), lambda n: 2 * n, "epochs"),
    "batch": ("pretrain", ("details", "recipe", "pretrain", "batch"), lambda n: 2 * n, "in batches of"),
    "passes": ("pretrain", ("cost", "image_passes"), lambda n: 2 * n, "image_passes is"),
    "updates": ("pretrain", ("cost", "updates"), lambda n: n + 1, "updates is"),
    "wall": ("pretrain", ("cost", "wall_s"), lambda _: 1.0, "wall_s is 1, less than"),
    "wall of an evaluation": ("linear", ("cost", "wall_s"), lambda _: 0.1, "wall_s is 0.1, but device_s"),
    "device": ("pretrain", ("cost", "device_s"), lambda seconds: seconds / 2, "device_s is"),
    "cpu": ("knn", ("cost", "cpu_s"), lambda seconds: 10 * seconds + 10, "cpu_s is"),
    "date to come": ("linear", ("provenance", "date"), future, "in the future"),
    "date long ago": ("pretrain", ("provenance", "date"), lambda _: "2019-05-01T00:00:00+00:00", "before 2020"),
    "date before the parent's": (
        "knn",
        ("provenance", "date"),
        lambda _: "2021-05-01T00:00:00+00:00",
        "the job before",
    ),
    "no date": ("knn", ("provenance", "date"), lambda _: "yesterday", "is none"),
    "seed": ("knn", ("seed",), lambda seed: seed + 7, "seed is"),
    "method": ("linear", ("method",), lambda _: "glnet_", "method is 'glnet_'"),
    "variant": ("features", ("variant",), lambda _: "released_", "variant is 'released_'"),
    "track": ("finetune", ("track",), lambda _: "cifar", "track is 'cifar'"),
    "parent": ("knn", ("parents",), lambda _: ["f" * 64], "left no record here"),
    "checkpoint": ("knn", ("details", "checkpoint"), lambda _: "0" * 40, "another checkpoint"),
    "pictures": ("linear", ("details", "n_train"), lambda n: n + 1, "but features of"),
    "protocol": ("linear", ("protocol", "values", "epochs"), lambda n: n + 1, "the protocol's hash is"),
    "top1": ("finetune", ("metrics", "top1"), lambda value: value - 0.5, "its right answers count"),
    "rank1": ("reid", ("metrics", "rank1"), lambda value: value - 0.5, "its right answers count"),
    "standard error": ("knn", ("details", "standard_error"), lambda value: value / 2, "standard_error is"),
    "optimism": ("linear", ("metrics", "optimism"), lambda value: value - 0.3, "optimism is not"),
    "chosen k": ("knn", ("details", "k"), lambda k: {1: 5}.get(k, 1), "of the chosen k"),
    "held out": ("knn", ("details", "split_top1", "200"), lambda _: 99.0, "not the best on the pictures held out"),
    "another k": ("knn", ("metrics", "top1_k200"), lambda _: 99.0, "not the best of all k"),
    "few labels": ("linear", ("metrics", "top1_10_per_class"), lambda value: value + 1, "draws have a mean"),
    "mAP": ("reid", ("metrics", "mAP"), lambda value: 90.0, "its mAP_trapezoid allows"),
    "AP": ("detection", ("metrics", "bbox_AP"), lambda ap: ap, "AP50 and AP75 leave it"),  # becomes AP50
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_found(what: str, every: list[Record]) -> None:
    kind, way, change, word = TAMPERED[what]
    able = [one for one in every if one["kind"] == kind and one["track"] == "mini" and holds(one, way)]
    if what == "few labels":  # the draws of the oldest records are under another name
        able = [one for one in able if "10_per_class" in one["details"].get("low_shot", {})]
    if what == "pictures":  # probes on crops take pictures, not features
        kinds = {one["fingerprint"]: one["kind"] for one in every}
        able = [one for one in able if kinds[one["parents"][0]] == "features"]
    if what == "held out":  # of another k than the chosen one
        able = [one for one in able if one["details"]["k"] != 200]
    for original in able[:: max(1, len(able) // 5)]:
        record = copy.deepcopy(original)
        inner = record
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = record["metrics"]["bbox_AP50"] if what == "AP" else change(inner[way[-1]])
        assert not records.problems(record), "else reading it would have told"
        found = told(record, chain(original, every))
        assert any(word in fault and "\n" not in fault for fault in found), (records.file_name(original), found)


def holds(record: Record, way: tuple[str, ...]) -> bool:
    """Whether it has that entry; not of the four whose wall time is known to be short, nor of a training of nothing."""
    inner: Any = record
    for key in way:
        if not isinstance(inner, dict) or key not in inner:
            return False
        inner = inner[key]
    return not verify._known_short(record) and (
        record["kind"] != "pretrain" or bool(record["details"].get("knn_curve"))
    )


def test_the_command_counts_names_and_says_what_it_did_not_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, every: list[Record]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_DATA", raising=False)
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("no faults") and "not recomputed: top-5;" in out
    notes = re.findall(r"^note: .*/pretrain-(\S+)\.json: wall and CPU seconds are of its last attempt", out, re.M)
    assert sorted(notes) == [
        "moco_v3-mini-s0-e285eb6877b0",
        "moco_v3-mini-s1-ba9289fbf6cc",
        "moco_v3-mini-s2-996a06bacd1a",
        "rotation_aux-mini-s2-dfeb36b12f8c",
    ]
    monkeypatch.setattr(published, "drift", list)
    knn = next(one for one in every if one["kind"] == "knn" and one["metrics"]["top1"] > 1)
    folder = tmp_path / "repro-work" / "records"
    folder.mkdir(parents=True)
    for one in chain(knn, every):
        shutil.copy(PUBLISHED / records.file_name(one), folder)
    assert main(["verify"]) == 0
    capsys.readouterr()

    changed = copy.deepcopy(knn)
    changed["metrics"]["optimism"] += 0.5
    (folder / records.file_name(knn)).write_text(json.dumps(changed))
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "optimism is not best-on-test less what is reported" in out and out.rstrip().endswith("1 fault")
    (folder / records.file_name(knn)).rename(folder / "knn-other.json")
    assert main(["verify"]) == 1
    assert "the file has another name than its record says" in capsys.readouterr().out
