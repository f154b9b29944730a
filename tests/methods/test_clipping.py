"""Adaptive gradient clipping against its formula, a row at a time."""

from __future__ import annotations

import torch

from methods.parts.clipping import clip_adaptive


def test_every_row_is_cut_to_its_share_of_its_weights() -> None:
    torch.manual_seed(0)
    shapes = [(4, 3), (5,), (2, 3, 3, 3), (3, 2)]
    parameters = [torch.nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    with torch.no_grad():
        parameters[0][1].zero_()  # a row without weights counts as one of norm 0.001
        parameters[2].mul_(1000)  # so long that nothing is cut
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    parameters[3].grad = None
    want = []
    for parameter in parameters[:3]:
        gradients = parameter.grad
        assert gradients is not None
        rows = [(parameter, gradients)] if parameter.ndim == 1 else list(zip(parameter, gradients, strict=True))
        for weight, gradient in rows:
            allowed = 0.01 * max(float((weight.detach() ** 2).sum()) ** 0.5, 1e-3)
            length = float((gradient**2).sum()) ** 0.5
            want.append(gradient.clone().flatten() * min(1.0, allowed / length))
    clip_adaptive(parameters, 0.01)
    got = torch.cat([p.grad.flatten() for p in parameters[:3] if p.grad is not None])
    torch.testing.assert_close(got, torch.cat(want))
    assert parameters[3].grad is None
