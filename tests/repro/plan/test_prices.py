"""Estimates that learn, and budgets that hold: by hand-made records, and by one real calibration."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.errors import UserError
from repro.measure import calibration
from repro.plan import budget, kinds, prices
from repro.plan.builder import make
from repro.plan.planned import Plan, PlannedJob
from repro.plan.request import Request
from repro.results.find_records import published_records
from repro.settings import Settings
from repro.store import records
from repro.store.provenance import cpu_name
from repro.store.workspace import Workspace

REQUEST = Request(("byol",), evaluations=("knn", "finetune", "detection"))
ELSEWHERE = "NVIDIA H100"
FEATURES = {
    f"{split}_{key}": 1.0 for split in ("train", "test") for key in ("effective_rank", "feature_std", "norm_mean")
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(prices, "_published", tuple)
    return Settings(workspace=tmp_path)


def record_of(
    job: PlannedJob, wall: float, device: str = "", threads: int = 1, trained: float = 0.0, **cost: Any
) -> dict[str, Any]:
    """What a run of that job would have left, without its encoder, by another seed and code."""
    mark = job.fingerprint[::-1]
    return {
        **{key: getattr(job, key) for key in ("kind", "method", "variant", "track", "seed")},
        "schema": 1,
        "fingerprint": mark,
        "parents": [parent[::-1] for parent in job.parents],
        "protocol": {"values": {}, **job.protocol},
        "metrics": FEATURES if job.kind == "features" else {},
        "cost": {"wall_s": wall, "device_s": trained or wall, **cost},
        "provenance": {"device": device or cpu_name(), "threads": threads, "data": {"name": job.spec["data"]["name"]}},
        "details": {"recipe": job.spec["recipe"]} if job.kind == "pretrain" else {"n_train": 900},
    }


def by_kind(planned: Plan) -> dict[str, tuple[float, str]]:
    return {job.kind: (job.seconds, job.priced_by) for job in planned.jobs}


@pytest.mark.parametrize("track", ["embedded", "mini"])
def test_without_records_a_cpu_takes_what_published_trainings_took(settings: Settings, track: str) -> None:
    """ResNets and a ViT alike: half to twice the CPU seconds of the published records of as many epochs."""
    methods = ("simclr", "byol", "rotation_aux", "rotation_aux:simsiam", "aps", "glnet")
    compared = 0
    for job in make(Request(methods, track=track, evaluations=("knn",)), settings).jobs:
        same = [
            found["cost"]["cpu_s"]
            for found in published_records()[0]
            if found["kind"] == job.kind == "pretrain"
            and found["method"] == job.method
            and (found["variant"], found["track"]) == (job.variant, track)
            and found["details"]["recipe"]["pretrain"]["epochs"] == job.spec["recipe"]["pretrain"]["epochs"]
            and found["details"]["recipe"]["network"] == job.spec["recipe"]["network"]
        ]
        if same:
            compared += 1
            assert job.priced_by == "constants" and 0.5 < job.seconds / median(same) < 2
    assert compared >= 2


def test_the_same_work_costs_what_it_did_and_more_epochs_cost_more(settings: Settings) -> None:
    jobs = {job.kind: job for job in make(REQUEST, settings).jobs}
    assert {job.priced_by for job in jobs.values()} == {"constants"}
    recipe, pictures = jobs["pretrain"].spec["recipe"]["pretrain"], 4000
    passes = pictures // recipe["batch"] * recipe["batch"] * recipe["epochs"]
    place = Workspace(settings.workspace).records
    records.write(place, record_of(jobs["pretrain"], 70.0, trained=60.0, image_passes=passes))
    records.write(place, record_of(jobs["finetune"], 30.0))
    found = by_kind(make(REQUEST, settings))
    assert found["pretrain"] == (pytest.approx(70), "records") and found["finetune"] == (pytest.approx(30), "records")
    assert found["knn"][1] == found["detection"][1] == "constants"

    half = dataclasses.replace(
        REQUEST, seeds=(7,), overrides=(f"pretrain.epochs={recipe['epochs'] * 3}", "pretrain.lr=0.1", "data.limit=2000")
    )
    now = 2000 // recipe["batch"] * recipe["batch"] * recipe["epochs"] * 3
    found = by_kind(make(half, settings))
    assert found["pretrain"] == (pytest.approx(10 + 60 * now / passes), "records")
    # The evaluations of another method on the same network are the same work; of another network they are not.
    assert by_kind(make(dataclasses.replace(REQUEST, methods=("simclr",)), settings))["finetune"][1] == "records"
    assert by_kind(make(dataclasses.replace(REQUEST, methods=("aps",)), settings))["finetune"][1] == "constants"
    for change in ("pretrain.batch=16", "network.width=24", "method.head_dim=32"):
        other = make(dataclasses.replace(REQUEST, overrides=(change,)), settings)
        assert by_kind(other)["pretrain"][1] == "constants", change


def test_several_processes_share_the_time_and_their_records_price_their_like(settings: Settings) -> None:
    one, four = (make(dataclasses.replace(REQUEST, processes=n), settings).jobs[0] for n in (1, 4))
    assert one.kind == four.kind == "pretrain"
    assert four.seconds - 10 == pytest.approx((one.seconds - 10) / 4)
    passes = int(four.amount)
    left = record_of(four, 20.0, trained=4 * 16.0, image_passes=passes)  # device time is that of all four
    left["provenance"]["processes"] = 4
    records.write(Workspace(settings.workspace).records, left)
    twice = f"pretrain.epochs={2 * four.spec['recipe']['pretrain']['epochs']}"
    longer = dataclasses.replace(REQUEST, seeds=(7,), processes=4, overrides=(twice,))
    assert by_kind(make(longer, settings))["pretrain"] == (pytest.approx(4 + 2 * 16), "records")
    assert by_kind(make(REQUEST, settings))["pretrain"][1] == "constants"


def test_a_wall_time_of_the_last_attempt_alone_teaches_nothing(settings: Settings) -> None:
    job = make(REQUEST, settings).jobs[0]
    place, passes = Workspace(settings.workspace).records, int(job.amount)
    records.write(place, record_of(job, 20.0, trained=60.0, image_passes=passes))
    assert by_kind(make(REQUEST, settings))["pretrain"][1] == "constants"
    other = dataclasses.replace(job, fingerprint="0" * 64)
    records.write(place, record_of(other, 61.0, trained=60.0, image_passes=passes))
    assert by_kind(make(REQUEST, settings))["pretrain"] == (pytest.approx(61), "records")


def test_this_device_comes_before_any_and_the_workspace_before_the_published(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(REQUEST, settings).jobs[0]
    place = Workspace(settings.workspace).records

    def price() -> tuple[float, str]:
        return by_kind(make(REQUEST, settings))["pretrain"]

    records.write(place, record_of(job, 5.0, ELSEWHERE))
    assert price() == (pytest.approx(5), "records, other device")
    far = dataclasses.replace(job, fingerprint="0" * 64)
    records.write(place, record_of(far, 50.0, threads=2))
    assert price() == (pytest.approx(27.5), "records, other device")  # so many threads are another device; a median
    key = prices.key_of(job, {})
    measured = prices.Sample(key, cpu_name(), 1, 0.0, 1.0, 7.0)
    Workspace(settings.workspace).calibration.write_text(json.dumps([dataclasses.asdict(measured)]))
    assert price() == (pytest.approx(8), "calibration")
    published = prices.Sample(key, cpu_name(), 1, 0.0, 0.0, 9.0)
    monkeypatch.setattr(prices, "_published", lambda: (published,))
    assert price() == (pytest.approx(9), "records")
    records.write(place, record_of(dataclasses.replace(job, fingerprint="1" * 64), 11.0))
    assert price() == (pytest.approx(11), "records")
    Workspace(settings.workspace).calibration.write_text("[{")  # damaged: as if it were not there
    assert price() == (pytest.approx(11), "records")


@pytest.mark.parametrize("kind", ["finetune", "reid_finetune"])
def test_a_guess_for_ten_times_the_epochs_is_ten_times_the_time(settings: Settings, kind: str) -> None:
    def guess(epochs: int) -> float:
        seconds, source = by_kind(
            make(Request(("byol",), evaluations=(kind,), overrides=(f"{kind}.epochs={epochs}",)), settings)
        )[kind]
        assert source == "constants"
        return seconds

    assert guess(20) == pytest.approx(10 * guess(2))


def test_a_track_without_seconds_of_its_own_takes_the_general_ones_or_is_named() -> None:
    import_, knn = kinds.find("import"), kinds.find("knn")
    assert import_.seconds_at("mini") == import_.seconds_at("my_track") == 5
    assert dataclasses.replace(knn, seconds={"": 7, "mini": 3}).seconds_at("my_track") == 7
    with pytest.raises(UserError, match="kind 'knn' has no seconds for track 'my_track'; add them to its row"):
        knn.seconds_at("my_track")


def test_published_records_price_a_plan_on_an_empty_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, request = Settings(workspace=tmp_path), dataclasses.replace(REQUEST, evaluations=("finetune",))
    published = [record_of(job, wall) for job, wall in zip(make(request, settings).jobs, (70.0, 30.0), strict=True)]
    monkeypatch.setattr(records, "read_published", lambda: (published, []))
    prices._published.cache_clear()
    try:
        found = by_kind(make(request, settings))
    finally:
        prices._published.cache_clear()
    assert found == {"pretrain": (pytest.approx(70), "records"), "finetune": (pytest.approx(30), "records")}


def test_the_table_says_what_priced_each_line(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    job = make(REQUEST, settings).jobs[0]
    records.write(Workspace(settings.workspace).records, record_of(job, 70.0))
    line = f"plan --method byol --eval knn finetune detection --workspace {settings.workspace}"
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert re.search(r"pretrain +byol .* ~70 s +records ", out) and re.search(r"detection .* constants ", out)
    assert "(estimate: 1 from records, 4 from constants)" in out and "GPU-hours" not in out
    assert main([*line.split(), "--track", "cifar"]) == 0
    out = capsys.readouterr().out
    hours = sum(job.seconds for job in make(dataclasses.replace(REQUEST, track="cifar"), settings).jobs) / 3600
    assert f"{hours:.3g} GPU-hours" in out


# ---------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("text", "seconds", "gpu"),
    [
        ("2h", 7200, False),
        ("90m", 5400, False),
        ("30min", 1800, False),
        ("1.5d", 129600, False),
        ("2GPUh", 7200, True),
    ],
)
def test_budgets_are_read(text: str, seconds: float, gpu: bool) -> None:
    read = budget.Budget.parse(text)
    assert (read.seconds, read.gpu) == (seconds, gpu)


@pytest.mark.parametrize("text", ["2", "h", "two hours", "0h", "-1h", "2w", "12 gpu", "1h30m"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--budget .*: write it as 2h, 90min"):
        budget.Budget.parse(text)


def constant(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Every job of a kind takes so long."""

    def priced(made: Plan, *_: Any) -> Plan:
        jobs = (dataclasses.replace(job, seconds=seconds[job.kind]) for job in made.jobs)
        return dataclasses.replace(made, jobs=tuple(jobs))

    monkeypatch.setattr(prices, "priced", priced)


