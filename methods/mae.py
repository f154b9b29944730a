"""MAE: He, Chen, Xie, Li, Dollar & Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022
(arXiv:2111.06377).

    V, M = a random quarter of the L patches of each picture, and the rest
    Y = decoder( encoder(x_V), mask tokens at M )            the encoder sees V alone, and positions as ever
    L = 1/(B |M|) sum_i sum_{j in M_i} mean_p (Y_ijp - t_ijp)^2
    t_ij = (x_ij - mean(x_ij)) / sqrt(var(x_ij) + 1e-6)      over the values of one patch, var with n - 1

The decoder is a narrow transformer over all L patches and the class token: a linear map to its width, one learned mask
token, fixed sin-cos positions, blocks, norm, a linear map to pixels. It is thrown away. One view, crop and flip alone.

Recipes: imagenet as the authors (ViT with bias in qkv, eps 1e-6, sin-cos positions, their Xavier weights; decoder 8
blocks of 512); elsewhere the track's shared ViT, and a decoder in proportion. Variant `raw_pixels`: t = x, which the
authors' script does unless told `--norm_pix_loss`, as their commands tell it.

Differs from the authors' code (facebookresearch/mae):

* Features may be the mean of the patches (`network.pool`): no loss reaches the class token but through attention. The
  authors fine-tune on the mean and train linear heads on the class token.
* Positions are sine and cosine of the row, then of the column; theirs start with the column.
  With Xavier weights the patch embedding's bias starts at 0, theirs as PyTorch's convolutions do.
* The last linear map of the decoder is computed for masked patches alone: no other meets the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import Batch, DataInfo, Method, Recipe, Streams, Views
from methods.parts.encoders import Block, ViT, build_encoder, sincos_positions
from methods.parts.heads import spread
from methods.parts.views import Augment, make_views


def patchify(x: Tensor, patch: int) -> Tensor:
    """x [B, 3, H, W] -> [B, H/patch * W/patch, patch^2 * 3]: patches row by row, in each its pixels row by row."""
    b, c, height, width = x.shape
    grid = x.view(b, c, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, patch * patch * c)


def select(rows: Tensor, index: Tensor) -> Tensor:
    """rows [B, L, D], index int64 [B, n] -> [B, n, D]."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))


def reconstruction(predicted: Tensor, pixels: Tensor, masked: Tensor, patch: int, norm_pix: bool) -> Tensor:
    """Mean squared error over the masked patches, at least 0; 1 - 1/P for a prediction of 0 and norm_pix.

    predicted: [B, m, P], P = 3 patch^2; pixels: normalised pictures [B, 3, H, W]; masked: int64 [B, m].
    norm_pix: targets have mean 0 and variance 1 within each patch.
    """
    target = select(patchify(pixels, patch), masked)
    if norm_pix:
        var, mean = torch.var_mean(target, dim=-1, keepdim=True)
        target = (target - mean) / (var + 1e-6).sqrt()
    return (predicted.float() - target).square().mean()


@torch.no_grad()
def xavier(module: nn.Module) -> None:
    """The authors' start: Xavier-uniform linear weights (q, k and v as one matrix), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Decoder(nn.Module):
    """Pixels of the masked patches from the tokens of the others.  side: of the grid; dim: of the encoder."""

    positions: Tensor

    def __init__(self, side: int, patch: int, dim: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width), std=0.02))
        self.register_buffer("positions", sincos_positions(side, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True, eps=1e-6) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.predict = nn.Linear(width, 3 * patch**2)
        xavier(self)

    def forward(self, latent: Tensor, keep: Tensor, masked: Tensor) -> Tensor:
        """latent: [B, 1 + n, D], class token first; keep [B, n] and masked [B, m]: int64, together all patches.

        Returns [B, m, 3 patch^2].
        """
        tokens = self.embed(latent)
        grid = self.mask_token.to(tokens.dtype).expand(len(tokens), len(self.positions), -1)
        grid = grid.scatter(1, keep[..., None].expand(-1, -1, tokens.shape[-1]), tokens[:, 1:]) + self.positions
        decoded = self.blocks(torch.cat([tokens[:, :1].to(grid.dtype), grid], dim=1))[:, 1:]
        predicted: Tensor = self.predict(self.norm(select(decoded, masked)))
        return predicted


class MAE(Method):
    negatives: ClassVar[Literal["global", "per_device", "none"]] = "none"
    encoder: ViT

    def __init__(self, recipe: Recipe, data: DataInfo) -> None:
        super().__init__(recipe, data)
        method = recipe["method"]
        encoder = build_encoder(recipe["network"])
        if not isinstance(encoder, ViT):
            raise ValueError("network.arch = 'resnet': mae leaves out patches, which needs network.arch = 'vit'")
        self.encoder, self.norm_pix = encoder, method["norm_pix"]
        if recipe["network"]["init"] == "xavier":
            xavier(self.encoder)
            nn.init.normal_(self.encoder.class_token, std=0.02)
        patches = self.encoder.side**2
        self.kept = int(patches * (1 - method["mask_ratio"]))
        if not 0 < self.kept < patches:
            raise ValueError(
                f"method.mask_ratio = {method['mask_ratio']} keeps {self.kept} of {patches} patches:"
                " choose a ratio that keeps some patches and masks some"
            )
        width, heads = method["decoder_dim"], method["decoder_heads"]
        if width % 4 or width % heads:
            raise ValueError(f"method.decoder_dim = {width} must be a multiple of 4 and of decoder_heads = {heads}")
        self.patch = self.encoder.strides[0]
        self.decoder = Decoder(self.encoder.side, self.patch, self.encoder.dim, width, method["decoder_depth"], heads)
        self.augment = Augment.of_recipe(method, data)

    def steps(self, batch: Batch, rng: Streams) -> Iterator[Views]:
        drawn = {"order": rng.stream("mask").host.permutation(self.encoder.side**2)}
        ((pixels, _),), sent = make_views([self.augment], batch.images, [rng.stream("view")], drawn)
        order = sent["order"]
        yield Views({"pixels": pixels, "keep": order[:, : self.kept], "masked": order[:, self.kept :]})

    def loss(self, views: Views) -> dict[str, Tensor]:
        pixels, keep, masked = (views[name] for name in ("pixels", "keep", "masked"))
        latent = self.encoder.subset_tokens(pixels, keep)
        predicted = self.decoder(latent, keep, masked)
        return {
            "loss_pixels": reconstruction(predicted, pixels, masked, self.patch, self.norm_pix),
            "std_features": spread(self.encoder.pooled(latent)),
        }

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """No decay on biases and norms."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def rotatable(self, views: Views) -> list[Tensor]:
        return [views["pixels"]]
