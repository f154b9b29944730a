"""A pyramid of maps from the one map of a plain vision transformer.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022 (arXiv:2203.16527),
section 3 "Simple feature pyramid": every level is made from the last map alone, by transposed convolutions (finer),
nothing (same stride) or max pooling (coarser), then brought to the detector's width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of `[B, C, H, W]`, at every position by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def resample(channels: int, patch: int, stride: int) -> tuple[nn.Module, int]:
    """The module that brings a map of stride `patch` to `stride`, and how many channels it then has.

    Each doubling halves the channels, as in the paper. Raises ValueError where one stride is not a power of two
    times the other.
    """
    fine, coarse = min(patch, stride), max(patch, stride)
    steps = (coarse // fine).bit_length() - 1
    if fine << steps != coarse:
        raise ValueError(
            f"a pyramid level of stride {stride} cannot be made from patches of {patch} pixels: "
            "one must be a power of two times the other (set detection.strides)"
        )
    if stride >= patch:
        return (nn.Identity() if steps == 0 else nn.MaxPool2d(1 << steps)), channels
    layers: list[nn.Module] = []
    for step in range(steps):
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels //= 2
        if step < steps - 1:
            layers += [ChannelNorm(channels), nn.GELU()]
    return nn.Sequential(*layers), channels


class SimpleFeaturePyramid(nn.Module):
    """`[map]` of stride `patch` -> one map `[B, width, H/s, W/s]` for each of `strides`, and one of twice the last.

    The last map is every other cell of the one before, as in FPN; the region proposals use it and the heads do not.
    Picture sides must be multiples of `patch` and of the largest of `strides`.
    """

    def __init__(self, channels: int, patch: int, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for stride in strides:
            layers, have = resample(channels, patch, stride)
            self.levels.append(
                nn.Sequential(
                    layers,
                    nn.Conv2d(have, width, kernel_size=1, bias=False),
                    ChannelNorm(width),
                    nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
                    ChannelNorm(width),
                )
            )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        (tokens,) = maps
        levels = [level(tokens) for level in self.levels]
        return (*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2))
