"""`settle`: which pair comes next, when it stops, and what it says, on made-up records in place of trainings."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_lab import CLAIM, Lab, Reach, alone, clear, noisy, same, worse

import methods
from leaderboards import evalues, prospects
from leaderboards.arms import Arms
from leaderboards.claim_arms import COMPUTE
from leaderboards.missing_runs import at_equal_compute
from leaderboards.prospects import Prospect
from leaderboards.statistics import Mean
from leaderboards.verdicts import OVER, SAME, UNDER, Evidence, judge
from repro.cli import commands
from repro.cli.dispatch import main
from repro.plan import builder, recipes, registry
from repro.plan.budget import Budget
from repro.plan.planned import Plan
from repro.plan.registry import MethodInfo
from repro.plan.request import Request
from repro.results import equal_tuning, find_records, settle, settle_round
from repro.results.settle_asked import Asked, Step
from repro.results.settle_ledger import Ledger
from repro.results.suite import suite
from repro.run import execute, tune_equal
from repro.settings import Settings, load
from repro.store import records
from repro.store.workspace import Workspace


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, own_folder: None, data_root: Path) -> Callable[[Reach], Lab]:
    monkeypatch.setenv("REPRO_DATA", str(data_root))
    monkeypatch.setattr("slurm.scheduler.available", lambda: "no SLURM here")
    monkeypatch.setattr(find_records, "every_claim", alone(find_records.every_claim))

    def open_(reach: Reach) -> Lab:
        made = Lab(reach)
        monkeypatch.setattr(execute, "carry_out", made.carry_out)
        return made

    return open_


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
    assert "holds on mini (n = 5)" in out and "decided" in out and "not run; next pair" in out
    made.runs.clear()
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0 and made.runs == []  # given again, it starts from there


@pytest.mark.seconds
def test_equal_compute_follows_with_a_longer_baseline(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GLNet takes 1.5 times the operations: its 8 epochs are those of 12 epochs of the baseline."""
    monkeypatch.setattr(find_records, "published_records", lambda: ([], []))
    made = lab(clear)
    made.flops = {"glnet": 1.5e12, "moco_v3:resnet": 1e12}
    assert recipes.resolve(*registry.find("moco_v3:resnet"), "mini", {})["pretrain"]["epochs"] == 8
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0
    longer = [(methods, seeds) for methods, seeds in made.runs if methods == ("moco_v3:resnet",)]
    assert longer == [(("moco_v3:resnet",), (seed,)) for seed in range(5)]
    found, _ = records.read_all(Workspace(Path("repro-work")).records)
    trained = [(r["seed"], _epochs(r)) for r in found if r["kind"] == "pretrain"]
    assert sorted(trained) == sorted([(seed, epochs) for seed in range(5) for epochs in (8, 8, 12)])
    out = capsys.readouterr().out
    assert "not run on mini, equal compute; next pair" in out
    assert "holds on mini (n = 5); holds on mini, equal compute (n = 5)" in out
    made.runs.clear()
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0 and made.runs == []
    gone = {r["fingerprint"] for r in found if r["kind"] == "pretrain" and _epochs(r) == 12}
    for _ in range(2):  # and what was computed from them
        gone |= {record["fingerprint"] for record in found if gone & set(record["parents"])}
    for record in found:
        if record["fingerprint"] in gone:
            (Path("repro-work/records") / records.file_name(record)).unlink()
    capsys.readouterr()
    assert main(["claims", CLAIM]) == 0
    out = capsys.readouterr().out
    asked, command = out[out.index("mini, better or not, equal compute: ") :].splitlines()[:2]
    assert asked.endswith("at least 5 pairs") and "--method moco_v3:resnet --seed 0 1 2 3 4" in command
    assert command.endswith("pretrain.epochs=12")


def _epochs(trained: dict[str, object]) -> object:
    details: Any = trained["details"]
    return details["recipe"]["pretrain"]["epochs"]


