"""`repro tune`: trials side by side, judged on held-out training pictures, out of the boards' sight."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from repro.cli.dispatch import main

pytestmark = [pytest.mark.processes, pytest.mark.trains, pytest.mark.usefixtures("own_folder")]

SMALL = (
    "--executor local --set pretrain.epochs=1 pretrain.batch=32 pretrain.warmup_epochs=0 network.depth=1 network.dim=24"
    " data.limit=200 linear.epochs=2 linear.low_shot_splits=2 knn.ks=[1,5]"
).split()
TRIAL = "--try pretrain.lr=1e-3 method.temperature=0.5".split()


def test_trials_are_ranked_by_the_held_out_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["tune", "--method", "aps", *SMALL, *TRIAL]
    assert main(line) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^aps  +(-|pretrain\S.*?)  +" + r"([\d.]+) +" * 4 + "0 of 1", out, re.MULTILINE)
    assert {row[0] for row in rows} == {"-", "pretrain.lr=1e-3 method.temperature=0.5"}
    means = [float(row[4]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert means == pytest.approx([sum(map(float, row[1:4])) / 3 for row in rows], abs=0.11)
    assert "2 settings in repro-work/tuning" in out

    # the figures are those of the split, as each record has them; nothing reaches the workspace's own records
    found = [json.loads(path.read_text()) for path in Path("repro-work/tuning/records").glob("*.json")]
    knn = sorted(r["details"]["split_top1"][str(r["details"]["k"])] for r in found if r["kind"] == "knn")
    assert sorted(float(row[1]) for row in rows) == pytest.approx(knn, abs=0.051)
    draws = [r["details"]["low_shot"]["10_per_class"] for r in found if r["kind"] == "linear"]
    few = [
        run["split_top1"] for runs in draws for run in runs if "split_top1" in run
    ]  # a draw can be all that was held
    assert sorted(float(row[3]) for row in rows) == pytest.approx(sorted(few), abs=0.051)
    assert {r["seed"] for r in found} == {100} and not Path("repro-work/records").exists()

    assert main([*line, *TRIAL]) == 0
    assert "everything was cached" in capsys.readouterr().out


def test_a_trial_changes_a_recipe_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--method", "aps", *SMALL, "--try", "knn.ks=[1]"]) == 2
    assert "--try knn.ks=[1]: a trial changes a recipe" in capsys.readouterr().err