ALL = Request(("byol", "simclr"), evaluations=kinds.suites()["full"], seeds=(0, 1, 2), protocols=("finetune=embedded",))


def test_seeds_go_first_then_the_dear_evaluations(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    each = {"pretrain": 60, "features": 10, "knn": 1, "linear": 4, "reid": 5, "finetune": 40, "detection": 80}
    constant(monkeypatch, **each)  # 200 s a run, six runs
    assert budget.within(ALL, settings, None, False).request == budget.within(ALL, settings, "1200s", False).request

    with pytest.raises(UserError) as refused:
        budget.within(ALL, settings, "1000s", False)
    assert str(refused.value) == (
        "--budget 1000s: the plan needs about 20 min of work; --seed 0 1 --eval knn linear finetune detection"
        " segmentation reid would fit (13 min of work): add --trim to drop seed 2, or raise the budget"
    )
    trimmed = budget.within(ALL, settings, "1000s", True)
    assert trimmed.request.seeds == (0, 1) and trimmed.seconds == 800
    assert "dropped seed 2: 13 min of work left" in capsys.readouterr().out

    trimmed = budget.within(ALL, settings, "300s", True)
    assert (trimmed.request.seeds, trimmed.seconds) == ((0,), 240)
    assert trimmed.request.evaluations == ("knn", "linear", "finetune", "reid")
    assert "dropped seed 2, seed 1, segmentation, detection: " in capsys.readouterr().out
    trimmed = budget.within(ALL, settings, "150s", True)
    assert trimmed.request.evaluations == ("knn", "linear") and trimmed.request.protocols == ()
    with pytest.raises(
        UserError, match=r"smallest plan \(--seed 0 --eval knn\) needs about 2 min of work; raise the budget"
    ):
        budget.within(ALL, settings, "100s", True)
    with pytest.raises(UserError, match="--trim goes with --budget"):
        budget.within(ALL, settings, None, True)


def test_a_kind_that_states_no_rank_is_trimmed_last(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {field.name: getattr(kinds.KINDS["detection"], field.name) for field in dataclasses.fields(kinds.Kind)}
    del stated["dropped"]
    monkeypatch.setitem(kinds.KINDS, "detection", kinds.Kind(**stated))
    constant(monkeypatch, pretrain=60, features=10, knn=1, linear=4, detection=80)
    request = Request(("byol",), evaluations=("knn", "linear", "detection"))
    assert budget.within(request, settings, "150s", True).request.evaluations == ("detection",)


def test_what_is_cached_costs_nothing_and_is_not_dropped(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    request = dataclasses.replace(ALL, methods=("byol",), evaluations=("knn",), protocols=())
    constant(monkeypatch, pretrain=60, features=10, knn=1)
    place = Workspace(settings.workspace)
    for job in make(request, settings).jobs:
        if job.seed == 2:
            records.write(place.records, record_of(job, 1.0) | {"fingerprint": job.fingerprint})
    assert budget.within(request, settings, "80s", True).request.seeds == (0, 2)


def test_the_first_seed_named_is_never_dropped(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it is the highest, or where its work alone costs anything."""
    constant(monkeypatch, pretrain=60, features=10, knn=1)
    request = Request(("byol",), evaluations=("knn",), seeds=(5, 0, 2))
    assert budget.within(request, settings, "150s", True).request.seeds == (5, 0)
    assert budget.within(request, settings, "80s", True).request.seeds == (5,)
    place = Workspace(settings.workspace)
    for job in make(request, settings).jobs:
        if job.seed != 5:
            records.write(place.records, record_of(job, 1.0) | {"fingerprint": job.fingerprint})
    with pytest.raises(UserError, match=r"smallest plan \(--seed 5 0 2 --eval knn\) needs"):  # the others cost nothing
        budget.within(request, settings, "70s", True)


def test_gpu_hours_are_counted_where_gpus_are_asked_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    constant(monkeypatch, **dict.fromkeys(("pretrain", "features", "knn"), 3600.0))
    request = Request(("byol",), evaluations=("knn",), seeds=(0, 1))
    assert budget.within(request, settings, "0.1gpuh", False).request.seeds == (0, 1)  # no GPU on this track
    on_gpu = dataclasses.replace(request, track="cifar")
    assert budget.within(on_gpu, settings, "6gpuh", False)
    with pytest.raises(UserError, match=r"needs about 6 GPU-hours; --seed 0 --eval knn would fit \(3 GPU-hours\)"):
        budget.within(on_gpu, settings, "5gpuh", False)


def test_run_refuses_with_status_2(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"run --method byol --budget 1s --workspace {settings.workspace} --executor local".split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("repro: --budget 1s: the plan needs about ") and said.count("\n") == 1
    assert not Workspace(settings.workspace).code.exists()


# ------------------------------------------------------------------------------------------------------ calibration


def test_a_stopwatch_tells_the_fixed_part_from_the_rate() -> None:
    clock = [0.0]
    watch = calibration.Stopwatch(3.0, now=lambda: clock[0])
    with pytest.raises(calibration._Enough):
        for step in range(1, 100):
            clock[0] = 5 + 2 * step  # 5 s to load, 2 s a step
            watch(step, 100)
    assert clock[0] == 5 + 2 * 3 and watch.estimate() == (pytest.approx(5), pytest.approx(200))

    clock[0] = 0.0
    watch = calibration.Stopwatch(8.0, steps=30, now=lambda: clock[0])
    with pytest.raises(calibration._Enough):
        for total in (4, 26):  # two parts, of which the first is short
            for step in range(1, total + 1):
                clock[0] += 1
                watch(step, total)
    assert clock[0] == 9 and watch.estimate() == (pytest.approx(0), pytest.approx(30))


@pytest.mark.processes
def test_calibration_begins_the_real_jobs_and_prices_every_seed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        f"plan --method moco_v3:resnet --eval knn reid --workspace {settings.workspace} --executor local --seed 0 1"
        " --calibrate 0.3 --set network.width=8 data.limit=256 pretrain.batch=32 pretrain.epochs=500"
    )
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert f"calibrated 4 of 4 kinds of work on {cpu_name()}" in out and "(estimate: 8 from calibration)" in out
    samples = {sample.amount: sample for sample in prices.calibrations(settings)}
    assert set(samples) == {256 * 500.0, 256 + 1000.0, 256.0, 0.0}
    # Without a clock to compare with: 4,000 updates cannot be done in the time that was given, so it was cut short.
    assert samples[256 * 500.0].scaled > 20
    assert not Workspace(settings.workspace).records.exists() and not (settings.workspace / "jobs").exists()
    assert sorted(path.name for path in settings.workspace.iterdir()) == ["calibration.json", "data"]
