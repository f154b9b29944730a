"""The pre-training loop: deterministic, resumable bit for bit, and it says what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.base import DataInfo
from repro import recipes
from repro.errors import Stopped, UserError
from repro.stages import pretrain
from repro.stages.pretrain import PretrainLoop, build_method, seed_of

DATA = DataInfo(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 10)
SMALL = {
    "network": {"dim": 24, "depth": 1, "heads": 3},
    "pretrain": {"epochs": 3, "batch": 16, "warmup_epochs": 1, "precision": "fp32"},
}


def images() -> Tensor:
    return torch.randint(0, 256, (70, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def labels() -> Tensor:
    return torch.arange(70) % 10


def make(folder: Path, method: str = "aps", seed: int = 0, **pretrain_keys: Any) -> PretrainLoop:
    info, variant = recipes.find(method)
    recipe = recipes.resolve(info, variant, "embedded", {**SMALL, "pretrain": {**SMALL["pretrain"], **pretrain_keys}})
    folder.mkdir(parents=True, exist_ok=True)
    return PretrainLoop(
        build_method(info.module, recipe, DATA, seed),
        images(),
        labels(),
        recipe["pretrain"],
        seed=seed,
        device=torch.device("cpu"),
        folder=folder,
        progress=lambda *_: None,
    )


def weights(loop: PretrainLoop) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loop.method.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


METHODS = sorted(name for name in recipes.methods() if name != "random")


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits_other_seed_other_bits(tmp_path: Path, method: str) -> None:
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        loop = make(tmp_path / str(number), method, seed, epochs=1)
        loop.run()
        runs.append(weights(loop))
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loads", [1, 4, 6])
def test_interrupted_and_resumed_is_uninterrupted(
    tmp_path: Path, method: str, loads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(tmp_path / "whole", method)
    whole.run()
    broken = make(tmp_path / "broken", method)
    seen = 0

    def stop_after(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == loads:
            broken._ask_to_stop()

    broken.progress = stop_after
    with pytest.raises(Stopped):
        broken.run()
    resumed = make(tmp_path / "broken", method, seed=0)
    resumed.run()
    assert same(weights(whole), weights(resumed))
    assert whole.updates == resumed.updates == 3 * 4 * whole.method.updates_per_load
    a, b = whole.optimizer.state_dict()["state"], resumed.optimizer.state_dict()["state"]
    assert all(torch.equal(a[i][k], b[i][k]) for i in a for k in a[i] if isinstance(a[i][k], Tensor))
    lines = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert [line["updates"] for line in lines] == sorted({line["updates"] for line in lines})


def test_an_order_of_pictures_is_not_reused_across_seeds_and_epochs(tmp_path: Path) -> None:
    loops = [make(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    orders = {tuple(loop._order(epoch).tolist()) for loop in loops for epoch in range(3)}
    assert len(orders) == 6  # mmengine's sampler, seeded with seed + epoch, would give 4
    assert seed_of(0, 1) != seed_of(1, 0)


def test_the_rate_that_the_optimizer_gets(tmp_path: Path) -> None:
    loop = make(tmp_path, lr=0.5, base_batch=32, epochs=1, warmup_epochs=0)
    loop.method.updates_per_load = 4
    rates: list[float] = []
    step = loop.optimizer.step
    loop.optimizer.step = lambda: (rates.append(loop.optimizer.param_groups[0]["lr"]), step())  # type: ignore
    loop.run()
    clock = loop.recipe["schedule_clock"]
    assert rates[0] == pytest.approx(0.25)  # 0.5 * 16 / 32, at the top of the cosine
    assert len(rates) == 16
    assert (rates == [rates[0]] * 16) is (clock == "epoch")


def test_a_diverging_loss_is_named(tmp_path: Path) -> None:
    loop = make(tmp_path, lr=1e30, epochs=2)
    with pytest.raises(UserError, match=r"the loss became .*pretrain\.lr"):
        loop.run()


def test_a_collapse_is_said_while_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = make(tmp_path, epochs=1)
    loop.method.loss, original = (lambda v: {**original(v), "std_z": torch.tensor(0.001)}), loop.method.loss  # type: ignore
    loop.run()
    assert loop.collapsed_at is not None and "collapsing" in capsys.readouterr().out


def test_more_pictures_a_batch_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set pretrain\.batch"):
        make(tmp_path, batch=71)


def test_flops_are_those_of_the_layers(tmp_path: Path) -> None:
    """One linear layer, no bias: forward 2 B D K, backward twice that, less the input gradient of the first layer."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        layer = torch.nn.Linear(7, 5, bias=False)
        layer(torch.randn(11, 7)).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 11 * 7 * 5
    loop = make(tmp_path, epochs=1)
    loop.run()
    assert loop.flops > 0
    assert pretrain.device().type in ("cpu", "cuda")
