"""Augmentations of fine-tuning on whole batches, on any device; every draw is from the numpy generator handed in.

`randaugment`, `erase` and `mix` follow timm's rand-m9-mstd0.5-inc1, RandomErasing (pixel mode) and Mixup (batch mode),
which DeiT-style recipes are written in. Differs from timm: geometric operations interpolate with torch's bicubic kernel
(a = -0.75, PIL's is -0.5) and shade into the fill colour at the border, where PIL cuts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.features import to_device

Numbers = npt.NDArray[np.float64]

OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def crop(x: Tensor, padding: int, rng: np.random.Generator) -> Tensor:
    """A window of the same size from every picture, padded with black: [B, C, H, W] of any dtype."""
    b, _, h, w = x.shape
    padded = F.pad(x, [padding] * 4)
    top, left = (rng.integers(0, 2 * padding + 1, (b, 1)) for _ in "yx")
    rows, columns = (to_device(i, x.device) for i in (top + np.arange(h), left + np.arange(w)))
    picture = torch.arange(b, device=x.device)[:, None, None]
    return padded[picture, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def resized_crop(
    x: Tensor,
    size: Sequence[int],
    interpolation: str,
    scale: Sequence[float],
    ratio: Sequence[float],
    rng: np.random.Generator,
) -> Tensor:
    """torchvision's RandomResizedCrop, a box of its own for every picture: uint8 [B, C, H, W] -> uint8 [B, C, *size].

    scale: range of the box's share of the area; ratio: range of its width / height; antialiased, as Pillow does it.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as V

    mode = InterpolationMode(interpolation)
    found = boxes(len(x), x.shape[-2], x.shape[-1], scale, ratio, rng)
    return torch.stack([V.resized_crop(p, *box, list(size), mode) for p, box in zip(x, found.tolist(), strict=True)])


