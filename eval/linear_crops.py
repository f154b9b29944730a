"""Linear classification of a frozen encoder as papers train it: every update sees new crops of its pictures.

The same loop over the same heads as `linear`, through the frozen encoder in eval mode; a paper's protocol is a grid of
one rate and one decay, with nothing held out, trained once. Differs from the papers' codes: crops are cut from pictures
as the track stores them (ImageNet: decoded to 256 x 256 once); mean and deviation are those of pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eval import augment, resume
from eval.features import autocast, evaluating, extract, normalise, summary, to_tensor
from eval.linear_grid import Parts, judge
from eval.protocols.linear import LinearProtocol
from eval.scores import Progress, check_labelled

CHECKPOINT = "linear.pt"


def probe(
    encoder: nn.Module,
    train_images: npt.NDArray[np.uint8] | Tensor,
    train_y: npt.NDArray[np.int64],
    test_images: npt.NDArray[np.uint8] | Tensor,
    test_y: npt.NDArray[np.int64],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    protocol: LinearProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    store: resume.Store | None = None,
) -> dict[str, Any]:
    """Linear accuracy of an encoder, trained on random crops of the pictures.

    Metrics are those of linear.evaluate but for low-shot, and of the test pictures those of features.summary.

    encoder: as features.extract takes it, and moved to `device`; images: uint8 [N, 3, H, W]; y: int64 [N] in
    [0, classes). store: where the heads are kept, and taken up again if they are this very run's; details["resumed"]
    says so, or why not. ValueError for labels that do not fit, and for features that are not finite.
    """
    device = torch.device(device)
    for images, y, what in ((train_images, train_y, "training pictures"), (test_images, test_y, "test pictures")):
        check_labelled(images, y, classes, what)  # type: ignore[arg-type]
    started = [protocol.values(), list(mean), list(std)]
    kept = Parts(
        resume.Kept(store, CHECKPOINT, resume.identity(started, encoder, train_images, train_y), "linear probe")
    )
    encoder.to(device)
    whole = {**protocol.transform(), "device": device}
    seen = extract(encoder, test_images, mean, std, **whole)
    test = torch.from_numpy(seen).to(device)

    def plain(rows: npt.NDArray[np.int64]) -> Tensor:
        parts = np.array_split(rows, range(4096, len(rows), 4096))  # all at once might not fit into memory
        found = [extract(encoder, train_images[part], mean, std, **whole) for part in parts]
        return torch.from_numpy(np.concatenate(found)).to(device)

    def crops(rows: npt.NDArray[np.int64], epoch: int, update: int) -> Tensor:
        rng = np.random.default_rng([protocol.seed, epoch, update, 1])
        x = to_tensor(train_images[rows]).to(device)
        size = protocol.size or x.shape[-2:]
        x = augment.resized_crop(x, size, protocol.interpolation, protocol.crop_scale, protocol.crop_ratio, rng)
        if protocol.hflip:
            x = augment.mirror(x, rng)
        with autocast(device, protocol.precision):
            return encoder.features(normalise(x, mean, std)).float()  # type: ignore[operator]

    with evaluating(encoder), torch.no_grad():
        result = judge(crops, plain, train_y, test, test_y, classes, protocol, progress, kept)
    result["metrics"] |= {f"test_{key}": value for key, value in summary(seen).items()}
    result["details"]["resumed"] = kept.note
    return result
