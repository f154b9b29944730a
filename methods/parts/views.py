"""Random views of a whole batch at once, on the device: uint8 pictures in, normalised float32 views and crop boxes out.

Order of operations: resized crop and flip, colour jitter, grayscale, blur, solarise, normalise, each as torchvision
defines it for float pictures in [0, 1]. Nothing is rounded to uint8 in between, where PIL pipelines round after each.

* Crop boxes follow torchvision's `RandomResizedCrop.get_params`: ten attempts at (area, log aspect ratio), the first
  that fits, else the largest centred crop of an allowed ratio. All ten are drawn for every row, one is picked.
* Crop, resize and flip are one separable linear map per row, out = Wy image Wx^T, whose weights are those of
  antialiased interpolation (PIL's, torchvision's `antialias=True`) restricted to the box.
* Brightness, contrast and saturation are all clamp(f x + (1 - f) y), with y = 0, the mean gray, or the gray picture:
  one pass with coefficients per row serves every row in its own random order. Hue takes the rows whose turn it is.
* All that chance decides is drawn on the CPU before the first operation, and travels to a device in one copy.
* On a CPU, views above SMALL pixels are made one by one: they stay in its cache, pay for nothing but their own
  operations, and their few weights per pixel cost less one after the other than as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import DataInfo, Stream
from methods.parts.sending import send

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
GRAY = (0.2989, 0.587, 0.114)
REACH = {"bilinear": 1.0, "bicubic": 2.0}  # of the filters, in pixels
SMALL = 64  # side of the views in pixels up to which a CPU, too, is faster with a whole batch at once


@dataclass(frozen=True)
class Boxes:
    """Crops in pixels of the original picture: int64 [B] each, and whether the crop was then mirrored, bool [B]."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flipped: Tensor


Draws = dict[str, Tensor]
"""What chance decides of one batch of views, by name."""


