"""Weighted k-nearest-neighbour accuracy on frozen features.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018 (arXiv:1805.01978),
section 3.4, with the temperature 0.07 used there:

    score(c | x) = sum over the k nearest i with y_i = c of exp(cos(x, x_i) / T)

Ties are settled by fixed rules: of equally similar pictures the one that comes first in the training set is nearer; of
classes with equal scores the lower comes first; a class without a neighbour is not predicted, not even in the top five.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.features import check_finite, to_tensor
from eval.protocols import KnnProtocol
from eval.scores import Progress, check_labelled, pack, percent, standard_error, true_rank
from eval.splits import holdout

CHUNK = 1 << 24  # similarities held at a time: 64 MiB


def evaluate(
    train_x: npt.NDArray[np.float32],
    train_y: npt.NDArray[np.int64],
    test_x: npt.NDArray[np.float32],
    test_y: npt.NDArray[np.int64],
    classes: int,
    protocol: KnnProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """k-NN top-1 for every k, the k of `top1` chosen on a class-balanced split of the training features.

    x: float32 [N, D]; y: int64 [N] in [0, classes). Metrics in percent: top1 (and top5 above five classes) at the
    chosen k, top1_k1, ..., top1_best_on_test, optimism = best_on_test - top1; top1_nearest, of the one nearest picture,
    found without votes and weights, which top1_k1 has to equal. ValueError for features or labels that cannot be
    judged.
    """
    for x, y, what in ((train_x, train_y, "training features"), (test_x, test_y, "test features")):
        check_labelled(x, y, classes, what)
        check_finite(x)
    fit, held = holdout(train_y, protocol.holdout, protocol.seed)
    ks = sorted(k for k in protocol.ks if k <= len(fit))
    if not ks:
        raise ValueError(f"knn.ks are all above the {len(fit)} training pictures; smallest is {min(protocol.ks)}")

    total = len(held) + len(test_x)

    def report(done: int) -> None:
        if progress:
            progress(done, total, {})

    chosen_on = true_ranks(
        train_x[fit], train_y[fit], train_x[held], train_y[held], classes, ks, protocol, device, report
    )
    on_split = {k: percent(ranks == 0) for k, ranks in zip(ks, chosen_on, strict=True)}
    selected = max(ks, key=lambda k: (on_split[k], -k))

    plain = np.empty(len(test_x), bool)
    tested = true_ranks(
        train_x, train_y, test_x, test_y, classes, ks, protocol, device, lambda done: report(len(held) + done), plain
    )
    on_test = {k: percent(ranks == 0) for k, ranks in zip(ks, tested, strict=True)}
    ranks = tested[ks.index(selected)]
    best = max(on_test.values())
    metrics = {
        "top1": on_test[selected],
        "top1_best_on_test": best,
        "top1_nearest": percent(plain),
        "optimism": best - on_test[selected],
        **{f"top1_k{k}": value for k, value in on_test.items()},
    }
    if classes > 5:
        metrics["top5"] = percent(ranks < 5)
    details = {
        "k": selected,
        "split_top1": {str(k): value for k, value in on_split.items()},
        "n_train": len(train_x),
        "n_split": len(held),
        "n_test": len(test_x),
        "standard_error": standard_error(metrics["top1"], len(test_x)),
        "correct": pack(ranks == 0),
    }
    return {"metrics": metrics, "artifacts": {}, "details": details}


def true_ranks(
    train_x: npt.NDArray[np.float32],
    train_y: npt.NDArray[np.int64],
    test_x: npt.NDArray[np.float32],
    test_y: npt.NDArray[np.int64],
    classes: int,
    ks: list[int],
    protocol: KnnProtocol,
    device: str | torch.device = "cpu",
    report: Callable[[int], None] = lambda done: None,
    plain: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """How many classes score above the true one, for every k of `ks` (ascending) from one search: int64 [K, N].

    plain: bool [N] to be filled with whether the single nearest picture is of the true class.
    """
    bank = F.normalize(to_tensor(train_x).to(device), dim=1)
    labels = to_tensor(train_y).to(device)
    chunk = max(1, min(1024, CHUNK // len(bank)))
    out = np.empty((len(ks), len(test_x)), np.int64)
    for start in range(0, len(test_x), chunk):
        queries = F.normalize(to_tensor(test_x[start : start + chunk]).to(device), dim=1)
        truth = to_tensor(test_y[start : start + chunk]).to(device)
        cosines = queries @ bank.T
        if plain is not None:
            plain[start : start + chunk] = (labels[cosines.argmax(1)] == truth).cpu().numpy()
        similarity, neighbours = nearest(cosines, ks[-1])
        # Relative to the nearest neighbour: the same order of classes, and no overflow at small temperatures.
        weights = ((similarity - similarity[:, :1]).double() / protocol.temperature).exp()
        votes = torch.zeros(len(queries), classes, dtype=torch.float64, device=bank.device)
        found = torch.zeros_like(votes, dtype=torch.bool)
        for i, (low, high) in enumerate(zip([0, *ks], ks, strict=False)):
            voters = labels[neighbours[:, low:high]]
            votes.scatter_add_(1, voters, weights[:, low:high])
            found.scatter_(1, voters, True)
            ranks = true_rank(votes, truth)
            # Without a neighbour of its class a picture is wrong at any depth.
            ranks[~found.gather(1, truth[:, None])[:, 0]] = classes
            out[i, start : start + chunk] = ranks.cpu().numpy()
        report(min(start + chunk, len(test_x)))
    return out


def nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row in descending order, equal ones by index: values [N, k] and int64 indices [N, k].

    torch.topk alone may take any of those equal to the k-th; rows where that matters are redone.
    """
    n = similarity.shape[1]
    values, indices = similarity.topk(min(k + 1, n), dim=1)
    if n > k:
        doubtful = torch.nonzero(values[:, k - 1] == values[:, k])[:, 0]
        values, indices = values[:, :k], indices[:, :k]
        if len(doubtful):
            rows, kth = similarity[doubtful], values[doubtful, k - 1 :]
            above = rows > kth
            equal = rows == kth
            keep = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
            indices[doubtful] = torch.nonzero(keep)[:, 1].view(-1, k)
    indices = indices.sort(dim=1).values
    values, order = similarity.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, order)
