"""Where an evaluation runs: on which device, whom it tells how far it is, where it leaves drawings and its state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch


class Progress(Protocol):
    """Called by every evaluation as it goes on: `done` of `total` steps, and what else there is to say (plain JSON)."""

    def __call__(self, done: int, total: int, info: Mapping[str, Any], /) -> object: ...


def quiet(done: int, total: int, info: Mapping[str, Any]) -> None:
    """A progress callback that does nothing."""


def part_of(progress: Progress, before: int, total: int, **more: Any) -> Progress:
    """The progress of a part that begins after `before` of `total` steps; `more` is said with all of its reports."""
    return lambda done, _, info: progress(before + done, total, {**more, **info})


class Store(Protocol):
    """Where trainings keep their state, each under a name; the caller's, who knows of files and of other writers."""

    def load(self, name: str) -> tuple[dict[str, Any] | None, str]:
        """The newest good state of that name, and a line on damaged ones ("" where there are none)."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Keep the state (tensors and plain values). Raises whatever shall end the training, where it was asked to."""

    def training(self) -> AbstractContextManager[None]:
        """Around a training: while it lasts it can be asked to end at the next `save`."""


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Context:
    """Where an evaluation runs. Nothing of it belongs to a protocol."""

    device: torch.device = CPU
    progress: Progress = quiet
    store: Store | None = None
    """Where the state of a training is kept, and taken up again if it is this very run's; None: nowhere."""
    folder: Path | None = None
    """Where drawings go; None: none are made."""
    workers: int = 0
    """Processes that load pictures; they change no number."""


PLAIN = Context()
"""On the CPU, and nothing is told or kept."""
