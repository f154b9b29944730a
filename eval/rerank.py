"""k-reciprocal re-ranking: Zhong, Zheng, Cao & Li, "Re-ranking Person Re-identification with k-reciprocal Encoding",
CVPR 2017 (arXiv:1701.08398), section 3.

    N(p, k)    p and its k nearest among queries and gallery together
    R(p, k)  = { g in N(p, k) : p in N(g, k) }
    R*(p)    = R(p, k1) and R(q, k1/2) for every q in R(p, k1) with |R(p, k1) n R(q, k1/2)| > 2/3 |R(q, k1/2)|
    V(p, g)  ~ exp(-d(p, g)) for g in R*(p), else 0;  then the mean of V over p and its k2 - 1 nearest
    d_J(p, g) = 1 - sum_i min(V(p, i), V(g, i)) / sum_i max(V(p, i), V(g, i))
    result   = (1 - lambda) d_J + lambda d

As in the authors' code, which differs from the paper: d is the squared Euclidean distance over the largest of its row,
a row of V sums to 1, the two thirds must be exceeded, and k1 / 2 is rounded to the even side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.context import Progress
from eval.features import to_device, to_tensor
from eval.protocols.reid import ReidProtocol

LIMIT = 100_000  # pictures: every one is compared with every other, and all features are held once more
CHUNK = 1 << 24  # distances held at a time: 64 MiB, and as much again three times to find the nearest

Features = npt.NDArray[np.float32]


def distances(
    query_x: Features,
    gallery_x: Features,
    protocol: ReidProtocol,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Iterator[Features]:
    """Query by query the re-ranked distances, float32 [G], in [0, 1].

    x: float32 [Q, D] and [G, D]. progress is told of the Q + G pictures whose neighbours are sought first; further
    calls are the caller's. Memory: the features once more, chunks of distances, and V, some 3 kB a picture.
    ValueError above `LIMIT` pictures.
    """
    n, queries = len(query_x) + len(gallery_x), len(query_x)
    if n > LIMIT:
        raise ValueError(
            f"re-ranking compares all {n:,} images with each other, but supports at most {LIMIT:,}: "
            "set reid.rerank = false"
        )
    x = to_device(torch.cat([to_tensor(query_x), to_tensor(gallery_x)]), device)
    if protocol.metric == "cosine":
        x = F.normalize(x, dim=1)
    nearest = np.empty((n, min(max(protocol.rerank_k1 + 1, protocol.rerank_k2), n)), np.int64)
    scale = np.empty(n, np.float32)  # the largest distance of a row
    for start, d in _rows(x, n):
        scale[start : start + len(d)] = d.max(1).values.cpu().numpy()
        nearest[start : start + len(d)] = _nearest(d, nearest.shape[1])
        if progress:
            progress(min(start + len(d), n), n + queries, {})
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    encoded = _encode(x, nearest, scale, protocol)
    gallery, sums = encoded[queries:].tocsc(), np.asarray(encoded.sum(1)).ravel()
    for start, d in _rows(x, queries):
        plain = d[:, queries:].cpu().numpy() / scale[start : start + len(d), None]
        for i, row in enumerate(plain, start):
            overlap = np.zeros(len(gallery_x))
            mine = slice(encoded.indptr[i], encoded.indptr[i + 1])
            for column, value in zip(encoded.indices[mine], encoded.data[mine], strict=True):
                theirs = slice(gallery.indptr[column], gallery.indptr[column + 1])
                overlap[gallery.indices[theirs]] += np.minimum(value, gallery.data[theirs])
            # The maxima sum to both rows less the minima; a row is empty where a picture has more than k1 twins.
            jaccard = 1 - overlap / np.maximum(sums[i] + sums[queries:] - overlap, np.finfo(float).tiny)
            weight = protocol.rerank_lambda
            yield ((1 - weight) * jaccard + weight * row).astype(np.float32)


def _rows(x: Tensor, stop: int) -> Iterator[tuple[int, Tensor]]:
    """(first row, squared distances float32 [R, N]) for the first `stop` rows of x, a chunk at a time."""
    squares = x.square().sum(1)
    step = max(1, CHUNK // len(x))
    for start in range(0, stop, step):
        part = slice(start, min(start + step, stop))
        yield start, (x[part] @ x.T).mul_(-2).add_(squares).add_(squares[part, None]).clamp_(min=0)


def _nearest(d: Tensor, k: int) -> npt.NDArray[np.int64]:
    """Indices of the k smallest of every row, ascending; equal distances in the order of their index."""
    kth = d.topk(k, dim=1, largest=False).values[:, -1].cpu().numpy()
    found = np.empty((len(d), k), np.int64)
    for i, row in enumerate(d.cpu().numpy()):
        close = np.flatnonzero(row <= kth[i])
        found[i] = close[np.argsort(row[close], kind="stable")[:k]]
    return found


def _encode(x: Tensor, nearest: npt.NDArray[np.int64], scale: Features, protocol: ReidProtocol) -> Any:
    """V after query expansion: scipy CSR float64 [N, N]."""
    from scipy import sparse

    n, k1 = len(x), protocol.rerank_k1
    wide, narrow = _reciprocal(nearest, k1), _reciprocal(nearest, round(k1 / 2))
    sizes = np.asarray(narrow.sum(1)).ravel()
    step = 4096
    parts = []
    for start in range(0, n, step):
        mine = wide[start : start + step]
        shared = mine.multiply(mine @ narrow.T).tocoo()  # |R(p, k1) n R(q, k1/2)| for q in R(p, k1)
        good = shared.data > 2 / 3 * sizes[shared.col]
        joins = sparse.csr_array((np.ones(good.sum()), (shared.row[good], shared.col[good])), shape=mine.shape)
        members = (mine + joins @ narrow).tocoo()
        p, g = members.row + start, members.col
        d = np.concatenate([_pairs(x, p[i : i + 8192], g[i : i + 8192]) for i in range(0, len(p), 8192)])
        weight = np.exp(-d / scale[p].astype(float))
        sums = np.bincount(members.row, weight, minlength=mine.shape[0])
        parts.append(sparse.csr_array((weight / sums[members.row], (members.row, g)), shape=mine.shape))
    v = sparse.vstack(parts, format="csr")
    k2 = min(protocol.rerank_k2, n)
    if k2 > 1:
        rows = np.repeat(np.arange(n), k2)
        mean = sparse.csr_array((np.full(n * k2, 1 / k2), (rows, nearest[:, :k2].ravel())), shape=(n, n))
        v = mean @ v
    return v


def _reciprocal(nearest: npt.NDArray[np.int64], k: int) -> Any:
    """R(p, k) as a scipy CSR matrix of ones, float64 [N, N]."""
    from scipy import sparse

    n, step = len(nearest), 4096
    mine = nearest[:, : k + 1]
    rows, columns = [], []
    for start in range(0, n, step):
        theirs = mine[mine[start : start + step]]  # [R, k + 1, k + 1]
        row, place = np.nonzero((theirs == np.arange(start, start + len(theirs))[:, None, None]).any(2))
        rows.append(row + start)
        columns.append(mine[row + start, place])
    i, j = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_array((np.ones(len(i)), (i, j)), shape=(n, n))


def _pairs(x: Tensor, i: npt.NDArray[Any], j: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Squared distances of the pairs (i, j) of rows."""
    first, second = (x[to_device(k.astype(np.int64), x.device)] for k in (i, j))
    return (first - second).square().sum(1).double().cpu().numpy()
