"""The one training state: counting, keeping, taking up again, and who is told of what."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eval.context import Context, part_of
from eval.training import Checkpoint, Training, identity, set_rate, trainable

EPOCHS, UPDATES = 3, 4


class Killed(Exception):
    pass


def trained(store: Any = None, kill: tuple[int, int] = (-1, -1), run: str = "this", **more: Any) -> dict[str, Any]:
    """A training whose result depends on every update; killed within that update of that epoch."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(trainable(layer, 0.1), lr=0.0, momentum=0.9)
    checkpoint = Checkpoint(store, "some.pt", run, "training")
    kept = {"first": torch.zeros(EPOCHS), "words": []}
    parts = {"model": layer, "optimizer": optimizer}
    training = Training(parts, EPOCHS, UPDATES, sums=torch.zeros(()), kept=kept, checkpoint=checkpoint, **more)
    with training:
        for epoch in training.each_epoch():
            for update in training.each_update():
                set_rate(optimizer, 0.1 / (1 + training.done))
                x = torch.randn(3, 2, generator=torch.Generator().manual_seed(training.done))
                loss: Tensor = layer(x).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                training.sums += loss.detach()
                if update == 0:
                    training.kept["first"][epoch] = loss.detach()
                if (epoch, update) == kill:
                    raise Killed
            training.history.append(float(training.sums))
            training.kept["words"] = [*training.kept["words"], f"epoch {epoch}"]
    return {
        "weights": [value.tolist() for value in layer.state_dict().values()],
        "history": training.history,
        "first": training.kept["first"].tolist(),
        "words": training.kept["words"],
        "done": training.done,
        "note": checkpoint.note,
    }


@pytest.mark.trains
@pytest.mark.parametrize("at", [(0, 1), (1, 0), (1, 2), (2, 3)])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_broken_off_anywhere_it_ends_the_same(at: tuple[int, int], every: int, memory: Callable[..., Any]) -> None:
    whole, store = trained(), memory(every)
    with pytest.raises(Killed):
        trained(store, at)
    again = trained(store)
    notes = whole.pop("note"), again.pop("note")
    assert again == whole and whole["done"] == EPOCHS * UPDATES
    assert notes[0] == "" and notes[1].startswith("resumed after " if store.kept and at != (0, 1) else "")
    assert trained(store)["note"] == "resumed after epoch 3"  # nothing is left to do


@pytest.mark.trains
def test_each_run_takes_up_its_own_alone(memory: Callable[..., Any]) -> None:
    store = memory()
    trained(store)
    assert trained(store, run="another")["note"] == "started afresh: some.pt is from another training"


def test_two_trainings_of_a_run_share_a_checkpoint(memory: Callable[..., Any]) -> None:
    store = memory()
    for name, updates in (("long", 3), ("short", 1)):
        training = Training({}, 2, 5, checkpoint=Checkpoint(store, "both.pt", "run"), name=name)
        with training, contextlib.suppress(Killed):
            for _ in training.each_epoch():
                for update in training.each_update():
                    if update == updates:
                        raise Killed
    checkpoint = Checkpoint(store, "both.pt", "run")
    assert checkpoint.note == "resumed after update 3 of epoch 1 (long), update 1 of epoch 1 (short)"
    assert [Training({}, 2, 5, checkpoint=checkpoint, name=name).done for name in ("long", "short", "new")] == [3, 1, 0]


@pytest.mark.parametrize(("updates", "said"), [(2, "update 2"), (7, "update 7")])
def test_without_epochs_updates_are_what_is_said(updates: int, said: str, memory: Callable[..., Any]) -> None:
    store = memory()
    training = Training({}, 1, 7, checkpoint=Checkpoint(store, "one.pt"))
    with training, contextlib.suppress(Killed):
        for _ in training.each_epoch():
            for update in training.each_update():
                if update == updates:
                    raise Killed
    assert Checkpoint(store, "one.pt").note == f"resumed after {said}"


@pytest.mark.trains
def test_what_is_told(memory: Callable[..., Any]) -> None:
    told: list[tuple[int, int, Mapping[str, Any]]] = []

    def progress(done: int, total: int, info: Mapping[str, Any]) -> None:
        told.append((done, total, info))

    store = memory(5)
    with pytest.raises(Killed):
        trained(store, (1, 2), progress=progress)
    assert told == [(i + 1, 12, {"epoch": 1 + i // 4}) for i in range(6)]
    told.clear()
    trained(store, progress=part_of(progress, 100, 200, stage="second"))
    note = "resumed after epoch 1"  # epochs ask as well whether it is due
    assert told[0] == (104, 200, {"stage": "second", "note": note})
    assert told[-1] == (112, 200, {"stage": "second", "epoch": 3})


def test_a_context_tells_nobody_and_keeps_nothing() -> None:
    context = Context()
    context.progress(1, 2, {})
    assert (context.device, context.store, context.folder) == (torch.device("cpu"), None, None)


def test_what_a_run_starts_from_is_its_identity() -> None:
    torch.manual_seed(0)
    layer, images, labels = nn.Linear(2, 2), torch.zeros(3, 1, 2, 2, dtype=torch.uint8).numpy(), torch.arange(3).numpy()
    known = identity([1], layer, images, labels)
    assert known == identity([1], layer, images, labels)
    others = [identity([2], layer, images, labels), identity([1], layer, images, labels[::-1].copy())]
    others.append(identity([1], layer, images + 1, labels))
    layer.bias.data += 1e-3
    others.append(identity([1], layer, images, labels))
    assert len({known, *others}) == 5
