"""Counts of networks and trainings beside what torch really builds, computes and keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from methods.base import Batch, DataInfo, Streams
from methods.parts import encoders
from repro.plan import footprint, recipes, registry, tracks
from repro.stages.pretrain import build_method, build_optimizer

RESNET = {"arch": "resnet", "depth": 18, "width": 8, "stem": "cifar", "zero_init_residual": False}
VIT = {"arch": "vit", "dim": 48, "depth": 2, "heads": 3, "patch": 4, "qkv_bias": False, "eps": 1e-5}
VIT |= {"positions": "learned", "init": "torch", "freeze_patches": False, "pool": "class"}
BYTES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention by the fused kernel, as on a GPU: on a CPU in bf16 it is written out, which keeps more."""
    monkeypatch.setattr(encoders, "attend", F.scaled_dot_product_attention)


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Bytes by storage that autograd keeps for the backward pass, without weights and their copies of other types."""
    shapes = [tuple(p.shape) for p in module.parameters()]
    shapes += [
        (part * d, d) for rows, d in (s for s in shapes if len(s) == 2) if rows == 3 * d for part in (1, 2)
    ]  # qkv
    weights = {*shapes, *(shape[::-1] for shape in shapes)}
    found: dict[int, int] = {}
    held = []  # so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            held.append(tensor)
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


@pytest.mark.parametrize("precision", BYTES)
@pytest.mark.parametrize(
    ("table", "size"),
    [
        (RESNET, 32),
        ({**RESNET, "depth": 10}, 32),
        ({**RESNET, "depth": 34, "stem": "imagenet"}, 64),
        ({**RESNET, "depth": 50}, 32),
        ({**RESNET, "depth": 50, "stem": "imagenet", "width": 16}, 65),
        (VIT, 32),
        ({**VIT, "qkv_bias": True, "patch": 8, "heads": 1}, 64),
    ],
)
def test_a_network_is_counted_as_torch_builds_it(table: dict[str, Any], size: int, precision: str) -> None:
    table, rows = {**table, "size": size}, 2
    net, got = encoders.build_encoder(table), footprint.network(table, size, precision)
    assert (got.parameters, got.dim) == (sum(p.numel() for p in net.parameters()), net.dim)
    x = torch.randn(rows, 3, size, size)
    half = precision == "bf16"
    with kept(net) as found, torch.autocast("cpu", torch.bfloat16, half):
        net.features(x)
    # torch counts attention where it is written out, not in the kernel that is fused for CPUs
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net.features(x)
    assert got.flops == pytest.approx(counter.get_total_flops() / rows, rel=0.01)
    assert got.kept == pytest.approx(sum(found.values()) / rows, rel=0.04)


def of_update(name: str, track: str, rows: int) -> tuple[float, float]:
    """Bytes that one update keeps of a picture: measured, and as estimated."""
    info, variant = registry.find(name)
    recipe = recipes.resolve(info, variant, track, {"pretrain": {"batch": rows, "precision": "bf16"}})
    size = tracks.find(track).size
    method = build_method(info.module, recipe, DataInfo(size, (0.5,) * 3, (0.25,) * 3, 10), 0)
    images = torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8)
    rng = Streams(0, 0, 0, global_batch=rows, rows=slice(0, rows), device="cpu")
    views = next(iter(method.steps(Batch(images, torch.arange(rows) % 10), rng)))
    with kept(method) as found, torch.autocast("cpu", torch.bfloat16):
        method(views)
    net = footprint.network(recipe["network"], size, "bf16")
    top = footprint.heads(recipe["method"], net.dim)
    return sum(found.values()) / rows, registry.kept_passes(info, variant) * (net.kept + 2 * top.widths)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("name", "track"),
    [(name, "mini") for name in "simclr byol moco_v2 moco_v3 nnclr swav fast_moco glnet multi_network".split()]
    + [("rotation_aux", "mini"), ("aps", "cifar"), ("mae", "cifar")],
)
def test_an_update_keeps_the_passes_that_the_recipe_states(name: str, track: str) -> None:
    measured, estimated = of_update(name, track, 16 if track == "mini" else 8)
    assert estimated == pytest.approx(measured, rel=0.1)


@pytest.mark.seconds
def test_random_sizes_are_counted_as_the_largest() -> None:
    measured, estimated = of_update("truncated_triplet:fixed_size", "embedded", 64)
    assert estimated == pytest.approx(measured, rel=0.1)
    assert registry.kept_passes(*registry.find("truncated_triplet")) == 2


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_weights_gradients_and_optimiser(optimizer: str) -> None:
    info, variant = registry.find("byol")
    wanted = {"optimizer": optimizer, "precision": "fp32"}
    recipe = recipes.resolve(info, variant, "embedded", {"pretrain": wanted})
    method = build_method(info.module, recipe, DataInfo(32, (0.5,) * 3, (0.25,) * 3, 10), 0)
    built, trained = build_optimizer(method, recipe["pretrain"]), [p for p in method.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    built.step()
    state = [t for values in built.state.values() for t in values.values() if isinstance(t, torch.Tensor)]
    held = sum(t.nbytes for t in [*method.parameters(), *trained, *state])
    net = footprint.network(recipe["network"], 32, "fp32")
    parameters = net.parameters + footprint.heads(recipe["method"], net.dim).parameters
    assert footprint.weights_and_state(recipe, parameters) == pytest.approx(held, rel=0.2)


def test_more_rows_take_more_and_accumulation_less() -> None:
    info, variant = registry.find("byol")

    def gb(**pretrain: Any) -> float:
        recipe = recipes.resolve(info, variant, "cifar", {"pretrain": pretrain})
        return footprint.pretraining(recipe, 32, 2.0, recipe["pretrain"]["precision"])

    small, large, parts, whole = gb(batch=256), gb(batch=512), gb(batch=512, accumulate=2), gb(precision="fp32")
    # 256 rows, two views, 1.17 M numbers a picture (counted by hand) of 2 bytes, and what the allocator loses
    assert large - small > 1.1 * 256 * 2 * 1.17e6 * 2 / 2**30
    assert parts == pytest.approx(small, rel=0.01) and small < whole < 2 * small
    on_device = footprint.pretraining(recipes.resolve(info, variant, "cifar", {}), 32, 2.0, "bf16", 50_000, 24)
    assert on_device - small == pytest.approx(1.1 * 50_000 * 3072 / 2**30)
