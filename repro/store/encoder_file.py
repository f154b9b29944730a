"""The encoder that a pre-training leaves for its evaluations: one file, written and read here alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval.data import Normalisation
from methods.parts.encoders import frozen_encoder
from repro.errors import UserError
from repro.store import checkpoints
from repro.store.job import Job

ENCODER = "repro-encoder"
"""The form of such a file, see `checkpoints.load`."""


@dataclass(frozen=True)
class Trained:
    """An encoder and what its evaluations need to know of its pre-training.

    mean, std: of the three channels, of pixels in [0, 1].  network: the table [network] of its recipe.
    """

    encoder: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    network: dict[str, Any]

    @property
    def normalisation(self) -> Normalisation:
        """What pictures were normalised by."""
        return Normalisation(self.mean, self.std)


def save(
    path: Path,
    job: Job,
    network: Mapping[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    weights: Mapping[str, Tensor],
) -> None:
    """Write the encoder that a job leaves. Raises UserError and Superseded as `checkpoints.save`."""
    checkpoints.save(
        path,
        {
            "form": ENCODER,
            "method": job.method,
            "variant": job.variant,
            "track": job.track,
            "seed": job.seed,
            "network": dict(network),
            "mean": list(mean),
            "std": list(std),
            "weights": {name: value.cpu() for name, value in weights.items()},
        },
    )


def load(path: Path, device: torch.device | str = "cpu") -> Trained:
    """The encoder at `path`, on that device; UserError where the file is not one or does not fit its own network."""
    state = checkpoints.load(path, ENCODER)
    encoder = frozen_encoder(state["network"])
    wanted = encoder.state_dict()
    given = state["weights"]
    if wanted.keys() != given.keys():
        odd = sorted(wanted.keys() ^ given.keys())[0]
        raise UserError(
            f"{path}: weights do not fit the network {state['network']['arch']} (first odd key: {odd})",
            "give an encoder.pt that repro wrote",
        )
    encoder.load_state_dict(given)
    return Trained(encoder.to(device), tuple(state["mean"]), tuple(state["std"]), state["network"])