def boxes(
    count: int, height: int, width: int, scale: Sequence[float], ratio: Sequence[float], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """`count` boxes (top, left, height, width), int64 [count, 4], within pictures of height x width pixels.

    Up to ten draws of share of the area and log aspect ratio, uniform in their ranges; the first box that fits is
    placed anywhere. Where none fits: the largest box of an allowed ratio, in the middle.
    """
    area = rng.uniform(scale[0], scale[1], (count, 10)) * height * width
    aspect = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), (count, 10)))
    w, h = np.sqrt(area * aspect).round().astype(int), np.sqrt(area / aspect).round().astype(int)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = np.arange(count), fits.argmax(1)
    h, w = h[first], w[first]
    top, left = rng.integers(0, np.maximum(height - h, 0) + 1), rng.integers(0, np.maximum(width - w, 0) + 1)
    clamped = min(max(width / height, ratio[0]), ratio[1])
    whole_h, whole_w = min(height, round(width / clamped)), min(width, round(height * clamped))
    whole = [(height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w]
    return np.where(fits.any(axis=1, keepdims=True), np.stack([top, left, h, w], 1), whole)


def mirror(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the pictures, left and right exchanged."""
    flipped = to_device(rng.random(len(x)) < 0.5, x.device)
    return torch.where(flipped[:, None, None, None], x.flip(-1), x)


def randaugment(x: Tensor, fill: Sequence[float], rng: np.random.Generator) -> Tensor:
    """Two rounds; in each a picture meets one of 15 operations with probability 1/2, at level N(9, 0.5) of 10.

    x: uint8 [B, 3, H, W]; fill: colour (0-255) that comes in from outside the picture. Returns uint8.
    """
    for _ in range(2):
        operation = np.where(rng.random(len(x)) < 0.5, rng.integers(len(OPERATIONS), size=len(x)), -1)
        level = np.clip(rng.normal(9, 0.5, len(x)), 0, 10) / 10
        sign = rng.choice([-1.0, 1.0], len(x))
        x = x.clone()
        for i in np.unique(operation[operation >= 0]):
            rows = np.flatnonzero(operation == i)
            where = to_device(rows, x.device)
            x[where] = operate(OPERATIONS[i], x[where], level[rows], sign[rows], fill)
    return x


def operate(name: str, x: Tensor, level: Numbers, sign: Numbers, fill: Sequence[float]) -> Tensor:
    """One of `OPERATIONS` on uint8 [B, 3, H, W], at a level in [0, 1] and a direction (+-1) for each picture."""
    from torchvision.transforms.v2 import functional as V

    def column(values: Numbers, dtype: torch.dtype = torch.float32) -> Tensor:
        return to_device(torch.from_numpy(values).to(dtype), x.device).view(-1, 1, 1, 1)

    match name:
        case "autocontrast":
            return V.autocontrast(x)
        case "equalize":
            return V.equalize(x)
        case "invert":
            return 255 - x
        case "posterize":
            dropped = 4 + np.floor(level * 4)  # of eight bits
            return x & column(256 - 2**dropped, torch.uint8)
        case "solarize":
            return torch.where(x < column(256 - np.floor(level * 256), torch.int16), x, 255 - x)
        case "solarize_add":
            lifted = x.to(torch.int16) + column(np.floor(level * 110), torch.int16)
            return torch.where(x < 128, lifted.clamp(max=255).to(torch.uint8), x)
        case "color" | "contrast" | "brightness" | "sharpness":
            return _enhance(name, x, column(np.maximum(0.1, 1 + sign * level * 0.9)))
        case _:
            return _move(name, x, level * sign, fill)


def _enhance(name: str, x: Tensor, factor: Tensor) -> Tensor:
    """PIL's ImageEnhance: away from (factor > 1) or towards the picture without colour, contrast, light or detail."""
    from torchvision.transforms.v2 import functional as V

    weights = to_device(torch.tensor([19595, 38470, 7471], dtype=torch.int32), x.device).view(1, 3, 1, 1)
    grey = ((x.int() * weights).sum(1, keepdim=True) + 0x8000) >> 16
    match name:
        case "color":
            plain = grey.float()
        case "contrast":
            plain = (grey.float().mean((1, 2, 3), keepdim=True) + 0.5).floor()
        case "brightness":
            plain = torch.zeros((), device=x.device)
        case _:
            plain = V.adjust_sharpness(x, 0.0).float()
    return (plain + factor * (x.float() - plain)).clamp(0, 255).to(torch.uint8)


def _move(name: str, x: Tensor, amount: Numbers, fill: Sequence[float]) -> Tensor:
    """Rotate (by up to 30 degrees, about the middle), shear (0.3, about the upper left) or shift (0.45 of the side)."""
    b, _, h, w = x.shape
    one, none = np.ones(b), np.zeros(b)
    match name:  # rows of the matrix that takes a point of the new picture (x, y, 1) to the old one
        case "rotate":
            cos, sin = np.cos(amount * math.pi / 6), np.sin(amount * math.pi / 6)
            cx, cy = w / 2, h / 2
            to_x, to_y = (cos, -sin, cx - cos * cx + sin * cy), (sin, cos, cy - sin * cx - cos * cy)
        case "shear_x":
            to_x, to_y = (one, 0.3 * amount, none), (none, one, none)
        case "shear_y":
            to_x, to_y = (one, none, none), (0.3 * amount, one, none)
        case "translate_x":
            to_x, to_y = (one, none, 0.45 * w * amount), (none, one, none)
        case "translate_y":
            to_x, to_y = (one, none, none), (none, one, 0.45 * h * amount)
        case _:
            raise ValueError(f"no operation {name!r}")
    matrix = to_device(np.stack([np.stack(to_x, 1), np.stack(to_y, 1)], 1).astype(np.float32), x.device)
    across, down = torch.arange(w, device=x.device) + 0.5, torch.arange(h, device=x.device) + 0.5
    points = torch.stack([across.expand(h, w), down[:, None].expand(h, w), torch.ones(h, w, device=x.device)], -1)
    old = torch.einsum("hwk,bik->bhwi", points, matrix)
    grid = 2 * old / to_device(torch.tensor([w, h]), x.device) - 1
    colour = to_device(torch.tensor(fill, dtype=torch.float32), x.device).view(1, 3, 1, 1)
    moved = F.grid_sample(x.float() - colour, grid, mode="bicubic", padding_mode="zeros", align_corners=False) + colour
    return moved.round().clamp(0, 255).to(torch.uint8)


def erase(x: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """With `probability` a box of 2 % to 1/3 of the picture, aspect ratio 0.3 to 3.3, is filled with normal noise.

    x: float32 [B, C, H, W], already normalised; changed in place and returned.
    """
    _, c, h, w = x.shape
    for i in np.flatnonzero(rng.random(len(x)) < probability):
        for _ in range(10):
            area, aspect = rng.uniform(0.02, 1 / 3) * h * w, math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            eh, ew = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < eh < h and 0 < ew < w:
                top, left = rng.integers(0, h - eh + 1), rng.integers(0, w - ew + 1)
                noise = rng.standard_normal((c, eh, ew), np.float32)
                x[i, :, top : top + eh, left : left + ew] = to_device(noise, x.device)
                break
    return x


def mix(
    x: Tensor, targets: Tensor, mixup: float, cutmix: float, switch: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup or CutMix of the batch with itself in reverse order, one ratio for the batch.

    x: float32 [B, C, H, W]; targets: float32 [B, classes], rows sum to 1. Mixup: ratio ~ Beta(mixup, mixup); CutMix: a
    box of share 1 - Beta(cutmix, cutmix) about a random centre, cut off at the border and the ratio with it. With both,
    CutMix has probability `switch`.
    """
    _, _, h, w = x.shape
    if cutmix and (not mixup or rng.random() < switch):
        side = math.sqrt(1 - rng.beta(cutmix, cutmix))
        y, x0 = int(rng.integers(h)), int(rng.integers(w))
        half_h, half_w = int(h * side) // 2, int(w * side) // 2
        top, bottom = max(y - half_h, 0), min(y + half_h, h)
        left, right = max(x0 - half_w, 0), min(x0 + half_w, w)
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = x.flip(0)[:, :, top:bottom, left:right]
        ratio = 1 - (bottom - top) * (right - left) / (h * w)
    else:
        ratio = float(rng.beta(mixup, mixup))
        mixed = ratio * x + (1 - ratio) * x.flip(0)
    return mixed, ratio * targets + (1 - ratio) * targets.flip(0)
