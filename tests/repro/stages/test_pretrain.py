"""The pre-training loop: deterministic, resumable bit for bit, and it says what goes wrong."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.base import DataInfo
from methods.parts.heads import spread
from repro.errors import Stopped, UserError
from repro.plan import recipes, registry
from repro.stages.pretrain import PretrainLoop, build_method, build_optimizer, seed_of

pytestmark = pytest.mark.trains

Make = Callable[..., PretrainLoop]
DATA = DataInfo(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 10)


def images() -> Tensor:
    return torch.randint(0, 256, (70, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def labels() -> Tensor:
    return torch.arange(70) % 10


@pytest.fixture
def make(shrunk: Callable[..., recipes.Recipe]) -> Callable[..., PretrainLoop]:
    """`make(folder, method, seed, **pretrain_keys)`: the loop of a method made tiny, on 70 pictures of noise."""

    def loop(folder: Path, method: str = "aps", seed: int = 0, **pretrain_keys: Any) -> PretrainLoop:
        info, variant = registry.find(method)
        tables = shrunk(info.name, variant)
        tables["pretrain"] |= {"epochs": 3, "warmup_epochs": 1} | pretrain_keys
        folder.mkdir(parents=True, exist_ok=True)
        return PretrainLoop(
            build_method(info.module, tables, DATA, seed),
            images(),
            labels(),
            tables["pretrain"],
            seed=seed,
            device=torch.device("cpu"),
            folder=folder,
            progress=lambda *_: None,
        )

    return loop


def weights(loop: PretrainLoop) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loop.method.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


CASES = [
    pytest.param(f"{name}:{variant}", marks=pytest.mark.slow) if variant else name
    for name, info in sorted(registry.methods().items())
    if name != "random"
    for variant in ("", *info.variants)
]


@pytest.mark.parametrize("method", CASES)
def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, method: str, make: Make) -> None:
    """12 loads (a variant: 8), broken off within an epoch and at the end of one: the same in every bit that is kept."""
    epochs, halts = (2, (2, 2)) if ":" in method else (3, (6, 2))
    whole = make(tmp_path / "whole", method, epochs=epochs)
    whole.run()
    for stops in halts:  # after so many loads, and after so many more
        broken = make(tmp_path / "broken", method, epochs=epochs)
        seen = 0

        def stop(done: int, total: int, info: Mapping[str, Any], after: int = stops) -> None:
            nonlocal seen
            seen += "note" not in info
            if seen == after:
                signal.raise_signal(signal.SIGTERM)

        broken.progress = stop
        with pytest.raises(Stopped):
            broken.run()
    resumed = make(tmp_path / "broken", method, epochs=epochs)
    resumed.run()
    assert same(weights(whole), weights(resumed))
    assert whole.updates == resumed.updates == epochs * 4 * whole.method.updates_per_load
    a, b = whole.optimizer.state_dict()["state"], resumed.optimizer.state_dict()["state"]
    assert all(torch.equal(a[i][k], b[i][k]) for i in a for k in a[i] if isinstance(a[i][k], Tensor))
    lines = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert [line["updates"] for line in lines] == sorted({line["updates"] for line in lines})
    curves = [[(*point[:2], *point[3:]) for point in loop.curve] for loop in (whole, resumed)]  # without the seconds
    assert curves[0] == curves[1] and len(curves[0]) > 2


def test_another_seed_gives_other_bits(tmp_path: Path, make: Make) -> None:
    runs = []
    for seed in (0, 1):
        loop = make(tmp_path / str(seed), seed=seed, epochs=1)
        loop.run()
        runs.append(weights(loop))
    assert not same(*runs)


def test_micro_batches_are_the_batch_where_nothing_couples_rows(tmp_path: Path, make: Make) -> None:
    """MAE: no batch statistics, no negatives. Two micro-batches of 8 pictures give the update of one of 16."""
    runs = []
    for parts in (1, 2):
        loop = make(tmp_path / str(parts), "mae", epochs=1, accumulate=parts, optimizer="sgd", lr=0.1)
        loop.run()
        runs.append(weights(loop))
    assert runs[0].keys() == runs[1].keys()
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_a_gradient_is_clipped_to_its_norm(tmp_path: Path, make: Make) -> None:
    loop = make(tmp_path, epochs=1, clip_norm=1e-3)
    norms: list[float] = []
    step = loop.optimizer.step

    def watched() -> None:
        grads = [p.grad for p in loop.method.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()))
        step()

    loop.optimizer.step = watched  # type: ignore[method-assign]
    loop.run()
    assert norms == pytest.approx([1e-3] * len(norms), rel=1e-3)


def test_mmcvs_warm_up_is_read_at_an_updates_last_micro_batch(tmp_path: Path, make: Make) -> None:
    """Iterations are micro-batches there; the rate of one warm-up epoch of I rises from 1e-4 with iteration / I."""
    keys = {"epochs": 2, "warmup_epochs": 1, "warmup_start": 1e-4, "lr": 1.0, "base_batch": 16}
    clocks = {"schedule_clock": "epoch_after_warmup", "cosine_start": "zero_product"}
    loop = make(tmp_path, "mae", accumulate=2, **keys, **clocks)
    rates: list[float] = []
    step = loop.optimizer.step
    loop.optimizer.step = lambda: (rates.append(loop.optimizer.param_groups[0]["lr"]), step())  # type: ignore
    loop.run()
    iterations = 2 * loop.loads
    expected = [1 - (1 - iteration / iterations) * (1 - 1e-4) for iteration in range(1, iterations, 2)]
    assert rates == pytest.approx(expected + [0.5] * loop.loads)


def test_an_order_of_pictures_is_not_reused_across_seeds_and_epochs(tmp_path: Path, make: Make) -> None:
    loops = [make(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    orders = {tuple(loop._order(epoch).tolist()) for loop in loops for epoch in range(3)}
    assert len(orders) == 6  # mmengine's sampler, seeded with seed + epoch, would give 4
    assert seed_of(0, 1) != seed_of(1, 0)


def test_the_rate_that_the_optimizer_gets(tmp_path: Path, make: Make) -> None:
    loop = make(tmp_path, lr=0.5, base_batch=32, epochs=1, warmup_epochs=0)
    loop.method.updates_per_load = 2
    rates: list[float] = []
    step = loop.optimizer.step
    loop.optimizer.step = lambda: (rates.append(loop.optimizer.param_groups[0]["lr"]), step())  # type: ignore
    loop.run()
    clock = loop.recipe["schedule_clock"]
    assert rates[0] == pytest.approx(0.25)  # 0.5 * 16 / 32, at the top of the cosine
    assert len(rates) == 8
    assert (rates == [rates[0]] * 8) is (clock == "epoch")


def test_a_diverging_loss_is_named(tmp_path: Path, make: Make) -> None:
    loop = make(tmp_path, lr=1e30, epochs=2)
    with pytest.raises(UserError, match=r"the loss became .*pretrain\.lr"):
        loop.run()


@pytest.mark.parametrize(
    ("spreads", "collapses"),
    [([0.9, 0.9, 0.02], True), ([0.005, 0.005, 0.005], True), ([0.04, 0.05, 0.04], False), ([0.9, 0.5, 0.4], False)],
)
def test_a_collapse_is_said_while_it_trains(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str], spreads: list[float], collapses: bool
) -> None:
    """One look an epoch; a head that starts narrow is no collapse, one that becomes narrow is."""
    loop = make(tmp_path)
    loss = loop.method.loss
    loop.method.loss = lambda views: {**loss(views), "std_z": torch.tensor(spreads[loop.epoch])}  # type: ignore
    loop.run()
    said = capsys.readouterr().out
    assert (loop.collapsed_at is not None) is collapses is ("collapsing" in said)
    assert not collapses or "pretrain.lr" in said


def test_an_encoder_that_does_collapse_is_found(tmp_path: Path, make: Make) -> None:
    """SimSiam without its stop-gradient and its predictor: the loss is least where all projections agree."""
    loop = make(tmp_path, "simsiam", epochs=30, warmup_epochs=0, optimizer="adamw", lr=3e-3, weight_decay=0.0)
    method = loop.method
    method.projector = torch.nn.Linear(method.encoder.dim, 16)
    loop.optimizer = build_optimizer(method, loop.recipe)

    def agree(views: Any) -> dict[str, Tensor]:
        z1, z2 = (method.projector(method.encoder.features(views[name])) for name in ("pixels1", "pixels2"))
        return {"loss_agree": -torch.cosine_similarity(z1, z2).mean(), "std_z": spread(z1)}

    method.loss = agree  # type: ignore[method-assign]
    loop.run()
    assert loop.collapsed_at is not None and loop.losses["std_z"] < 0.05


def test_more_pictures_a_batch_than_there_are(tmp_path: Path, make: Make) -> None:
    with pytest.raises(UserError, match=r"--set pretrain\.batch"):
        make(tmp_path, batch=71)


def test_flops_are_those_of_the_layers(tmp_path: Path, make: Make) -> None:
    """One linear layer, no bias: forward 2 B D K, backward twice that, less the input gradient of the first layer."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        layer = torch.nn.Linear(7, 5, bias=False)
        layer(torch.randn(11, 7)).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 11 * 7 * 5


def test_flops_are_of_the_networks_of_all_micro_batches_and_not_of_the_views(tmp_path: Path, make: Make) -> None:
    plain, parted, busy = (
        make(tmp_path / str(number), "supervised", epochs=1, accumulate=parts) for number, parts in enumerate((1, 2, 1))
    )
    steps = busy.method.steps

    def slow_views(*arguments: Any) -> Any:
        for views in steps(*arguments):
            torch.ones(99, 99) @ torch.ones(99, 99)
            yield views

    busy.method.steps = slow_views
    for loop in (plain, parted, busy):
        loop.run()
    assert plain.flops == parted.flops == busy.flops > 0


def test_a_caller_between_two_loads_changes_nothing(tmp_path: Path, make: Make) -> None:
    whole, stepped = make(tmp_path / "whole"), make(tmp_path / "stepped")
    whole.run()
    assert len([torch.rand(3) for _ in stepped.train()]) == 3 * 4
    assert same(weights(whole), weights(stepped))
