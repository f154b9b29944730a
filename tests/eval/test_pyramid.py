"""The simple feature pyramid: sizes, receptive fields, and which strides it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eval.pyramid import ChannelNorm, SimpleFeaturePyramid, resample


@pytest.mark.parametrize("patch", [2, 4, 8, 16, 32])
def test_every_level_has_its_stride(patch):
    height, width = 96, 128
    pyramid = SimpleFeaturePyramid(channels=48, patch=patch, width=16, strides=(4, 8, 16, 32))
    levels = pyramid([torch.randn(2, 48, height // patch, width // patch)])
    assert [tuple(level.shape) for level in levels] == [
        (2, 16, height // stride, width // stride) for stride in (4, 8, 16, 32)
    ] + [(2, 16, 2, 2)]
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])
    sum(level.square().mean() for level in levels).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters() if p.ndim > 1)


def test_levels_of_the_paper():
    # Section 3: from stride 16, two deconvolutions, one, none, max pooling; each deconvolution halves the channels.
    kinds = {4: [nn.ConvTranspose2d] * 2, 8: [nn.ConvTranspose2d], 16: [], 32: [nn.MaxPool2d]}
    for stride, expected in kinds.items():
        layers, channels = resample(768, 16, stride)
        found = [type(m) for m in layers.modules() if isinstance(m, nn.ConvTranspose2d | nn.MaxPool2d)]
        assert found == expected
        assert channels == 768 * min(16, stride) // 16


def test_a_cell_sees_only_its_own_place():
    # Finer cells come from the token that covers them: a changed token moves only the 3x3 convolution's neighbourhood.
    pyramid = SimpleFeaturePyramid(channels=8, patch=16, width=4, strides=(4,))
    tokens = torch.randn(1, 8, 6, 6)
    other = tokens.clone()
    other[0, :, 2, 3] += 1
    changed = (pyramid([tokens])[0] != pyramid([other])[0]).any(dim=1)[0].nonzero()
    assert changed.min(dim=0).values.tolist() == [2 * 4 - 1, 3 * 4 - 1]
    assert changed.max(dim=0).values.tolist() == [2 * 4 + 4, 3 * 4 + 4]


def test_channel_norm_is_per_position():
    x = torch.randn(2, 32, 3, 5) * 7 + 3
    y = ChannelNorm(32)(x)
    torch.testing.assert_close(y.mean(dim=1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(dim=1, unbiased=False), torch.ones(2, 3, 5), atol=1e-3, rtol=0)


def test_strides_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"stride 4 cannot be made from patches of 14 pixels.*detection\.strides"):
        SimpleFeaturePyramid(channels=8, patch=14, width=4, strides=(4, 8))
