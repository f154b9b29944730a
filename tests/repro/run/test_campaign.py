"""The whole campaign on a cluster that is not there: every method, track and evaluation, ten seeds."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.plan import kinds, registry, tracks
from repro.plan.builder import make
from repro.plan.request import Request
from repro.plan.tasks import graph_of
from repro.run import execute, status
from repro.run.live_boards import Views
from repro.run.task_states import states
from repro.settings import Settings
from repro.store.workspace import Workspace

SEEDS = tuple(range(10))


def request(track: str) -> Request:
    """Of one track all; its pictures are miniatures, which of CIFAR-10 are the JPEG copy."""
    pictures = ("data.classification=cifar10-jpeg",) if track == "cifar" else ()
    return Request(("all",), track, tuple(kinds.evaluations()), SEEDS, overrides=pictures)


@pytest.fixture
def settings(tmp_path: Path, miniature: Callable[..., Path]) -> Settings:
    for name in ("cifar10-jpeg", "imagenet", "imagenet100", "coco2017", "market1501"):
        miniature(name, tmp_path / "data")
    return Settings(executor="slurm", workspace=tmp_path / "work", data_root=tmp_path / "data")


def done(simulated: Any, settings: Settings) -> None:
    """Let all jobs end, and leave the (empty) records of those that are done: their names are what is asked for."""
    simulated.finish()
    place = Workspace(settings.workspace)
    place.records.mkdir(exist_ok=True)
    for state in states(place):
        for job in state.task.args["jobs"] if state.task.stage != "collate" else ():
            (place.records / f"{job['kind']}-{job['fingerprint'][:12]}.json").touch()


@pytest.mark.slow
def test_the_campaign_is_planned_submitted_and_watched_in_seconds(
    settings: Settings,
    simulated_slurm: Callable[..., Any],
    yardstick: Callable[[], float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spent, unit = dict[str, float](), yardstick()
    start = time.process_time()
    plans = [make(request(track), settings) for track in tracks.tracks()]
    graphs = [graph_of(plan, settings) for plan in plans]
    spent["plan"] = time.process_time() - start
    jobs, tasks = sum(len(plan.jobs) for plan in plans), sum(map(len, graphs))
    assert len(registry.methods()) >= 16 and len(plans) == 5 and jobs > 6000 and tasks > 3900
    assert not any(job.missing for plan in plans for job in plan.jobs)

    simulated = simulated_slurm(seconds=3600.0)
    start = time.process_time()
    for plan in plans:
        assert execute.carry_out(plan, settings, ["run"], Views.none()) == 0
    spent["submit"] = time.process_time() - start
    assert simulated.calls["sbatch"] == len(simulated.arrays) <= 60
    assert sum(simulated.arrays) == tasks + len(plans)

    simulated.sleep(4 * 3600)
    capsys.readouterr()
    before, start = simulated.calls, time.process_time()
    text = status.status(settings)
    spent["status"] = time.process_time() - start
    assert simulated.calls - before == {"squeue": 1, "sacct": 1}
    assert f"{simulated.words['PENDING']} pending" in text and "256 running" in text
    assert spent["plan"] < 38 * unit and spent["status"] < 15 * unit, spent  # five seconds, and two

    done(simulated, settings)
    assert simulated.ran == Counter(state.key for state in states(Workspace(settings.workspace)))
    assert set(simulated.ran.values()) == {1}
    assert {state.state for state in states(Workspace(settings.workspace))} == {"done"}
    sys.stdout.write(f"{jobs} jobs, {tasks} tasks, {simulated.calls}, seconds of CPU: {spent}, yardstick {unit:.3f}\n")
