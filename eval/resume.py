"""The state of a long training: kept every now and then, taken up again by the very same run only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eval.features import to_tensor


def identity(
    plain: Any,
    model: nn.Module,
    images: npt.NDArray[np.uint8] | Tensor | None = None,
    labels: npt.NDArray[np.int64] | None = None,
) -> str:
    """A hash of what a run starts from.

    plain: protocol and further settings as JSON; model: its weights; images: their shape and the first 64; labels: all.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([plain, [] if images is None else list(images.shape)]).encode())
    if labels is not None:
        digest.update(labels.tobytes())
    if images is not None:
        digest.update(np.ascontiguousarray(to_tensor(images[:64]).cpu().numpy()).tobytes())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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


class Kept:
    """What one training keeps in a store, and takes up again if it is of this very run; without a store, nothing.

    Every draw of a training derives from its seed and the number of the update, so it may be kept after any update.
    """

    def __init__(self, store: Store | None, name: str, run: str, what: str) -> None:
        """run: the `identity` of the training; what: "fine-tuning", in messages."""
        self._store, self._name, self._run = store, name, run
        self.state, self._damage = store.load(name) if store else (None, "")
        if self.state is not None and self.state.get("run") != run:
            self.state, self._damage = None, f"{name} is of another {what}"

    def note(self, done: str = "") -> str:
        """Where it goes on, or why it does not; "" for a training that simply begins. done: "epoch 3"."""
        if self.state is None:
            return f"started afresh: {self._damage}" if self._damage else ""
        return f"resumed after {done}" + (f", passed over {self._damage}" if self._damage else "")

    def training(self) -> AbstractContextManager[None]:
        """Around the updates."""
        return self._store.training() if self._store else nullcontext()

    def keep(self, state: Callable[[int], Mapping[str, Any]], update: int, *, finished: bool = False) -> None:
        """Save `state(update)` where it is due, and when the training is finished."""
        if self._store and (finished or self._store.due()):
            self._store.save(self._name, {"run": self._run, **state(update)})


def done(epochs: int, updates: int) -> str:
    """How far a training is, in words, after so many epochs and updates of the next one."""
    return f"update {updates} of epoch {epochs + 1}" if updates else f"epoch {epochs}"
