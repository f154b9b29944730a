"""`settle`: which pair comes next, when it stops, and what it says, on made-up records in place of trainings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.protocols.base import collapse_metrics
from leaderboards import prospects
from repro.cli.dispatch import main
from repro.plan import builder
from repro.plan.request import Request
from repro.results import settle
from repro.run import execute
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

Reach = Callable[[str, int], float]  # method, seed -> accuracy
CLAIM = "glnet-imagenet-gain"


class Lab:
    """In place of the executor: each run leaves the records that trainings with those accuracies would leave."""

    def __init__(self, reach: Reach) -> None:
        self.reach, self.runs = reach, list[tuple[tuple[str, ...], tuple[int, ...]]]()
        self.fails = self.loses = False

    def run(self, request: Request, settings: Settings, words: Sequence[str], views: object) -> int:
        self.runs.append((request.methods, request.seeds))
        if self.fails:
            return 1
        if self.loses:
            return 0
        spectrum = dict.fromkeys(collapse_metrics("train", "test"), 1.0)
        for job in builder.make(request, settings).to_do():
            data = {"name": "cifar10-jpeg", "source": "pictures", "manifest": "c0c0"}
            about = {"data": data, "training_code": "c0de", "threads": 1, "date": "2026-01-01T00:00:00+00:00"}
            record: dict[str, Any] = {
                "schema": 1,
                **{key: getattr(job, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")},
                "parents": list(job.parents),
                "protocol": dict(job.protocol) or {"name": "", "hash": "", "values": {}},
                "metrics": spectrum | ({"top1": self.reach(job.method, job.seed)} if job.kind == "linear" else {}),
                "cost": {"wall_s": 60.0, "flops": 1e12},
                "provenance": {
                    **about,
                    "trials": job.spec.get("recipe", {}).get("pretrain", {}).get("tuning_trials", 0),
                },
                "details": {"recipe": job.spec["recipe"]} if job.kind == "pretrain" else {},
                "artifacts": {},
            }
            place = Workspace(settings.workspace)
            place.records.mkdir(parents=True, exist_ok=True)
            assert records.problems(record) == []
            (place.records / records.file_name(record)).write_text(json.dumps(record))
        return 0


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, own_folder: None, data_root: Path) -> Callable[[Reach], Lab]:
    monkeypatch.setenv("REPRO_DATA", str(data_root))
    monkeypatch.setattr("slurm.scheduler.available", lambda: "no SLURM here")

    def open_(reach: Reach) -> Lab:
        made = Lab(reach)
        monkeypatch.setattr(execute, "run", made.run)
        return made

    return open_


def clear(method: str, seed: int) -> float:
    """GLNet is about 5 points better, and seeds move both."""
    return 40.0 + seed + (5.0 + 0.5 * (-1) ** seed if method == "glnet" else 0.0)


def even(method: str, seed: int) -> float:
    return 40.0 + float(np.random.default_rng([seed, len(method)]).normal())


@pytest.mark.seconds
def test_pairs_run_one_by_one_until_the_claim_is_decided(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(clear)
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0
    out = capsys.readouterr().out
    # 5 is the fewest pairs whose evidence can reach 40; both arms of a seed come together, and the seeds in order
    done = [(seed, method) for methods, seeds in made.runs for seed in seeds for method in methods]
    assert done == [(seed, method) for seed in range(5) for method in ("glnet", "moco_v3:resnet")]
    assert "holds at mini (n = 5)" in out and "decided" in out and "no pair yet; next pair" in out
    made.runs.clear()
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0 and made.runs == []  # given again, it starts from there


@pytest.mark.seconds
def test_it_stops_where_the_budget_cannot_decide(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(even)
    assert main(["settle", CLAIM, "--budget", "4d"]) == 0
    out = capsys.readouterr().out
    assert "not decided yet at mini" in out and ("futile" in out or "more than the budget has left" in out)
    assert 5 <= len({seeds for _, seeds in made.runs}) < 40
    assert main(["settle", CLAIM, "--budget", "1s"]) == 0
    assert "more than the budget has left" in capsys.readouterr().out


def test_a_failed_pair_ends_its_claim_and_shows(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(clear)
    made.fails = True
    assert main(["settle", CLAIM, "--budget", "10d"]) == 1
    assert len(made.runs) == 1 and "a run failed: python -m repro run --method glnet" in capsys.readouterr().out


def test_a_pair_that_leaves_no_record_is_not_made_for_ever(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(clear)
    made.loses = True
    assert main(["settle", CLAIM, "--budget", "10d"]) == 1
    assert (
        len(made.runs) == 1
        and "its last run left no record that counts: python -m repro run" in capsys.readouterr().out
    )


def test_a_dry_run_runs_nothing_and_orders_by_worth(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(clear)
    assert main(["settle", "--paper", "glnet", "--budget", "3h", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert main(["settle", CLAIM, CLAIM, "--budget", "3h", "--dry-run"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(CLAIM)]
    assert len(rows) == 2 and sum("direction" in row for row in rows) == 1  # once in each table, however often named
    assert made.runs == [] and CLAIM in out and "0 s of 3h spent" in out and "% " not in out.splitlines()[0]


def test_it_does_not_submit_pairs_for_which_nothing_waits(
    lab: Callable[[Reach], Lab], refused: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lab(clear)
    monkeypatch.setattr("slurm.scheduler.available", lambda: None)
    assert "give --executor local" in refused(f"settle {CLAIM} --budget 10d") and made.runs == []
    made.fails = True
    assert main(["settle", CLAIM, "--budget", "10d", "--executor", "local"]) == 1 and len(made.runs) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("settle --budget 3h", "ids of claims, --paper NAME, or"),
        (f"settle {CLAIM} --paper glnet --budget 3h", "ids of claims, --paper NAME, or"),
        ("settle nothing --budget 3h", "unknown claim 'nothing'"),
        ("settle --paper nobody --budget 3h", "no such paper; valid: all, aps, glnet"),
        (f"settle {CLAIM} --budget soon", "write it as 2h"),
        (f"settle {CLAIM} --budget 3gpuh", "give hours"),
        (f"settle {CLAIM} --budget {'9' * 400}h", "write it as 2h"),
        (f"settle {CLAIM} --budget 3h --track minni", "unknown track 'minni'; did you mean 'mini'?"),
        (f"settle {CLAIM} --budget 3h --track imagenet100", "can be tested at"),
    ],
)
def test_wrong_use_is_one_line(own_folder: None, refused: Callable[[str], str], line: str, said: str) -> None:
    assert said in refused(line)


def test_the_chance_of_a_decision_is_what_a_plain_simulation_gives() -> None:
    """Of pairs with a known spread of many values the posterior is narrow, so the chance can be simulated plainly."""
    rng = np.random.default_rng(5)
    values = (rng.normal(size=60) * 1.0).tolist()
    values = [value - float(np.mean(values)) + 0.25 for value in values]  # mean 0.25, standard deviation about 1
    low = prospects.prospect(values[:3], 40.0, 0)
    assert low == prospects.NOTHING
    near = prospects.prospect([5.0, 5.5, 4.5, 5.2], 40.0, 3)
    assert near.chance > 0.9 and near.pairs == 1  # four clear pairs, the fifth decides
    assert prospects.prospect([0.1, -0.1, 0.1, -0.1] * 5, 40.0, 3).chance < 0.01
    few, many = (prospects.prospect([], 40.0, pairs).chance for pairs in (5, 15))
    assert 0 < few < many < 1


def test_evidence_is_drawn_on_a_logarithmic_scale() -> None:
    assert settle.bar(1.0, 40.0) == "[" + "." * 20 + "]" and settle.bar(40.0, 40.0) == "[" + "#" * 20 + "]"
    assert settle.bar(40.0**0.5, 40.0).count("#") == 10 and settle.bar(1e9, 40.0).count("#") == 20
