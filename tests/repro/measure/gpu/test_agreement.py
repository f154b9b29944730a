"""A device that computes otherwise than a CPU is found out, and one that only rounds otherwise is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from methods.base import Views
from methods.byol import BYOL
from repro.measure.gpu import agreement, loops
from repro.measure.gpu.agreement import FACTOR, FLOOR, Load, fault, judge
from repro.measure.gpu.part import Case
from repro.plan import tracks

EMBEDDED = tracks.find("embedded")
CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------------ the judgement


def load(loss: float = 2.0, gradient: float = 1.0, change: float = 0.5, view: float = 0.25) -> Load:
    numbers = {"loss": [loss], "gradient": [gradient, -2.0, 2.0], "change of encoder": [change, 0.0]}
    return Load(
        [Views({"index1": torch.full((2, 3), view)})],
        {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()},
    )


def test_equal_loads_agree() -> None:
    found = judge(load(), load(), load())
    assert fault(found) == "" and found["gradient"]["device"] == 0


def test_errors_are_relative_norms() -> None:
    found = judge(load(), load(gradient=1.003), load(gradient=1.03))
    assert found["gradient"]["cpu"] == pytest.approx(0.001)  # |(0.003, 0, 0)| / |(1, -2, 2)|
    assert found["gradient"]["device"] == pytest.approx(0.01)
    assert found["gradient"]["times"] == pytest.approx(10) and found["gradient"]["good"]


@pytest.mark.parametrize("name, size", [("loss", 2.0), ("gradient", 3.0), ("change", 0.5)])
def test_what_is_further_off_than_the_tolerance_is_named(name: str, size: float) -> None:
    start = {"loss": 2.0, "gradient": 1.0, "change": 0.5}[name]
    allowed = size * FACTOR * FLOOR[name]
    assert fault(judge(load(), load(), load(**{name: start + 0.9 * allowed}))) == ""
    assert fault(judge(load(), load(), load(**{name: start + 1.1 * allowed}))).startswith(name)


def test_the_tolerance_grows_with_what_the_cpu_itself_is_off() -> None:
    assert fault(judge(load(), load(loss=2.02), load(loss=2.3))) == ""
    assert "loss off by 2.5e-01, the CPU by 1.0e-02" in fault(judge(load(), load(loss=2.02), load(loss=2.5)))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_does_not_agree(wrong: float) -> None:
    assert "loss off by inf" in fault(judge(load(), load(), load(loss=wrong)))


def test_views_are_compared_by_themselves() -> None:
    assert fault(judge(load(), load(), load(view=0.25 * 1.0002))).startswith("views")
    assert fault(judge(load(), load(), load(view=0.25 * 1.00002))) == ""


# ------------------------------------------------------------------------------------------------ real methods


def ten_bits(t: Any) -> Any:
    """A float32 tensor with 10 bits of mantissa, rounded: what TF32 makes of an operand."""
    if not isinstance(t, Tensor) or t.dtype != torch.float32:
        return t
    rounded = ((t.detach().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    return t + (rounded - t).detach()


class Tf32(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (F.linear, F.conv2d, torch.conv2d, torch.matmul, torch.Tensor.matmul):
            args = (ten_bits(args[0]), ten_bits(args[1]), *args[2:])
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def no_target_update() -> Iterator[None]:
    kept = BYOL.after_update
    BYOL.after_update = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        BYOL.after_update = kept  # type: ignore[method-assign]


@pytest.fixture
def device_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`device_with(context, method)`: the faults of one load of that method by a device that computes within it."""

    def found(context: contextlib.AbstractContextManager[Any], method: str) -> str:
        real, calls = agreement.compute, []

        def compute(*arguments: Any) -> Load:
            calls.append(arguments[1])
            third = len(calls) == 3
            with context if third else contextlib.nullcontext():
                return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(agreement, "compute", compute)
            told = fault(agreement.compare(*loops.recipe_of(method, "embedded"), EMBEDDED, CPU))
        assert calls == [torch.float32, torch.float64, torch.float32]  # the last is the device's
        return told

    return found


@pytest.mark.parametrize("method", ["simclr", "truncated_triplet"])
def test_another_right_implementation_agrees(device_with: Any, method: str) -> None:
    """Convolutions without oneDNN: another order of sums."""
    assert device_with(torch.backends.mkldnn.flags(enabled=False), method) == ""


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_planted_tf32_is_found(device_with: Any, method: str) -> None:
    told = device_with(Tf32(), method)
    assert "loss off by" in told and "views off by" in told


def test_a_momentum_network_that_stands_still_is_found(device_with: Any) -> None:
    told = device_with(no_target_update(), "byol")
    assert told.startswith("change of target") and "loss" not in told and "encoder" not in told


def test_methods_that_the_time_is_too_short_for_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(agreement, "compare", lambda *_: judge(load(), load(), load()))
    case = Case("cpu", True, 0.0, tmp_path)
    found = agreement.run(case, lambda figures: None)
    assert found.good and "1 of" in found.line and f"no time for {len(found.figures['left out'])}" in found.line
    full = agreement.run(Case("cpu", True, 1e9, tmp_path), lambda figures: None)
    assert full.figures["left out"] == [] and "no time" not in full.line


def test_a_method_that_fails_is_a_fault_and_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(module: str, *_: Any) -> dict[str, Any]:
        if module.endswith(":SimCLR"):
            raise RuntimeError("no kernel for this\nmore")
        return judge(load(), load(), load())

    monkeypatch.setattr(agreement, "compare", fails)
    found = agreement.run(Case("cpu", True, 1e9, tmp_path), lambda figures: None)
    assert not found.good and found.line.endswith("; simclr: RuntimeError: no kernel for this")
