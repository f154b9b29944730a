"""MAE: patches by brute force, its loss against a loop, its whole step against mmpretrain's decoder and head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.mae import MAE, patchify, reconstruction, select
from methods.parts.heads import spread
from small import Shrunk, built, mmpretrain, views


def build(shrunk: Shrunk, network: dict[str, Any] | None = None, **method: Any) -> MAE:
    tables = shrunk("mae")
    tables["network"] |= network or {}
    tables["method"] |= {"decoder_dim": 32, "decoder_heads": 4} | method
    return built(MAE, tables)


def test_patches_by_brute_force_and_back() -> None:
    x = torch.randn(2, 3, 12, 8)
    patches = patchify(x, 4)
    assert patches.shape == (2, 6, 48)
    back = torch.full_like(x, float("nan"))
    for j in range(6):
        top, left = 4 * (j // 2), 4 * (j % 2)
        for row in range(4):
            for column in range(4):
                for channel in range(3):
                    back[:, channel, top + row, left + column] = patches[:, j, (row * 4 + column) * 3 + channel]
    assert torch.equal(back, x)


def test_patches_are_in_the_encoders_order(shrunk: Shrunk) -> None:
    """Patch j of the target is what token j of the encoder was made of."""
    method = build(shrunk)
    x = torch.zeros(1, 3, 32, 32)
    flat = method.encoder.tokens(x)
    for j in (0, 3, 6, 15):
        marked = x.clone()
        marked[0, :, 8 * (j // 4) : 8 * (j // 4) + 8, 8 * (j % 4) : 8 * (j % 4) + 8] = 1.0
        assert (method.encoder.tokens(marked) - flat).abs().amax(dim=2)[0].nonzero().flatten().tolist() == [j]
        assert patchify(marked, 8).abs().amax(dim=2)[0].nonzero().flatten().tolist() == [j]


@pytest.mark.parametrize("norm_pix", [True, False])
def test_loss_is_the_mean_over_masked_patches_written_out(norm_pix: bool) -> None:
    x, predicted = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 48)
    masked = torch.tensor([[3, 0, 2], [1, 2, 3]])
    want = 0.0
    for i in range(2):
        for place, j in enumerate(masked[i].tolist()):
            top, left = 4 * (j // 2), 4 * (j % 2)
            values = [float(x[i, c, top + r, left + k]) for r in range(4) for k in range(4) for c in range(3)]
            if norm_pix:
                mean = sum(values) / 48
                var = sum((v - mean) ** 2 for v in values) / 47
                values = [(v - mean) / math.sqrt(var + 1e-6) for v in values]
            want += sum((float(predicted[i, place, n]) - v) ** 2 for n, v in enumerate(values)) / 48 / 6
    assert reconstruction(predicted, x, masked, 4, norm_pix).item() == pytest.approx(want, abs=1e-5)


def test_starts_at_the_targets_variance_and_its_own(shrunk: Shrunk) -> None:
    """Xavier weights on a normed vector of width w give P pixels a variance of 2 w / (w + P)."""
    method = build(shrunk, network={"patch": 4}, decoder_dim=64)
    step = views(method, 32)
    assert reconstruction(torch.zeros(32, 48, 48), step["pixels"], step["masked"], 4, True).item() == pytest.approx(
        47 / 48, abs=1e-3
    )
    assert method(step)["loss_pixels"].item() == pytest.approx(47 / 48 + 128 / 112, rel=0.2)


def test_masks_are_per_row_of_the_right_size_and_new_each_load(shrunk: Shrunk) -> None:
    method = build(shrunk)
    step = views(method, 8)
    assert step["keep"].shape == (8, 4) and step["masked"].shape == (8, 12)
    together = torch.cat([step["keep"], step["masked"]], dim=1)
    assert torch.equal(together.sort(dim=1).values, torch.arange(16).expand(8, 16))
    assert len({tuple(row.sort().values.tolist()) for row in step["keep"]}) > 4
    assert not torch.equal(step["keep"], views(method, 8, 1)["keep"])


def test_masked_patches_never_enter_the_encoder(shrunk: Shrunk) -> None:
    method = build(shrunk)
    seen: list[Tensor] = []
    method.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    step = views(method, 4)
    other = step["pixels"].clone().requires_grad_()
    latent = method.encoder.subset_tokens(other, step["keep"])
    assert [tuple(tokens.shape) for tokens in seen] == [(4, 1 + 4, 24)]
    latent.square().sum().backward()
    assert other.grad is not None
    used = patchify(other.grad, 8).abs().amax(dim=2) > 0
    for row in range(4):
        assert sorted(used[row].nonzero().flatten().tolist()) == sorted(step["keep"][row].tolist())


def test_unmasked_patches_do_not_enter_the_loss(shrunk: Shrunk) -> None:
    """As targets: with the predictions fixed, only what lies in masked patches changes the loss."""
    method = build(shrunk)
    step = views(method, 4)
    pixels = step["pixels"].clone().requires_grad_()
    reconstruction(torch.randn(4, 12, 192), pixels, step["masked"], 8, False).backward()
    assert pixels.grad is not None
    touched = patchify(pixels.grad, 8).abs().amax(dim=2) > 0
    for row in range(4):
        assert sorted(touched[row].nonzero().flatten().tolist()) == sorted(step["masked"][row].tolist())


def test_one_step_equals_mmpretrains_decoder_and_head(shrunk: Shrunk) -> None:
    """Our latents through mmpretrain's decoder with our weights, and its head with a mask of zeros and ones."""
    necks = mmpretrain("necks")
    from mmpretrain.models.heads import MAEPretrainHead

    method = build(shrunk)
    step = views(method, 4)
    mine: Any = method.decoder
    theirs = necks.MAEPretrainDecoder(
        num_patches=16, patch_size=8, embed_dim=24, decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4
    )
    with torch.no_grad():
        theirs.mask_token.copy_(mine.mask_token)
        theirs.decoder_pos_embed.copy_(torch.cat([torch.zeros(1, 32), mine.positions])[None])
        for ours, their in (
            (mine.embed, theirs.decoder_embed),
            (mine.norm, theirs.decoder_norm),
            (mine.predict, theirs.decoder_pred),
            *(
                pair
                for block, layer in zip(mine.blocks, theirs.decoder_blocks, strict=True)
                for pair in (
                    (block.norm1, layer.ln1),
                    (block.qkv, layer.attn.qkv),
                    (block.proj, layer.attn.proj),
                    (block.norm2, layer.ln2),
                    (block.mlp[0], layer.ffn.layers[0][0]),
                    (block.mlp[2], layer.ffn.layers[1]),
                )
            ),
        ):
            their.load_state_dict(ours.state_dict())
        for norm in [m for m in theirs.modules() if isinstance(m, torch.nn.LayerNorm)]:
            assert norm.eps == 1e-6
        restore = torch.cat([step["keep"], step["masked"]], dim=1).argsort(dim=1)
        mask = torch.ones(4, 16).scatter(1, step["keep"], 0.0)
        predicted = theirs(method.encoder.subset_tokens(step["pixels"], step["keep"]), restore)
        head = MAEPretrainHead(loss={"type": "PixelReconstructionLoss", "criterion": "L2"}, norm_pix=True, patch_size=8)
        want = head.loss(predicted, step["pixels"], mask)
        got = method(step)["loss_pixels"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_biases_and_norms_are_not_decayed(shrunk: Shrunk) -> None:
    method = build(shrunk)
    decayed, plain = method.param_groups(0.05)
    assert decayed["weight_decay"] == 0.05 and plain["weight_decay"] == 0.0
    names = {id(p): name for name, p in method.named_parameters()}
    free = {names[id(p)] for p in plain["params"]}
    assert all(name.endswith(("bias", "norm.weight", "norm1.weight", "norm2.weight")) for name in free)
    assert {names[id(p)] for p in decayed["params"]} >= {"encoder.class_token", "decoder.mask_token"}


def test_xavier_takes_queries_keys_and_values_as_one_matrix(shrunk: Shrunk) -> None:
    method = build(shrunk, network={"init": "xavier", "qkv_bias": True, "dim": 96, "heads": 4})
    for block in [*method.encoder.blocks, *method.decoder.blocks]:
        dim = block.qkv.weight.shape[1]
        bound = math.sqrt(6 / (4 * dim))
        largest = block.qkv.weight.abs().max().item()
        assert 0.95 * bound < largest <= bound and block.qkv.bias.abs().max() == 0
    assert method.encoder.class_token.std().item() == pytest.approx(0.02, rel=0.3)


def test_spread_is_of_the_features_as_the_encoder_pools_them(shrunk: Shrunk) -> None:
    for pool in ("class", "mean"):
        method = build(shrunk, network={"pool": pool})
        step = views(method, 8)
        tokens = method.encoder.subset_tokens(step["pixels"], step["keep"])
        want = tokens[:, 0] if pool == "class" else tokens[:, 1:].mean(dim=1)
        torch.testing.assert_close(method(step)["std_features"], spread(want))


def test_select_picks_rows() -> None:
    rows = torch.arange(24).view(2, 4, 3)
    assert select(rows, torch.tensor([[2, 0], [3, 1]])).tolist() == [
        [[6, 7, 8], [0, 1, 2]],
        [[21, 22, 23], [15, 16, 17]],
    ]


def test_what_cannot_be_is_refused(shrunk: Shrunk) -> None:
    with pytest.raises(ValueError, match=r"network\.arch = 'vit'"):
        build(shrunk, network={"arch": "resnet", "depth": 18, "width": 8})
    with pytest.raises(ValueError, match=r"method\.mask_ratio = 0\.99"):
        build(shrunk, mask_ratio=0.99)
    with pytest.raises(ValueError, match=r"method\.decoder_dim = 32"):
        build(shrunk, decoder_heads=5)
