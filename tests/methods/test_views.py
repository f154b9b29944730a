"""Batched augmentation against torchvision's, picture by picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as classic
from torchvision.transforms.v2 import functional as tv

from methods.base import Stream, Streams
from methods.parts import views as v
from small import pictures


def stream(rows: int, name: str = "v") -> Stream:
    return Streams(0, 0, 0, global_batch=rows, rows=slice(0, rows), device="cpu").stream(name)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (40, 56, 16), (20, 28, 48), (130, 90, 72), (300, 200, 65)]
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_is_torchvisions_antialiased_crop(height: int, width: int, size: int, interpolation: str) -> None:
    images = pictures(40, height, width)
    boxes = v.random_boxes((height, width), (0.05, 1.0), (0.5, 2.0), 0.5, stream(40))
    got = v.crop(images, boxes, size, interpolation)
    for i in range(40):
        box = [int(t[i]) for t in (boxes.top, boxes.left, boxes.height, boxes.width)]
        mode = InterpolationMode(interpolation)
        want = classic.resized_crop(images[i].float() / 255, *box, [size, size], mode, antialias=True).clamp(0, 1)
        if boxes.flipped[i]:
            want = want.flip(2)
        torch.testing.assert_close(got[i], want, atol=1e-5, rtol=0)
    assert 0 < boxes.flipped.sum() < 40


@pytest.mark.parametrize(("height", "width"), [(32, 32), (30, 90), (90, 30)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    scale, ratio, rows = (0.3, 1.0), (3 / 4, 4 / 3), 3000
    boxes = v.random_boxes((height, width), scale, ratio, 0.0, stream(rows))
    ours = torch.stack([boxes.top, boxes.left, boxes.height, boxes.width], dim=1).double()
    picture = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(picture, scale, ratio) for _ in range(rows)]).double()
    assert not boxes.flipped.any()
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()
    error = (ours.var(0) / rows + theirs.var(0) / rows).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() <= 4 * error + 1e-9).all()
    for q in (0.1, 0.5, 0.9):
        assert ((ours.quantile(q, 0) - theirs.quantile(q, 0)).abs() <= 2).all()


def test_a_box_that_never_fits_becomes_the_largest_centred_one() -> None:
    boxes = v.random_boxes((10, 100), (0.9, 1.0), (3 / 4, 4 / 3), 0.0, stream(5))
    assert boxes.height.tolist() == [10] * 5 and boxes.width.tolist() == [13] * 5
    assert boxes.top.tolist() == [0] * 5 and boxes.left.tolist() == [43] * 5


def literal_jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    for operation in order.tolist():
        factor = float(factors[operation])
        if operation == v.BRIGHTNESS:
            x = tv.adjust_brightness(x, factor)
        elif operation == v.CONTRAST:
            x = tv.adjust_contrast(x, factor)
        elif operation == v.SATURATION:
            x = tv.adjust_saturation(x, factor)
        else:
            x = tv.adjust_hue(x, factor)
    return x


def test_colour_jitter_is_torchvisions_in_the_order_of_each_row() -> None:
    x = pictures(64).float() / 255
    x[:4] = x[:4, :1]  # gray pictures have no hue
    factors, order = v.jitter_draws((0.8, 0.8, 0.8, 0.5), 1.0, stream(64))
    want = torch.stack([literal_jitter(x[i], factors[i], order[i]) for i in range(64)])
    turns = v.turns(factors, order)
    v.color_jitter(x, turns, turns)
    torch.testing.assert_close(x, want, atol=2e-5, rtol=0)
    assert len({tuple(row) for row in order.tolist()}) > 15


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.07, 0.33, 0.5])
def test_hue_alone(shift: float) -> None:
    x = pictures(8).float() / 255
    x[0, 0], x[1, 1], x[2, 2], x[3] = 1.0, 0.0, 0.5, 0.25
    got = v.shift_hue(x, torch.full((8,), shift))
    torch.testing.assert_close(got, tv.adjust_hue(x, shift), atol=1e-5, rtol=0)


def test_jitter_is_skipped_with_the_right_probability_and_factors_are_in_range() -> None:
    factors, _ = v.jitter_draws((0.4, 0.3, 0.2, 0.1), 0.8, stream(4000))
    kept = (factors == torch.tensor([1.0, 1.0, 1.0, 0.0])).all(dim=1)
    assert abs(kept.float().mean() - 0.2) < 0.03
    low, high = factors[~kept].amin(0), factors[~kept].amax(0)
    torch.testing.assert_close(low, torch.tensor([0.6, 0.7, 0.8, -0.1]), atol=2e-3, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.4, 1.3, 1.2, 0.1]), atol=2e-3, rtol=0)


def test_gray_blur_and_solarise() -> None:
    x = pictures(6).float() / 255
    torch.testing.assert_close(v.to_gray(x), tv.rgb_to_grayscale(x, num_output_channels=1))
    sigma = torch.tensor([0.1, 0.5, 0.9, 1.3, 1.7, 2.0])
    blurred = v.gaussian_blur(x, sigma, 6)
    for i in range(6):
        want = tv.gaussian_blur(x[i], [13, 13], [float(sigma[i])] * 2)
        torch.testing.assert_close(blurred[i], want, atol=1e-5, rtol=0)
    torch.testing.assert_close(v.solarize(x), tv.solarize(x, 0.5))


def test_the_whole_pipeline_is_its_parts_normalised() -> None:
    images, mean, std = pictures(16), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    augment = v.Augment(32, mean, std, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip_p=1.0, solarize_p=1.0)
    pixels, boxes = augment(images, stream(16))
    want = tv.normalize(tv.solarize(tv.horizontal_flip(images.float() / 255), 0.5), list(mean), list(std))
    torch.testing.assert_close(pixels, want, atol=1e-5, rtol=1e-5)
    assert boxes.flipped.all() and (boxes.height == 32).all()


def test_every_operation_acts_on_its_share_of_rows() -> None:
    """Row by row, gray views are those whose channels agree; their share is that of the recipe."""
    images = pictures(2000, 8, 8)
    augment = v.Augment(8, (0.0,) * 3, (1.0,) * 3, gray_p=0.2, jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8)
    pixels, _ = augment(images, stream(2000))
    gray = (pixels[:, 0] - pixels[:, 1]).abs().amax(dim=(1, 2)) < 1e-6
    assert abs(gray.float().mean().item() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 2000)
    assert np.isfinite(pixels.numpy()).all() and pixels.min() >= 0 and pixels.max() <= 1


def test_large_views_made_a_few_at_a_time_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(23, 90, 100)
    augment = v.Augment(
        80, (0.5,) * 3, (0.2,) * 3, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.7, solarize_p=0.3
    )
    pixels, boxes = augment(images, stream(23))
    monkeypatch.setattr(v, "SMALL", 80)
    whole, same = augment(images, stream(23))
    torch.testing.assert_close(pixels, whole, atol=2e-5, rtol=0)
    assert torch.equal(boxes.top, same.top)


@pytest.mark.parametrize("size", [16, 80])
def test_a_batch_in_which_no_row_is_blurred(size: int) -> None:
    augment = v.Augment(size, (0.5,) * 3, (0.2,) * 3, blur_p=1e-9)
    assert augment(pictures(2, 90, 90), stream(2))[0].isfinite().all()
