"""Two arms seed by seed: on records as they were published, and on changed copies of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import untuned
from scipy import stats

from repro.cli.dispatch import main
from repro.errors import UserError
from repro.results.compare import compare
from repro.settings import Settings
from repro.store import records

Record = dict[str, Any]


@pytest.fixture
def untuned_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arms are as their records say, also where a procedure has tuned the recipe since."""
    monkeypatch.setattr("repro.results.compare.suite", untuned.suite)


@pytest.mark.usefixtures("untuned_arms")
def test_compare_is_the_paired_difference(capsys: pytest.CaptureFixture[str], refused: Callable[[str], str]) -> None:
    assert main(["compare", "glnet", "moco_v3:resnet", "--track", "mini"]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^linear top1 +(\d) +([\d.]+) +([\d.]+) +([+-][\d.]+)", out, re.MULTILINE)
    assert len(rows) == 3
    mean = re.search(
        r"^linear top1 +mean +[\d.]+ +[\d.]+ +([+-][\d.]+) +([+-][\d.]+) to ([+-][\d.]+)", out, re.MULTILINE
    )
    assert mean
    value, low, high = map(float, mean.groups())
    differences = np.array([float(row[3]) for row in rows])
    assert value == pytest.approx(differences.mean(), abs=0.011)
    assert low < value < high and (low + high) / 2 == pytest.approx(value, abs=0.011)
    if "paired t" in mean.group(0):  # else the spread is the whole table's
        assert high - value == pytest.approx(stats.t.ppf(0.975, len(rows) - 1) * stats.sem(differences), abs=0.02)
    said = refused("compare glnet randon --track mini")
    assert said.startswith("repro: no records of 'randon' on mini; did you mean 'random'? methods with records: ")
    assert said.endswith("; --track NAME looks at another track\n") and "glnet:byol" not in said


@pytest.mark.usefixtures("untuned_arms")
def test_compare_holds_the_monitors_curves_against_each_other(
    first: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """On records that are given made-up looks, at other epochs for either arm."""
    tops = {"glnet": (20.0, 26.0, 32.0), "moco_v3": (18.0, 22.0)}
    for method, course in tops.items():
        for seed in range(3):
            variant = "resnet" if method == "moco_v3" else ""
            found = first(kind="pretrain", method=method, variant=variant, track="mini", seed=seed)
            found["details"]["knn_curve"] = [
                [4 * (i + 1) / len(course), i, 60.0 * i, 1e12 * i, top1 + seed * (method == "glnet")]
                for i, top1 in enumerate(course)
            ]
            records.write(Path("repro-work/records"), found)
    assert main(["compare", "glnet", "moco_v3:resnet", "--track", "mini"]) == 0
    out = capsys.readouterr().out
    assert out.count("▁") and "not a test score" in out and "linear top1" in out
    assert re.search(r"^glnet +2 +\S+ +22.00 to 34.00 +1.33 to 4 ", out, re.MULTILINE)
    interval = stats.ttest_1samp([10.0, 11.0, 12.0], 0).confidence_interval(0.95)
    row = re.search(r"^4 +33.00 +22.00 +(\S+) +(\S+) to (\S+)$", out, re.MULTILINE)
    assert row
    assert [float(value) for value in row.groups()] == pytest.approx((11.0, interval.low, interval.high), abs=0.006)
    assert not re.search(r"^1.33 ", out, re.MULTILINE)  # before the other one's first look
    at = re.search(r"^2.67 +27.00 +(\S+) ", out, re.MULTILINE)  # between two looks of the other one
    assert at and float(at[1]) == pytest.approx(np.interp(8 / 3, [2, 4], [18, 22]), abs=0.006)


def test_compare_says_what_is_unlike_and_takes_the_arms_that_are_named(
    capsys: pytest.CaptureFixture[str], refused: Callable[[str], str]
) -> None:
    assert main(["compare", "byol@8", "byol@15", "--track", "mini"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^byol: pre-training on cifar10-jpeg, .*epochs 8, .*tuning .*, our own runs$", out, re.MULTILINE)
    assert out.startswith(
        "track mini (another one: --track NAME)\n\nNot a fair comparison: the two differ in epochs.\nbyol"
    )
    assert "\nin detail: epochs 8 against 15\n" in out
    assert not re.search(r" mean .*[+-][0-9.]+ to ", out) and "none: not a fair comparison" in out
    assert "after epochs" not in out and "epoch by epoch not compared" in out
    recipes = set(re.findall(r"recipe (\w{6})", out))
    for name in ("byol@9", "byol@8x", "byol@000000"):
        assert main(["compare", name, "byol@15", "--track", "mini"]) == 2
    nine, _, zeros = capsys.readouterr().err.splitlines()
    assert nine.startswith("repro: no records of 'byol@9' on mini; did you mean 'byol@8'? ")
    assert "; --track NAME looks" in nine and "names with records: byol@8, byol@15; " in nine
    assert zeros.startswith("repro: no records of 'byol@000000' on mini; ")
    assert all(f"byol@{recipe}" in zeros and recipe not in nine for recipe in recipes)
    for recipe in recipes:
        assert main(["compare", f"byol@{recipe}", "glnet", "--track", "mini"]) == 0
        assert set(re.findall(r"^byol: .*recipe (\w{6})", capsys.readouterr().out, re.MULTILINE)) == {recipe}
    assert "are the same" in refused("compare glnet glnet --track mini")
    assert refused("compare glnet random --track minni").startswith("repro: unknown track 'minni'; did you mean 'mini'")
    assert "'@8' names no method; write NAME" in refused("compare @8 random --track mini")
    with pytest.raises(UserError, match=r"^'' names no method; write NAME"):
        compare("", "", "mini", Settings())


def test_a_damaged_record_is_not_left_out_in_silence(every: list[Record], capsys: pytest.CaptureFixture[str]) -> None:
    damaged = Path("repro-work/records/damaged.json")
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    for line in ("compare glnet random --track mini", f"explain {every[0]['fingerprint']}"):
        assert main(line.split()) == 0
        assert capsys.readouterr().out.startswith(f"skipped: {damaged}: ")


def test_compare_leaves_out_what_is_not_ours_unless_asked(
    first: Callable[..., Record], capsys: pytest.CaptureFixture[str], refused: Callable[[str], str]
) -> None:
    for seed in range(2):
        found = first(kind="knn", method="glnet", variant="", track="mini", seed=seed)
        found |= {"method": "theirs", "fingerprint": found["fingerprint"][::-1]}
        found["provenance"]["trust"] = "self-reported"
        records.write(Path("repro-work/records"), found)
    assert "no records of 'theirs' on mini; methods with records: " in refused("compare theirs glnet --track mini")
    assert main(["compare", "theirs", "glnet", "--track", "mini", "--trust", "self-reported"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^theirs: .*self-reported$", out, re.MULTILINE) and re.search(
        r"^knn top1 +mean", out, re.MULTILINE
    )


@pytest.mark.usefixtures("untuned_arms")
def test_costs_are_those_of_the_common_seeds(
    first: Callable[..., Record], every: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    line = "compare glnet moco_v3:resnet --track mini".split()
    assert main(line) == 0
    before = capsys.readouterr().out
    costs = re.findall(r"^(?:TFLOP|CPU seconds|seconds) .*", before, re.MULTILINE)
    assert len(costs) == 3 and "choose with" not in before
    trained = first(kind="pretrain", method="glnet", variant="", track="mini")
    for found in every:  # the same training once more, of a seed that the baseline has not, on a busy machine
        if found is trained or trained["fingerprint"] in found["parents"]:
            again = copy.deepcopy(found) | {"seed": 70, "fingerprint": found["fingerprint"][::-1]}
            again["parents"] = [parent[::-1] for parent in found["parents"]]
            again["cost"] |= {"wall_s": 9e4, "device_s": 9e4, "flops": 1e18}
            records.write(Path("repro-work/records"), again)
    assert main(line) == 0
    assert re.findall(r"^(?:TFLOP|CPU seconds|seconds) .*", capsys.readouterr().out, re.MULTILINE) == costs


def test_compare_says_which_other_lengths_there_are(
    first: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    found = first(kind="pretrain", method="glnet", variant="", track="mini")
    epochs = found["details"]["recipe"]["pretrain"]["epochs"]
    longer = copy.deepcopy(found) | {"fingerprint": found["fingerprint"][::-1]}
    longer["details"]["recipe"]["pretrain"]["epochs"] = 2 * epochs
    longer["details"]["knn_curve"] = [[0, 0, 0.0, 0.0, 20.0], [2 * epochs, 9, 9.0, 1e12, 30.0]]
    records.write(Path("repro-work/records"), longer)
    said = f"glnet was trained for {epochs} or {2 * epochs} epochs; choose with glnet@{2 * epochs}"
    assert main("compare glnet moco_v3:resnet --track mini".split()) == 0
    assert said in capsys.readouterr().out
    assert main(f"compare glnet@{epochs} moco_v3:resnet --track mini".split()) == 0
    assert said not in capsys.readouterr().out


@pytest.mark.parametrize(("times", "fair"), [(1.05, True), (1.2, False)])
def test_other_epochs_for_as_many_operations_are_equal_compute(
    every: list[Record], capsys: pytest.CaptureFixture[str], times: float, fair: bool
) -> None:
    mine = {r["fingerprint"]: r for r in every if (r["method"], r["variant"], r["track"]) == ("glnet", "", "mini")}
    (epochs,) = {r["details"]["recipe"]["pretrain"]["epochs"] for r in mine.values() if r["kind"] == "pretrain"}
    for found in mine.values():
        other = copy.deepcopy(found) | {"fingerprint": found["fingerprint"][::-1]}
        other["parents"] = [parent[::-1] for parent in found["parents"]]
        if found["kind"] == "pretrain":
            other["details"]["recipe"]["pretrain"]["epochs"] = epochs + 1
            other["cost"]["flops"] = found["cost"]["flops"] * times
        records.write(Path("repro-work/records"), other)
    assert main(f"compare glnet@{epochs + 1} glnet@{epochs} --track mini".split()) == 0
    out = capsys.readouterr().out
    assert (f"equal compute: {times:.2f} times the operations, and other epochs" in out) is fair
    assert ("Not a fair comparison: the two differ in epochs" in out) is not fair
    assert bool(re.search(r"^linear top1 +mean .* to ", out, re.MULTILINE)) is fair
