"""The k-NN monitor: read from records, averaged, held against a baseline's end, drawn and printed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from untuned import suite

from leaderboards import boards, claim_files, curves, pictures
from leaderboards.arms import Arm, Arms
from leaderboards.markdown import markdown
from leaderboards.paired_arms import no_ratio

Record = dict[str, Any]
Make = Callable[..., list[Record]]
CPU = "CPU (x86_64, 2 cores)"


def link(record: Record) -> str:
    return f"records/{record['fingerprint'][:8]}.json"


def watched(make: Make, method: str, seed: int, tops: list[float], **more: Any) -> list[Record]:
    """A pre-training of 4 epochs and 400 updates, looked at evenly: 100 s and 5 TFLOP an epoch, k-NN `tops`."""
    cost = {"wall_s": 401.0, "device_s": 400.0, "updates": 400, "flops": 2e13}
    records = make(method, "knn", {"top1": tops[-1]}, seed=seed, epochs=4, cost=cost, **more)
    at = np.linspace(0, 400, len(tops))
    records[0]["details"]["knn_curve"] = [
        [u / 100, int(u), float(u), u / 100 * 5e12, top1] for u, top1 in zip(at, tops, strict=True)
    ]
    return records


def seen(records: list[Record]) -> list[Arm]:
    return curves.watched(Arms(records, suite()).of("pretrain"))


def test_looks_are_read_in_order_and_damage_is_passed_over(make: Make) -> None:
    (record, _) = watched(make, "aps", 0, [10.0, 20.0, 30.0])
    rows = record["details"]["knn_curve"]
    assert [(look.epochs, look.device_s, look.top1) for look in curves.looks(record)] == [
        (0.0, 0.0, 10.0),
        (2.0, 200.0, 20.0),
        (4.0, 400.0, 30.0),
    ]
    record["details"]["knn_curve"] = [rows[2], None, [1, 2], [1, 100, 1.0, 1.0, float("nan")], ["x"] * 5, rows[0]]
    assert [look.top1 for look in curves.looks(record)] == [10.0, 30.0]
    for damaged in (None, 3, {}, []):
        record["details"]["knn_curve"] = damaged
        assert curves.looks(record) == []


def test_points_between_looks_are_those_of_straight_lines() -> None:
    generator = np.random.default_rng(0)
    epochs, tops = np.sort(generator.uniform(0, 9, 6)), np.sort(generator.uniform(10, 50, 6))
    curve = [curves.Look(e, 10 * e, 3 * e, t) for e, t in zip(epochs.tolist(), tops.tolist(), strict=True)]
    for epoch in generator.uniform(epochs[0], epochs[-1], 20).tolist():
        found = curves.at_epoch(curve, epoch)
        assert found and found.top1 == pytest.approx(np.interp(epoch, epochs, tops))
        assert (found.epochs, found.device_s) == pytest.approx((epoch, 10 * epoch))
    for top1 in generator.uniform(tops[0], tops[-1], 20).tolist():
        found = curves.reaching(curve, top1)
        assert found and found.epochs == pytest.approx(np.interp(top1, tops, epochs)) and found.top1 == top1
    assert curves.at_epoch(curve, 9.5) is None and curves.reaching(curve, 51.0) is None
    assert curves.reaching(curve, 5.0) == curve[0]  # as good from the first look on
    dip = [*curve[:3], curves.Look(10.0, 0.0, 0.0, 0.0), curves.Look(11.0, 0.0, 0.0, 50.0)]
    first = curves.reaching(dip, float(tops[2]))
    assert first and first.epochs == pytest.approx(epochs[2])  # the first time, whatever comes later


def test_the_share_of_the_cost_is_that_of_the_pairs(make: Make) -> None:
    """aps rises 10 to 34 in a mean, moco_v3 ends at 22: half of the way, 2 epochs of 4, for every seed."""
    records: list[Record] = []
    for seed, shift in enumerate((-1.0, 0.0, 1.0)):
        records += watched(make, "aps", seed, [10.0 + shift, 22.0 + shift, 34.0 + shift])
        records += watched(make, "moco_v3", seed, [10.0, 16.0, 22.0 + shift])
    records += watched(make, "aps", 7, [0.0, 0.0, 0.0])  # a seed that only one of them has does not count
    known = claim_files.load(suite())
    (item,) = curves.reached(known, seen(records))
    assert item.seeds == [0, 1, 2] and item.risen and (item.our_end, item.their_end) == (34.0, 22.0)
    text = markdown(boards.compose(Arms(records, suite()), known, link))["efficiency.md"]
    short, row = [line for line in text.splitlines() if re.match(r"\| aps +\| moco_v3", line)]
    half = ["0.50 (0.50 to 0.50)"] * 2  # every seed of aps reaches that of moco_v3 half-way
    assert [cell.strip() for cell in short.strip("|").split("|")][2:5] == [half[0], "34.0", "22.0"]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:9] == ["4", "0", "3", "34.00", "22.00", *half]
    assert "not a test score" in text

    slower = [r for r in records if r["method"] != "moco_v3"]
    for seed in range(3):
        slower += watched(make, "moco_v3", seed, [10.0, 40.0, 50.0], device="GPU")
    (item,) = curves.reached(known, seen(slower))
    assert item.risen
    text = markdown(boards.compose(Arms(slower, suite()), known, link))["efficiency.md"]
    (share,) = re.findall(r"\| aps +\| moco_v3 +\| +([\d.]+) ", text)[:1]
    assert float(share) == 2  # aps needs four epochs for its 34, moco_v3 the two to its first look
    for record in slower:
        record["provenance"]["trust"] = "self-reported"
    assert curves.reached(known, seen(slower)) == []


def test_the_looks_of_a_training_are_read_once_however_many_claims_name_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [r for m in ("aps", "moco_v3", "byol") for r in watched(make, m, 0, [10.0, 20.0])]
    arms, read = seen(records), Counter[str]()
    looks = curves.looks
    monkeypatch.setattr(curves, "looks", lambda record: (read.update([record["fingerprint"]]), looks(record))[1])
    curves.reached(claim_files.load(suite()), arms)
    assert len(read) == 3 and set(read.values()) == {1}


def test_where_there_is_nothing_to_reach_there_is_no_share(make: Make) -> None:
    """A baseline that ends where the untrained networks are, and one of other tuning."""
    records: list[Record] = []
    for seed in range(2):
        records += watched(make, "aps", seed, [23.0, 30.0, 34.0])
        records += watched(make, "moco_v3", seed, [10.0, 16.0, 22.0])
    known = claim_files.load(suite())
    (item,) = curves.reached(known, seen(records))
    assert not item.risen
    text = markdown(boards.compose(Arms(records, suite()), known, link))["efficiency.md"]
    _, row = [line for line in text.splitlines() if re.match(r"\| aps +\| moco_v3", line)]
    assert "untrained as good as the baseline's end" in row
    assert "| share of" not in " ".join(text.split())  # a column in which nothing is said is left out

    unlike = records[:2]
    unlike += watched(make, "moco_v3", 0, [10.0, 16.0, 50.0], trials=3)
    assert curves.reached(known, seen(unlike)) == []


def test_times_under_other_loads_make_no_ratio(make: Make) -> None:
    """A core for two of aps' seeds, half of one for the baseline's: twice the time, the same CPU time."""
    records: list[Record] = []
    for seed in range(2):
        for method, wall, top1 in (("aps", 400.0, 34.0), ("moco_v3", 800.0, 22.0)):
            made = watched(make, method, seed, [10.0, 16.0, top1])
            made[0]["cost"] |= {"wall_s": wall, "device_s": wall, "cpu_s": 380.0}
            records += made
    found = {arm.method: arm for arm in seen(records)}
    assert {name: arm.cpu_time()[0] for name, arm in found.items()} == pytest.approx({"aps": 380.0, "moco_v3": 380.0})
    assert no_ratio(found["aps"], found["moco_v3"], {0, 1}) == "CPU share 95 % against 48 %"
    assert no_ratio(found["aps"], found["aps"], {0, 1}) == ""
    for record in records[:1]:  # one seed that other work held up: the mean would hide it among many
        record["cost"]["wall_s"] = 4000.0
    held_up = {arm.method: arm for arm in seen(records)}["aps"]
    assert no_ratio(held_up, found["aps"], {0, 1}) == "CPU share 10 to 95 % against 95 %"
    assert no_ratio(held_up, found["aps"], {1}) == ""  # of the other seed alone
    records[0]["cost"]["wall_s"] = 400.0
    text = markdown(boards.compose(Arms(records, suite()), claim_files.load(suite()), link))["efficiency.md"]
    assert re.search(r"\| aps .*6\.3 min", text)
    for record in records:
        record["cost"].pop("flops", None)  # of what has no operations the time is drawn
    sheet = pictures.sheet(boards.compose(Arms(records, suite()), claim_files.load(suite()), link))
    assert "CPU time of pre-training (minutes)" in sheet and "device time" not in sheet
    assert sheet.count(" at 6.33 min of CPU time") == 2

    went_on = make("aps", "pretrain", {})[0]  # of two attempts, and times but the device's of the last alone
    went_on["cost"] |= {"wall_s": 50.0, "device_s": 400.0, "cpu_s": 40.0}
    (arm,) = Arms([went_on], suite()).of("pretrain")
    assert arm.cpu_time() == {}
