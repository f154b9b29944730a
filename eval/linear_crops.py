"""Linear classification of a frozen encoder as papers train it: every update sees new crops of its pictures.

The same loop over the same heads as `linear`, through the frozen encoder in eval mode; a paper's protocol is a grid of
one rate and one decay, with nothing held out, trained once. Differs from the papers' codes: crops are cut from pictures
as the track stores them (ImageNet: decoded to 256 x 256 once); mean and deviation are those of pre-training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eval import augment
from eval.context import PLAIN, Context
from eval.data import Classification, Normalisation, Pixels
from eval.features import autocast, evaluating, extract, normalise, summary, to_device
from eval.linear_grid import judge
from eval.protocols.linear import LinearProtocol
from eval.training import Checkpoint, identity

CHECKPOINT = "linear.pt"


def probe(
    encoder: nn.Module,
    data: Classification[Pixels | Tensor],
    normalisation: Normalisation,
    protocol: LinearProtocol,
    context: Context = PLAIN,
) -> dict[str, Any]:
    """Linear accuracy of an encoder, trained on random crops of the pictures.

    Metrics are those of linear.evaluate but for low-shot, and of the test pictures those of features.summary.

    encoder: as features.extract takes it, and moved to the context's device. details["resumed"] says whether it went on
    from what the context's store has, or why not. ValueError for labels that do not fit, and for features that are not
    finite.
    """
    data.check("pictures")
    device, train = context.device, data.train
    mean, std = normalisation.mean, normalisation.std
    started = [protocol.values(), list(mean), list(std)]
    run = identity(started, encoder, train.x, train.y)
    checkpoint = Checkpoint(context.store, CHECKPOINT, run, "linear probe")
    encoder.to(device)
    whole = {**protocol.transform(), "device": device}
    seen = extract(encoder, data.test.x, mean, std, **whole)
    test = to_device(seen, device)

    def plain(rows: npt.NDArray[np.int64]) -> Tensor:
        parts = np.array_split(rows, range(4096, len(rows), 4096))  # all at once might not fit into memory
        found = [extract(encoder, train.x[part], mean, std, **whole) for part in parts]
        return to_device(np.concatenate(found), device)

    def crops(rows: npt.NDArray[np.int64], epoch: int, update: int) -> Tensor:
        rng = np.random.default_rng([protocol.seed, epoch, update, 1])
        x = to_device(train.x[rows], device)
        size = protocol.size or x.shape[-2:]
        x = augment.resized_crop(x, size, protocol.interpolation, protocol.crop_scale, protocol.crop_ratio, rng)
        if protocol.hflip:
            x = augment.mirror(x, rng)
        with autocast(device, protocol.precision):
            return encoder.features(normalise(x, mean, std)).float()  # type: ignore[operator]

    with evaluating(encoder), torch.no_grad():
        result = judge(crops, plain, train.y, test, data.test.y, data.classes, protocol, context.progress, checkpoint)
    result["metrics"] |= {f"test_{key}": value for key, value in summary(seen).items()}
    result["details"]["resumed"] = checkpoint.note
    return result
