"""Linear classification of frozen features: every learning rate and weight decay at once, chosen on a training split.

All heads see the same pictures in the same order, so H heads of C classes are one matrix product with C * H columns,
and the gradient of the softmax loss is written down instead of traced:

    z = x W + b,    dL/dz = (softmax(z) - onehot(y)) / B,    v <- m v + (x' dL/dz + wd W),    W <- W - lr v

which is torch.optim.SGD on nn.Linear(D, C), H times, without decay of the bias. The grid is trained twice: on the fit
part of the training features, to choose rate and decay on the held-out part, then on all of them, where the choice is
read off after the last epoch (`top1`). An epoch chosen on the split as well is recorded (`top1_selected`) but not the
result: a moment of luck in one training is none in the next, which cost up to five points on weak features. What an
author who looks at the test set would report stands beside it (`top1_best_on_test`).

Low-shot: ridge regression to one-hot targets with few labels a class, its strength chosen by the exact leave-one-out
error on those labels alone; the mean over fixed splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.features import check_finite, to_tensor
from eval.protocols import LinearProtocol
from eval.scores import Progress, check_labelled, pack, percent, standard_error, true_rank
from eval.splits import holdout, per_class


def evaluate(
    train_x: npt.NDArray[np.float32],
    train_y: npt.NDArray[np.int64],
    test_x: npt.NDArray[np.float32],
    test_y: npt.NDArray[np.int64],
    classes: int,
    protocol: LinearProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Linear and low-shot accuracy of features.

    x: float32 [N, D]; y: int64 [N] in [0, classes). Metrics in percent: top1 (and top5 above five classes) after the
    last epoch, with the rate and decay that were best on the split after theirs; top1_selected, of the rate, decay and
    epoch that were best there; top1_best_on_test, over the whole grid and all epochs; optimism = best_on_test - top1;
    top1_10_per_class and its like. ValueError for features or labels that cannot be judged.
    """
    for x, y, what in ((train_x, train_y, "training features"), (test_x, test_y, "test features")):
        check_labelled(x, y, classes, what)
        check_finite(x)
    fit, held = holdout(train_y, protocol.holdout, protocol.seed)
    grid = [(rate, decay) for rate in protocol.learning_rates for decay in protocol.weight_decays]
    train, test = (to_tensor(x).to(device) for x in normalised(train_x, test_x, protocol.normalise))
    train_labels, test_labels = (to_tensor(y).to(device) for y in (train_y, test_y))

    def report(epoch: int) -> None:
        if progress:
            progress(epoch, 2 * protocol.epochs, {})

    on_split = np.empty((protocol.epochs, len(grid)))
    fit_x, fit_labels, held_x, held_labels = train[fit], train_labels[fit], train[held], train_labels[held]
    for epoch, (weight, bias) in enumerate(heads(fit_x, fit_labels, classes, grid, protocol)):
        ranks = head_ranks(held_x, held_labels, weight, bias)
        on_split[epoch] = 100 * (ranks == 0).mean(axis=0)
        report(epoch + 1)
    chosen = int(on_split[-1].argmax())  # of equals the first of the grid
    backwards, selected = np.unravel_index(on_split[::-1].argmax(), on_split.shape)  # of equals the longest training
    selected_epoch = protocol.epochs - 1 - int(backwards)

    on_test = np.empty_like(on_split)
    for epoch, (weight, bias) in enumerate(heads(train, train_labels, classes, grid, protocol)):
        ranks = head_ranks(test, test_labels, weight, bias)
        on_test[epoch] = 100 * (ranks == 0).mean(axis=0)
        report(protocol.epochs + epoch + 1)
    ranks = ranks[:, chosen]

    top1 = percent(ranks == 0)
    rate, decay = grid[chosen]
    metrics = {
        "top1": top1,
        "top1_selected": float(on_test[selected_epoch, selected]),
        "top1_best_on_test": float(on_test.max()),
        "optimism": float(on_test.max()) - top1,
    }
    if classes > 5:
        metrics["top5"] = percent(ranks < 5)
    details: dict[str, Any] = {
        "learning_rate": rate,
        "weight_decay": decay,
        "selected": [*grid[int(selected)], selected_epoch + 1],
        "rate_at_edge": rate in (min(protocol.learning_rates), max(protocol.learning_rates)),
        "grid": [list(pair) for pair in grid],
        "split_top1_last_epoch": on_split[-1].round(3).tolist(),
        "test_top1_last_epoch": on_test[-1].round(3).tolist(),
        "n_train": len(train_x),
        "n_split": len(held),
        "n_test": len(test_x),
        "standard_error": standard_error(top1, len(test_x)),
        "correct": pack(ranks == 0),
        "low_shot": {},
    }
    for count in protocol.low_shot:
        runs = []
        for rows in per_class(train_y, count, protocol.low_shot_splits, protocol.seed):
            weight, bias, strength = ridge(train[rows], train_labels[rows], classes, protocol.ridge)
            runs.append({"top1": percent(head_ranks(test, test_labels, weight, bias) == 0), "ridge": strength})
        if runs:
            metrics[f"top1_{count}_per_class"] = float(np.mean([run["top1"] for run in runs]))
        details["low_shot"][str(count)] = runs or f"a class has fewer than {count} training pictures"
    return {"metrics": metrics, "artifacts": {}, "details": details}


