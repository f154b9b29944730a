"""`verify` on records as they were published, and on copies of them in which one thing was changed."""

from __future__ import annotations

import copy
import datetime
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from leaderboards import published, record_files
from repro.cli.dispatch import main
from repro.results.record_checks import contradictions, known_short
from repro.results.suite import suite
from repro.store import records
from repro.store.records import Record

Kin = Callable[[Record, list[Record]], list[Record]]


def told(record: Record, family: list[Record]) -> list[str]:
    """What is said of a changed copy of one of them."""
    family = [record if one["fingerprint"] == record["fingerprint"] else one for one in family]
    return [fault for where, fault in contradictions(family) if where is record]


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
    "no date": ("knn", ("provenance", "date"), lambda _: "yesterday", "is not a date"),
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
    "answers": ("finetune", ("details", "n_test"), lambda _: 2**62, "images, but right answers of"),
    "another form": ("knn", ("details", "n_test"), lambda _: [1], "cannot be checked, an entry is of another form"),
    "standard error": ("knn", ("details", "standard_error"), lambda value: value / 2, "standard_error is"),
    "optimism": ("linear", ("metrics", "optimism"), lambda value: value - 0.3, "optimism is not"),
    "chosen k": ("knn", ("details", "k"), lambda k: {1: 5}.get(k, 1), "of the chosen k"),
    "held out": ("knn", ("details", "split_top1", "200"), lambda _: 99.0, "not the best on the images held out"),
    "another k": ("knn", ("metrics", "top1_k200"), lambda _: 99.0, "not the best of all k"),
    "few labels": ("linear", ("metrics", "top1_10_per_class"), lambda value: value + 1, "draws have a mean"),
    "mAP": ("reid", ("metrics", "mAP"), lambda value: 90.0, "its mAP_trapezoid allows"),
    "AP": ("detection", ("metrics", "bbox_AP"), lambda ap: ap, "AP50 and AP75 leave it"),  # becomes AP50
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_found(what: str, every: list[Record], kin: Kin) -> None:
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
        found = told(record, kin(original, every))
        assert any(word in fault and "\n" not in fault for fault in found), (records.file_name(original), found)


def holds(record: Record, way: tuple[str, ...]) -> bool:
    """Whether it has that entry; not of the four whose wall time is known to be short, nor of a training of nothing."""
    inner: Any = record
    for key in way:
        if not isinstance(inner, dict) or key not in inner:
            return False
        inner = inner[key]
    return not known_short(record) and (record["kind"] != "pretrain" or bool(record["details"].get("knn_curve")))


def test_the_command_counts_names_and_says_what_it_did_not_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, every: list[Record], kin: Kin
) -> None:
    monkeypatch.setattr(published, "drift", lambda *_: [])  # of no board here
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("no faults") and "not recomputed: top-5;" in out
    notes = re.findall(r"^note: .*/records/(\S+): wall and CPU seconds are of its last attempt", out, re.M)
    assert notes == ["mini/moco_v3.jsonl#e285eb6877b0"]
    knn = next(one for one in every if one["kind"] == "knn" and one["metrics"]["top1"] > 1)
    folder = Path("repro-work/records")
    for one in kin(knn, every):
        records.write(folder, one)
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


def test_damaged_lines_of_published_records_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, every: list[Record], kin: Kin
) -> None:
    boards = tmp_path / "leaderboards"
    monkeypatch.setattr(published, "FOLDER", boards)
    family = kin(next(one for one in every if (one["kind"], one["track"]) == ("knn", "mini")), every)
    record_files.write(boards / "records", family)
    published.rebuild(suite(), boards)
    assert main(["verify"]) == 0
    capsys.readouterr()
    (path,) = (boards / "records").glob("*/*.jsonl")
    first, *others = path.read_text().splitlines()
    shared = boards / "records" / record_files.SHARED
    parts = shared.read_text().splitlines()
    row = next(i for i, part in enumerate(parts) if '"part":"recipe"' in part)
    changed = [
        *parts[:row],
        parts[row].replace('"seed":0', '"seed":1').replace('"epochs":', '"epochs":1'),
        *parts[row + 1 :],
    ]
    impossible = json.loads(first) | {"metrics": {"top1": 90.0, "top5": 10.0}}
    for lines, shared_lines, where, words in (
        ([first, *others, "{"], parts, f"{path}:{len(family) + 1}", "not a record (Expecting"),
        ([first, *others, "[]"], parts, f"{path}:{len(family) + 1}", "no JSON object"),
        ([first, *others, first], parts, f"{path}:{len(family) + 1}", "the record of line 1 once more"),
        ([first.replace('"seed"', '"sead"'), *others], parts, f"{path}:1", "no seed"),
        ([first.replace('"track":"', '"track":"x'), *others], parts, f"{path}:1", "a record of x"),
        ([json.dumps(impossible), *others], parts, f"{path}:1", "top5"),
        ([json.dumps({**json.loads(first), "schema": 99}), *others], parts, f"{path}:1", "newer repro"),
        ([first, *others], changed, f"{shared}:{row + 1}", "but its content gives"),
        ([first, *others], parts[1:], f"{path}:", f"in {record_files.SHARED}"),
        ([first, *others], ["", *parts], f"{shared}:1", "not a shared part"),
    ):
        path.write_text("\n".join(lines) + "\n")
        shared.write_text("\n".join(shared_lines) + "\n")
        assert main(["verify"]) == 1
        faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith(where)]
        assert faults and all(words in fault for fault in faults), (words, faults)
    path.write_text("\n".join([first, *others]) + "\n")
    shared.write_text("\n".join(parts) + "\n")
    (boards / "records" / "knn-aps-mini-s0-0123456789ab.json").write_text("{}")
    assert main(["verify"]) == 1
    assert "0123456789ab.json: a record in a file of its own" in capsys.readouterr().out


def test_few_labels_that_there_are_not_are_no_contradiction(every: list[Record], kin: Kin) -> None:
    one = next(one for one in every if one["kind"] == "linear" and one["details"].get("low_shot"))
    said = {**one["details"], "low_shot": {**one["details"]["low_shot"], "1pct": "a class would get no image"}}
    assert told({**one, "details": said}, kin(one, every)) == []
