"""Pre-training on a GPU: no operation mixes devices, no update waits, and what is sent is little and pinned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_gpu import HiddenWait, MixedDevices, pretend
from torch import Tensor

from methods.base import DataInfo, Views
from methods.parts.encoders import ResNet
from methods.simclr import SimCLR
from repro.plan import recipes, registry, tracks
from repro.stages.pretrain import PretrainLoop, build_method
from repro.store import checkpoints

pytestmark = pytest.mark.seconds
MOST = 4  # copies to the device a load: pictures, labels, what chance decides of the views, by how much they are turned
CASES = [
    pytest.param(name, variant, marks=[pytest.mark.slow] if variant else [])
    for name, info in sorted(registry.methods().items())
    for variant in ("", *info.variants)
    if name != "random"
]
Tables = Callable[..., recipes.Recipe]


@pytest.fixture(autouse=True)
def _no_checkpoint_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint waits, and is due by the clock: here at the end alone."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", float("inf"))


@pytest.fixture
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block a stage of a ResNet: the operations of the others are the same."""
    layer = ResNet._make_layer

    def of_one_block(self: ResNet, block: Any, planes: int, blocks: int, *args: Any, **kwargs: Any) -> Any:
        return layer(self, block, planes, 1, *args, **kwargs)

    monkeypatch.setattr(ResNet, "_make_layer", of_one_block)


def loop(
    gpu: Any, tables: recipes.Recipe, module: str, folder: Path, size: int = 32, rows: int = 16, count: int = 3
) -> PretrainLoop:
    """The loop of a recipe on the device, on so many loads of noise."""
    tables["pretrain"] |= {"epochs": 1}
    loads = PretrainLoop(
        build_method(module, tables, DataInfo(size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 10), seed=0),
        torch.randint(0, 256, (count * rows, 3, size, size), dtype=torch.uint8),
        torch.arange(count * rows) % 10,
        tables["pretrain"],
        seed=0,
        device=gpu.device,
        folder=folder,
        progress=lambda *_: None,
    )
    loads.curve, loads.flops = [[0.0] * 5], 1.0  # begun: how a training begins has a test of its own
    return loads


def second_load(gpu: Any, trained: PretrainLoop) -> None:
    """Train, and let the device's counters hold what the second of three loads did."""
    training = trained.train()
    next(training)
    gpu.forget()
    next(training)


def of_one_device(name: str, variant: str, track: str) -> tuple[recipes.Recipe, str, int, int]:
    """A track's recipe for one device that sees 64 pictures at most; its module, the pictures' side, how many."""
    info = registry.find(name)[0]
    tables = recipes.resolve(info, variant, track, {})
    rows = min(64, tables["pretrain"]["batch"])
    tables["pretrain"] |= {"devices": 1, "accumulate": 1, "batch": rows}
    return tables, info.module, tracks.find(track).size, rows


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_a_load_mixes_no_devices_waits_for_nothing_and_sends_little(
    gpu: Any, name: str, variant: str, shrunk: Tables, tmp_path: Path
) -> None:
    info = registry.find(name)[0]
    trained = loop(gpu, shrunk(name, variant), info.module, tmp_path)
    second_load(gpu, trained)
    gpu.check_waits()
    gpu.check_sent(MOST)
    assert trained.updates == 2 * trained.method.updates_per_load
    assert {p.device.type for p in trained.method.parameters()} == {"cuda"}


@pytest.mark.usefixtures("_shallow")
def test_accumulated_and_clipped_in_bfloat16(gpu: Any, shrunk: Tables, tmp_path: Path) -> None:
    """Two micro-batches, each with its copies, LARS and every kind of clipping."""
    tables = shrunk("simsiam")
    more = {"accumulate": 2, "clip_norm": 1.0, "clip_adaptive": 0.1, "precision": "bf16", "channels_last": True}
    lars = {"optimizer": "lars", "momentum": 0.9, "trust": 1e-3, "lars_form": "solo", "lars_clip": True}
    tables["pretrain"] |= more | lars
    trained = loop(gpu, tables, "methods.simsiam:SimSiam", tmp_path)
    second_load(gpu, trained)
    gpu.check_waits()
    gpu.check_sent(2 * MOST)