@dataclass(frozen=True)
class Augment:
    """One augmentation pipeline: `pixels, boxes = augment(images, stream)`.

    size: side of the views in pixels.  mean, std: of each channel, for pixels in [0, 1].
    scale, ratio: ranges of the crop's area (fraction of the picture) and of its width / height.
    jitter: strengths (brightness, contrast, saturation, hue) of torchvision's ColorJitter.
    blur_sigma: range in pixels; the kernel reaches 3 sigma of the upper end.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    flip_p: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    gray_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0

    @classmethod
    def of_recipe(cls, method: Mapping[str, Any], data: DataInfo, view: int = 0, **changes: Any) -> Augment:
        """The pipeline of the recipe table [method]: crop_scale, flip_p, jitter, jitter_p, gray_p, interpolation as far
        as stated, and blur_p, solarize_p, which are lists with one entry a view.  changes: fields that differ from it.
        """
        stated: dict[str, Any] = {
            key: method[key] for key in ("flip_p", "jitter_p", "gray_p", "interpolation") if key in method
        }
        stated |= {key: method[key][view] for key in ("blur_p", "solarize_p") if key in method}
        stated |= {key: tuple(method[key]) for key in ("jitter", "blur_sigma") if key in method}
        base: dict[str, Any] = {"size": data.size, "mean": data.mean, "std": data.std}
        return cls(**(base | {"scale": tuple(method["crop_scale"])} | stated | changes))

    def draw(self, shape: torch.Size | tuple[int, int], stream: Stream) -> Draws:
        """What chance decides of one batch of views of pictures of shape (H, W), and the factors of the normalisation.

        The boxes by their fields; `turns`; int64 indices of the rows that turn gray, are blurred and solarised, the
        latter's sigma [B]; shift and factor [3, 1, 1]. All on the CPU: what follows from a decision need not wait.
        """
        draw = stream.host
        found = {**vars(random_boxes(shape, self.scale, self.ratio, self.flip_p, draw))}
        if self.jitter_p:
            found |= turns(*jitter_draws(self.jitter, self.jitter_p, draw))
        if self.gray_p:
            found["gray"] = true_rows(draw.uniform() < self.gray_p)
        if self.blur_p:
            found["sigma"] = draw.uniform(low=self.blur_sigma[0], high=self.blur_sigma[1])
            found["blurred"] = true_rows(draw.uniform() < self.blur_p)
        if self.solarize_p:
            found["solarized"] = true_rows(draw.uniform() < self.solarize_p)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return found | {"shift": -mean / std, "factor": 1 / std}

    def make(self, images: Tensor, host: Draws, here: Draws) -> tuple[Tensor, Boxes]:
        """images: uint8 [B, 3, H, W] -> float32 [B, 3, size, size], and the boxes that were cut.

        host: what was drawn; here: the same on the device of the images.
        """
        boxes = Boxes(*(here[field.name] for field in fields(Boxes)))
        x = crop(images, boxes, self.size, self.interpolation)
        if self.jitter_p:
            color_jitter(x, host, here)
        if self.gray_p:
            change(x, here["gray"], to_gray)
        if self.blur_p:
            for chosen in here["blurred"].split(5 if large(x) else len(x)):  # 15 planes fill the 16 lanes of a CPU
                if len(chosen):  # a convolution in no groups is an error
                    x[chosen] = gaussian_blur(x[chosen], here["sigma"][chosen], math.ceil(3 * self.blur_sigma[1]))
        if self.solarize_p:
            change(x, here["solarized"], solarize)
        return torch.addcmul(here["shift"], x, here["factor"], out=x), boxes

    def __call__(self, images: Tensor, stream: Stream) -> tuple[Tensor, Boxes]:
        """images: uint8 [B, 3, H, W] -> float32 [B, 3, size, size], and the boxes that were cut."""
        ((view,), _) = make_views([self], images, [stream])
        return view


def make_views(
    augments: Sequence[Augment],
    images: Tensor | Sequence[Tensor],
    streams: Sequence[Stream],
    also: Draws | None = None,
) -> tuple[list[tuple[Tensor, Boxes]], Draws]:
    """What each of the pipelines makes of the images, or of its own ones, and its stream; and on their device the CPU
    tensors of `also`. All that is drawn travels there in one copy.
    """
    images = len(augments) * [images] if isinstance(images, Tensor) else images
    host = [augment.draw(x.shape[-2:], s) for augment, x, s in zip(augments, images, streams, strict=True)]
    *here, more = send([*host, also or {}], images[0].device)
    made = [augment.make(x, *drawn) for augment, x, *drawn in zip(augments, images, host, here, strict=True)]
    return made, more


def large(x: Tensor) -> bool:
    """Whether views x [B, 3, S, S] are better made a few at a time."""
    return x.device.type == "cpu" and x.shape[-1] > SMALL


def true_rows(chosen: Tensor) -> Tensor:
    """Indices int64 [n], ascending, of those of bool [B] on the CPU that are true."""
    return chosen.nonzero()[:, 0]


def change(x: Tensor, rows: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> None:
    """x[rows] <- operation(x[rows], parameters[rows] ...), in place.

    x: [B, ...]; rows: int64 [n], each at most once; parameters: [B] each; all on the device of x.
    """
    if len(rows) == len(x):
        x.copy_(operation(x, *parameters))
    elif len(rows):
        x[rows] = operation(x[rows], *(p[rows] for p in parameters))


def random_boxes(
    shape: torch.Size | tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip_p: float,
    draw: Stream,
) -> Boxes:
    """Boxes of torchvision's RandomResizedCrop on pictures of shape (H, W), and coin flips of probability flip_p."""
    rows, columns = shape
    area = draw.uniform(10, low=scale[0], high=scale[1]) * (rows * columns)
    aspect = draw.uniform(10, low=math.log(ratio[0]), high=math.log(ratio[1])).exp()
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (width > 0) & (width <= columns) & (height > 0) & (height <= rows)
    first = fits.int().argmax(dim=1, keepdim=True)
    width, height = (t.gather(1, first)[:, 0] for t in (width, height))
    found = fits.any(dim=1)
    clamped = min(max(columns / rows, ratio[0]), ratio[1])
    whole_w, whole_h = min(columns, round(rows * clamped)), min(rows, round(columns / clamped))
    width, height = torch.where(found, width, whole_w), torch.where(found, height, whole_h)
    u = draw.uniform(2)
    top, left = (u[:, 0] * (rows - height + 1)).floor(), (u[:, 1] * (columns - width + 1)).floor()
    top = torch.where(found, top, (rows - whole_h) // 2)
    left = torch.where(found, left, (columns - whole_w) // 2)
    return Boxes(top.long(), left.long(), height.long(), width.long(), draw.uniform() < flip_p)


def crop(images: Tensor, boxes: Boxes, size: int, interpolation: str = "bilinear") -> Tensor:
    """Cut, resize with antialiasing, mirror: uint8 [B, 3, H, W] -> float32 [B, 3, size, size] in [0, 1]."""
    b, c, rows, columns = images.shape
    straight = torch.zeros_like(boxes.flipped)
    down, wy = taps(boxes.height, straight, rows, size, interpolation)
    right, wx = taps(boxes.width, boxes.flipped, columns, size, interpolation)
    wy.mul_(1 / 255)
    x = torch.empty(b, c, size, size, device=images.device)
    if large(x):
        corners = zip(*(t.tolist() for t in (boxes.top, boxes.left, boxes.height, boxes.width)), strict=True)
        for i, (top, left, height, width) in enumerate(corners):
            cut = images[i, :, top : top + height, left : left + width].float()
            narrow = weighted(cut, down[i], wy[i]).transpose(1, 2).contiguous()  # rows of a picture lie side by side
            x[i] = weighted(narrow, right[i], wx[i]).transpose(1, 2)
    else:
        wy, wx = (
            torch.zeros(b, pixels, size, device=x.device).scatter_add_(1, index + start[:, None, None], weight)
            for pixels, index, start, weight in ((rows, down, boxes.top, wy), (columns, right, boxes.left, wx))
        )
        narrow = torch.bmm(images.view(b, c * rows, columns).float(), wx).view(b, c, rows, size)
        x = wy.transpose(1, 2)[:, None] @ narrow
    return x.clamp_(0, 1) if interpolation == "bicubic" else x


def taps(length: Tensor, mirrored: Tensor, pixels: int, size: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """Which of `length` [B] pixels of a line, each at most `pixels`, make up which of `size`: places and weights.

    Both [B, n, size]: every output is the sum of n weighted pixels, those under the filter, which is widened by
    length / size where that shrinks. Weights of a place outside the line are 0.
    """
    if interpolation not in REACH:
        raise ValueError(f"method.interpolation = {interpolation!r}: must be one of {', '.join(REACH)}")
    reach, out = REACH[interpolation], torch.arange(size, device=length.device)
    step = (length / size)[:, None, None]
    wide = step.clamp(min=1)
    centre = (torch.where(mirrored[:, None], size - 1 - out, out)[:, None] + 0.5) * step
    n = torch.arange(math.ceil(2 * reach * max(1, pixels / size)), device=length.device)[:, None]
    place = (centre - reach * wide + 0.5).floor() + n
    distance = (place + 0.5 - centre).abs_().div_(wide)
    if interpolation == "bilinear":
        weight = (1 - distance).clamp_(min=0)
    else:  # Keys' cubic with a = -1/2, PIL's and torchvision's antialiased choice
        near = ((1.5 * distance - 2.5) * distance) * distance + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = torch.where(distance < 1, near, far).mul_(distance < 2)
    last = length[:, None, None] - 1
    weight.mul_((place >= 0) & (place <= last))
    return place.long().clamp_(min=0).minimum(last), weight.div_(weight.sum(dim=1, keepdim=True))


def weighted(x: Tensor, place: Tensor, weight: Tensor) -> Tensor:
    """out[:, j] = sum_k weight[k, j] x[:, place[k, j]].  x: [C, H, W]; place, weight: [n, size]."""
    out = x.index_select(1, place[0]).mul_(weight[0, :, None])
    for p, w in zip(place[1:], weight[1:, :, None], strict=True):
        out.addcmul_(x.index_select(1, p), w)
    return out


def to_gray(x: Tensor) -> Tensor:
    """Luma of x [B, 3, H, W] as [B, 1, H, W], torchvision's weights."""
    return torch.add(x[:, 0:1] * GRAY[0], x[:, 1:2], alpha=GRAY[1]).add_(x[:, 2:3], alpha=GRAY[2])


def jitter_draws(strength: tuple[float, float, float, float], p: float, draw: Stream) -> tuple[Tensor, Tensor]:
    """Factors [B, 4] (brightness, contrast, saturation, hue shift; 1, 1, 1, 0 if the coin says no) and orders [B, 4].

    As torchvision's ColorJitter: factors U[max(0, 1 - s), 1 + s], hue U[-s, s] in turns, a random order per row.
    """
    low = torch.tensor([max(0.0, 1 - s) for s in strength[:HUE]] + [-strength[HUE]])
    high = torch.tensor([1 + s for s in strength[:HUE]] + [strength[HUE]])
    factors = draw.uniform(4) * (high - low) + low
    rest = torch.tensor([1.0, 1.0, 1.0, 0.0])
    return torch.where((draw.uniform() < p)[:, None], factors, rest), draw.permutation(4)


def turns(factors: Tensor, order: Tensor) -> Draws:
    """What `color_jitter` does in each of its four turns to every row, which gets operations order[i] by factors[i].

    factors: [B, 4]; order: int64 [B, 4], a permutation of BRIGHTNESS .. HUE per row; both on the CPU.
    hue [B]; blend, to_mean, to_pixel [B, 4]; used: bool [B, 4, 3], whether a turn blends, blends with gray, turns hues;
    hue0 .. hue3: the rows whose hue it turns, int64 [n].
    """
    blend = torch.where(order == HUE, 1.0, factors.gather(1, order))  # factor of each turn, 1 on hue's
    to_mean = torch.where(order == CONTRAST, 1 - blend, 0.0)
    to_pixel = torch.where(order == SATURATION, 1 - blend, 0.0)
    turning = (factors[:, HUE] != 0)[:, None] & (order == HUE)
    used = torch.stack([blend != 1, (to_mean != 0) | (to_pixel != 0), turning], dim=2)
    found = {"hue": factors[:, HUE], "blend": blend, "to_mean": to_mean, "to_pixel": to_pixel, "used": used}
    return found | {f"hue{turn}": true_rows(turning[:, turn]) for turn in range(4)}


def color_jitter(x: Tensor, host: Draws, here: Draws) -> None:
    """Changes x (float32 [B, 3, H, W] in [0, 1]) in place, as `turns` says; here: the same on the device of x."""
    blend, to_mean, to_pixel = (here[name][..., None, None, None] for name in ("blend", "to_mean", "to_pixel"))
    rows = 1 if large(x) else len(x)
    for part in (slice(first, first + rows) for first in range(0, len(x), rows)):
        y = x[part]
        for turn, (blended, grayed, turned) in enumerate(host["used"][part].any(dim=0).tolist()):
            factor = blend[part, turn]
            if grayed:
                gray = to_gray(y)
                mean = gray.mean(dim=(1, 2, 3), keepdim=True)
                target = gray.mul_(to_pixel[part, turn]).add_(mean.mul_(to_mean[part, turn]))
                torch.addcmul(target, y, factor, out=y).clamp_(0, 1)
            elif blended:
                y.mul_(factor).clamp_(0, 1)
            if turned and rows == 1:
                y.copy_(shift_hue(y, here["hue"][part]))
            elif turned:
                change(y, here[f"hue{turn}"], shift_hue, here["hue"])


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of x (float32 [B, 3, H, W] in [0, 1]) by shift [B], in turns, at equal HSV saturation and value.

    With hue h in turns, each channel is max - (max - min) clamp(2 - 6 d, 0, 1), where d is the distance of h to the
    channel's complement (cyan 1/2, magenta 5/6, yellow 1/6) on the circle. Masks are floats, which CPUs vectorise.
    """
    red, green, blue = x.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)
    sixth = (6 * chroma).clamp_(min=1e-12).reciprocal_()
    is_red = torch.eq(red, high, out=torch.empty_like(high))
    is_green = torch.eq(green, high, out=torch.empty_like(high))
    hue = (red - green).mul_(sixth).add_(2 / 3)
    hue.lerp_((blue - red).mul_(sixth).add_(1 / 3), is_green).lerp_((green - blue).mul_(sixth), is_red)
    hue.add_(shift.view(-1, 1, 1))
    complements = torch.arange(3.0, 9.0, 2.0, device=x.device) % 6 / 6  # 1/2, 5/6, 1/6
    away = hue[:, None] - complements.view(3, 1, 1)
    away.sub_(away.round()).abs_().mul_(-6).add_(2).clamp_(0, 1)
    return torch.addcmul(high[:, None], away, chroma[:, None], value=-1, out=away)


def gaussian_blur(x: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Blur x [B, C, H, W] by sigma [B] pixels, kernel of 2 reach + 1 taps that sums to 1, borders reflected.

    Pictures must be larger than `reach`.
    """
    b, c, rows, columns = x.shape
    taps = torch.arange(-reach, reach + 1, device=x.device)
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)
    x = F.pad(x, 4 * [reach], mode="reflect").view(1, b * c, rows + 2 * reach, columns + 2 * reach)
    x = F.conv2d(x, kernel[:, None, :, None], groups=b * c)
    return F.conv2d(x, kernel[:, None, None, :], groups=b * c).view(b, c, rows, columns)


def solarize(x: Tensor) -> Tensor:
    """Invert all values of x at or above one half."""
    return torch.minimum(x, 1 - x)
