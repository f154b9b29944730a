"""Encoders: torchvision's and timm's networks as references, token subsets, other picture sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from methods.parts import encoders
from repro.plan import recipes, registry


def network(recipe: str = "aps", **changes: Any) -> dict[str, Any]:
    table = recipes.resolve(registry.methods()[recipe], "", "imagenet", {})["network"]
    return table | {"size": 32, "dim": 24, "depth": 2, "heads": 3, "patch": 4} | changes


def vit(recipe: str = "aps", **changes: Any) -> encoders.ViT:
    torch.manual_seed(0)
    built = encoders.build_encoder(network(recipe, **changes))
    assert isinstance(built, encoders.ViT)
    return built


def resnet(**changes: Any) -> encoders.ResNet:
    torch.manual_seed(0)
    built = encoders.build_encoder(network("moco_v3", arch="resnet", zero_init_residual=False, **changes))
    assert isinstance(built, encoders.ResNet)
    return built


@pytest.mark.parametrize("depth", [10, 18, 50])
@pytest.mark.seconds
def test_resnet_is_torchvisions(depth: int) -> None:
    ours = resnet(depth=depth, stem="imagenet", width=64).eval()
    blocks = torchvision.models.resnet.BasicBlock, [1, 1, 1, 1]
    theirs = torchvision.models.ResNet(*blocks) if depth == 10 else getattr(torchvision.models, f"resnet{depth}")()
    state = ours.state_dict()
    missing = theirs.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["fc.weight", "fc.bias"] and not missing.unexpected_keys
    theirs.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours.features(x), theirs.eval()(x))


@pytest.mark.parametrize(("stem", "depth"), [("cifar", 18), ("imagenet", 50)])
def test_slim_resnet_has_the_maps_it_says(stem: str, depth: int) -> None:
    ours = resnet(depth=depth, stem=stem, width=16).eval()
    x = torch.randn(2, 3, 64, 96)
    maps = ours.feature_maps(x)
    for one, channels, stride in zip(maps, ours.channels, ours.strides, strict=True):
        assert one.shape == (2, channels, 64 // stride, 96 // stride)
    assert ours.features(x).shape == (2, ours.dim) and ours.dim == ours.channels[-1]
    assert ours.conv1.weight.shape[0] == 16
    if stem == "cifar":
        assert ours.strides == (1, 2, 4, 8)


def literal_vit(net: encoders.ViT, x: Tensor, keep: list[list[int]] | None = None) -> Tensor:
    """Class token of the APS sheet's network, one picture and one head at a time."""
    out = []
    for b in range(len(x)):
        grid = F.conv2d(x[b : b + 1], net.patches.weight, net.patches.bias, stride=net.strides[0])[0]
        tokens = grid.flatten(1).T + net.positions
        tokens = tokens if keep is None else tokens[keep[b]]
        t = torch.cat([net.class_token[0], tokens])
        for block in net.blocks:
            n = F.layer_norm(t, (net.dim,), block.norm1.weight, block.norm1.bias, block.norm1.eps)
            q, k, v = (n @ block.qkv.weight.T + (0 if block.qkv.bias is None else block.qkv.bias)).chunk(3, dim=1)
            d = net.dim // block.heads
            heads = []
            for h in range(block.heads):
                s = slice(h * d, (h + 1) * d)
                heads.append((q[:, s] @ k[:, s].T / d**0.5).softmax(dim=1) @ v[:, s])
            t = t + block.proj(torch.cat(heads, dim=1))
            t = t + block.mlp(F.layer_norm(t, (net.dim,), block.norm2.weight, block.norm2.bias, block.norm2.eps))
        out.append(net.norm(t)[0])
    return torch.stack(out)


@pytest.mark.parametrize("recipe", ["aps", "moco_v3"])
def test_vit_is_the_sheets_network_for_all_patches_and_for_some(recipe: str) -> None:
    net, x = vit(recipe), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(net.features(x), literal_vit(net, x), atol=1e-5, rtol=1e-4)
    keep = torch.stack([torch.randperm(64)[:16] for _ in range(3)])
    got = net.forward_subset(x, keep)
    torch.testing.assert_close(got, literal_vit(net, x, keep.tolist()), atol=1e-5, rtol=1e-4)
    assert (got - net.features(x)).abs().max() > 1e-3


