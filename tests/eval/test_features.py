"""One pass of a frozen encoder: modes, precision, resize, flips, what is said of collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval import features
from eval.features import extract, normalise, resize, summary

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Tiny(nn.Module):
    """Convolution, batch norm, dropout, mean over the picture."""

    dim, channels, strides = 6, (6,), (2,)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Dropout(0.5)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        return [self.drop(self.norm(self.conv(x)))]

    def features(self, x: Tensor) -> Tensor:
        # Weighted to the left, so that a mirrored picture has another feature.
        return (self.feature_maps(x)[0] * torch.linspace(1, 0, (x.shape[-1] + 1) // 2)).mean((2, 3))


@pytest.fixture
def encoder() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 3, 8, 8), np.uint8)


def test_one_pass_equals_one_by_one(encoder: Tiny, images: np.ndarray) -> None:
    encoder.train()
    encoder.norm.eval()  # a mode of its own, to be given back
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    got = extract(encoder, images, MEAN, STD, batch=16)
    assert (encoder.training, encoder.norm.training, encoder.drop.training) == (True, False, True)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())

    encoder.eval()
    x = (torch.from_numpy(images).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        one_by_one = torch.cat([encoder.features(picture[None]) for picture in x])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, one_by_one.numpy(), atol=1e-5)


def test_memory_mapped_read_only_pictures(encoder: Tiny, images: np.ndarray, tmp_path) -> None:
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(extract(encoder, mapped, MEAN, STD), extract(encoder, images, MEAN, STD))


def test_bf16_is_near_and_comes_out_as_float32(encoder: Tiny, images: np.ndarray) -> None:
    exact, rough = (extract(encoder, images, MEAN, STD, precision=p) for p in ("fp32", "bf16"))
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_flip_rules(encoder: Tiny, images: np.ndarray) -> None:
    plain, mirrored = (extract(encoder, x, MEAN, STD) for x in (images, np.ascontiguousarray(images[..., ::-1])))
    np.testing.assert_allclose(extract(encoder, images, MEAN, STD, flip="sum"), plain + mirrored, atol=1e-5)

    def unit(v: np.ndarray) -> np.ndarray:
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    odd = unit(unit(plain) + mirrored)
    np.testing.assert_allclose(extract(encoder, images, MEAN, STD, flip="triplet"), odd, atol=1e-5)


def test_resize_against_pillow() -> None:
    from PIL import Image

    # Middling values: Pillow cuts overshoot off between its two passes, torch only at the end.
    picture = np.random.default_rng(0).integers(80, 176, (24, 20, 3), np.uint8)
    x = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]
    kinds = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for name, kind in kinds.items():
        for size in ((12, 10), (48, 30)):
            ours = resize(x, size, name)[0].permute(1, 2, 0).int().numpy()
            theirs = np.asarray(Image.fromarray(picture).resize(size[::-1], kind)).astype(int)
            # torch's antialiased kernels are Pillow's but for rounding
            assert np.abs(ours - theirs).max() <= 2, name
    assert resize(x, ()) is x
    assert resize(x, (24, 20)) is x


@pytest.mark.parametrize("side", [32, 64])
def test_the_middle_is_torchvisions_centre_crop(side: int) -> None:
    """Of 32 pixels the middle 28: of pictures that are stored with 32, and of larger ones."""
    from torchvision.transforms import v2

    class Pixels(nn.Module):
        def features(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    pictures = torch.from_numpy(np.random.default_rng(1).integers(80, 176, (5, 3, side, side), np.uint8))
    want = v2.CenterCrop(28)(v2.Resize(32, antialias=True)(pictures)).flatten(1) / 255
    seen = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "size": (28, 28)}
    got = extract(Pixels(), pictures, **seen, test_crop=0.875)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-6 if side == 32 else 1.5 / 255)
    assert np.abs(got - extract(Pixels(), pictures, **seen)).max() > 0.05


def test_normalise_is_the_formula() -> None:
    x = torch.full((1, 3, 1, 1), 102, dtype=torch.uint8)
    np.testing.assert_allclose(
        normalise(x, MEAN, STD).flatten(), [(0.4 - m) / s for m, s in zip(MEAN, STD, strict=True)], atol=1e-6
    )


def test_infinite_features_are_refused(encoder: Tiny, images: np.ndarray) -> None:
    encoder.conv.weight.data[0] = torch.inf
    with pytest.raises(ValueError, match="37 of 37 features are not finite") as refusal:
        extract(encoder, images, MEAN, STD)
    assert "\n" not in str(refusal.value)


def test_summary_of_known_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(20_000, 16)).astype(np.float32)
    whole = summary(sphere)
    assert whole["effective_rank"] == pytest.approx(16, abs=0.1)
    assert whole["feature_std"] == pytest.approx(1, abs=0.01)
    plane = summary(sphere[:, :2] @ rng.normal(size=(2, 16)).astype(np.float32))
    assert plane["effective_rank"] <= 2.0001
    point = summary(np.ones((50, 16), np.float32))
    assert point["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert point["feature_std"] == pytest.approx(0, abs=1e-4)
    assert point["norm_mean"] == pytest.approx(4)
    monkeypatch.setattr(features, "BLOCK", 16 * 3000)  # in blocks, the last one smaller, as at once
    assert summary(sphere) == pytest.approx(whole, rel=1e-9)
    few = summary(sphere[:5])  # fewer pictures than dimensions
    assert few["effective_rank"] <= 5
    assert few["effective_rank"] == pytest.approx(_effective_rank(sphere[:5]), rel=1e-5)


def _effective_rank(x: np.ndarray) -> float:
    s = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    p = s / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))
