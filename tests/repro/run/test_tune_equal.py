"""`repro tune --equal`: the price, the table and the recipe file, on made-up records in place of trainings."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.plan import builder, recipes, registry, tuning
from repro.plan.planned import Plan
from repro.run import execute
from repro.run.tune_equal import else_alike, score_of, with_table
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

Score = Callable[[float, float, int], float | None]  # rate, smallest crop, seed -> accuracy; None: the training fails
pytestmark = pytest.mark.seconds

LINE = "tune --equal --track embedded --executor local --method mine.toml"
SIMCLR = files("methods").joinpath("recipes/simclr.toml").read_text(encoding="utf-8").replace('"simclr"', '"mine"', 1)
MINE = (
    SIMCLR.partition("[tracks.embedded")[0]
    + """
[tracks.embedded.pretrain]
epochs = 5
batch = 512
lr = 0.4
weight_decay = 1e-5

[tracks.embedded.method]
crop_scale = [0.2, 1.0]
# what follows is of the variant

[variants.sharp.method]
"""
)


class Lab:
    """In place of the executor: the first `most` trainings leave the records that those scores would leave."""

    def __init__(self, score: Score) -> None:
        self.score, self.most = score, 100
        self.jobs: list[Any] = []

    def perform(
        self,
        planned: Plan,
        settings: Settings,
        command: Sequence[str],
        report: Callable[[], None],
        agreed: bool = False,
    ) -> int:
        trained = {job.fingerprint: job for job in planned.jobs if job.kind == "pretrain"}
        features = {job.fingerprint: job for job in planned.jobs if job.kind == "features"}
        place = Workspace(settings.workspace)
        place.records.mkdir(parents=True, exist_ok=True)
        todo = [job for job in planned.to_do() if job.kind == "linear"]
        for job in todo[: self.most]:
            origin = trained[features[job.parents[0]].parents[0]]
            recipe = origin.recipe
            found = self.score(recipe["pretrain"]["lr"], recipe["method"]["crop_scale"][0], job.seed)
            self.jobs.append((origin, job))
            if found is None:
                continue
            record = {
                "schema": 1,
                **{key: getattr(job, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")},
                "metrics": {"top1": 100.0},  # of the test pictures: not looked at
                "cost": {},
                "provenance": {},
                "details": {"split_top1_last_epoch": [1.0, found]},
            }
            (place.records / records.file_name(record)).write_text(json.dumps(record))
        if len(todo) > self.most:
            return 130
        report()
        return 0


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, own_folder: None) -> Callable[[Score], Lab]:
    Path("mine.toml").write_text(MINE)

    def open_(score: Score) -> Lab:
        made = Lab(score)
        monkeypatch.setattr(execute, "perform", made.perform)
        monkeypatch.setattr(builder, "_require_buildable", lambda *given: None)  # for which torch would be imported
        return made

    return open_


def faster(rate: float, crop: float, seed: int) -> float:
    """Better with a higher rate."""
    return 40.0 + 10 * rate + (seed - 100)


def test_what_the_records_say_is_written_into_the_recipe(
    lab: Callable[[Score], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(faster)
    made.most = 5
    assert main([*LINE.split(), "--write"]) == 130
    assert Path("mine.toml").read_text() == MINE  # nothing is chosen from a part of the points
    made.most = 100
    assert main([*LINE.split(), "--write"]) == 0
    out = capsys.readouterr().out
    assert "1 method x 6 settings x 2 seeds; 12 trainings left" in out
    assert "learning rate x 2 is the largest change tried in this direction" in out
    # six points x two seeds, each once, at half length and on half of the training pictures
    assert len(made.jobs) == len({job.fingerprint for _, job in made.jobs}) == 12
    assert {job.seed for _, job in made.jobs} == {100, 101}
    assert {origin.recipe["pretrain"]["epochs"] for origin, _ in made.jobs} == {3}
    assert {job.protocol["values"]["holdout"] for _, job in made.jobs} == {0.5}
    tables = [origin.recipe["pretrain"] | origin.recipe["method"] for origin, _ in made.jobs]
    tried = {(table["lr"], table["weight_decay"], table["crop_scale"][0]) for table in tables}
    usual = (0.4, 1e-5, 0.2)
    assert tried == {
        usual,
        (0.2, *usual[1:]),
        (0.8, *usual[1:]),
        (0.4, 1e-4, 0.2),
        (0.4, 1e-5, 0.1),
        (0.4, 1e-5, 0.4),
    }
    table = tomllib.loads(Path("mine.toml").read_text())["tracks"]["embedded"]["tuned"]
    assert table["chosen"] == [2.0, 1.0, 1.0]
    assert table["scores"] == [[44.0, 45.0], [42.0, 43.0], [48.0, 49.0], *[[44.0, 45.0]] * 3]
    known = {path.stem[-12:] for path in Path("repro-work/tuning/records").glob("*.json")}
    assert {mark for marks in table["records"] for mark in marks} == known and len(known) == 12

    # the recipe has what was found, and tuning it again begins where it began
    arm = registry.find("mine.toml:sharp")
    recipe = recipes.resolve(*arm, "embedded", {})
    assert recipe["pretrain"]["lr"] == 0.8
    assert recipes.tuned_by(*arm, "embedded", recipe) == tuning.procedure().id
    written = Path("mine.toml").read_text()
    assert main([*LINE.split(), "--write"]) == 0
    assert len(made.jobs) == 12 and Path("mine.toml").read_text() == written


def test_trainings_that_fail_are_not_chosen(lab: Callable[[Score], Lab], capsys: pytest.CaptureFixture[str]) -> None:
    lab(lambda rate, crop, seed: None if rate > 0.4 and seed == 101 else faster(rate, crop, seed))
    assert main([*LINE.split(), "--write"]) == 0
    out = capsys.readouterr().out
    assert "no result" in out
    table = tomllib.loads(Path("mine.toml").read_text())["tracks"]["embedded"]["tuned"]
    assert table["chosen"] == [1.0, 1.0, 1.0] and table["records"][2][1] == ""


def test_without_a_result_nothing_is_written(lab: Callable[[Score], Lab], capsys: pytest.CaptureFixture[str]) -> None:
    lab(lambda rate, crop, seed: None)
    assert main([*LINE.split(), "--write"]) == 0
    assert "mine.toml: not written" in capsys.readouterr().out and Path("mine.toml").read_text() == MINE


def test_the_price_comes_first_and_alone_with_dry_run(
    lab: Callable[[Score], Lab], capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab(faster)
    assert main([*LINE.split(), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"procedure {tuning.procedure().id}: 1 method") and made.jobs == []


@pytest.mark.parametrize(
    "more, words",
    [
        ("--seed 3", "--equal has settings and seeds of its own"),
        ("--write --set pretrain.epochs=2", "leave out --set"),
    ],
)
def test_the_procedure_takes_no_changes(own_folder: None, refused: Callable[[str], str], more: str, words: str) -> None:
    Path("mine.toml").write_text(MINE)
    assert words in refused(f"{LINE} {more}")


def test_no_result_comes_from_the_seeds_of_tuning(own_folder: None, refused: Callable[[str], str]) -> None:
    assert "--seed 101: this seed is kept for tuning" in refused("run --method simclr --seed 0 101")


def test_a_table_goes_behind_those_of_its_track_and_replaces_its_forerunner() -> None:
    written = (
        "a = 1\n[tracks.mini.method]\nb = 2\n\n[tracks.mini.pretrain]\nc = 3\n\n# of cifar\n[tracks.cifar]\nd = 4\n"
    )
    once = with_table(written, "tracks.mini.tuned", ["[tracks.mini.tuned]", "e = 5", "f = 6"])
    tables = tomllib.loads(once)
    assert tables["tracks"]["mini"].pop("tuned") == {"e": 5, "f": 6} and tables == tomllib.loads(written)
    assert once.replace("[tracks.mini.tuned]\ne = 5\nf = 6\n\n", "") == written  # comments stay with their tables
    assert with_table(once, "tracks.mini.tuned", ["[tracks.mini.tuned]", "e = 7"]) == once.replace(
        "e = 5\nf = 6", "e = 7"
    )
    other = with_table(written, "tracks.embedded.tuned", ["[tracks.embedded.tuned]", "e = 5"])
    assert tomllib.loads(other)["tracks"]["embedded"] == {"tuned": {"e": 5}}


def test_a_table_is_written_beside_one_that_holds_nan_and_into_any_layout() -> None:
    header, table = "tracks.mini.tuned", ["[tracks.mini.tuned]", "e = 5"]
    failed = "[tracks.cifar.tuned]\nscores = [[nan, 1.0]]\n"
    indented = "a = 1\n  [tracks.cifar]\n  d = 4\n"
    for written in (failed, indented, "a = 1\n"):
        after = with_table(written, header, table)
        assert tomllib.loads(after)["tracks"]["mini"]["tuned"] == {"e": 5}
        assert else_alike(written, after, header)
    assert not else_alike(failed, failed.replace("1.0", "2.0"), header)
    assert not else_alike(failed, failed + "[", header)  # no TOML


@pytest.mark.parametrize("details", [{}, {"split_top1_last_epoch": []}, {"split_top1_last_epoch": "90"}])
def test_a_record_without_the_scores_that_decide_counts_as_no_result(details: dict[str, Any]) -> None:
    assert math.isnan(score_of({"details": details}))
    assert score_of({"details": {"split_top1_last_epoch": [1.0, 3.004]}}) == 3.0