@pytest.mark.parametrize("recipe", ["aps", "moco_v3"])
def test_features_of_the_class_token_make_no_other_token_in_the_last_block(recipe: str) -> None:
    net, x = vit(recipe).double(), torch.randn(3, 3, 32, 32).double()
    made: list[int] = []
    for block in net.blocks:
        block.mlp.register_forward_hook(lambda _, inputs, __: made.append(inputs[0].shape[1]))
    slope = torch.randn(3, 24).double()
    net.features(x).backward(slope)
    assert made == [65, 1]
    short = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    net.pooled(net._encode(net.tokens(x))).backward(slope)
    whole = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert made[2:] == [65, 65] and short.keys() == whole.keys()
    torch.testing.assert_close(short, whole)


def test_attention_is_the_same_in_bfloat16() -> None:
    q, k, v = torch.randn(3, 2, 3, 17, 8).unbind()
    want = F.scaled_dot_product_attention(q, k, v)
    got = encoders.attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), want, atol=0.03, rtol=0.03)


def test_dropped_patches_do_not_matter_and_never_enter_a_block() -> None:
    net, x = vit(), torch.randn(2, 3, 32, 32)
    keep = torch.arange(16).expand(2, 16)  # the two upper rows of patches
    seen: list[int] = []
    net.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    first = net.forward_subset(x, keep)
    x[:, :, 8:] = 0
    torch.testing.assert_close(net.forward_subset(x, keep), first)
    assert seen == [17, 17]


def test_vit_takes_other_sizes_with_interpolated_positions() -> None:
    net = vit()
    with torch.no_grad():
        net.positions.copy_(torch.linspace(0, 1, 8).repeat_interleave(8)[:, None].expand(64, 24))  # a ramp downwards
        net.patches.weight.zero_(), net.patches.bias.zero_()
    tokens = net.tokens(torch.zeros(1, 3, 64, 48))
    assert tokens.shape == (1, 16 * 12, 24)
    rows = tokens[0, :, 0].view(16, 12)
    torch.testing.assert_close(rows, rows[:, :1].expand(16, 12))
    assert (rows[1:, 0] > rows[:-1, 0] - 1e-3).all() and rows[0, 0] < 0.05 and rows[-1, 0] > 0.95
    maps = net.feature_maps(torch.randn(2, 3, 64, 48))
    assert [tuple(m.shape) for m in maps] == [(2, 24, 16, 12)]


def test_feature_map_holds_the_tokens_row_by_row() -> None:
    net, x = vit(), torch.randn(1, 3, 32, 32)
    grid = net.feature_maps(x)[0]
    torch.testing.assert_close(grid[0, :, 2, 5], net._encode(net.tokens(x))[0, 1 + 2 * 8 + 5])


def test_switches_of_aps_and_moco_v3() -> None:
    ours, theirs = vit("aps"), vit("moco_v3")
    assert ours.blocks[0].qkv.bias is None and theirs.blocks[0].qkv.bias is not None
    assert ours.norm.eps == 1e-5 and theirs.norm.eps == 1e-6
    assert ours.positions.requires_grad and not theirs.positions.requires_grad
    assert ours.patches.weight.requires_grad and not theirs.patches.weight.requires_grad
    assert abs(ours.positions.std().item() - 0.02) < 0.002
    bound = (6 / (24 + 24)) ** 0.5
    assert 0.95 * bound < theirs.blocks[0].qkv.weight.abs().max() <= bound


@pytest.mark.parametrize(("name", "parameters"), [("tiny", 5.4e6), ("small", 21.4e6), ("base", 85.3e6)])
def test_aps_networks_have_their_published_size(name: str, parameters: float) -> None:
    changes = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}[name]
    with torch.device("meta"):
        net = encoders.ViT(
            **{k: network()[k] for k in encoders.VIT_KEYS}
            | {
                "dim": changes[0],
                "heads": changes[1],
                "depth": 12,
                "patch": 2,
            }
        )
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "mlp"}, "network.arch = 'mlp'"),
        ({"patch": 5}, "network.patch = 5"),
        ({"heads": 5}, "network.heads = 5"),
        ({"positions": "none"}, "network.positions = 'none'"),
        ({"arch": "resnet"}, "network.depth = 2"),
        ({"arch": "resnet", "width": 16, "stem": "x", "zero_init_residual": True, "depth": 18}, "network.stem = 'x'"),
    ],
)
def test_networks_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        encoders.build_encoder(network(**changes))


def test_a_missing_key_is_named() -> None:
    table = network(arch="resnet")
    del table["width"]
    with pytest.raises(ValueError, match=r"network\.width is missing"):
        encoders.build_encoder(table)
