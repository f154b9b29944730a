"""Training steps made of the package `lightly`: what the pre-training loop is held against, where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from methods.parts.ema import momentum_copy
from methods.parts.encoders import build_encoder
from repro.stages.context import device
from repro.store.job import Recipe

PEERS = ("simclr", "byol", "moco_v2")
"""The methods that it has."""


class Pictures(torch.utils.data.Dataset[list[Tensor]]):
    """PIL pictures through a transform that makes two views of each."""

    def __init__(self, images: Tensor, transform: Callable[[Any], Any]) -> None:
        from PIL import Image

        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        views: list[Tensor] = self.transform(self.pictures[index])
        return views


def installed() -> bool:
    """Whether lightly, with what it needs, can be imported."""
    try:
        import lightly.loss
        import lightly.models.modules
        import lightly.transforms  # noqa: F401
    except ImportError:
        return False
    return True


def training_steps(name: str, recipe: Recipe, size: int, images: Tensor) -> Iterator[None] | None:
    """Training steps made of lightly's transforms, heads and losses around our network; None where it has none.

    Same network, widths of heads, batch, pictures, precision and strength of augmentation; a DataLoader without
    workers, as they cost more than they bring where cores are few; plain SGD.
    """
    if name not in PEERS or recipe["network"]["arch"] != "resnet" or not installed():
        return None
    from lightly.transforms.simclr_transform import SimCLRTransform

    method, settings, here = recipe["method"], recipe["pretrain"], device()
    brightness, contrast, saturation, hue = method["jitter"]
    transform = SimCLRTransform(
        input_size=size,
        cj_prob=method["jitter_p"],
        cj_strength=1.0,
        cj_bright=brightness,
        cj_contrast=contrast,
        cj_sat=saturation,
        cj_hue=hue,
        min_scale=method["crop_scale"][0],
        random_gray_scale=method["gray_p"],
        gaussian_blur=sum(method["blur_p"]) / len(method["blur_p"]),
        hf_prob=method["flip_p"],
    )
    network, loss = _network(name, recipe)
    network.to(here)
    if settings["channels_last"]:
        network.to(memory_format=torch.channels_last)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    loader = torch.utils.data.DataLoader(
        Pictures(images, transform), batch_size=settings["batch"], shuffle=True, drop_last=True
    )

    def steps() -> Iterator[None]:
        while True:
            for x1, x2 in loader:
                x1, x2 = x1.to(here, non_blocking=True), x2.to(here, non_blocking=True)
                with torch.autocast(here.type, torch.bfloat16, enabled=settings["precision"] == "bf16"):
                    total = loss(x1, x2)
                total.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                yield

    return steps()


def _network(name: str, recipe: Recipe) -> tuple[nn.ModuleDict, Callable[[Tensor, Tensor], Tensor]]:
    """The modules of that method in lightly's words, and its loss for two views."""
    from lightly import loss as losses
    from lightly.models import modules
    from lightly.models.utils import update_momentum

    method, backbone = recipe["method"], build_encoder(recipe["network"])
    out = method["head_dim"]
    hidden = method.get("head_hidden") or method["projector_hidden"]
    head = {"simclr": "SimCLRProjectionHead", "byol": "BYOLProjectionHead", "moco_v2": "MoCoProjectionHead"}[name]
    online = nn.Sequential(backbone, getattr(modules, head)(backbone.dim, hidden, out))
    net = nn.ModuleDict({"online": online})
    if name == "simclr":
        ntxent = losses.NTXentLoss(method["temperature"])
        return net, lambda x1, x2: ntxent(online(x1), online(x2))
    target = net["target"] = momentum_copy(online)
    if name == "moco_v2":
        queue = losses.NTXentLoss(method["temperature"], memory_bank_size=(method["bank_size"], out))

        def one_way(x1: Tensor, x2: Tensor) -> Tensor:
            with torch.no_grad():
                keys = target(x2)
            return queue(online(x1), keys)

        def moco(x1: Tensor, x2: Tensor) -> Tensor:
            update_momentum(online, target, method["momentum"])
            return one_way(x1, x2) + (one_way(x2, x1) if method["symmetric"] else 0)

        return net, moco
    predictor = net["predictor"] = modules.BYOLPredictionHead(out, method["predictor_hidden"], out)
    negative_cosine = losses.NegativeCosineSimilarity()

    def byol(x1: Tensor, x2: Tensor) -> Tensor:
        update_momentum(online, target, method["momentum"])
        with torch.no_grad():
            z1, z2 = target(x1), target(x2)
        return negative_cosine(predictor(online(x1)), z2) + negative_cosine(predictor(online(x2)), z1)

    return net, byol
