"""Weighted k-nearest-neighbour accuracy on frozen features.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018 (arXiv:1805.01978),
section 3.4, with the temperature 0.07 used there:

    score(c | x) = sum over the k nearest i with y_i = c of exp(cos(x, x_i) / T)

Ties are settled by fixed rules: of equally similar pictures the one that comes first in the training set is nearer; of
classes with equal scores the lower comes first; a class without a neighbour is not predicted, not even in the top five.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.context import PLAIN, Context, Progress, part_of, quiet
from eval.data import Classification, Features
from eval.features import check_finite, to_device
from eval.protocols.knn import KnnProtocol
from eval.scores import pack, percent, standard_error, true_rank
from eval.splits import holdout

# None of these can change a number.
CHUNK = 1 << 24  # similarities held at a time: 64 MiB
ROWS = 512  # at most so many queries at a time: their similarities to a few thousand pictures stay in the cache
_GROUPS, _CROWD = 5, 8  # times k: groups of columns in `nearest`, candidates above which it looks for ties


def evaluate(data: Classification[Features], protocol: KnnProtocol, context: Context = PLAIN) -> dict[str, Any]:
    """k-NN top-1 for every k, the k of `top1` chosen on a class-balanced split of the training features.

    Metrics in percent: top1 (and top5 above five classes) at the chosen k, top1_k1, ..., top1_best_on_test, optimism =
    best_on_test - top1; top1_nearest, of the one nearest picture, found without votes and weights, which top1_k1 has to
    equal. ValueError for features or labels that cannot be judged.
    """
    data.check("features")
    for part in (data.train, data.test):
        check_finite(part.x)
    (train_x, train_y), (test_x, test_y) = ((part.x, part.y) for part in (data.train, data.test))
    fit, held = holdout(train_y, protocol.holdout, protocol.seed)
    ks = sorted(k for k in protocol.ks if k <= len(fit))
    if not ks:
        raise ValueError(
            f"all values of knn.ks exceed the {len(fit)} training images (the smallest is {min(protocol.ks)});"
            " choose smaller values, for example with --set 'knn.ks=[1]'"
        )

    fixed = data.classes, ks, protocol, context.device

    def told(before: int) -> Progress:
        return part_of(context.progress, before, len(held) + len(test_x))

    chosen_on = true_ranks(train_x[fit], train_y[fit], train_x[held], train_y[held], *fixed, told(0))
    on_split = {k: percent(ranks == 0) for k, ranks in zip(ks, chosen_on, strict=True)}
    selected = max(ks, key=lambda k: (on_split[k], -k))

    plain = np.empty(len(test_x), bool)
    tested = true_ranks(train_x, train_y, test_x, test_y, *fixed, told(len(held)), plain)
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
    if data.classes > 5:
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
    progress: Progress = quiet,
    plain: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """How many classes score above the true one, for every k of `ks` (ascending) from one search: int64 [K, N].

    plain: bool [N] to be filled with whether the single nearest picture is of the true class.
    """
    bank = F.normalize(to_device(train_x, device), dim=1)
    labels = to_device(train_y, device)
    chunk = max(1, min(ROWS, CHUNK // len(bank)))
    out = np.empty((len(ks), len(test_x)), np.int64)
    for start in range(0, len(test_x), chunk):
        queries = F.normalize(to_device(test_x[start : start + chunk], device), dim=1)
        truth = to_device(test_y[start : start + chunk], device)
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
            # Without a neighbour of its class a picture is wrong at any depth.
            ranks = true_rank(votes, truth).masked_fill(~found.gather(1, truth[:, None])[:, 0], classes)
            out[i, start : start + chunk] = ranks.cpu().numpy()
        progress(min(start + chunk, len(test_x)), len(test_x), {})
    return out


def nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row in descending order, equal ones by index: values [N, k] and int64 indices [N, k].

    similarity: float [N, M], k <= M. torch.topk may take any of those equal to the k-th.
    """
    if similarity.device.type == "cpu":
        return nearest_by_groups(similarity, k)
    return nearest_without_waiting(similarity, k)


def nearest_without_waiting(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`nearest` in operations whose shapes depend on no value, so that the host waits for none of the device."""
    floor = similarity.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, equal = similarity > floor, similarity == floor
    keep = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))  # k of every row
    place = torch.where(keep, keep.cumsum(1) - 1, k)
    columns = torch.arange(similarity.shape[1], device=similarity.device).expand_as(place)
    indices = columns.new_empty(len(similarity), k + 1).scatter_(1, place, columns)[:, :k]  # the rest lands behind
    values, order = similarity.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, order)


def nearest_by_groups(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`nearest` on a CPU, twice as fast as torch.topk.

    The columns are dealt out to some multiple of k groups, and since k groups have a maximum that is not below the k-th
    largest maximum, nothing below that one is among the k largest. Few are left to be sorted.
    """
    rows, columns = similarity.shape
    deals = max(1, columns // (_GROUPS * k))
    groups = columns // deals
    maxima = similarity[:, : deals * groups].unflatten(1, (deals, groups)).amax(1)
    floor = maxima.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    keep = similarity >= floor
    found, counts = _true_at(keep)
    crowded = torch.nonzero(counts > _CROWD * k)[:, 0]
    if len(crowded):  # of those equal to the floor no more than the first k can matter
        equal = similarity[crowded] == floor[crowded]
        keep[crowded] &= ~equal | (equal.cumsum(1, dtype=torch.int32) <= k)
        found, counts = _true_at(keep)
    row = found.div(columns, rounding_mode="floor")
    width = int(counts.max())
    place = torch.arange(len(found)) + (row * width - (counts.cumsum(0) - counts)[row])
    values = similarity.new_full((rows, width), -torch.inf)
    indices = torch.zeros_like(values, dtype=torch.int64)
    values.view(-1)[place] = similarity.reshape(-1).index_select(0, found)
    indices.view(-1)[place] = found - row * columns
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :k], indices.gather(1, order[:, :k])


def _true_at(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where bool [N, M] is true, as positions in the flattened mask, ascending, and how many there are a row [N]."""
    found = torch.from_numpy(np.flatnonzero(mask.numpy()))  # six times faster than torch finds them
    ends = torch.searchsorted(found, torch.arange(len(mask) + 1) * mask.shape[1])
    return found, ends.diff()
