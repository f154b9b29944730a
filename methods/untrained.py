"""The control `random`: the network as it is initialised. Every claim of learning is compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from methods.base import Batch, DataInfo, Method, Recipe, Streams, Views
from methods.parts.encoders import Pixels, ResNet, ViT, frozen_encoder


class Untrained(Method):
    """No views, no loss, no updates; its recipe has zero epochs."""

    negatives: ClassVar[Literal["global", "per_device", "none"]] = "none"
    updates_per_load = 0
    encoder: ViT | ResNet | Pixels

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        self.encoder = frozen_encoder(recipe["network"])

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        return iter(())
