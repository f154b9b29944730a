"""The networks that are pre-trained, as one duck type:

    encoder.dim                  D, length of a feature vector
    encoder.channels, .strides   of the feature maps, from fine to coarse
    encoder.features(x)          [B, D]                                  x: float32 [B, 3, H, W], normalised
    encoder.feature_maps(x)      list of [B, channels[i], H / strides[i], W / strides[i]]

ResNet is torchvision's own, with its state-dict keys, a choice of width and stem, and without the classifier. ViT is
the network of APS (released code, module/model.py): pre-norm blocks as in timm 0.6, MLP ratio 4, GELU, qkv without
bias, LayerNorm eps 1e-5, no dropout, learnable positions on the patches only; its switches turn it into MoCo-v3's
(vits.py). Its block is written here: mmpretrain's costs 4 to 5 s of imports, warns of missing mmcv operators, and
initialises itself in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet


class ResNet(TorchvisionResNet):
    """torchvision's ResNet with `width` channels in the first stage (64 = standard) and a stem for the picture size.

    depth: 18, 34 or 50 as in torchvision, or 10, with one block per stage (Simon et al., "ImageNet pre-trained models
    with batch normalization", arXiv:1612.01452).
    stem: "imagenet" (7x7 stride 2, max-pool) or "cifar" (3x3 stride 1, no pool).  Any H, W.
    """

    def __init__(self, depth: int, width: int, stem: str, zero_init_residual: bool) -> None:
        layouts = {
            10: (BasicBlock, [1, 1, 1, 1]),
            18: (BasicBlock, [2, 2, 2, 2]),
            34: (BasicBlock, [3, 4, 6, 3]),
            50: (Bottleneck, [3, 4, 6, 3]),
        }
        if depth not in layouts:
            raise ValueError(f"network.depth = {depth}: for a resnet it must be one of {', '.join(map(str, layouts))}")
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"network.stem = {stem!r}: for a resnet it must be 'cifar' or 'imagenet'")
        block, layers = layouts[depth]
        self._width = width
        super().__init__(block, layers, zero_init_residual=zero_init_residual)
        small = stem == "cifar"
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False) if small else nn.Conv2d(3, width, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(width)
        if small:
            self.maxpool = nn.Identity()
        del self.fc
        self.channels = tuple(width * block.expansion * 2**i for i in range(4))
        self.strides = (1, 2, 4, 8) if small else (4, 8, 16, 32)
        self.dim = self.channels[-1]

    def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:
        if planes == 64:  # first stage: its input is our stem, not torchvision's 64 channels
            self.inplanes = self._width
        return super()._make_layer(block, planes * self._width // 64, *args, **kwargs)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def features(self, x: Tensor) -> Tensor:
        """Mean of the last feature map, [B, D]."""
        return self.feature_maps(x)[-1].mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v.  q, k, v: [B, heads, N, d]."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # torch 2.15's fused kernel takes 2 to 9 times as long backward on a CPU in bfloat16 (N = 17 to 257)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).  x: [B, N, D]."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        """[B, N, D], or of the first tokens alone [B, first, D]: the others are only attended to."""
        b, n, d = x.shape
        y, head = self.norm1(x), (self.heads, d // self.heads)
        if first is None:
            q, k, v = self.qkv(y).view(b, n, 3, *head).permute(2, 0, 3, 1, 4)
        else:
            parts = [d, 2 * d]
            query, rest = self.qkv.weight.split(parts)
            bias, rest_bias = (None, None) if self.qkv.bias is None else self.qkv.bias.split(parts)
            x = x[:, :first]
            q = F.linear(y[:, :first], query, bias).unflatten(2, head).transpose(1, 2)
            k, v = F.linear(y, rest, rest_bias).view(b, n, 2, *head).permute(2, 0, 3, 1, 4)
        x = x + self.proj(attend(q, k, v).transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


def sincos_positions(side: int, dim: int) -> Tensor:
    """MoCo-v3's fixed positions of a side x side grid, [side^2, dim]: sin and cos of the row, then of the column."""
    if dim % 4:
        raise ValueError(f"network.dim = {dim}: sincos positions need a multiple of 4; choose one")
    omega = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    row, column = (c.flatten()[:, None] * omega for c in torch.meshgrid(*2 * [torch.arange(side)], indexing="ij"))
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)


