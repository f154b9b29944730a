"""What tests of several methods share: a load of pictures, sums over outputs, a loss written out, target networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from methods.base import Batch, Clock, DataInfo, Method, Recipe, Streams, Views

M = TypeVar("M", bound=Method)
Shrunk = Callable[..., dict[str, dict[str, Any]]]  # the fixture of that name

DATA = DataInfo(32, (0.49, 0.48, 0.45), (0.2, 0.2, 0.2))
LABELLED = replace(DATA, classes=10)
SLIM = {"arch": "resnet", "depth": 18, "width": 8, "stem": "cifar"}
ROWS = 6  # of a load, where a test names no other number


def built(kind: type[M], tables: Recipe, data: DataInfo = DATA, seed: int = 0) -> M:
    """The method of a recipe with the weights of that seed, in training mode."""
    torch.manual_seed(seed)
    return kind(tables, data).train()


def pictures(rows: int = ROWS, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Noise, uint8 [rows, 3, height, width]."""
    return torch.randint(0, 256, (rows, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


def streams(rows: int = ROWS, load: int = 0, part: slice = slice(None), micro: int = 0) -> Streams:
    """The draws of a load of that many rows, or of the rows that a rank holds of it."""
    held = slice(*part.indices(rows)[:2])
    return Streams(0, 0, load, global_batch=rows, rows=held, device="cpu", micro=micro)


def views(method: Method, rows: int = ROWS, load: int = 0) -> Views:
    """Those of the only update that the method makes of a load."""
    (step,) = method.steps(Batch(pictures(rows, seed=load)), streams(rows, load))
    return step


def total(outputs: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([value for key, value in outputs.items() if key.startswith("loss_")]).sum()


def pending(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in outputs.items() if key.startswith("pending_")}


def cross_entropy(rows: Tensor, columns: Tensor, temperature: float) -> float:
    """Of the cosines of each row with all columns, the target the same column: written out, mean over the rows."""
    sum_ = 0.0
    for i, row in enumerate(rows):
        similar = [math.exp(float(row @ k / row.norm() / k.norm()) / temperature) for k in columns]
        sum_ -= math.log(similar[i] / sum(similar))
    return sum_ / len(rows)


def mmpretrain(part: str) -> Any:
    """mmpretrain.models.PART, the reference of a test, which skips where that package does not import."""
    return pytest.importorskip(
        f"mmpretrain.models.{part}", reason="mmpretrain does not import here", exc_type=ImportError
    )


def assert_ranks_are_one(answers: Sequence[tuple[float, list[Any]]], loss: Tensor, leaf: Tensor) -> None:
    """answers: of each rank the loss and its gradient by that rank's rows of `leaf`; loss: that of all rows.

    DDP averages the gradients of two local means: together they are the gradient of the global mean.
    """
    loss.backward()
    assert sum(part for part, _ in answers) / 2 == pytest.approx(loss.item(), abs=1e-6)
    assert leaf.grad is not None
    parts = torch.cat([torch.tensor(gradient) for _, gradient in answers]) / 2
    torch.testing.assert_close(parts, leaf.grad, atol=1e-6, rtol=1e-5)


def online(method: Any) -> list[Tensor]:
    """The weights that a target network follows."""
    return [*method.encoder.parameters(), *method.projector.parameters()]


def assert_target_starts_equal(method: Any) -> None:
    for mine, target in zip(online(method), method.target.parameters(), strict=True):
        assert torch.equal(mine, target) and not target.requires_grad


def assert_target_follows(
    method: Any, clock: Clock, momentum: float, told: Sequence[Mapping[str, Tensor]] = ()
) -> None:
    """The target is the online networks at first, and after an update momentum * itself + (1 - momentum) * them.

    told: what the micro-batches of the update left pending.
    """
    assert_target_starts_equal(method)
    before = [weights.clone() for weights in method.target.parameters()]
    with torch.no_grad():
        for weights in online(method):
            weights.add_(1.0)
    method.after_update(clock, told)
    for old, new, mine in zip(before, method.target.parameters(), online(method), strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * mine)


def assert_running_statistics_are_the_targets_own(method: Any) -> None:
    """A ResNet's: two passes count on either side, and an update copies nothing over."""
    method(views(method))
    norm, copy = method.encoder.bn1, method.target[0].bn1
    assert norm.num_batches_tracked == 2 and copy.num_batches_tracked == 2
    with torch.no_grad():
        norm.running_mean.add_(5.0)
    kept = copy.running_mean.clone()
    method.after_update(Clock(1, 10), [{}])
    assert torch.equal(copy.running_mean, kept)
