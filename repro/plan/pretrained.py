"""Where the pre-training of a plan lies: what the Python API and `export` look for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repro.plan import tracks
from repro.plan.builder import make
from repro.plan.request import Request
from repro.settings import Settings
from repro.store.job import Recipe
from repro.store.workspace import Workspace


def pretraining(
    method: str, track: str, seed: int, overrides: Sequence[str], settings: Settings, ranks: int
) -> tuple[Recipe, Path]:
    """The recipe of one pre-training and the file of its encoder, whether that is there or not.

    Raises UserError for names and keys that there are not.
    """
    request = Request((method,), tracks.find(track).name, (), (seed,), overrides=tuple(overrides), processes=ranks)
    planned = make(request, settings)
    return planned.recipes[method], Workspace(settings.workspace).encoder(planned.jobs[0].fingerprint)
