"""What a night of one GPU settles: hours beside plans made by hand, memory, negatives, and the printed command."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from repro.cli.dispatch import main
from repro.plan import prices, registry
from repro.plan.builder import make
from repro.plan.request import Request
from repro.results import night as nights
from repro.results.night import Night
from repro.settings import Settings
from repro.store import records
from repro.store.workspace import Workspace

BOTH = Request(("multi_network", "byol"), "cifar", ("knn", "linear"))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(prices, "_published", tuple)
    return Settings(workspace=tmp_path, card="a100-40")


def night_of(request: Request, settings: Settings, hours: float = 10.0) -> Night:
    found = nights.of(make(request, settings), settings, hours)
    assert found is not None
    return found


def on(card: str, settings: Settings) -> Settings:
    return dataclasses.replace(settings, card=card)


def test_a_pair_is_one_seed_of_both_arms_trained_and_judged_alike(settings: Settings) -> None:
    (one,) = night_of(BOTH, settings).comparisons
    assert (one.arm.name, one.baseline.name, one.epochs, one.evaluations) == ("multi_network", "byol", 200, ("linear",))
    assert one.claims == ("multi_network-cifar10-byol", "multi_network-efficiency")
    for epochs in (200, 40):
        by_hand = dataclasses.replace(BOTH, evaluations=("linear",), overrides=(f"pretrain.epochs={epochs}",))
        assert 3600 * one.hours(epochs) == pytest.approx(make(by_hand, settings).seconds)


def test_the_arm_that_two_comparisons_share_is_done_once(settings: Settings) -> None:
    three = ("multi_network", "byol", "simclr")
    found = night_of(dataclasses.replace(BOTH, methods=three), settings).comparisons
    assert len(found) == 2
    by_hand = Request(three, "cifar", ("linear",), overrides=("pretrain.epochs=50",))
    assert 3600 * nights.hours(found, 50) == pytest.approx(make(by_hand, settings).seconds)


@pytest.mark.seconds
@pytest.mark.parametrize("card", ["rtx3060", "a100-40", "h200"])
def test_the_printed_command_fits_in_the_night_and_has_its_pairs(
    card: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "glnet moco_v3:resnet multi_network byol simclr truncated_triplet"
    line = f"plan --track cifar --method {methods} --suite quick --card {card} --workspace {settings.workspace}"
    assert main(line.split()) == 0
    out = capsys.readouterr().out.partition("one GPU, one night")[2]
    command = shlex.split(next(text for text in out.splitlines() if text.startswith("  python")))
    assert command[:4] == ["python", "-m", "repro", "run"] and command[-2:] == ["--budget", "10gpuh"]
    assert main(["plan", *command[4:]]) == 0  # else its budget would refuse it
    again = capsys.readouterr().out
    counted = re.search(r"the night: (\d+) pairs of (\d+) comparisons? with (\d+) epochs", out)
    assert counted is not None
    pairs, comparisons, epochs = map(int, counted.groups())
    assert nights.PAIRS <= pairs <= nights.MOST and epochs >= nights.LEAST_EPOCHS
    arms = command[command.index("--method") + 1 : command.index("--eval")]
    assert len(re.findall(r"^\d+ +pretrain ", again, re.M)) == pairs * len(arms) and comparisons < len(arms)
    hours = re.search(r", ([\d.]+) GPU-hours", again)
    assert hours is not None and 7 < float(hours[1]) <= 10  # of which little is left over
    assert all(len(text) <= 100 for text in out.splitlines() if not text.startswith("  python"))


def test_recipes_are_not_shortened_where_the_night_is_long(settings: Settings) -> None:
    found = night_of(BOTH, settings, hours=100)
    assert not found.shortened and found.epochs == 200 and found.pairs == nights.MOST
    assert nights.changes(found, make(BOTH, settings)) == ["pretrain.epochs=200"]  # byol's own are 1000
    stated = dataclasses.replace(BOTH, overrides=("pretrain.epochs=300",))
    assert night_of(stated, settings, hours=1).chosen == ()  # what the user says is not changed


def test_negatives_say_what_may_be_done_to_fit(settings: Settings) -> None:
    pair = Request(("aps", "moco_v3"), "cifar", ("finetune",))
    (large,), (small,) = (night_of(pair, on(card, settings)).comparisons for card in ("a100-40", "rtx4090"))
    assert large.fits and large.baseline.memory.gb < 40 and small.arm.memory.fits
    memory = small.baseline.memory
    assert not small.fits and memory.gb > 23 and memory.negatives == "global" and memory.least == "A100 40 GB"

    vits = Request(("rotation_aux", "byol"), "cifar", ("knn",), overrides=("network.arch=vit",))
    (none,) = night_of(vits, on("12GB", settings)).comparisons
    assert none.fits and none.arm.memory.negatives == "none"
    for arm in none.arms:
        assert arm.memory.parts * arm.memory.rows == 256 and arm.memory.gb < 12
    assert none.parts == none.arm.memory.parts > none.baseline.memory.parts > 1  # the other one accumulates as much


def test_counted_costs_ask_for_no_pairs(settings: Settings) -> None:
    """Claims on operations and memory compare aps with moco_v3, but one run of each answers them."""
    pair = Request(("aps", "moco_v3"), "cifar", ("knn", "finetune"))
    (one,) = night_of(pair, settings, hours=400).comparisons
    assert one.evaluations == ("finetune",) and one.claims == ("aps-cifar100-finetune-gain",)


def test_every_arm_that_may_not_accumulate_is_left_as_it_is(settings: Settings) -> None:
    """On a card of one byte less than it needs: `pretrain.accumulate` is refused where negatives are in the batch."""
    named = [info for info in registry.methods().values() if "cifar" in info.tracks and info.role != "control"]
    request = Request(tuple(info.name for info in named), "cifar", ("knn",))
    planned = make(request, on("2.2GB", settings))
    for info in named:
        memory = nights._memory(planned, info.name, 0.0)
        free = registry.negatives(info, "") == "none"
        assert memory.parts == 0 if not free else not memory.fits or memory.parts > 1, info.name


def test_a_record_on_the_card_prices_and_tells_the_memory(settings: Settings) -> None:
    stated = dataclasses.replace(BOTH, overrides=("pretrain.epochs=100",))
    jobs = {job.arm: job for job in make(stated, settings).jobs if job.kind == "pretrain"}
    for name, seconds in (("byol", 500.0), ("multi_network", 700.0)):
        records.write(Workspace(settings.workspace).records, recorded(jobs[name], seconds, 9 * 1024.0))
    (one,) = night_of(BOTH, settings).comparisons
    assert [arm.memory.recorded for arm in one.arms] == [True, True] and one.arm.memory.gb == pytest.approx(9)
    assert (one.arm.seconds(100), one.baseline.seconds(100)) == (pytest.approx(700), pytest.approx(500))
    assert one.arm.epoch == pytest.approx(7)
    # On another card by the bandwidth of both: 1,555 and 936 GB/s.
    (other,) = night_of(BOTH, on("rtx3090", settings)).comparisons
    assert (one.arm.priced_by, other.arm.priced_by) == ("records", "records, other device")
    assert other.arm.seconds(100) == pytest.approx(700 * 1555 / 936)


def test_what_a_cpu_took_says_nothing_of_a_gpu(settings: Settings) -> None:
    stated = dataclasses.replace(BOTH, overrides=("pretrain.epochs=100",))
    (job, *_) = make(stated, settings).jobs
    left = recorded(job, 1e6, 0.0)
    left["provenance"]["device"] = "some CPU"
    records.write(Workspace(settings.workspace).records, left)
    assert next(j for j in make(stated, settings).jobs if j.kind == "pretrain").priced_by == "constants"


def recorded(job: Any, seconds: float, memory_mb: float) -> dict[str, Any]:
    """What that pre-training would have left on an A100 by another seed."""
    cost = {"wall_s": seconds, "device_s": seconds, "image_passes": job.amount, "peak_device_memory_mb": memory_mb}
    device, data = "NVIDIA A100-SXM4-40GB", {"name": job.spec["data"]["name"]}
    return {
        **{key: getattr(job, key) for key in ("kind", "method", "variant", "track")},
        **{"schema": records.SCHEMA, "seed": 7, "fingerprint": job.fingerprint[::-1], "parents": [], "metrics": {}},
        **{"protocol": {"values": {}, **job.protocol}, "cost": cost, "details": {"recipe": job.spec["recipe"]}},
        "provenance": {"device": device, "threads": job.spec["threads"], "data": data},
    }


def test_a_baseline_that_is_not_named_is_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"plan --track cifar --method truncated_triplet --suite quick --workspace {settings.workspace}"
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert "no pair can be planned: claims compare these methods with byol (1 claim)," in out
    assert "add one to --method" in " ".join(out.split())
    assert "one GPU, one night (10 h) on A100 40 GB\n" in out
    assert main([*line.split(), "--card", "rtx4090"]) == 0
    assert "one GPU, one night (10 h) on GeForce RTX 4090, 24 GB\n" in capsys.readouterr().out


def test_without_a_gpu_there_is_no_night(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"plan --method multi_network byol --suite quick --workspace {settings.workspace}"
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert "one night" not in out and "--night" not in out
    assert main([*line.split(), "--night", "10", "--card", "h200"]) == 0
    out = capsys.readouterr().out
    for option in ("--night", "--card"):
        assert f"{option} is ignored: it is for tracks that need a GPU, and embedded needs none" in out
    hours = [(f"--night {given}", "hours must be above 0 and at most") for given in ("0", "nan", "inf", "1e300")]
    for wrong, words in (("--card a100-4", "did you mean 'a100-40'"), *hours):
        assert main([*line.split(), "--track", "cifar", *wrong.split()]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


def test_epochs_that_the_user_set_are_those_that_are_told(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"plan --track cifar --method glnet moco_v3:resnet --suite quick --workspace {settings.workspace}"
    assert main([*line.split(), "--card", "rtx4090", "--set", "pretrain.epochs=100000"]) == 0
    out = capsys.readouterr().out
    assert "h with 100000 epochs, as --set says" in out and "with 20 epochs" not in out
