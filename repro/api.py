"""From Python: `repro.load("aps", track="cifar").encoder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from methods.parts.encoders import frozen_encoder
from repro import settings
from repro.plan.pretrained import pretraining
from repro.stages.context import device
from repro.store import encoder_file
from repro.store.job import Recipe


@dataclass(frozen=True)
class Loaded:
    """A method's network.

    encoder: in eval mode; features(x) -> [B, encoder.dim], feature_maps(x) -> list; x float32 [B, 3, H, W], normalised
    pretrained: whether the workspace had the pre-training of exactly this recipe, seed, data and code
    mean, std: of that pre-training's normalisation, for pixels in [0, 1]; None where it is not pre-trained
    recipe: the tables method, network and pretrain
    """

    encoder: nn.Module
    pretrained: bool
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    recipe: Recipe


def load(
    method: str,
    *,
    track: str = "embedded",
    seed: int = 0,
    workspace: str | Path | None = None,
    data_root: str | Path | None = None,
    overrides: Sequence[str] = (),
    processes: int = 1,
) -> Loaded:
    """The network of a method on a track: pre-trained if the workspace has it, else initialised from `seed`.

    method: a registry name, NAME:VARIANT or a recipe file; overrides: as for --set, for example "network.depth=2".
    processes: how many pre-trained it together.
    Raises repro.errors.UserError for names and keys that there are not.
    """
    here = settings.load({"workspace": workspace, "data_root": data_root})
    recipe, path = pretraining(method, track, seed, overrides, here, processes)
    if path.is_file():
        trained = encoder_file.load(path, device())
        return Loaded(trained.encoder.eval(), True, trained.mean, trained.std, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = frozen_encoder(recipe["network"])
    return Loaded(encoder.eval(), False, None, None, recipe)
