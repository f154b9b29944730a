"""Batched augmentations against Pillow, picture by picture, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from eval import augment


def photographs(n: int = 6, side: int = 24) -> torch.Tensor:
    """Smooth pictures with noise on top, so that interpolation matters a little and histograms are full."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(20, 235, (n, 3, 5, 5))).float()
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic") + torch.from_numpy(
        rng.normal(0, 4, (n, 3, side, side))
    )
    return fine.clamp(0, 255).to(torch.uint8)


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=(124, 116, 104)
    )


# timm's definitions of rand-m9-inc1 at level l (0 to 1) and direction s, in Pillow's words.
PILLOW = {
    "autocontrast": lambda im, lv, s: ImageOps.autocontrast(im),
    "equalize": lambda im, lv, s: ImageOps.equalize(im),
    "invert": lambda im, lv, s: ImageOps.invert(im),
    "posterize": lambda im, lv, s: im.point(lambda v: v & (0xFF << (8 - (4 - int(lv * 4))) & 0xFF)),
    "solarize": lambda im, lv, s: ImageOps.solarize(im, 256 - min(256, int(lv * 256))),
    "solarize_add": lambda im, lv, s: im.point(lambda v: min(255, v + min(128, int(lv * 110))) if v < 128 else v),
    "color": lambda im, lv, s: ImageEnhance.Color(im).enhance(max(0.1, 1 + s * lv * 0.9)),
    "contrast": lambda im, lv, s: ImageEnhance.Contrast(im).enhance(max(0.1, 1 + s * lv * 0.9)),
    "brightness": lambda im, lv, s: ImageEnhance.Brightness(im).enhance(max(0.1, 1 + s * lv * 0.9)),
    "sharpness": lambda im, lv, s: ImageEnhance.Sharpness(im).enhance(max(0.1, 1 + s * lv * 0.9)),
    "rotate": lambda im, lv, s: im.rotate(s * lv * 30, Image.Resampling.BICUBIC, fillcolor=(124, 116, 104)),
    "shear_x": lambda im, lv, s: affine(im, (1, s * lv * 0.3, 0, 0, 1, 0)),
    "shear_y": lambda im, lv, s: affine(im, (1, 0, 0, s * lv * 0.3, 1, 0)),
    "translate_x": lambda im, lv, s: affine(im, (1, 0, s * lv * 0.45 * im.width, 0, 1, 0)),
    "translate_y": lambda im, lv, s: affine(im, (1, 0, 0, 0, 1, s * lv * 0.45 * im.height)),
}


@pytest.mark.parametrize("name", augment.OPERATIONS)
def test_operation_is_pillows(name: str) -> None:
    x = photographs()
    level, sign = np.array([0.1, 0.5, 0.85, 0.9, 0.97, 1.0]), np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
    ours = augment.operate(name, x, level, sign, (124, 116, 104)).permute(0, 2, 3, 1).numpy().astype(int)
    pictures = [Image.fromarray(p) for p in x.permute(0, 2, 3, 1).numpy()]
    theirs = np.array([PILLOW[name](p, lv, s) for p, lv, s in zip(pictures, level, sign, strict=True)]).astype(int)
    off = np.abs(ours - theirs).max(-1)
    if name in augment.OPERATIONS[-5:]:
        # Another bicubic kernel and a soft border; a shift by one pixel is far worse.
        assert np.median(off) <= 3
        assert (off > 8).mean() < 0.1
        shifted = np.abs(np.roll(ours, 1, 2) - theirs).max(-1)
        assert (shifted > 8).mean() > 2 * (off > 8).mean()
    else:
        assert off.max() <= 1


def test_randaugment_draws() -> None:
    x = photographs(600, 8)
    one, again = (augment.randaugment(x, (0, 0, 0), np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one, again)
    assert one.dtype == torch.uint8
    # Two rounds, each with probability 1/2: a quarter is left alone, a few operations change nothing on top of that.
    same = (one == x).flatten(1).all(1).float().mean()
    assert 0.2 < same < 0.36
    assert torch.equal(x, photographs(600, 8))  # its input is not written to


def test_crop_is_a_window_of_the_padded_picture() -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (200, 3, 6, 5), np.uint8))
    out = augment.crop(x, 2, np.random.default_rng(1))
    assert out.shape == x.shape
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    found = []
    for picture, window in zip(padded, out.numpy(), strict=True):
        places = [(i, j) for i in range(5) for j in range(5) if (picture[:, i : i + 6, j : j + 5] == window).all()]
        assert len(places) == 1
        found += places
    assert len(set(found)) == 25  # every offset comes up


def test_mirror_turns_half() -> None:
    x = torch.arange(1000 * 3 * 2 * 4).view(1000, 3, 2, 4)
    out = augment.mirror(x, np.random.default_rng(0))
    turned = (out == x.flip(-1)).flatten(1).all(1)
    assert (turned ^ (out == x).flatten(1).all(1)).all()
    assert 430 < turned.sum() < 570


def test_erase() -> None:
    x = torch.full((800, 3, 20, 30), 7.0)
    out = augment.erase(x.clone(), 0.25, np.random.default_rng(0))
    hit = (out != 7).all(1)
    touched = hit.flatten(1).any(1)
    assert 0.2 < touched.float().mean() < 0.3
    share = hit[touched].float().mean((1, 2))
    assert share.min() > 0.01
    assert share.max() < 0.36
    rows, columns = hit[touched].any(2).sum(1), hit[touched].any(1).sum(1)
    assert torch.equal(rows * columns, hit[touched].sum((1, 2)))  # boxes
    noise = out[(out != 7)]
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)


def test_mixup_is_the_formula() -> None:
    x, targets = torch.randn(8, 3, 4, 4), torch.eye(8)
    mixed, soft = augment.mix(x, targets, 0.8, 0.0, 0.5, np.random.default_rng(3))
    ratio = float(np.random.default_rng(3).beta(0.8, 0.8))
    torch.testing.assert_close(mixed, ratio * x + (1 - ratio) * x.flip(0))
    torch.testing.assert_close(soft, ratio * torch.eye(8) + (1 - ratio) * torch.eye(8).flip(0))


def test_cutmix_targets_are_shares_of_pixels() -> None:
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 9, 13)
    ratios = []
    for seed in range(60):
        mixed, soft = augment.mix(x, torch.eye(6), 0.0, 1.0, 0.5, np.random.default_rng(seed))
        own = (mixed == x)[:, 0].float().mean((1, 2))
        torch.testing.assert_close(soft.diagonal(), own)
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        ratios.append(float(own[0]))
    assert min(ratios) < 0.3
    assert max(ratios) > 0.9


def test_switch_between_the_two() -> None:
    x = torch.randn(2, 3, 8, 8)
    cut = 0
    for seed in range(300):
        mixed, soft = augment.mix(x, torch.eye(2), 0.8, 1.0, 0.25, np.random.default_rng(seed))
        cut += bool(((mixed == x) | (mixed == x.flip(0))).all())
        assert (soft.sum(1) - 1).abs().max() < 1e-6
    assert 50 < cut < 105
