"""LARS against its formulas, one parameter at a time, in every form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.parts.lars import LARS, Form

SHAPES = [(4, 3), (5,), (2, 3, 3, 3), (2, 2), (3, 2), (4,)]
ZERO_WEIGHT, ZERO_GRADIENT = 3, 4
RATES = (0.5, 0.2, 0.7)  # a rate that moves tells whether it is inside the momentum buffer
CASES = [("moco_v3", False), ("solo", False), ("solo", True), ("openselfsup", False)]


def one_step(
    w: Tensor, g: Tensor, b: Tensor, lr: float, decay: float, form: str, clip: bool, adapted: bool
) -> tuple[Tensor, Tensor]:
    """The new weight and buffer after the gradient g, with momentum 0.9 and trust 0.02."""
    size, steep = math.sqrt(float((w * w).sum())), math.sqrt(float((g * g).sum()))
    slope = g
    if adapted and form == "moco_v3":
        slope = g + decay * w
        if size > 0 and float(slope.norm()) > 0:
            slope = slope * (0.02 * size / float(slope.norm()))
    elif adapted and form == "solo":
        if size > 0 and steep > 0:
            scale = 0.02 * size / (steep + size * decay + 1e-8)
            slope = (g + decay * w) * (min(scale / lr, 1.0) if clip else scale)
    elif adapted:
        slope = (g + decay * w) * (0.02 * size / (steep + decay * size))
    if form == "openselfsup":
        b = 0.9 * b + lr * slope
        return w - b, b
    b = 0.9 * b + slope
    return w - lr * b, b


@pytest.mark.parametrize(("form", "clip"), CASES)
@pytest.mark.parametrize("adapt", ["matrices", "all", "none"])
@pytest.mark.parametrize("decay", [0.1, 1e-6])
def test_three_steps_are_the_formula(form: Form, clip: bool, adapt: str, decay: float) -> None:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in SHAPES]
    with torch.no_grad():
        params[0].mul_(100)  # large enough that clipping has something to cut
        params[ZERO_WEIGHT].zero_()
    want = [p.detach().clone() for p in params]
    buffers = [torch.zeros_like(p) for p in want]
    group: dict[str, Any] = {"params": params, "weight_decay": decay, "adapt": adapt}
    optimizer = LARS([group], lr=0.0, momentum=0.9, trust=0.02, form=form, clip=clip)
    for lr in RATES:
        optimizer.param_groups[0]["lr"] = lr
        grads = [torch.randn_like(p) for p in want]
        grads[ZERO_GRADIENT].zero_()
        for i, (w, g) in enumerate(zip(want, grads, strict=True)):
            params[i].grad = g.clone()
            adapted = {"all": True, "none": False, "matrices": w.ndim > 1}[adapt]
            want[i], buffers[i] = one_step(w, g, buffers[i], lr, decay, form, clip, adapted)
        optimizer.step()
        for p, w, g in zip(params, want, grads, strict=True):
            torch.testing.assert_close(p.detach(), w, atol=1e-12, rtol=1e-10)
            torch.testing.assert_close(p.grad, g)  # gradients are left as they were


def test_the_cases_above_differ() -> None:
    """Every form and the clipping change what LARS does, so that none can stand in for another."""
    results = []
    for form, clip in CASES:
        weight = torch.nn.Parameter(torch.full((2, 2), 30.0))
        optimizer = LARS([weight], lr=0.0, momentum=0.9, weight_decay=0.1, trust=0.02, form=form, clip=clip)
        for lr in RATES[:2]:
            optimizer.param_groups[0]["lr"] = lr
            weight.grad = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
            optimizer.step()
        results.append(weight.detach())
    assert all(not torch.allclose(x, y, rtol=1e-4) for x, y in itertools.combinations(results, 2))


@pytest.mark.parametrize(("form", "moves"), [("moco_v3", True), ("solo", True), ("openselfsup", False)])
def test_a_zero_weight_moves_but_in_openselfsup(form: Form, moves: bool) -> None:
    p = torch.nn.Parameter(torch.zeros(2, 2))
    p.grad = torch.ones(2, 2)
    LARS([p], lr=1.0, weight_decay=0.1, form=form).step()
    assert bool((p != 0).all()) is moves


def test_openselfsup_divides_zero_by_zero_as_released() -> None:
    p = torch.nn.Parameter(torch.zeros(2, 2))
    p.grad = torch.zeros(2, 2)
    LARS([p], lr=1.0, form="openselfsup").step()
    assert p.isnan().all()


def test_groups_have_their_own_rate_and_choice() -> None:
    scaled, plain = (torch.nn.Parameter(torch.full((3,), 2.0)) for _ in range(2))
    scaled.grad, plain.grad = torch.ones(3), torch.ones(3)
    groups: list[dict[str, Any]] = [
        {"params": [scaled], "adapt": "all", "weight_decay": 0.5},
        {"params": [plain], "adapt": "none", "weight_decay": 0.5, "lr": 0.25},
    ]
    LARS(groups, lr=1.0, trust=0.1, form="openselfsup").step()
    # |w| = 2 sqrt 3, |g| = sqrt 3: s = 0.1 * 2 / (1 + 0.5 * 2), slope 1 + 0.5 * 2
    torch.testing.assert_close(scaled.detach(), torch.full((3,), 2.0 - 0.2))
    torch.testing.assert_close(plain.detach(), torch.full((3,), 2.0 - 0.25))


@pytest.mark.parametrize("form", ["moco_v3", "solo", "openselfsup"])
def test_state_goes_on_where_it_was_saved(form: Form) -> None:
    def steps(p: torch.nn.Parameter, optimizer: LARS, turns: range) -> None:
        for turn in turns:
            p.grad = torch.full((2, 2), float(turn + 1))
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(2, 2))
    steps(whole, LARS([whole], lr=0.5, trust=0.1, form=form), range(4))
    first = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([first], lr=0.5, trust=0.1, form=form)
    steps(first, optimizer, range(2))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = LARS([second], lr=0.5, trust=0.1, form=form)
    resumed.load_state_dict(optimizer.state_dict())
    steps(second, resumed, range(2, 4))
    assert torch.equal(second, whole)


def test_parameters_without_gradient_stay() -> None:
    p = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([p], lr=1.0)
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2, 2)) and not optimizer.state
