"""What the machine can do at most: shares by hand, and figures that must agree with each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from repro.measure import bench_pretraining, limits
from repro.measure.bench_pretraining import lightly_peer
from repro.measure.gpu import loops
from repro.plan import recipes, registry, tracks


@pytest.mark.parametrize(
    ("kernels", "idle"),
    [
        ([], 1.0),
        ([(10, 20)], 0.0),
        ([(12, 14), (16, 17)], 0.7),
        ([(16, 17), (12, 14)], 0.7),  # in any order
        ([(12, 16), (14, 18)], 0.4),  # two streams at once count once
        ([(12, 18), (13, 14), (15, 16)], 0.4),  # one within another
        ([(0, 12), (18, 30), (31, 40)], 0.6),  # what lies outside does not count
    ],
)
def test_a_device_idles_while_no_kernel_runs(kernels: list[tuple[float, float]], idle: float) -> None:
    assert limits.idle_share(kernels, 10, 20) == pytest.approx(idle)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_of_the_precision_and_as_many_operations_as_said(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits._SIDE, "cpu", 8)
    seen: list[torch.Tensor] = []
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: (seen.extend((a, b)), real(a, b))[1])
    operations, steps = limits.products(precision, torch.device("cpu"))
    next(steps), next(steps)
    assert operations == sum(2 * 8 for _row in range(8) for _column in range(8))
    assert len(seen) == 4 and {(x.dtype, tuple(x.shape)) for x in seen} == {(dtype, (8, 8))}


def test_the_file_that_was_read_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_READ", 2**16)
    found = limits.disk_reads(tmp_path)
    assert found is not None and found > 0 and not list(tmp_path.iterdir())


def test_share_of_the_limit_is_operations_by_time(
    shrunk_recipe: recipes.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load of 0.5 s beside a product of 0.1 s of a known number of operations."""
    loads = []

    class Known(loops.PretrainLoop):
        def train(self) -> Iterator[None]:
            loads.append(self)
            self.flops = 3e6
            return iter(())

    monkeypatch.setattr(loops, "PretrainLoop", Known)
    monkeypatch.setattr(lightly_peer, "training_steps", lambda *_: None)
    monkeypatch.setattr(limits, "products", lambda precision, here: (1e6, iter(())))
    monkeypatch.setattr(bench_pretraining.timing, "interleaved", lambda *_: [[0.5] * 3, [0.1] * 3, [0.4] * 3])
    row = bench_pretraining._row(registry.find("simsiam")[0], shrunk_recipe, tracks.find("embedded"), 1.0)
    batch = shrunk_recipe["pretrain"]["batch"]
    assert len(loads) == 1 and row[:4] == [str(batch), f"{batch / 0.5:.0f}", f"{batch / 0.4:.0f}", "0.80"]
    assert row[4:] == ["0", "60%", "-", "-"]  # 3e6 / 0.5 s is 60 % of 1e6 / 0.1 s


@pytest.fixture
def shrunk_recipe() -> recipes.Recipe:
    info, variant = registry.find("simsiam")
    change = {"network": {"width": 8}, "pretrain": {"batch": 8}}
    return recipes.resolve(info, variant, "embedded", change)
