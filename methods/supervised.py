"""Supervised pre-training: cross-entropy on labels, crops and flips alone. Shows the worth of labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Batch, DataInfo, Method, Recipe, Streams, Views
from methods.parts.encoders import ResNet, ViT, build_encoder
from methods.parts.heads import spread
from methods.parts.views import Augment


class Supervised(Method):
    """Raises ValueError for data without labels."""

    negatives: ClassVar[Literal["global", "per_device", "none"]] = "none"
    encoder: ViT | ResNet

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        if data.classes is None:
            raise ValueError("supervised needs labels, and this data has none: choose a labelled data set")
        method = recipe["method"]
        self.encoder = build_encoder(recipe["network"])
        self.classifier = nn.Linear(self.encoder.dim, data.classes)
        self.smoothing = method["label_smoothing"]
        self.augment = Augment.of_recipe(method, data)

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        if batch.labels is None:
            raise ValueError("supervised needs labels, and this batch has none: choose a labelled data set")
        pixels, _ = self.augment(batch.images, rng.stream("view"))
        yield Views({"pixels": pixels, "labels": batch.labels})

    def loss(self, views: Views) -> dict[str, Tensor]:
        features = self.encoder.features(views["pixels"])
        logits, labels = self.classifier(features).float(), views["labels"]
        accuracy = 100 * (logits.detach().argmax(dim=1) == labels).float().mean()
        return {
            "loss_classes": F.cross_entropy(logits, labels, label_smoothing=self.smoothing),
            "accuracy": accuracy,
            "std_features": spread(features),
        }
