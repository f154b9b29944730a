"""One training, of whatever network: how far it is, what is kept of it, and how it goes on after an interruption.

Every draw of a training derives from its seed and the number of the update. So it may be broken off after any update,
and ends as if it had not been: what is kept are the weights, the optimiser and the counters, not the generators.

    training = Training({"model": model, "optimizer": optimizer}, epochs, updates, checkpoint=checkpoint)
    with training:
        for epoch in training.each_epoch():
            for update in training.each_update():
                ...
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from eval.context import Progress, Store, quiet
from eval.data import Labels, Pixels
from eval.features import to_tensor


class Stateful(Protocol):
    """What is trained, and what goes on with it: a network, an optimiser, counters."""

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on: tensors and plain values."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Go on from `state_dict()`."""


class Checkpoint:
    """What one run keeps of its trainings under one name in a store; without a store, nothing.

    It is taken up again by the very same run only. `note` says where it goes on, or why it does not; "" for a run that
    simply begins.
    """

    def __init__(self, store: Store | None = None, name: str = "", run: str = "", what: str = "training") -> None:
        """run: the `identity` of what begins; what: "fine-tuning", in messages."""
        self.store, self._name, self._run = store, name, run
        state, self.damage = store.load(name) if store else (None, "")
        if state is not None and state.get("run") != run:
            state, self.damage = None, f"{name} is from another {what}"
        self._trainings: dict[str, dict[str, Any]] = state["trainings"] if state else {}
        self.note = f"started afresh: {self.damage}" if self.damage else ""
        if self._trainings:
            far = ", ".join(_far(state) + (f" ({part})" if part else "") for part, state in self._trainings.items())
            self.note = f"resumed after {far}" + (f", skipped a checkpoint: {self.damage}" if self.damage else "")

    def of(self, training: str) -> dict[str, Any] | None:
        """The state of the training of that name, where there is one."""
        return self._trainings.get(training)

    def keep(self, training: str, state: dict[str, Any]) -> None:
        """Save the state of the training of that name, and with it what is kept of the others."""
        assert self.store is not None
        self._trainings[training] = state
        self.store.save(self._name, {"run": self._run, "trainings": self._trainings})


def _far(state: Mapping[str, Any]) -> str:
    """How far a training was, in words: "update 3 of epoch 1", "epoch 2"; where there is one epoch, "update 3"."""
    if state["epochs"] == 1:
        return f"update {state['epoch'] * state['updates'] + state['update']}"
    return f"update {state['update']} of epoch {state['epoch'] + 1}" if state["update"] else f"epoch {state['epoch']}"


class Training:
    """So many epochs of so many updates each, of which some may be done. A context, within which it may be interrupted.

    epoch, update: how many are done, of the training and of this epoch; history: one entry an epoch, added by its
    owner; sums: what is added up over the updates of an epoch, and is 0 when the next begins; kept: further tensors and
    plain values; info: what its reports say beside the epoch.
    """

    def __init__(
        self,
        parts: Mapping[str, Stateful],
        epochs: int,
        updates: int,
        *,
        sums: Tensor | None = None,
        kept: Mapping[str, Any] | None = None,
        checkpoint: Checkpoint | None = None,
        name: str = "",
        progress: Progress = quiet,
    ) -> None:
        """Take up what the checkpoint has of the training of that name, into the parts and into itself."""
        self.parts, self.epochs, self.updates, self.progress = parts, epochs, updates, progress
        self.epoch = self.update = 0
        self.history: list[Any] = []
        self.sums = torch.zeros(()) if sums is None else sums
        self.kept = dict(kept or {})
        self.info: dict[str, Any] = {}
        self._checkpoint, self._name = checkpoint or Checkpoint(), name
        self._within = contextlib.ExitStack()
        state = self._checkpoint.of(name)
        self._resumed = state is not None
        if state is None:
            return
        for part, value in parts.items():
            value.load_state_dict(state[part])
        self.epoch, self.update, self.history = state["epoch"], state["update"], list(state["history"])
        self.sums.copy_(state["sums"])
        self.kept = {key: _beside(value, self.kept[key]) for key, value in state["kept"].items()}

    @property
    def done(self) -> int:
        """The updates that are done."""
        return self.epoch * self.updates + self.update

    def __enter__(self) -> Training:
        if self._resumed:
            self._report({"note": self._checkpoint.note})
        if self._checkpoint.store:
            self._within.enter_context(self._checkpoint.store.training())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._within.close()

    def each_epoch(self) -> Iterator[int]:
        """The epochs that are left, counted from 0; the state is kept after each where it is due, and after the last.

        Their owner adds to `history` and reads `sums` before it asks for the next.
        """
        while self.epoch < self.epochs:
            yield self.epoch
            self.epoch, self.update = self.epoch + 1, 0
            self.sums.zero_()
            self._keep(finished=self.epoch == self.epochs)

    def each_update(self) -> Iterator[int]:
        """The updates that are left of this epoch, from 0; after each it reports, and keeps the state where due."""
        while self.update < self.updates:
            yield self.update
            self.update += 1
            self._report({"epoch": self.epoch + 1, **self.info})
            self._keep()

    def _report(self, info: Mapping[str, Any]) -> None:
        self.progress(self.done, self.epochs * self.updates, info)

    def _keep(self, finished: bool = False) -> None:
        store = self._checkpoint.store
        if store and (finished or store.due()):
            parts = {name: part.state_dict() for name, part in self.parts.items()}
            far = {name: getattr(self, name) for name in ("epoch", "update", "epochs", "updates")}
            own = {"history": self.history, "sums": self.sums, "kept": self.kept}
            self._checkpoint.keep(self._name, {**parts, **far, **own})


def _beside(value: Any, other: Any) -> Any:
    """A value of a checkpoint, which is on the CPU, where the one that it takes the place of is."""
    return value.to(other.device) if isinstance(value, Tensor) else value


def identity(plain: Any, model: nn.Module, images: Pixels | Tensor | None = None, labels: Labels | None = None) -> str:
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


def trainable(model: nn.Module, weight_decay: float, head: float = 1.0) -> list[dict[str, Any]]:
    """Everything trains, in groups with and without weight decay (1-D parameters, position embeddings, class token).

    head: factor of the learning rate of the parameters named "head.*" ("factor" of their groups; 1 of all others).
    Parts that pre-training froze (MoCo-v3's patch embedding) are thawed; fixed position embeddings stay fixed.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, weight_decay): [], (1.0, 0.0): []}
    for name, parameter in model.named_parameters():
        leaf = name.rpartition(".")[2]
        if not leaf.startswith("pos"):
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            exempt = parameter.ndim <= 1 or leaf.startswith(("pos", "cls_token", "class_token"))
            factor = head if name.startswith("head.") else 1.0
            groups.setdefault((factor, 0.0 if exempt else weight_decay), []).append(parameter)
    return [
        {"params": found, "weight_decay": decay, "factor": factor} for (factor, decay), found in groups.items() if found
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give the groups that `trainable` made that learning rate, times their factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
