"""LARS against its formula, one parameter at a time."""

from __future__ import annotations

import torch

from methods.parts.lars import LARS


def test_three_steps_are_the_formula() -> None:
    torch.manual_seed(0)
    shapes = [(4, 3), (5,), (2, 3, 3, 3), (2, 2)]
    params = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]
    with torch.no_grad():
        params[3].zero_()  # no size to scale by
    want = [p.detach().clone() for p in params]
    buffers = [torch.zeros_like(p) for p in want]
    optimizer = LARS(params, lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.02)
    for _ in range(3):
        grads = [torch.randn_like(p) for p in want]
        for i, (w, g) in enumerate(zip(want, grads, strict=True)):
            params[i].grad = g.clone()
            if w.ndim > 1:
                g = g + 0.1 * w
                if w.norm() > 0:
                    g = g * 0.02 * w.norm() / g.norm()
            buffers[i] = 0.9 * buffers[i] + g
            want[i] = w - 0.5 * buffers[i]
        optimizer.step()
        for p, w, g in zip(params, want, grads, strict=True):
            torch.testing.assert_close(p.detach(), w)
            torch.testing.assert_close(p.grad, g)  # gradients are left as they were


def test_parameters_without_gradient_stay() -> None:
    p = torch.nn.Parameter(torch.ones(2, 2))
    LARS([p], lr=1.0).step()
    assert torch.equal(p.detach(), torch.ones(2, 2))
