"""`repro bench tried`: the other ways make the same updates, and each is another way indeed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.parts.encoders import ViT
from repro.cli.dispatch import main
from repro.measure import bench_pretraining, bench_tried
from repro.measure.bench_pretraining import new_loop, ready
from repro.measure.bench_tried import LESS, RECORDED, WAYS, Way
from repro.plan import recipes, registry, tracks
from repro.stages.pretrain import PretrainLoop

pytestmark = [pytest.mark.trains, pytest.mark.usefixtures("own_folder")]


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.method}-{way.name}")
def test_other_ways_make_the_same_updates(way: Way, shrunk: Callable[..., recipes.Recipe], tmp_path: Path) -> None:
    info, variant = registry.find(way.method)
    recipe = shrunk(info.name, variant)
    recipe["pretrain"] |= {"precision": "fp32", "batch": 16}
    loops = [new_loop(info.module, recipe, tracks.find("mini"), tmp_path) for _ in range(2)]
    way.change(loops[1])
    sides = [ready(loops[0]), bench_tried._within(ready(loops[1]), way.around)]
    losses: list[list[torch.Tensor]] = [[], []]
    for _ in range(2):
        for loop, side, kept in zip(loops, sides, losses, strict=True):
            next(side)
            kept.append(torch.stack([v.detach() for k, v in loop._last.items() if k.startswith("loss_")]))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=1e-3)


def tokens_made(loop: PretrainLoop) -> list[int]:
    made: list[int] = []
    encoder = loop.method.encoder
    assert isinstance(encoder, ViT)
    encoder.blocks[-1].register_forward_hook(lambda _, __, out: made.append(out.shape[1]))
    next(ready(loop))
    return made


def test_the_last_block_makes_every_token_there(shrunk: Callable[..., recipes.Recipe], tmp_path: Path) -> None:
    info, variant = registry.find("moco_v3")
    loops = [new_loop(info.module, shrunk("moco_v3", variant), tracks.find("mini"), tmp_path) for _ in range(2)]
    bench_tried._every_token(loops[1])
    assert set(tokens_made(loops[0])) == {1} and min(tokens_made(loops[1])) > 1


@pytest.mark.parametrize("way", LESS, ids=lambda way: way.method)
def test_no_norm_computes_there(way: Way, shrunk: Callable[..., recipes.Recipe], tmp_path: Path) -> None:
    loop = new_loop(registry.find(way.method)[0].module, shrunk(way.method), tracks.find("mini"), tmp_path)
    norms = [module for module in loop.method.modules() if "Norm" in type(module).__name__]
    way.change(loop)
    x = torch.randn(3, 5)
    assert norms and all(norm(x) is x for norm in norms)


@pytest.mark.parametrize("way", RECORDED, ids=lambda way: way.method)
def test_what_is_recorded_waits_for_nothing_and_sends_nothing(
    way: Way, gpu: Any, shrunk: Callable[..., recipes.Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph can hold neither."""
    replayed: list[int] = []

    class Graph:
        def replay(self) -> None:
            replayed.append(loop.updates)

    @contextlib.contextmanager
    def recording(graph: Graph) -> Iterator[None]:
        gpu.forget()
        yield
        gpu.check_waits()
        gpu.check_sent(0)

    if not gpu.real:
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(bench_pretraining, "device", lambda: gpu.device)
    loop = new_loop(registry.find(way.method)[0].module, shrunk(way.method), tracks.find("mini"), tmp_path)
    updates = way.updates(loop)
    for _ in range(3):
        next(updates)
    each = loop.method.updates_per_load
    assert loop.updates == 4 * each, "three loads before the recording, and none after it but by replaying"
    assert gpu.real or replayed == 3 * [4 * each]


def test_a_row_a_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("bench tried --track embedded --threads 1 --seconds 0.01 --set pretrain.batch=8".split()) == 0
    out = capsys.readouterr().out
    for way in (*WAYS, *LESS):
        assert re.search(rf"^{re.escape(way.name)} +{way.method} +bf16 +\d+\.\d +\d+\.\d +\d+\.\d\d$", out, re.M), out
    assert "--compile does" in out
    assert re.search(r"^not tried, as it needs a GPU: updates recorded as a CUDA graph \(simclr\), ", out, re.M)


def test_compiling_without_a_compiler_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main("bench tried --compile".split()) == 2
    assert "needs g++" in capsys.readouterr().err
