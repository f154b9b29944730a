"""The parts of `repro gpu` that train: what they judge by, and that they run, in small, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.errors import UserError
from repro.measure import limits
from repro.measure.gpu import device, loops, memory, precision, resume, speed, training
from repro.measure.gpu.part import Case, Figures
from repro.plan import tracks

EMBEDDED = tracks.find("embedded")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case("cpu", True, 1e-3, tmp_path)


def nothing(figures: Figures) -> None:
    pass


# ------------------------------------------------------------------------------------------------ precision


def falling(end: float) -> list[float]:
    return [6 - (6 - end) * number / 79 for number in range(80)]


def test_points_are_means_of_equal_stretches() -> None:
    assert precision.points([float(n) for n in range(16)]) == [0.5 + 2 * n for n in range(8)]
    assert precision.points([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]


def test_bfloat16_may_be_twice_as_far_off_as_another_seed() -> None:
    ends = [precision.points(falling(end))[-1] for end in (4.0, 4.2)]
    seeds = (ends[1] - ends[0]) / ends[0]
    found = precision.judge([falling(4.0), falling(4.3), falling(4.2)])
    assert found["seeds"] == pytest.approx(seeds) and found["allowed"] == pytest.approx(2 * seeds) and found["good"]
    assert not precision.judge([falling(4.0), falling(4.5), falling(4.2)])["good"]
    assert not precision.judge([falling(4.0), falling(3.5), falling(4.2)])["good"]


def test_seeds_that_happen_to_meet_leave_a_hundredth() -> None:
    assert precision.judge([falling(4.0), falling(4.03), falling(4.0)])["good"]
    assert not precision.judge([falling(4.0), falling(4.06), falling(4.0)])["good"]


def test_a_loss_that_is_no_number_is_a_fault() -> None:
    assert not precision.judge([falling(4.0), [*falling(4.0)[:-1], float("nan")], falling(4.2)])["good"]


# ------------------------------------------------------------------------------------------------ resume


def results(whole: str, again: str, killed: str) -> Figures:
    digests = {"whole": whole, "again": again, "killed": killed}
    return {name: {"weights": w, "losses": {"loss": 1.0}, "updates": 12, "first": 7} for name, w in digests.items()}


def test_resumed_is_equal_where_weights_and_losses_are() -> None:
    assert resume.judge(results("a", "a", "a")) == {"repeats": True, "resumes": True, "went on at": 7}
    assert resume.judge(results("a", "a", "b"))["resumes"] is False
    assert resume.judge(results("a", "b", "a"))["repeats"] is False
    other = results("a", "a", "a")
    other["killed"]["losses"] = {"loss": 2.0}
    assert resume.judge(other)["resumes"] is False


def test_a_device_that_does_not_repeat_itself_is_asked_for_deterministic_algorithms(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    def trainings(case: Case, deterministic: bool) -> Figures:
        return results("a", "a", "a") if deterministic else results("a", "b", "c")

    monkeypatch.setattr(resume, "trainings", trainings)
    found = resume.run(case, nothing)
    assert found.good and "not equal as they are; by deterministic algorithms equal to the bit" in found.line
    monkeypatch.setattr(resume, "trainings", lambda case, strict: results("a", "a" if strict else "b", "c"))
    assert not resume.run(case, nothing).good


@pytest.mark.trains
@pytest.mark.processes
@pytest.mark.seconds
def test_a_killed_training_goes_on_bit_for_bit(case: Case) -> None:
    found = resume.run(case, nothing)
    assert found.good, found.line
    assert found.figures["as they are"] == {"repeats": True, "resumes": True, "went on at": resume._KILLED_AT}


# ------------------------------------------------------------------------------------------------ the others


@pytest.mark.trains
def test_images_a_second_and_the_share_of_the_limit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SMALL", (("supervised", "embedded", "fp32", 16), ("random", "embedded", "fp32", 16)))
    monkeypatch.setitem(limits._SIDE, "cpu", 64)
    found = speed.run(case, nothing)
    (row,) = found.figures["rows"]
    assert not found.good and found.figures["left out"] == {"random embedded fp32": "it makes no update"}
    flops = row["flops a second"] / row["images a second"]  # of a picture, forward and backward
    _, recipe = loops.recipe_of("supervised", "embedded")
    image, net = torch.zeros(1, 3, 32, 32), recipe["network"]
    assert flops == pytest.approx(3 * by_hand(net["width"], image.shape[-1]), rel=0.05)
    assert row["share of the limit"] == pytest.approx(row["flops a second"] / found.figures["limits"]["fp32"])
    assert row["on ready views"] > 0


def by_hand(width: int, side: int) -> float:
    """Operations of a ResNet-18 with the stem for small pictures, forward, of one picture."""
    total = 2 * 9 * 3 * width * side**2
    inputs = width
    for stage in range(4):
        outputs, side = width * 2**stage, side // (2 if stage else 1)
        total += 2 * side**2 * 9 * (inputs * outputs + 3 * outputs**2)
        total += 2 * side**2 * inputs * outputs if stage else 0
        inputs = outputs
    return total


@pytest.mark.trains
def test_the_views_of_the_first_load_come_again(tmp_path: Path) -> None:
    module, recipe = loops.recipe_of("simsiam", "embedded", batch=16, epochs=9)
    images, labels = loops.noise(32, EMBEDDED)
    loop = loops.loop_on(images, labels, module, recipe, torch.device("cpu"), tmp_path, size=32)
    seen: list[Any] = []
    loop.method.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with loops.instead_of_steps(loop.method, loops.always_first(loop.method)):
        loops.train(loop, 3)
    assert len(seen) == 3 and seen[0] is seen[1] is seen[2]


def test_the_peak_of_each_method(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"simclr": 5e9, "byol": 7e9, "random": UserError("it makes no update")}

    def peak(case: Case, name: str) -> float:
        if isinstance(value := names[name], Exception):
            raise value
        return value

    monkeypatch.setattr(memory, "peak", peak)
    monkeypatch.setattr(memory.registry, "methods", lambda: names)
    monkeypatch.setattr(memory, "planned", lambda case, name: 6e9)
    found = memory.run(Case("cpu", True, 1e9, case.workspace), nothing)
    assert found.line == "2 methods at their batch; most has byol, 7.0 GB"
    assert found.figures["bytes"] == {"byol": 7e9, "simclr": 5e9}
    line = memory.run(Case("cuda", False, 1e9, case.workspace), nothing).line
    assert line.endswith("; of the plan's figure at least 0.83, at most 1.17; byol takes more")
    assert found.figures["left out"] == {"random": "it makes no update"}


def test_epochs_are_those_that_the_time_is_good_for() -> None:
    assert training.affordable(200.0, 4.0) == 30  # 0.6 of the time
    assert training.affordable(1e9, 1.0) == 1000
    with pytest.raises(UserError, match="an epoch takes 90 s, and 100 s are left: give more --minutes"):
        training.affordable(100.0, 90.0)


def test_the_training_is_a_run_of_the_track(case: Case) -> None:
    jobs = training.plan(case, "digits", 30).jobs
    assert [job.kind for job in jobs] == ["pretrain", "features", "knn", "linear"]
    assert jobs[0].recipe["pretrain"]["epochs"] == 30 and jobs[0].recipe["pretrain"]["warmup_epochs"] == 3
    assert jobs[0].track == "embedded" and jobs[0].arm == "simclr"


@pytest.mark.trains
@pytest.mark.seconds
def test_the_training_is_judged_and_recorded_with_the_device(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "affordable", lambda seconds, each: 1)
    found = training.run(case, nothing)
    name = device.facts(torch.device("cpu"))["name"]
    records = {record["kind"]: record for record in found.figures["records"]}
    assert found.good and list(records) == ["pretrain", "features", "knn", "linear"]
    assert {record["provenance"]["device"] for record in records.values()} == {name}
    assert records["pretrain"]["cost"]["image_passes"] == 512
    k_nn, linear = (records[kind]["metrics"]["top1"] for kind in ("knn", "linear"))
    assert found.line.endswith(f"s on {name}: k-NN {k_nn:.1f}, linear {linear:.1f}")
    lines = (case.workspace / training.RECORDS).read_text().splitlines()
    assert [json.loads(line)["fingerprint"] for line in lines] == [r["fingerprint"] for r in records.values()]


def test_where_no_pictures_are_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of cifar10, cifar10-jpeg is there"):
        loops.pictures(Case("cuda", False, 1.0, tmp_path))
    assert device.of_kind("cpu") == torch.device("cpu")
