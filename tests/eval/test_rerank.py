"""k-reciprocal re-ranking against a literal loop over sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval import protocols, reid, rerank
from eval.context import Context
from eval.data import Identified
from eval.protocols.reid import ReidProtocol


def protocol(**changes: object) -> ReidProtocol:
    return protocols.load_as(ReidProtocol, "fast", {"rerank": True, **changes})


def loop(query_x, gallery_x, p: ReidProtocol) -> np.ndarray:
    """Sets and dictionaries, one pair of pictures at a time, in Python floats."""
    rows = [*query_x.tolist(), *gallery_x.tolist()]
    if p.metric == "cosine":
        rows = [[a / math.sqrt(sum(b * b for b in row)) for a in row] for row in rows]
    n = len(rows)
    d = [[sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for v in rows] for u in rows]
    d = [[value / max(row) for value in row] for row in d]
    order = [sorted(range(n), key=lambda j, row=row: (row[j], j)) for row in d]

    def mutual(p, k):
        return {g for g in order[p][: k + 1] if p in order[g][: k + 1]}

    def encode(i):
        star = set(mutual(i, p.rerank_k1))
        for q in mutual(i, p.rerank_k1):
            theirs = mutual(q, round(p.rerank_k1 / 2))
            if 3 * len(theirs & mutual(i, p.rerank_k1)) > 2 * len(theirs):
                star |= theirs
        total = sum(math.exp(-d[i][g]) for g in star)
        return {g: math.exp(-d[i][g]) / total for g in star}

    sharp = [encode(i) for i in range(n)]
    near = [[i] if p.rerank_k2 == 1 else order[i][: p.rerank_k2] for i in range(n)]  # of twins the first is "itself"
    v = [[sum(sharp[j].get(g, 0) for j in js) / len(js) for g in range(n)] for js in near]

    def jaccard(i, j):
        return 1 - sum(map(min, v[i], v[j])) / sum(map(max, v[i], v[j]))

    weight, first = p.rerank_lambda, len(query_x)
    return np.array([[(1 - weight) * jaccard(i, j) + weight * d[i][j] for j in range(first, n)] for i in range(first)])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("changes", [{}, {"rerank_k1": 5, "rerank_k2": 1}, {"rerank_k1": 7, "rerank_lambda": 0.0}])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_loop(metric: str, changes: dict, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(len(changes))
    if ties:  # corners of a cube, each several times: exact in float32, so ties are ties
        corners = rng.choice([-1.0, 1.0], (40, 16))
        query_x, gallery_x = (corners[rng.integers(0, 40, n)].astype(np.float32) for n in (11, 60))
    else:  # identities that overlap
        centres = rng.normal(size=(12, 6))
        query_x, gallery_x = (
            (centres[rng.integers(0, 12, n)] + rng.normal(size=(n, 6))).astype(np.float32) for n in (11, 60)
        )
    monkeypatch.setattr(rerank, "CHUNK", 300)  # four rows at a time
    p = protocol(metric=metric, **changes)
    found = np.array(list(rerank.distances(query_x, gallery_x, p)))
    np.testing.assert_allclose(found, loop(query_x, gallery_x, p), atol=2e-6)


def test_the_metrics_are_those_of_the_reranked_order() -> None:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(10, 8))
    query_pid, gallery_pid = np.arange(10).repeat(2), rng.integers(-1, 10, 80)
    query_x = (centres[query_pid] + 0.8 * rng.normal(size=(20, 8))).astype(np.float32)
    gallery_x = (centres[gallery_pid] + 0.8 * rng.normal(size=(80, 8))).astype(np.float32)
    query_cam, gallery_cam = rng.integers(1, 3, 20), rng.integers(1, 3, 80)
    seen = []
    given = Identified(query_x, query_pid, query_cam), Identified(gallery_x, gallery_pid, gallery_cam)
    told = Context(progress=lambda done, total, info: seen.append((done, total)))
    result = reid.evaluate(*given, protocol(), told)
    ranks = []
    for pid, cam, row in zip(query_pid, query_cam, loop(query_x, gallery_x, protocol()), strict=True):
        kept = [j for j in np.argsort(row) if gallery_pid[j] != -1 and (gallery_pid[j], gallery_cam[j]) != (pid, cam)]
        ranks.append(1 + [gallery_pid[j] == pid for j in kept].index(True))
    assert result["metrics"]["rank1"] == 100 * np.mean(np.array(ranks) == 1)
    assert result["metrics"]["rank5"] == 100 * np.mean(np.array(ranks) <= 5)
    assert seen == sorted(seen) and seen[-1] == (120, 120)
    plain = reid.evaluate(*given, protocol(rerank=False))
    assert result["metrics"]["mAP"] > plain["metrics"]["mAP"]  # clusters are what it is made for


def test_a_gallery_that_is_too_large_is_refused_with_its_number() -> None:
    x = np.zeros((rerank.LIMIT, 1), np.float32)
    with pytest.raises(ValueError, match=r"all 100,003 images .* at most 100,000: ") as refusal:
        next(rerank.distances(x[:3], x, protocol()))
    assert "\n" not in str(refusal.value)
