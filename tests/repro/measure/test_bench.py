"""`repro bench`: the numbers are the machine's, so what is tested is what is measured, and what is said."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from eval.detection_metrics import coco_metrics
from methods.base import DataInfo
from repro.cli.dispatch import main
from repro.measure import bench_evaluations, bench_pretraining, lightly_peer, limits, timing
from repro.measure.bench_evaluations import Contest
from repro.plan import recipes, registry
from repro.stages.pretrain import PretrainLoop, build_method

TINY = "--track embedded --threads 1 --seconds 0.05 --set network.width=8 pretrain.batch=8".split()

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.trains
def test_a_row_a_method_and_precision(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits._SIDE, "cpu", 512)
    monkeypatch.setattr(limits, "_COPIED", 2**20)
    monkeypatch.setattr(limits, "_READ", 2**20)
    assert main(["bench", "pretrain", "--method", "supervised", "simsiam", "random", *TINY]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^(\w+) +(fp32|bf16) +8 +([\d,]+) +([\d,]+) +(\d\.\d\d) +([\d,]+) +(\d+)% +(\S+)", out, re.M)
    assert [row[:2] for row in rows] == [(m, p) for m in ("supervised", "simsiam") for p in ("fp32", "bf16")]
    for _, _, loop, ready, ratio, rate, limit, peer in rows:
        assert min(float(text.replace(",", "")) for text in (loop, ready, ratio)) > 0 and peer == "-"
        assert float(rate.replace(",", "")) >= 0 and 0 <= int(limit) < 200
    assert re.search(r"^memory: \d+\.\d GB/s .*; \d+\.\d\d GB/s read from the disk", out, re.M)
    assert "not measured: random: it makes no update" in out
    assert ("lightly is not installed" in out) is not lightly_peer.installed()


def test_the_peer_stands_beside_the_methods_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    if not lightly_peer.installed():
        pytest.skip("lightly is not installed: the extra 'bench'")
    line = ["bench", "pretrain", "--method", *lightly_peer.PEERS, "--precision", "fp32", *TINY]
    assert main(line) == 0
    out = capsys.readouterr().out
    for name in lightly_peer.PEERS:
        assert re.search(rf"^{name} +fp32 .* [\d,]+ +\d+\.\d\d$", out, re.M), out


@pytest.fixture
def tiny_contests(monkeypatch: pytest.MonkeyPatch) -> list[Contest]:
    """Every contest of `bench eval`, on little."""
    small = {
        "_linear": {"pictures": 300, "dim": 8, "epochs": 1},
        "_knn": {"train": 300, "test": 20, "dim": 8},
        "_reid": {"queries": 5, "gallery": 200, "dim": 8},
        "_cache": {"pictures": 20},
        "_coco": {"pictures": 2, "objects": 3, "detections": 4},
    }
    kept: list[Contest] = []
    for name, sizes in small.items():
        real = getattr(bench_evaluations, name)

        def shrunk(
            *folder: Path,
            real: Callable[..., Contest] = real,
            sizes: dict[str, int] = sizes,
            **asked: int,
        ):
            assert asked == bench_evaluations.SIZES["peers"].get(real.__name__[1:], {}) or not asked
            assert asked.keys() <= sizes.keys()
            kept.append(real(*folder, **sizes))
            return kept[-1]

        monkeypatch.setattr(bench_evaluations, name, shrunk)
    return kept


@pytest.mark.trains
def test_eval_has_a_row_a_rival(capsys: pytest.CaptureFixture[str], tiny_contests: list[Contest]) -> None:
    assert main("bench eval --seconds 0.01 --threads 1 --sizes peers".split()) == 0
    out = capsys.readouterr().out
    rivals = [(contest, rival) for contest in tiny_contests for rival in contest.rivals]
    assert len(tiny_contests) == 5 and len(rivals) == 9
    for contest, rival in rivals:
        line = next(line for line in out.splitlines() if rival.name in line)
        assert line.startswith(contest.name) and contest.sizes in line
        figures = line.split(rival.name)[1].split()
        if rival.call:
            ours, theirs, ratio = map(float, figures)
            assert ours >= 0 and theirs >= 0 and ratio > 0
        else:
            assert figures[1:] == ["-", "not", "installed"]


def test_rankings_are_judged_alike(tiny_contests: list[Contest]) -> None:
    """All sides of the re-ID row do the same: their mAP is one."""
    contest = bench_evaluations._reid()
    answers = [rival.call() for rival in contest.rivals if rival.call]
    assert len(answers) >= 1 and answers == pytest.approx([contest.ours()] * len(answers), abs=1e-3)
    assert 1 < answers[0] < 99


def test_peers_are_of_the_sizes_at_which_others_were_measured() -> None:
    assert bench_evaluations.SIZES["peers"]["knn"] == {"train": 10_000, "test": 10_000, "dim": 512}
    assert bench_evaluations.SIZES["peers"]["reid"] == {"queries": 1000, "gallery": 20_000}
    assert bench_evaluations.SIZES["peers"]["coco"]["pictures"] == 2052


@pytest.mark.trains
def test_a_missing_library_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_contests: list[Contest]
) -> None:
    monkeypatch.setattr(bench_evaluations, "find_spec", lambda name: None)
    assert main("bench eval --seconds 0.01 --threads 1".split()) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"scikit-learn .* - +not installed", out)) == 3
    assert "pip install '.[bench]'" in out


def test_generated_detections_are_judged_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither all right nor all wrong, and repeatable: what the COCO row times is a real evaluation."""
    first = bench_evaluations.generated_results(6, 4, 8)
    assert first == bench_evaluations.generated_results(6, 4, 8)
    metrics = coco_metrics(*first)
    assert 1 < metrics["bbox_AP"] < 90 and 1 < metrics["segm_AP"] < 90


