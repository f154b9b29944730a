"""What methods share that compare whole views of the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from methods.base import Batch, DataInfo, Method, Recipe, Streams, Views
from methods.parts.encoders import ResNet, ViT, build_encoder
from methods.parts.views import Augment, make_views


class MultiView(Method):
    """One update a load, on "pixels1", "pixels2", ...: one view for each entry of method.blur_p, float32 [B, 3, S, S].

    All of them pass the online encoder whole, so all of them may be turned. Where a recipe has method.one_forward, they
    may pass as one batch.
    """

    encoder: ViT | ResNet

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        self.encoder = build_encoder(recipe["network"])
        method = recipe["method"]
        self.one_forward = method.get("one_forward", False)
        self.augments = [Augment.of_recipe(method, data, view) for view in range(len(method["blur_p"]))]

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        numbers = range(1, len(self.augments) + 1)
        made, _ = make_views(self.augments, batch.images, [rng.stream(f"view{v}") for v in numbers])
        yield Views({f"pixels{v}": pixels for v, (pixels, _) in zip(numbers, made, strict=True)})

    def each(self, net: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
        """What `net` makes of each of the views, all [B, ...]. With method.one_forward they pass as one batch, so that
        BatchNorm takes its statistics over all of them; without, each for itself."""
        if self.one_forward:
            return list(net(torch.cat(list(views))).chunk(len(views)))
        return [net(view) for view in views]

    def rotatable(self, views: Views) -> list[Tensor]:
        return [views[f"pixels{v}"] for v in range(1, len(self.augments) + 1)]