@pytest.mark.seconds
def test_equal_compute_is_left_out_where_no_number_of_epochs_comes_near(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(clear)
    made.flops = {"glnet": 1.0, "moco_v3:resnet": 30.0}  # 8 epochs of the one are 0.27 of the other
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0
    assert {methods for methods, _ in made.runs} == {("glnet", "moco_v3:resnet")}
    out = capsys.readouterr().out
    assert "holds on mini (n = 5)  " in out
    assert "decided at equal epochs; no number of epochs gives the baseline as many operations" in out


@pytest.mark.parametrize(
    ("flops", "epochs"),
    [
        ((1.5, 1.0), 12),
        ((0.5, 1.0), 4),
        ((1.04, 1.0), None),  # counts as equal
        ((30.0, 1.0), None),  # 240 epochs: more than MOST_TIMES as many
        ((0.13, 1.0), None),  # 1 epoch, all of it warm-up
        ((1e300, 1e-300), None),
        ((1e-300, 1e300), None),
        ((0.0, 1.0), None),
    ],
)
def test_how_long_a_baseline_trains_at_equal_compute(
    flops: tuple[float, float], epochs: int | None, own_folder: None, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 8 epochs of the method, its operations an epoch and those of the baseline."""
    monkeypatch.setenv("REPRO_DATA", str(data_root))
    made, here = Lab(clear), load({})
    made.flops = dict(zip(("glnet", "moco_v3:resnet"), flops, strict=True))
    words = "run --method glnet moco_v3:resnet --seed 0 1 2 3 4 --track mini --eval linear"
    made.carry_out(builder.make(commands.parse(words.split()), here), here, (), None)
    known = Arms(records.read_all(Workspace(here.workspace).records)[0], suite())
    claim = next(one for one in alone(find_records.every_claim)() if one.id == CLAIM)
    first, *others = (one for one in judge([claim], known, "mini")[CLAIM] if one.track == "mini" and not one.own)
    (lacking,) = at_equal_compute(first, others[0]) or (None,)
    assert (lacking and lacking.epochs) == epochs


@pytest.mark.seconds
def test_a_lone_training_is_not_shared_out_over_the_cores(
    lab: Callable[[Reach], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At equal compute the baseline alone is trained: of two cores one stays idle."""
    monkeypatch.setattr(find_records, "published_records", lambda: ([], []))
    made = lab(clear)
    made.flops = {"glnet": 2.0, "moco_v3:resnet": 1.0}
    settings = load({"cores": 2})
    words = "run --method glnet moco_v3:resnet --seed 0 1 2 3 4 --track mini --eval linear"
    made.carry_out(builder.make(commands.parse(words.split()), settings), settings, (), None)
    asked, ledger = settle.ask([CLAIM], None, "mini", settings, commands.parse), Ledger(Budget.parse("10d"))
    (step,) = settle.look(asked, ledger)
    assert step.epochs and step.verdict and step.verdict.basis == COMPUTE
    assert step.seconds == sum(map(ledger.price, step.plans))


@pytest.mark.parametrize(("cores", "claims"), [(1, 1), (2, 3), (3, 5), (16, 5)])
def test_pairs_of_several_claims_run_side_by_side_where_there_are_cores(
    cores: int, claims: int, own_folder: None, data_root: Path
) -> None:
    """Two trainings for each core; arms that pairs share count once."""
    here = load({"cores": cores})
    lines = [
        f"run --method {arm} simclr --seed 0 --track mini --eval linear"
        for arm in ("byol", "nnclr", "swav", "glnet", "aps")
    ]
    steps = [_step(line, here, place) for place, line in enumerate(lines)]
    chosen = settle_round.next_round(reversed(steps), 3600.0, here)
    assert chosen == steps[:claims]
    assert settle_round.next_round(steps, 200.0, here) == steps[: min(claims, 2)]  # what the budget has left for
    best = dataclasses.replace(steps[0], claim=dataclasses.replace(steps[0].claim, form="t1").as_published)
    assert best.worth == steps[0].worth > steps[1].worth
    assert settle_round.next_round([best, *steps[1:]], 3600.0, here)[0] == steps[1]  # the paper's form comes last


def _step(line: str, here: Settings, place: int = 0) -> Step:
    words = ("python", "-m", "repro", *line.split())
    plan = builder.make(commands.parse(words[3:]), here)
    claim = next(claim for claim in find_records.every_claim() if claim.id == CLAIM)
    claim = dataclasses.replace(claim, id=f"claim{place}")
    return Step(claim, None, (words,), 60.0, 9, Prospect(0.9 - 0.1 * place, 9), plans=(plan,), price=60.0 * (1 + place))


@pytest.mark.parametrize("status", [1, 130])
def test_of_a_round_the_pair_that_failed_fails_and_all_share_the_time(
    status: int, own_folder: None, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """130: it was interrupted. Then no claim is left for that, and the time counts all the same."""
    here, made = load({"cores": 2}), Lab(clear)
    lines = [f"run --method {arm} --seed 0 --track mini --eval linear" for arm in ("byol", "nnclr")]
    steps = [_step(line, here, place) for place, line in enumerate(lines)]
    asked = Asked((), (), "mini", here, commands.parse)
    ledger, clock = Ledger(Budget.parse("1h")), iter((100.0, 130.0))

    def all_but_one(planned: Plan, settings: Settings, words: object, views: object) -> int:
        for job in planned.to_do():
            if job.method != "nnclr":
                made.do(job, Workspace(settings.workspace))
        return status

    monkeypatch.setattr(execute, "carry_out", all_but_one)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with contextlib.suppress(KeyboardInterrupt):
        settle_round.carry_out(steps, asked, ledger)
    ledger.reckon({})
    assert ledger.by_claim == {"claim0": 10.0, "claim1": 20.0}  # by their estimates
    assert ledger.failed.keys() == ({"claim1"} if status == 1 else set())
    assert all("--method nnclr" in why for why in ledger.failed.values())


def test_published_pairs_on_other_pictures_are_said_not_to_count(
    own_folder: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The campaign's pairs are on the JPEG copy; without any data a run takes the official pictures."""
    monkeypatch.delenv("REPRO_DATA", raising=False)
    assert main(["settle", CLAIM, "--budget", "10d", "--dry-run", "--executor", "local"]) == 0
    assert "pairs on CIFAR-10 (JPEG copy) do not" in capsys.readouterr().out  # in a column that wraps


def test_the_papers_own_form_is_settled_beside(lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]) -> None:
    lab(clear)
    words = ["settle", "triplet-imagenet-byol-gain", "--track", "mini", "--budget", "10d", "--dry-run"]
    assert main(words) == 0
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("triplet")]
    assert set(named) == {"triplet-imagenet-byol-gain", "triplet-imagenet-byol-gain:literal"}


@pytest.mark.seconds
def test_it_stops_where_the_budget_cannot_decide(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(noisy)
    assert main(["settle", CLAIM, "--budget", "4d"]) == 0
    out = capsys.readouterr().out
    assert "not decided yet on mini" in out and "futile" in out
    assert 5 <= len({seeds for _, seeds in made.runs}) < 20
    assert main(["settle", CLAIM, "--budget", "1s"]) == 0
    assert "more than the budget has left" in capsys.readouterr().out


@pytest.mark.seconds
@pytest.mark.parametrize(("reach", "said"), [(worse, "opposite"), (same, "no difference")])
def test_what_made_up_records_say_is_the_verdict_and_the_end(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str], reach: Reach, said: str
) -> None:
    made = lab(reach)
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0
    assert f"{said} on mini (n = 5)" in capsys.readouterr().out
    assert {seed for _, seeds in made.runs for seed in seeds} == set(range(5))  # not one pair more than it takes


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
    assert len(rows) == 2 and sum("better or not" in row for row in rows) == 1  # once a table, however often named
    assert made.runs == [] and CLAIM in out and " spent" not in out.splitlines()[-1] and "% " not in out.splitlines()[0]


def another_lab(monkeypatch: pytest.MonkeyPatch, seeds: str = "0 1 2", reach: Reach = clear) -> Path:
    """The folder of records of a lab that has made the pairs of these seeds."""
    line = f"run --method glnet moco_v3:resnet --seed {seeds} --track mini --eval linear".split()
    theirs = Settings(workspace=Path("theirs"), data_root=Path(os.environ["REPRO_DATA"]))
    Lab(reach).carry_out(builder.make(commands.parse(line), theirs), theirs, line, None)
    return Path("theirs/records")


@pytest.mark.seconds
def test_it_starts_from_published_records_of_today_s_code(
    lab: Callable[[Reach], Lab], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, there = lab(clear), records.read_all(another_lab(monkeypatch))[0]
    monkeypatch.setattr(find_records, "published_records", lambda: (there, []))
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0
    out = capsys.readouterr().out
    assert sorted({seed for _, seeds in made.runs for seed in seeds}) == [3, 4]
    assert "holds on mini (n = 5)" in out
    assert "records from this lab (seeds 3, 4) and the published boards (seeds 0, 1, 2)" in out
    # of another code they are no part of this test
    for record in there:
        if record["kind"] == "pretrain":
            record["provenance"]["training_code"] = "older"
    made.runs.clear()
    assert main(["settle", CLAIM, "--budget", "10d", "--workspace", "empty"]) == 0
    assert sorted({seed for _, seeds in made.runs for seed in seeds}) == [0, 1, 2, 3, 4]


@pytest.mark.seconds
def test_records_of_two_labs_join_and_the_verdict_names_both(
    lab: Callable[[Reach], Lab], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, folder = lab(clear), another_lab(monkeypatch)
    assert main(["records", "import", str(folder), "--trust", "peer", "--lab", "kyoto"]) == 0
    assert main(["settle", CLAIM, "--budget", "10d"]) == 0
    assert sorted({seed for _, seeds in made.runs for seed in seeds}) == [3, 4]
    out = capsys.readouterr().out
    assert "holds on mini (n = 5)" in out and "records from this lab (seeds 3, 4) and kyoto (seeds 0, 1, 2)" in out
    assert main(["claims", CLAIM]) == 0
    assert "records from this lab (seeds 3, 4) and kyoto (seeds 0, 1, 2)" in " ".join(capsys.readouterr().out.split())


def write_toy(name: str) -> Path:
    """A method in two files of a folder: SimCLR by another name."""
    Path("toy.py").write_text("from methods.simclr import SimCLR as Toy\n")
    recipe = (Path(methods.__file__).parent / "recipes" / "simclr.toml").read_text()
    recipe = recipe.replace('name = "simclr"', f'name = "{name}"').replace("methods.simclr:SimCLR", "toy:Toy")
    Path("toy.toml").write_text(recipe)
    return Path("toy.toml").resolve()


@pytest.mark.seconds
def test_a_method_of_one_s_own_is_tuned_first_as_its_rivals_were(
    lab: Callable[[Reach], Lab],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[[str], str],
) -> None:
    made, tuned, asked = lab(clear), {"byol"}, list[Request]()

    def by(info: MethodInfo, *_: object) -> str:
        return "P1-aa" if info.name in tuned else ""

    def tune(request: Request, *_: object, write: bool) -> int:
        assert write
        asked.append(request)
        tuned.add("tuned_toy")
        return 0

    monkeypatch.setattr(recipes, "tuned_by", by)
    told = dataclasses.replace(suite(), tuned=lambda arm, track: by(registry.find(arm)[0]))
    monkeypatch.setattr(equal_tuning, "suite", lambda: told)
    monkeypatch.setattr(settle, "suite", lambda: told)
    monkeypatch.setattr(tune_equal, "tune", tune)
    file = write_toy("tuned_toy")
    why = refused("settle --method toy.toml --against simclr byol --budget 10d")  # simclr is not tuned: nothing is
    assert f"--method {file} byol" in why and not asked and not made.runs
    assert main("settle --method toy.toml --against byol --budget 10d".split()) == 0
    (request,) = asked
    assert request.methods == (str(file),) and request.track == "mini"
    assert made.runs and "holds on mini (n = 5)" in capsys.readouterr().out
    assert main("settle --method toy.toml --against byol --budget 10d".split()) == 0 and len(asked) == 1


@pytest.mark.seconds
def test_a_method_of_one_s_own_is_a_claim(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str], refused: Callable[[str], str]
) -> None:
    made = lab(clear)
    write_toy("toy")
    line = "settle --method toy.toml --against byol simclr --track mini --allow-unequal-tuning"
    assert main([*line.split(), "--budget", "10d"]) == 0
    out = capsys.readouterr().out
    rows = [
        said
        for said in out.splitlines()
        if said.startswith("toy-over-") and "holds on mini" in said and "[" not in said
    ]
    assert len(rows) == 2 and all(" decided" in said for said in rows)
    toys = [seeds for names, seeds in made.runs if any(name.endswith("toy.toml") for name in names)]
    assert [seed for seeds in toys for seed in seeds] == sorted({seed for seeds in toys for seed in seeds})  # each once
    assert "leave out glnet" in refused(f"{line} --paper glnet --budget 3h")
    assert "--against goes with --method" in refused(f"settle {CLAIM} --against byol --budget 3h")
    assert "--against byol simclr" in refused("settle --method toy.toml --budget 3h")
    assert "compared with itself" in refused("settle --method byol --against byol --budget 3h")
    assert "choose mini" in refused("settle --method toy.toml --against byol --track embedded --budget 3h")
    assert "between 0 and 100" in refused("settle --method toy.toml --against byol --margin 0 --budget 3h")


@pytest.mark.seconds
def test_arms_that_are_not_tuned_alike_are_refused_or_marked(
    lab: Callable[[Reach], Lab],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[str], str],
) -> None:
    told = dataclasses.replace(suite(), tuned=lambda arm, track: "P1-aa" if arm == "glnet" else "")
    monkeypatch.setattr(equal_tuning, "suite", lambda: told)
    monkeypatch.setattr(settle, "suite", lambda: told)
    made = lab(clear)
    why = refused(f"settle {CLAIM} --budget 10d")
    assert "tuning differs, procedure P1-aa against 1 trial by hand" in why and "--allow-unequal-tuning" in why
    tune = "python -m repro tune --equal --write --track mini --method glnet moco_v3:resnet"
    assert tune in why
    capsys.readouterr()
    assert main(["settle", CLAIM, "--budget", "10d", "--dry-run"]) == 0 and made.runs == []
    assert tune in capsys.readouterr().out  # a dry run says it, and goes on
    every = find_records.every_claim
    monkeypatch.setattr(
        find_records, "every_claim", lambda: [item for item in every() if item.id in (CLAIM, "glnet-location")]
    )
    assert main(["settle", "--paper", "glnet", "--budget", "10d"]) == 0 and made.runs == []
    assert tune in capsys.readouterr().out  # of several claims the others go on
    assert main(["settle", CLAIM, "--budget", "10d", "--allow-unequal-tuning"]) == 0
    assert made.runs and "incomparable on mini" in capsys.readouterr().out


def test_new_pairs_do_not_go_on_with_what_was_trained_before_the_tuning(
    lab: Callable[[Reach], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would repeat the older recipe, so as to join it."""
    told = dataclasses.replace(suite(), tuned=lambda arm, track: "P1-aa" if track == "mini" else "")
    monkeypatch.setattr(equal_tuning, "suite", lambda: told)
    lab(clear).carry_out(builder.make(Request(("glnet",), "mini", ("linear",)), load({})), load({}), (), None)
    found = records.read_all(Workspace(load({}).workspace).records)[0]
    assert found and equal_tuning.of_these_recipes(found, "mini") == found  # the recipe as it is: tuned
    (origin,) = (record for record in found if record["kind"] == "pretrain")
    origin["details"]["recipe"]["pretrain"]["lr"] *= 2
    assert equal_tuning.of_these_recipes(found, "mini") == []
    assert equal_tuning.of_these_recipes(found, "cifar") == found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("settle --budget 3h", "say which claims: their ids, --paper NAME or"),
        (f"settle {CLAIM} --paper glnet --budget 3h", "say which claims: their ids, --paper NAME or"),
        ("settle nothing --budget 3h", "unknown claim 'nothing'"),
        ("settle --paper nobody --budget 3h", "no such paper; valid: all, aps, glnet"),
        (f"settle {CLAIM} --budget soon", "write it as 2h"),
        (f"settle {CLAIM} --budget 3gpuh --executor local", "give hours"),
        (f"settle {CLAIM} --budget {'9' * 400}h", "write it as 2h"),
        (f"settle {CLAIM} --budget 3h --track minni", "unknown track 'minni'; did you mean 'mini'?"),
        (f"settle {CLAIM} --budget 3h --track imagenet100", "be tested on imagenet100; use --track mini"),
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


def test_that_there_is_no_difference_is_a_decision_too() -> None:
    values = [0.8, -0.9, 0.7, -0.6, 0.5, -0.5]
    assert evalues.within(values, -1.0, 1.0) < 40
    alone, both = (prospects.prospect(values, 40.0, 6, margin=margin).chance for margin in (None, 1.0))
    assert alone < 0.05 and both > 0.5
    dear = prospects.prospect(values, 40.0, 6, margin=1.0, same=1e9)
    assert dear.chance == alone  # by Holm's procedure the questions of a family may take unequal evidence
    # what `within` says of continuations that are drawn here, one by one
    rng, came = np.random.default_rng(1), 0
    n, mean, variance = len(values), float(np.mean(values)), float(np.var(values, ddof=1))
    for _ in range(200):
        spread = np.sqrt((n - 1) * variance / rng.chisquare(n - 1))
        drawn = [*values, *rng.normal(rng.normal(mean, spread / np.sqrt(n)), spread, 6)]
        tests = [evalues.above(drawn), evalues.below(drawn), evalues.within(drawn, -1.0, 1.0)]
        came += max(tests) >= 40
    assert abs(came / 200 - both) < 0.12  # three standard errors of the two simulations


def test_a_stated_value_is_decided_within_its_margin_or_beyond() -> None:
    """Values that are far from 0 decide nothing by that: those at the edge of the margin stay open."""
    values = np.array([0.7, -0.6, 0.3, -0.4, 0.5, -0.5])
    chances = []
    for shift in (0.0, 1.0, 4.0):  # in the middle, at the edge, beyond
        tests = dict.fromkeys((SAME, OVER, UNDER), 1.0)
        takes = dict.fromkeys(tests, 40.0)
        evidence = Evidence(
            tests, takes, (), (), tuple(75.0 + shift + values), Mean(75.0 + shift, 0.5, 6), 1.0, 75.0, 1, {}
        )
        ahead = settle._ahead(evidence, 6)
        chances.append(ahead.chance)
        rng, came = np.random.default_rng(1), 0
        for _ in range(200):
            spread = np.sqrt(5 * np.var(values, ddof=1) / rng.chisquare(5))
            later = rng.normal(rng.normal(values.mean(), spread / np.sqrt(6)), spread, 6)
            drawn = [*values + shift, *(later + shift)]
            found = evalues.within(drawn, -1.0, 1.0), evalues.above(drawn, 1.0), evalues.below(drawn, -1.0)
            came += max(found) >= 40
        assert abs(came / 200 - ahead.chance) < 0.12  # three standard errors of the two simulations
    assert chances[0] > 0.5 and chances[1] < 0.2 and chances[2] > 0.9


def test_evidence_is_drawn_on_a_logarithmic_scale() -> None:
    assert settle.bar(1.0, 40.0) == "[" + "." * 20 + "]" and settle.bar(40.0, 40.0) == "[" + "#" * 20 + "]"
    assert settle.bar(40.0**0.5, 40.0).count("#") == 10 and settle.bar(1e9, 40.0).count("#") == 20


def test_a_paper_is_settled_with_our_own_claims_on_why(
    lab: Callable[[Reach], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    lab(noisy)
    assert main(["settle", "glnet-why-positives", "--budget", "3h", "--dry-run"]) == 0
    assert "glnet-why-positives" in capsys.readouterr().out
    assert main(["settle", "--paper", "rotation_aux", "--budget", "3h", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "rotation_aux-why-labels" in out and "rotation_aux-byol-convergence" in out


@pytest.mark.seconds
def test_its_next_look_is_of_the_same_settlement(
    own_folder: None, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is told the ids of all claims, also those of the papers' own forms and those whose arms are refused."""
    monkeypatch.setattr(
        equal_tuning, "hindrance", lambda claim, track: "not tuned" if claim.baseline == "nnclr" else ""
    )
    first = settle.ask((), "multi_network", "mini", load({}), commands.parse)
    names = [claim.id for claim in first.claims]
    assert any(":" in name for name in names) and any(equal_tuning.hindrance(one, "mini") for one in first.claims)
    assert settle.ask(names, None, "mini", load({}), commands.parse).claims == first.claims