def test_sides_take_turns_and_samples_are_of_one_step() -> None:
    calls = []

    def side(name: str, first: float, others: float) -> Iterator[None]:
        for number in range(10**6):
            calls.append(name)
            time.sleep(others if number else first)
            yield

    slow, quick = timing.interleaved(
        [side("a", 0.3, 0.02), side("b", 0.01, 0.01)], seconds=0.2, here=torch.device("cpu")
    )
    assert len(slow) == len(quick) >= 3
    assert min(slow) >= 0.02 and min(quick) >= 0.01
    assert max(slow) < 0.3  # the first, slow step is no sample
    assert calls[:4] == ["a", "b", "a", "b"]
    assert re.fullmatch("(a+b+)+", "".join(calls)) and "ab" in "".join(calls[4:])


def test_one_thread_of_a_cpu_is_timed_by_what_it_computes_itself() -> None:
    torch.set_num_threads(1)
    here = torch.device("cpu")
    now = timing.clock(here)
    before = now()
    time.sleep(0.2)  # as if others had the core
    assert now() - before < 0.1 and "own time" in timing.clock_in_words(here)
    torch.set_num_threads(2)
    assert timing.clock(here) is timing.clock(torch.device("cuda")) is time.perf_counter


@pytest.mark.trains
@pytest.mark.parametrize("method", ["aps", "moco_v3:resnet"])
def test_ready_makes_the_updates_of_a_load_on_one_set_of_views(
    tmp_path: Path, shrunk: Callable[..., recipes.Recipe], method: str
) -> None:
    info, variant = registry.find(method)
    tables = shrunk(info.name, variant)
    tables["pretrain"] |= {"epochs": 10}
    images = torch.randint(0, 256, (64, 3, 32, 32)).byte()
    built = build_method(info.module, tables, DataInfo(32, (0.5,) * 3, (0.25,) * 3, 10), 0)
    seen = []
    original = built.loss
    built.loss = lambda views: (seen.append(views), original(views))[1]  # type: ignore[method-assign,func-returns-value]
    loop = PretrainLoop(
        built,
        images,
        None,
        tables["pretrain"],
        seed=0,
        device=torch.device("cpu"),
        folder=tmp_path,
        progress=lambda *_: None,
    )
    side = bench_pretraining.ready(loop)
    for _ in range(3):
        next(side)
    each = built.updates_per_load
    assert loop.updates == len(seen) == 3 * each
    assert all(seen[i] is seen[i + each] for i in range(2 * each))


@pytest.mark.slow
@pytest.mark.processes
def test_the_exchange_of_gradients_in_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "exchange", "--seconds", "0.01"]) == 0
    out = capsys.readouterr().out
    found = dict(re.findall(r"^(alone|after|during) +(\d+) +\S+$", out, re.M))
    assert found.keys() == {"alone", "after", "during"} and all(int(time) > 0 for time in found.values())
    assert "2 ranks of one thread, 23.5 million parameters" in out
    assert re.search(r"^exposed during / after: -?\d+\.\d\d$", out, re.M)
