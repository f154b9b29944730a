"""Methods on whole views: one forward pass or one a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from methods.base import load_method
from methods.parts.multi_view import MultiView
from repro.plan import registry
from small import built, views


@pytest.mark.parametrize("name", ["simclr", "simsiam", "byol", "moco_v3:resnet", "nnclr"])
def test_one_forward_pass_normalises_the_views_together(
    shrunk: Callable[..., dict[str, dict[str, Any]]], name: str
) -> None:
    def build(one_forward: bool) -> MultiView:
        base, _, variant = name.partition(":")
        tables = shrunk(base, variant)
        assert "one_forward" in tables["method"]
        tables["method"]["one_forward"] = one_forward
        method = built(load_method(registry.find(base)[0].module), tables)
        assert isinstance(method, MultiView)
        return method

    def loss(method: MultiView) -> float:
        with torch.no_grad():
            return sum(float(value) for key, value in method(step).items() if key.startswith("loss"))

    joint, apart = build(True), build(False)
    step = views(joint)
    one, two = loss(joint), loss(apart)
    assert one != pytest.approx(two, abs=1e-4)
    for method, times in ((joint, 1), (apart, len(joint.augments))):
        norms = [layer for layer in method.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert norms and {int(layer.num_batches_tracked or 0) for layer in norms} == {times}, "target networks too"
    apart.load_state_dict(joint.state_dict())  # with statistics given, the passes are the same
    assert loss(joint.eval()) == pytest.approx(loss(apart.eval()), abs=1e-5)