class ViT(nn.Module):
    """Vision transformer with a class token; H and W must be multiples of the patch.

    size: side of the square pictures it is trained on; positions are interpolated bicubically for others.
    positions: "learned" (truncated normal, std 0.02) or "sincos" (fixed). On the patches only.
    init: "torch" (PyTorch's defaults) or "xavier" (MoCo-v3's).
    freeze_patches: the patch embedding keeps its random weights (MoCo-v3's stability trick).
    pool: features are the "class" token or the "mean" of the patches, whichever the pre-training has taught.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        depth: int,
        heads: int,
        patch: int,
        qkv_bias: bool,
        eps: float,
        positions: Literal["learned", "sincos"],
        init: Literal["torch", "xavier"],
        freeze_patches: bool,
        pool: Literal["class", "mean"] = "class",
    ) -> None:
        if size % patch:
            raise ValueError(f"network.patch = {patch} does not divide the image size {size}; choose a divisor of it")
        if dim % heads:
            raise ValueError(f"network.heads = {heads} does not divide network.dim = {dim}; choose a divisor of it")
        if positions not in ("learned", "sincos") or init not in ("torch", "xavier"):
            raise ValueError(
                f"network.positions = {positions!r}, network.init = {init!r}: positions must be 'learned' or 'sincos',"
                " init must be 'torch' or 'xavier'"
            )
        if pool not in ("class", "mean"):
            raise ValueError(f"network.pool = {pool!r}: must be 'class' or 'mean'")
        super().__init__()
        self.dim, self.channels, self.strides, self.pool = dim, (dim,), (patch,), pool
        self.side = size // patch
        self.patches = nn.Conv2d(3, dim, patch, patch)
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        fixed = positions == "sincos"
        table = sincos_positions(self.side, dim) if fixed else torch.empty(self.side**2, dim)
        self.positions = nn.Parameter(table, requires_grad=not fixed)
        if not fixed:
            nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, qkv_bias, eps) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps)
        if init == "xavier":
            self._init_xavier(patch)
        self.patches.requires_grad_(not freeze_patches)

    def _init_xavier(self, patch: int) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                rows, columns = module.weight.shape
                rows = rows // 3 if name.endswith("qkv") else rows  # q, k and v are three matrices
                nn.init.uniform_(module.weight, -math.sqrt(6 / (rows + columns)), math.sqrt(6 / (rows + columns)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = math.sqrt(6 / (3 * patch**2 + self.dim))
        nn.init.uniform_(self.patches.weight, -bound, bound)
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.class_token, std=1e-6)

    def tokens(self, x: Tensor) -> Tensor:
        """Embedded patches with their positions, row by row: [B, H/patch * W/patch, D]."""
        grid = self.patches(x)
        rows, columns = grid.shape[-2:]
        positions: Tensor = self.positions
        if (rows, columns) != (self.side, self.side):
            square = positions.T.view(1, self.dim, self.side, self.side)
            positions = F.interpolate(square, (rows, columns), mode="bicubic").flatten(2)[0].T
        return grid.flatten(2).transpose(1, 2) + positions

    def _encode(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """[B, n, D] -> [B, 1 + n, D] after the final norm, class token first; or the first of these tokens alone."""
        x = torch.cat([self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        return self.norm(last(x, first))

    def _pool(self, tokens: Tensor) -> Tensor:
        """[B, n, D] -> features [B, D]; where only the class token counts, the last block makes nothing else."""
        return self.pooled(self._encode(tokens, 1 if self.pool == "class" else None))

    def pooled(self, encoded: Tensor) -> Tensor:
        """[B, 1 + n, D] -> [B, D]."""
        return encoded[:, 0] if self.pool == "class" else encoded[:, 1:].mean(dim=1)

    def features(self, x: Tensor) -> Tensor:
        """Class token or mean of the patches after the final norm, [B, D]."""
        return self._pool(self.tokens(x))

    def _subset(self, x: Tensor, index: Tensor) -> Tensor:
        return self.tokens(x).gather(1, index[..., None].expand(-1, -1, self.dim))

    def subset_tokens(self, x: Tensor, index: Tensor) -> Tensor:
        """Class token and the patches `index` (int64 [B, n]), [B, 1 + n, D]: the others never enter a block."""
        return self._encode(self._subset(x, index))

    def forward_subset(self, x: Tensor, index: Tensor) -> Tensor:
        """Features [B, D] from the patches `index` (int64 [B, n]) alone."""
        return self._pool(self._subset(x, index))

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        patch = self.strides[0]
        grid = self._encode(self.tokens(x))[:, 1:].transpose(1, 2)
        return [grid.unflatten(2, (x.shape[-2] // patch, x.shape[-1] // patch))]

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


class Pixels(nn.Module):
    """No network: the normalised pixels, averaged down to at most 32 x 32. The floor under what is learnt."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.side = min(size, 32)
        self.dim, self.channels, self.strides = 3 * self.side**2, (3,), (1,)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        return [x]

    def features(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.side).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


VIT_KEYS = (
    *("size", "dim", "depth", "heads", "patch", "qkv_bias", "eps"),
    *("positions", "init", "freeze_patches", "pool"),
)
RESNET_KEYS = ("depth", "width", "stem", "zero_init_residual")


def build_encoder(network: Mapping[str, Any]) -> ViT | ResNet:
    """The encoder that the table "network" of a recipe describes.

    Keys of the other architecture are allowed and ignored, so that a recipe can switch `arch` alone.
    Raises ValueError for an unknown arch, a missing key, or sizes that do not fit.
    """
    arch = network["arch"]
    if arch not in ("vit", "resnet"):
        raise ValueError(f"network.arch = {arch!r}: must be 'vit' or 'resnet'")
    keys = VIT_KEYS if arch == "vit" else RESNET_KEYS
    if missing := [key for key in keys if key not in network]:
        raise ValueError(f"network.{missing[0]} is missing: arch = {arch!r} needs {', '.join(keys)}")
    options = {key: network[key] for key in keys}
    return ViT(**options) if arch == "vit" else ResNet(**options)


def frozen_encoder(network: Mapping[str, Any]) -> ViT | ResNet | Pixels:
    """`build_encoder`, and for arch = "pixels" what nothing can train."""
    return Pixels(network["size"]) if network["arch"] == "pixels" else build_encoder(network)
