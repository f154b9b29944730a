"""What other libraries call the weights of our networks: one entry a layout, and it is tried on every file.

A new layout is one `Layout` more in `RESNET` or `VIT`; `repro export` writes in the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Weights = dict[str, Tensor]
"""Tensors by key."""


@dataclass(frozen=True)
class Layout:
    """What a library calls the weights of our ResNet or ViT.

    top: first part of our key -> what stands for it, with its separator; what is not there keeps its name.
    block: what stands before the number of a transformer block; inside: a block's layers, with separators.
    positions: how those of P patches of D channels are held. "rows": [P, D], as with us; "class": [1, 1 + P, D], the
        first row for the class token, which with us has none; "column": [P, 1, D].
    """

    name: str
    top: Mapping[str, str] = field(default_factory=dict)
    block: str = "blocks."
    inside: Mapping[str, str] = field(default_factory=dict)
    positions: Literal["rows", "class", "column"] = "rows"

    def key(self, ours: str) -> str:
        """The library's key for a key of ours."""
        layer, _, kind = ours.rpartition(".")
        if ours.startswith("blocks.") and self.inside:
            _, number, layer = layer.split(".", 2)
            return f"{self.block}{number}.{self.inside[layer]}{kind}"
        first, _, rest = ours.partition(".")
        return self.top.get(first, f"{first}." if rest else first) + rest

    def theirs(self, weights: Mapping[str, Tensor]) -> Weights:
        """Our weights as the library holds them; a class token's position is zero."""
        named = {self.key(name): value for name, value in weights.items()}
        if self.positions == "class":
            place = weights["positions"]
            named[self.key("positions")] = torch.cat([torch.zeros_like(place[:1]), place])[None]
        elif self.positions == "column":
            named[self.key("positions")] = weights["positions"][:, None]
        return named

    def ours(self, weights: Mapping[str, Tensor]) -> Weights:
        """The inverse, of values under our keys: what the class token's position adds to it becomes part of it."""
        named = dict(weights)
        if self.positions == "class":
            place = named["positions"]
            named["positions"] = place[0, 1:]
            named["class_token"] = named["class_token"] + place[:, :1]
        elif self.positions == "column":
            named["positions"] = named["positions"][:, 0]
        return named

    def shape(self, name: str, value: Tensor) -> tuple[int, ...]:
        """The shape that the library gives our weight `name`."""
        if self.positions == "rows" or name != "positions":
            return tuple(value.shape)
        rows, width = value.shape
        return (1, rows + 1, width) if self.positions == "class" else (rows, 1, width)

    def is_qkv_bias(self, theirs: str) -> bool:
        """Whether a key of the library ends as that of a bias of queries, keys and values, which not all ViTs have."""
        return theirs.endswith(self.key("blocks.0.qkv.bias").partition("0.")[2])


def _by_name(*layouts: Layout) -> dict[str, Layout]:
    return {layout.name: layout for layout in layouts}


# timm's and mmpretrain's ResNets, MoCo's, SwAV's and ours have torchvision's keys; an nn.Sequential of a ResNet's
# children, which lightly and many scripts keep, has numbers.
RESNET = _by_name(
    Layout("torchvision"),
    Layout("children", {"conv1": "0.", "bn1": "1.", "layer1": "4.", "layer2": "5.", "layer3": "6.", "layer4": "7."}),
)
_TIMM_BLOCK = {
    "norm1": "norm1.",
    "qkv": "attn.qkv.",
    "proj": "attn.proj.",
    "norm2": "norm2.",
    "mlp.0": "mlp.fc1.",
    "mlp.2": "mlp.fc2.",
}
VIT = _by_name(
    Layout("repro"),
    Layout(  # also DeiT's, DINO's, MAE's and MoCo-v3's
        "timm",
        {"class_token": "cls_token", "positions": "pos_embed", "patches": "patch_embed.proj.", "norm": "norm."},
        "blocks.",
        _TIMM_BLOCK,
        positions="class",
    ),
    Layout(
        "mmpretrain",
        {"class_token": "cls_token", "positions": "pos_embed", "patches": "patch_embed.projection.", "norm": "ln1."},
        "layers.",
        {
            "norm1": "ln1.",
            "qkv": "attn.qkv.",
            "proj": "attn.proj.",
            "norm2": "ln2.",
            "mlp.0": "ffn.layers.0.0.",
            "mlp.2": "ffn.layers.1.",
        },
        positions="class",
    ),
    Layout(
        "torchvision",
        {
            "class_token": "class_token",
            "positions": "encoder.pos_embedding",
            "patches": "conv_proj.",
            "norm": "encoder.ln.",
        },
        "encoder.layers.encoder_layer_",
        {
            "norm1": "ln_1.",
            "qkv": "self_attention.in_proj_",
            "proj": "self_attention.out_proj.",
            "norm2": "ln_2.",
            "mlp.0": "mlp.0.",
            "mlp.2": "mlp.3.",
        },
        positions="class",
    ),
    Layout(  # as released; the blocks are timm's
        "aps",
        {"class_token": "cls_token", "positions": "pos_embedding", "patches": "patchify.", "norm": "layer_norm."},
        "transformer.",
        _TIMM_BLOCK,
        positions="column",
    ),
)
LAYOUTS = {"resnet": RESNET, "vit": VIT}
"""By network.arch."""
