"""The command that makes a record again plans the very job that left it, with the pictures that it was trained on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from leaderboards.arms import Arms
from leaderboards.summary import Lacking
from repro import jobs, settings
from repro.cli import commands, grammar
from repro.cli.dispatch import main
from repro.plan.builder import make
from repro.plan.planned import PlannedJob
from repro.plan.request import Request
from repro.results import control_commands, rerun
from repro.results.suite import suite

Record = dict[str, Any]


def asked(words: Sequence[str]) -> Request:
    assert list(words[:3]) == ["python", "-m", "repro"]
    return commands.request_of(grammar.build_parser().parse_args(words[3:]))


def planned(request: Request) -> list[PlannedJob]:
    return list(make(request, settings.load({})).jobs)


@pytest.mark.trains
def test_a_record_of_drawn_pictures_names_them_and_is_made_again_with_as_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = Request(("random",), evaluations=("knn",), seeds=(3,), overrides=("data.limit=200",))
    todo, here = planned(request), settings.load({})
    jobs.run(str(here.workspace), [job.to_json() for job in todo])
    found = [json.loads(path.read_text()) for path in here.workspace.glob("records/*.json")]
    by_kind = {record["kind"]: record for record in found}
    assert main(["explain", by_kind["knn"]["fingerprint"]]) == 0
    assert "; 200 training images drawn by seed 3\n" in capsys.readouterr().out
    assert set(by_kind) == {"pretrain", "features", "knn"}
    for record in found:
        assert record["provenance"]["data"]["limit"] == {"pictures": 200, "seed": 3}
        words, problem = rerun.words(record, by_kind["pretrain"])
        assert not problem and "data.limit=200" in words
        assert record["fingerprint"] in {job.fingerprint for job in planned(asked(words))}
        more, _ = rerun.words(record, by_kind["pretrain"], (4,))
        same = Request(("random",), "embedded", ("knn",), (4,), overrides=request.overrides)
        assert [job.fingerprint for job in planned(asked(more))] == [job.fingerprint for job in planned(same)]


def stated(job: PlannedJob, todo: Sequence[PlannedJob]) -> tuple[Record, Record]:
    """What the record of a planned job will say that `rerun` reads, and that of its pre-training."""
    origin = next(one for one in todo if one.kind == "pretrain" and one.seed == job.seed)
    data = origin.spec["data"]

    def record(one: PlannedJob) -> Record:
        own = one.spec.get("data", data)
        return {
            **{key: getattr(one, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")},
            "parents": list(one.parents),
            "metrics": {"top1": 40.0},
            "protocol": dict(one.protocol),
            "provenance": {"data": {"name": own["name"], "manifest": own["manifest"], "limit": own["limit"]}},
            "details": {"recipe": one.recipe} if one.recipe else {},
        }

    return record(job), record(origin)


def pictures(root: Path) -> str:
    folder = root / "pictures"
    for name in range(4):
        (folder / f"class{name}").mkdir(parents=True)
        for i in range(40):
            Image.new("RGB", (8, 8), (60 * name, i, 0)).save(folder / f"class{name}" / f"{i}.png")
    return str(folder)


@pytest.mark.parametrize("track", ["embedded", "mini"])
@pytest.mark.parametrize("sets", [(), ("data.limit=80",), ("pretrain.epochs=3",)])
def test_a_folder_of_pictures_is_planned_again_as_it_was(tmp_path: Path, track: str, sets: tuple[str, ...]) -> None:
    folder = pictures(tmp_path)
    request = Request(("simclr",), track, ("knn", "linear"), (2,), data=folder, overrides=sets)
    todo = planned(request)
    for job in todo:
        if job.kind in ("pretrain", "knn", "linear"):
            words, problem = rerun.words(*stated(job, todo))
            assert not problem
            assert job.fingerprint in {one.fingerprint for one in planned(asked(words))}, words


@pytest.mark.parametrize("sets", [(), ("data.limit=1000",), ("data.limit=0",)])
def test_a_changed_number_of_pictures_is_planned_again_as_it_was(sets: tuple[str, ...]) -> None:
    request = Request(("byol",), "mini", ("knn", "finetune"), (2,), overrides=sets)
    todo = planned(request)
    for job in todo:
        if job.kind in ("pretrain", "knn", "finetune"):
            words, problem = rerun.words(*stated(job, todo))
            assert not problem
            assert job.fingerprint in {one.fingerprint for one in planned(asked(words))}, words


@pytest.mark.parametrize("sets", [(), ("data.limit=128",), ("data.limit=0",)])
@pytest.mark.parametrize("own", [False, True])
def test_the_command_of_a_missing_control_takes_the_same_pictures(
    tmp_path: Path, sets: tuple[str, ...], own: bool
) -> None:
    data = pictures(tmp_path) if own else None
    todo = planned(Request(("simclr",), "mini", ("knn",), (2, 3), data=data, overrides=sets))
    made = [record for job in todo if job.kind == "knn" for record in stated(job, todo)]
    for record in made:
        record["parents"] = [one["fingerprint"] for one in made if one["seed"] == record["seed"] and one is not record]
        record["parents"] = [] if record["kind"] == "pretrain" else record["parents"]
    (arm,) = Arms(made, suite()).of("knn")
    lacking = [Lacking(arm, "knn", pixels) for pixels in (False, True)]
    (command,) = control_commands.commands(lacking)
    seeds = (2, 3)
    wanted = planned(Request(("random", "random:pixels"), "mini", ("knn",), seeds, data=data, overrides=sets))
    assert {job.fingerprint for job in planned(asked(shlex.split(command)))} >= {
        job.fingerprint for job in wanted if job.seed == 2 or job.arm == "random"
    }, command