def normalised(
    train: npt.NDArray[np.float32], test: npt.NDArray[np.float32], how: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Both sets; "l2": of unit length; "standardise": by mean and deviation of the training columns; "none": as is.

    A column without variance becomes 0.
    """
    if how == "none":
        return train, test
    if how == "l2":
        return tuple(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    mean = train.mean(axis=0, dtype=np.float64)
    std = train.std(axis=0, dtype=np.float64)
    flat = std <= 1e-6 * np.maximum(np.abs(mean), 1e-30)  # what rounding alone leaves of a constant column
    scale = np.where(flat, 0, 1 / np.where(flat, 1, std))
    return tuple(((x - mean) * scale).astype(np.float32) for x in (train, test))


def heads(
    x: Tensor, y: Tensor, classes: int, grid: Sequence[tuple[float, float]], protocol: LinearProtocol
) -> Iterator[tuple[Tensor, Tensor]]:
    """Train a head for every (learning rate, weight decay) of the grid; after each epoch weight [D, C, H], bias [C, H].

    x: float32 [N, D]; y: int64 [N]. The tensors handed out are the ones that are trained on: copy what is to be kept.
    """
    n, width = x.shape
    batch = min(protocol.batch, n)
    updates = -(-n // batch)
    columns = len(grid) * classes
    peak = torch.tensor([rate for rate, _ in grid], device=x.device).repeat(classes)
    peak *= protocol.batch / protocol.base_batch
    decay = torch.tensor([decay for _, decay in grid], device=x.device).repeat(classes)
    weight, bias = torch.zeros(width, columns, device=x.device), torch.zeros(columns, device=x.device)
    weight_speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    for epoch in range(protocol.epochs):
        order = torch.from_numpy(np.random.default_rng([protocol.seed, epoch]).permutation(n)).to(x.device)
        for update, rows in enumerate(order.split(batch)):
            clock = (epoch * updates + update) / (protocol.epochs * updates)
            rate = peak * (0.5 * (1 + np.cos(np.pi * clock)))
            xb = x[rows]
            # Classes in the middle: a softmax over ten numbers side by side is four times slower than over a stride.
            slope = torch.addmm(bias, xb, weight).view(len(rows), classes, len(grid)).softmax(1)
            slope[torch.arange(len(rows), device=x.device), y[rows]] -= 1
            flat = slope.view(len(rows), columns) / len(rows)
            weight_speed.mul_(protocol.momentum).addmm_(xb.T, flat).addcmul_(weight, decay)
            bias_speed.mul_(protocol.momentum).add_(flat.sum(0))
            weight.addcmul_(weight_speed, rate, value=-1)
            bias.addcmul_(bias_speed, rate, value=-1)
        yield weight.view(width, classes, len(grid)), bias.view(classes, len(grid))


def head_ranks(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> npt.NDArray[np.int64]:
    """Rank of the true class for every picture and head: x [N, D], weight [D, C, H], bias [C, H] -> int64 [N, H]."""
    flat = weight.reshape(len(weight), -1)
    ranks = [
        true_rank(torch.addmm(bias.reshape(-1), xs, flat).view(len(xs), *bias.shape).transpose(1, 2), ys)
        for xs, ys in zip(x.split(2048), y.split(2048), strict=True)
    ]
    return torch.cat(ranks).cpu().numpy()


def ridge(x: Tensor, y: Tensor, classes: int, strengths: Sequence[float]) -> tuple[Tensor, Tensor, float]:
    """Ridge regression to one-hot targets with intercept, its strength chosen by leave-one-out squared error.

    x: float32 [N, D]; y: int64 [N]; a strength is relative to the mean squared singular value of the centred x. With
    x = U S V', hat matrix H = 1/N + U S^2 / (S^2 + l) U', the error at i without i is (t_i - H t) / (1 - H_ii).
    Returns weight [D, C, 1], bias [C, 1] as `head_ranks` takes them, and the chosen strength.
    """
    targets = F.one_hot(y, classes).double()
    mean, target_mean = x.double().mean(0), targets.mean(0)
    u, s, vh = torch.linalg.svd(x.double() - mean, full_matrices=False)
    scale = s.square().mean().clamp(min=torch.finfo(torch.float64).tiny)
    projected = u.T @ (targets - target_mean)

    def left_out(strength: float) -> float:
        shrink = s.square() / (s.square() + strength * scale)
        residual = targets - target_mean - u @ (shrink[:, None] * projected)
        leverage = 1 / len(x) + (u.square() * shrink).sum(1, keepdim=True)
        return float((residual / (1 - leverage).clamp(min=1e-12)).square().mean())

    strength = min(strengths, key=left_out)
    weight = vh.T @ ((s / (s.square() + strength * scale))[:, None] * projected)
    bias = target_mean - mean @ weight
    return weight.float()[:, :, None], bias.float()[:, None], strength
