"""One pass of the frozen encoder over the pictures; k-NN, linear, low-shot and re-ID all work on what comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.context import Progress

BLOCK = 1 << 24  # numbers of features that are looked at together


def extract(
    encoder: nn.Module,
    images: npt.NDArray[np.uint8] | Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    size: Sequence[int] = (),
    interpolation: str = "bilinear",
    precision: str = "fp32",
    flip: Literal["none", "sum", "triplet"] = "none",
    test_crop: float = 1.0,
    batch: int = 256,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Features of all pictures, in their order.

    encoder: anything with ``features(x float32 [B, 3, H, W]) -> [B, D]``; it is moved to `device`, runs in eval mode
    (batch norm by its running statistics) without gradients, and every module gets its mode back.
    images: uint8 [N, 3, H, W], also memory-mapped; resized to `size` (height, width) where given.
    test_crop: share of a side, how much of the middle of the picture is seen (see `middle`).
    precision: "fp32", or "bf16" for autocast. flip: how the mirrored picture takes part -
    "none"; "sum": f(x) + f(mirror x); "triplet": u(u(f(x)) + f(mirror x)) with u(v) = v / |v|, where the second feature
    is added un-normalised, as test_sysu_combine.py of the truncated triplet loss does.

    Returns float32 [N, D]. ValueError if a feature is not finite.
    """
    device = torch.device(device)
    encoder.to(device)
    features: npt.NDArray[np.float32] | None = None
    with evaluating(encoder), torch.inference_mode(), autocast(device, precision):
        for start in range(0, len(images), batch):
            x = middle(to_device(images[start : start + batch], device), size, test_crop, interpolation)
            x = normalise(x, mean, std)
            f = encoder.features(x).float()  # type: ignore[operator]
            if flip != "none":
                mirrored = encoder.features(x.flip(-1)).float()  # type: ignore[operator]
                f = f + mirrored if flip == "sum" else F.normalize(F.normalize(f, dim=1) + mirrored, dim=1)
            if features is None:
                features = np.empty((len(images), f.shape[1]), np.float32)
            features[start : start + len(f)] = f.cpu().numpy()
            if progress:
                progress(min(start + batch, len(images)), len(images), {})
    if features is None:
        features = np.zeros((0, int(encoder.dim)), np.float32)  # type: ignore[arg-type]
    check_finite(features)
    return features


def summary(features: npt.NDArray[np.float32]) -> dict[str, float]:
    """Whether the features have collapsed.  features: float32 [N, D].

    effective_rank: exp of the entropy of the singular values, in [1, min(N, D)] (RankMe: Garrido et al., ICML 2023);
    feature_std: standard deviation of the unit-length features times sqrt(D), 0 = all alike, 1 = spread over all
    directions; norm_mean: mean length of a feature. Memory maps are read in blocks. ValueError if a feature is not
    finite.
    """
    check_finite(features)
    n, dim = features.shape
    gram = torch.zeros(dim, dim, dtype=torch.float64)
    parts = []  # of each block: its share of the pictures, mean and variance of the unit features, mean length
    for block in _blocks(features):
        x = to_tensor(block).double()
        gram += x.T @ x if n >= dim else 0
        unit, share = F.normalize(x, dim=1), len(x) / n
        parts.append((share, unit.mean(0), unit.std(0, correction=0).square(), x.norm(dim=1).mean()))
    if n < dim:
        x = to_tensor(features).double()
        gram = x @ x.T
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    mean = torch.stack([share * centre for share, centre, _, _ in parts]).sum(0)
    variance = torch.stack([share * (spread + (centre - mean).square()) for share, centre, spread, _ in parts]).sum(0)
    return {
        "effective_rank": float(torch.special.entr(p).sum().exp()),
        "feature_std": float(variance.mean().sqrt() * dim**0.5),
        "norm_mean": float(sum(share * length for share, _, _, length in parts)),
    }


def _blocks(features: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """A few rows at a time: galleries of gigabytes come here, memory-mapped."""
    step = max(1, BLOCK // max(1, features[:1].size))
    return (features[i : i + step] for i in range(0, len(features), step))


def check_finite(features: npt.NDArray[np.float32]) -> None:
    """ValueError of one line if a feature is infinite or not a number."""
    bad = sum(int((~np.isfinite(part).all(axis=1)).sum()) for part in _blocks(features))
    if bad:
        raise ValueError(
            f"{bad} of {len(features)} features are not finite: the pre-training diverged or precision is too low; "
            "pre-train with a lower learning rate, or evaluate with precision = 'fp32'"
        )


def to_tensor(array: npt.NDArray[Any] | Tensor) -> Tensor:
    """An array as a tensor, copied only if it is read-only (memory-mapped) or not contiguous; a tensor as it is."""
    if isinstance(array, Tensor):
        return array
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def to_device(array: npt.NDArray[Any] | Tensor, device: str | torch.device) -> Tensor:
    """An array or tensor of the host on that device; a GPU fetches it from pinned memory, and nobody waits for it."""
    tensor, there = to_tensor(array), torch.device(device)
    if there.type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(there)
    return tensor.pin_memory().to(there, non_blocking=True)


def resize(x: Tensor, size: Sequence[int], interpolation: str = "bilinear") -> Tensor:
    """uint8 [B, 3, H, W] -> uint8 [B, 3, *size], antialiased; x itself where `size` is () or already its size."""
    if not size or tuple(size) == tuple(x.shape[-2:]):
        return x
    y = F.interpolate(x.float(), tuple(size), mode=interpolation, antialias=True, align_corners=False)
    return y.round().clamp(0, 255).to(torch.uint8)


def middle(x: Tensor, size: Sequence[int], share: float, interpolation: str = "bilinear") -> Tensor:
    """uint8 [B, 3, H, W] -> uint8 [B, 3, *size]: resized and cut out of the middle, so that `share` of a side is left.

    Of square pictures and size (224, 224), share 0.875 is the usual "resize to 256, cut 224". Where the picture's shape
    is not that of `size`, the shorter relative side counts; size () is the picture's own. With share 1 the aspect ratio
    is not kept, as in `resize`.
    """
    if share == 1:
        return resize(x, size, interpolation)
    rows, columns = size or x.shape[-2:]
    scale = max(rows / x.shape[-2], columns / x.shape[-1]) / share
    x = resize(x, [int(side * scale + 1e-6) for side in x.shape[-2:]], interpolation)
    top, left = round((x.shape[-2] - rows) / 2), round((x.shape[-1] - columns) / 2)
    return x[..., top : top + rows, left : left + columns]


def normalise(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std: uint8 [B, 3, H, W] -> float32 of the same shape."""
    m, s = to_device(torch.tensor([mean, std], dtype=torch.float32).view(2, 1, 3, 1, 1) * 255, x.device)
    return (x.float() - m) / s


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast to bfloat16 for "bf16", nothing for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards every module is in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
