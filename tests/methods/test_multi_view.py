"""Methods on whole views: one forward pass or one a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from methods.base import Batch, DataInfo, Streams, load_method
from methods.parts.multi_view import MultiView
from repro.plan import recipes

DATA = DataInfo(32, (0.49, 0.48, 0.45), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("name", ["simclr", "simsiam", "byol", "moco_v3:resnet", "nnclr"])
def test_one_forward_pass_normalises_the_views_together(
    shrunk: Callable[..., dict[str, dict[str, Any]]], name: str
) -> None:
    def built(one_forward: bool) -> MultiView:
        base, _, variant = name.partition(":")
        tables = shrunk(base, variant)
        assert "one_forward" in tables["method"]
        tables["method"]["one_forward"] = one_forward
        torch.manual_seed(0)
        method = load_method(recipes.find(base)[0].module)(tables, DATA)
        assert isinstance(method, MultiView)
        return method.train()

    def loss(method: MultiView) -> float:
        with torch.no_grad():
            return sum(float(value) for key, value in method(step).items() if key.startswith("loss"))

    joint, apart = built(True), built(False)
    images = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    rng = Streams(0, 0, 0, global_batch=6, rows=slice(0, 6), device="cpu")
    (step,) = joint.steps(Batch(images), rng)
    views = len(joint.augments)
    one, two = loss(joint), loss(apart)
    assert one != pytest.approx(two, abs=1e-4)
    for method, times in ((joint, 1), (apart, views)):
        norms = [layer for layer in method.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert norms and {int(layer.num_batches_tracked or 0) for layer in norms} == {times}, "target networks too"
    apart.load_state_dict(joint.state_dict())  # with statistics given, the passes are the same
    assert loss(joint.eval()) == pytest.approx(loss(apart.eval()), abs=1e-5)
