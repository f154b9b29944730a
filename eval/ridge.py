"""Low-shot: ridge regression to one-hot targets with few labels a class.

Its strength is chosen by the exact leave-one-out error on those labels alone; accuracy is the mean over fixed splits.
Its accuracy on held-out training pictures (`split_top1`) is what the tuning of a recipe looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.features import to_device
from eval.linear_heads import ranks
from eval.protocols.linear import LinearProtocol
from eval.scores import percent
from eval.splits import holdout, per_class, shares


def low_shot(
    train: Tensor, train_y: npt.NDArray[np.int64], test: Tensor, test_y: Tensor, classes: int, protocol: LinearProtocol
) -> dict[str, list[dict[str, Any]] | str]:
    """By name ("10_per_class", "1pct") a dict a split: ridge (the strength), labels, top1, split_top1; or why not.

    train, test: float32 [N, D]; y: int64 [N]. split_top1 is of the held-out training pictures that are not among the
    labels, where there are some.
    """
    splits = protocol.low_shot_splits, protocol.seed
    probes = {
        f"{count}_per_class": (per_class(train_y, count, *splits), f"a class has fewer than {count} training images")
        for count in protocol.low_shot
    }
    probes |= {
        f"{share * 100:g}pct": (shares(train_y, share, *splits), "a class would get no image")
        for share in protocol.low_shot_shares
    }
    labels = to_device(np.array(train_y), train.device)
    held = holdout(train_y, protocol.holdout, protocol.seed)[1] if protocol.holdout else np.arange(0)
    found: dict[str, list[dict[str, Any]] | str] = {}
    for name, (choices, why_not) in probes.items():
        runs = []
        for rows in choices:
            few = to_device(rows, train.device)
            weight, bias, strength = ridge(train[few], labels[few], classes, protocol.ridge)
            run: dict[str, Any] = {"ridge": strength, "labels": len(rows)}
            run["top1"] = percent(ranks(test, test_y, weight, bias) == 0)
            if len(unseen := np.setdiff1d(held, rows)):
                rest = to_device(unseen, train.device)
                run["split_top1"] = percent(ranks(train[rest], labels[rest], weight, bias) == 0)
            runs.append(run)
        found[name] = runs or why_not
    return found


def ridge(x: Tensor, y: Tensor, classes: int, strengths: Sequence[float]) -> tuple[Tensor, Tensor, float]:
    """Ridge regression to one-hot targets with intercept, its strength chosen by leave-one-out squared error.

    x: float32 [N, D]; y: int64 [N]; a strength is relative to the mean squared singular value of the centred x. With
    x = U S V', hat matrix H = 1/N + U S^2 / (S^2 + l) U', the error at i without i is (t_i - H t) / (1 - H_ii).
    Returns weight [D, C, 1], bias [C, 1] as `linear_heads.ranks` takes them, and the chosen strength.
    """
    targets = F.one_hot(y, classes).double()
    mean, target_mean = x.double().mean(0), targets.mean(0)
    u, s, vh = torch.linalg.svd(x.double() - mean, full_matrices=False)
    scale = s.square().mean().clamp(min=torch.finfo(torch.float64).tiny)
    projected = u.T @ (targets - target_mean)

    def left_out(strength: float) -> Tensor:
        shrink = s.square() / (s.square() + strength * scale)
        residual = targets - target_mean - u @ (shrink[:, None] * projected)
        leverage = 1 / len(x) + (u.square() * shrink).sum(1, keepdim=True)
        return (residual / (1 - leverage).clamp(min=1e-12)).square().mean()

    errors = torch.stack([left_out(strength) for strength in strengths]).tolist()
    strength = strengths[errors.index(min(errors))]
    weight = vh.T @ ((s / (s.square() + strength * scale))[:, None] * projected)
    bias = target_mean - mean @ weight
    return weight.float()[:, :, None], bias.float()[:, None], strength
