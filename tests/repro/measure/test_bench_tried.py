"""`repro bench tried`: the other ways make the same updates, and each is another way indeed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from methods.parts.encoders import ViT
from repro.cli.dispatch import main
from repro.measure import bench_tried
from repro.measure.bench_pretraining import new_loop, ready
from repro.measure.bench_tried import WAYS, Way
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


def test_a_row_a_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("bench tried --track embedded --threads 1 --seconds 0.01 --set pretrain.batch=8".split()) == 0
    out = capsys.readouterr().out
    for way in WAYS:
        assert re.search(rf"^{re.escape(way.name)} +{way.method} +bf16 +\d+\.\d +\d+\.\d +\d+\.\d\d$", out, re.M), out
    assert "--compile does" in out and "CUDA graphs were not tried: they need a GPU" in out


def test_compiling_without_a_compiler_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main("bench tried --compile".split()) == 2
    assert "needs g++" in capsys.readouterr().err