@pytest.mark.usefixtures("_shallow")
def test_a_training_waits_for_its_curve_its_log_and_its_checkpoint(gpu: Any, shrunk: Tables, tmp_path: Path) -> None:
    trained = loop(gpu, shrunk("simsiam"), "methods.simsiam:SimSiam", tmp_path)
    trained.curve, trained.flops = [], 0.0
    trained.run()
    assert trained.losses.keys() >= {"loss_1to2", "std_z"} and len(trained.curve) == 2
    waited = {place.split(":")[1] for place in gpu.waits}
    assert gpu.real or waited == {"extract", "true_ranks", "PretrainLoop._look", "save.<locals>.<lambda>"}


@pytest.mark.slow
@pytest.mark.parametrize("track", tracks.tracks())
@pytest.mark.parametrize(("name", "variant"), [case.values for case in CASES if not case.values[1]])
def test_a_load_of_the_recipe_of_a_track(gpu: Any, name: str, variant: str, track: str, tmp_path: Path) -> None:
    """Networks and views of their full size; of a batch the share of one device, 64 pictures at most."""
    tables, module, size, rows = of_one_device(name, variant, track)
    trained = loop(gpu, tables, module, tmp_path, size, rows)
    second_load(gpu, trained)
    gpu.check_waits()
    gpu.check_sent(MOST)


@pytest.mark.slow
@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize("track", tracks.tracks())
@pytest.mark.parametrize(("name", "variant"), [case.values for case in CASES if case.values[1]])
def test_a_load_of_a_variants_recipe_of_a_track(gpu: Any, name: str, variant: str, track: str, tmp_path: Path) -> None:
    """As above, but with one block for each stage of a ResNet or for a ViT, and a training of a single load.

    At its end it looks at its losses; other waits have no named place here, and are errors by themselves.
    """
    tables, module, size, rows = of_one_device(name, variant, track)
    if tables["network"]["arch"] == "vit":
        tables["network"]["depth"] = 1
    trained = loop(gpu, tables, module, tmp_path, size, rows, count=1)
    gpu.forget()
    next(trained.train())
    assert trained.updates == trained.method.updates_per_load
    assert {place.partition(":")[2] for place in gpu.waits} <= {"PretrainLoop._look"}
    gpu.check_sent(MOST)


class Peeking(SimCLR):
    """Looks at a value of the device in its loss."""

    def loss(self, views: Views) -> dict[str, Tensor]:
        outputs = super().loss(views)
        return outputs if outputs["loss_nt_xent"].item() >= 0 else {}


class Choosing(SimCLR):
    """Takes rows by a mask, how many it has to ask the device."""

    def loss(self, views: Views) -> dict[str, Tensor]:
        bright = views["pixels1"].mean(dim=(1, 2, 3)) > 0
        return super().loss(views) | {"bright": views["pixels1"][bright].mean()}


class Mixing(SimCLR):
    """Weighs its rows by numbers of the host."""

    def loss(self, views: Views) -> dict[str, Tensor]:
        return super().loss(views) | {"weighed": (torch.ones(16) * views["pixels1"].mean(dim=(1, 2, 3))).mean()}


class Sending(SimCLR):
    """Sends a number of its own, from memory that is not pinned."""

    def loss(self, views: Views) -> dict[str, Tensor]:
        weights = torch.ones(16).to(views["pixels1"].device, non_blocking=True)
        return super().loss(views) | {"weighed": (weights * views["pixels1"].mean(dim=(1, 2, 3))).mean()}


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Peeking, HiddenWait, r"Peeking\.loss waits for the device"),
        (Choosing, HiddenWait, r"Choosing\.loss waits for the device"),
        (Mixing, MixedDevices, r"Mixing\.loss meets tensors of the host and of the device"),
        (Sending, AssertionError, "pageable memory(.|\n)*Sending.loss"),
    ],
)
def test_a_planted_fault_is_found(
    kind: type[SimCLR], error: type[Exception], words: str, shrunk: Tables, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("methods.simclr.SimCLR", kind)
    with pretend() as gpu, pytest.raises(error, match=words):
        second_load(gpu, loop(gpu, shrunk("simclr"), "methods.simclr:SimCLR", tmp_path))
        gpu.check_waits()
        gpu.check_sent(MOST)
