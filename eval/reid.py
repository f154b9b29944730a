"""Re-identification: rank a gallery for every query, in the manner of Market-1501.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015. For a query of identity p seen by camera c
the gallery pictures of p by c, and those with identity -1 (junk boxes), are taken out; the other pictures of p are the
right answers, all else is wrong (distractors, whatever their number). With right answers at ranks r_1 < ... < r_m:

    Rank-k        1 if r_1 <= k, else 0
    AP            1/m sum_j P_j                       P_j = j / r_j, precision at a hit          -> `mAP`
    AP trapezoid  1/m sum_j (O_j + P_j) / 2           O_j = (j-1) / (r_j - 1), 1 if r_j = 1      -> `mAP_trapezoid`
    INP           m / r_m                             Ye et al., TPAMI 2022 (arXiv:2001.04193)   -> `mINP`

`mAP` is what today's re-ID libraries print; `mAP_trapezoid` is the original script's, also used for SYSU-30k, and never
above it. Pictures of equal similarity are ranked in the order of the gallery.

Features may be memory maps: they are read in blocks, never copied whole. How long a gallery of SYSU-30k's size takes,
and how much memory, `python tests/eval/sysu_size.py` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from eval import rerank
from eval.context import PLAIN, Context, part_of
from eval.data import Features, Identified, Ids, Pixels
from eval.features import check_finite, to_device
from eval.pictures import Ranking, draw_rankings
from eval.protocols.reid import ReidProtocol
from eval.scores import pack, percent, standard_error

JUNK = -1
CHUNK = 1 << 28  # similarities held at a time: 1 GiB
BLOCK = 1 << 23  # numbers of gallery features read at a time: 32 MiB
RANKS = (1, 5, 10, 20)

Answers = Callable[[int, int], tuple[Ids, Ids]]


def evaluate(
    query: Identified[Features],
    gallery: Identified[Features],
    protocol: ReidProtocol,
    context: Context = PLAIN,
    *,
    pictures: tuple[Pixels, Pixels] | None = None,
) -> dict[str, Any]:
    """rank1, rank5, rank10, rank20, mAP, mAP_trapezoid and mINP in percent over the queries.

    Queries without a right answer are left out and counted, or score 0, as the protocol says. With protocol.rerank the
    order is that of rerank.py. Memory beside the features does not grow with the number of queries: at most 1.3 GB
    (re-ranking: see there).
    pictures: of query and gallery; with them, and where the context has a folder, the artifact "ranking" is the picture
    that `draw_rankings` draws.
    ValueError for arrays that do not fit each other, features that are not finite, no query with a right answer, or a
    gallery too large to re-rank.
    """
    _check(query, gallery)
    answers = _answers(gallery)
    drawn = pictures is not None and context.folder is not None
    shown = _spread(answers, query) if drawn else ()
    rankings = []
    count = len(query.x)
    first = np.zeros(count, np.int64)  # rank of the first right answer, 0 = there is none
    scores = np.zeros((3, count))  # AP at hits, AP by trapezoids, INP
    before = count + len(gallery.x) if protocol.rerank else 0  # steps that re-ranking takes
    report = part_of(context.progress, before, before + count)
    rows: Iterator[Features]
    if protocol.rerank:
        found = rerank.distances(query.x, gallery.x, protocol, context.device, context.progress)
        rows = (np.negative(d) for d in found)
    else:
        rows = _similarities(query.x, gallery.x, protocol, context.device)
    for i, similarity in enumerate(rows):
        right, junk = answers(query.pid[i], query.cam[i])
        ranks = hit_ranks(similarity, right, junk)
        if len(ranks):
            first[i] = ranks[0]
            scores[:, i] = average_precision(ranks)
        if i in shown:
            rankings.append(_ranking(i, similarity, right, junk))
        if i + 1 == count or i % 64 == 63:
            report(i + 1, count, {})

    matched = first > 0
    if not matched.any():
        raise ValueError(
            f"the gallery has no image from another camera with the identity of any of the {count} queries;"
            " check the names of the image files"
        )
    counted = matched if protocol.no_match == "exclude" else np.ones_like(matched)
    n = int(counted.sum())
    hits = {k: (matched & (first <= k))[counted] for k in RANKS}
    metrics = {f"rank{k}": percent(hit) for k, hit in hits.items()}
    for name, values in zip(("mAP", "mAP_trapezoid", "mINP"), scores, strict=True):
        metrics[name] = percent(values[counted])
    details = {
        "n_query": n,
        "n_gallery": len(gallery.x),
        "n_without_match": int((~matched).sum()),
        "standard_error": standard_error(metrics["rank1"], n),
        "standard_error_mAP": float(100 * scores[0, counted].std() / n**0.5),
        "correct": pack(hits[1]),
    }
    artifacts = {}
    if pictures is not None and context.folder is not None:
        path = context.folder / "ranking.png"
        shown_query = Identified(pictures[0], query.pid, query.cam)
        draw_rankings(rankings, shown_query, Identified(pictures[1], gallery.pid, gallery.cam), path)
        artifacts["ranking"] = str(path)
    return {"metrics": metrics, "artifacts": artifacts, "details": details}


def hit_ranks(similarity: Features, right: Ids, junk: Ids) -> Ids:
    """Ranks (from 1) of the right answers of one query, ascending, among all that is not junk.

    similarity: float32 [G], larger is nearer; right, junk: indices, none in both. Sorts nothing: a rank is one more
    than the number of pictures more similar, or as similar and earlier. With the few right answers of re-ID, counting
    them one by one is several times faster than a stable sort of the gallery.
    """
    similarity = similarity.copy()
    similarity[junk] = -np.inf
    ranks = [
        1 + np.count_nonzero(similarity > similarity[i]) + np.count_nonzero(similarity[:i] == similarity[i])
        for i in right
    ]
    return np.sort(np.array(ranks, np.int64))


def average_precision(ranks: Ids) -> tuple[float, float, float]:
    """(AP at hits, AP by trapezoids, INP), each in [0, 1], of the ranks (from 1, ascending) of all right answers."""
    hits = np.arange(1, len(ranks) + 1)
    precision = hits / ranks
    before = np.where(ranks == 1, 1.0, (hits - 1) / np.maximum(ranks - 1, 1))
    return float(precision.mean()), float(((before + precision) / 2).mean()), float(len(ranks) / ranks[-1])


def _spread(answers: Answers, query: Identified[Features], count: int = 6) -> set[int]:
    """A few queries, evenly spaced among those with a right answer."""
    able = [i for i in range(len(query.pid)) if len(answers(query.pid[i], query.cam[i])[0])]
    return {able[i] for i in np.linspace(0, len(able) - 1, min(count, len(able))).round().astype(int)}


def _ranking(query: int, similarity: Features, right: Ids, junk: Ids, nearest: int = 8) -> Ranking:
    order = np.argsort(-similarity, kind="stable")
    order = order[~np.isin(order, junk)]
    rank = int(np.flatnonzero(np.isin(order, right))[0])
    shown, first = order[:nearest], int(order[rank])
    return Ranking(query, shown, first, rank + 1, right, similarity[[*shown, first]])


def _answers(gallery: Identified[Features]) -> Answers:
    """A function of a query's identity and camera: gallery indices of the right answers, and of junk."""
    order = np.argsort(gallery.pid, kind="stable")
    pids = gallery.pid[order]
    always = np.flatnonzero(gallery.pid == JUNK)

    def answers(pid: int, cam: int) -> tuple[Ids, Ids]:
        same = order[np.searchsorted(pids, pid) : np.searchsorted(pids, pid, side="right")]
        by_cam = gallery.cam[same] == cam
        return same[~by_cam], np.union1d(always, same[by_cam])

    return answers


def _similarities(
    query_x: Features, gallery_x: Features, protocol: ReidProtocol, device: str | torch.device
) -> Iterator[Features]:
    """Row by row, float32 [G]: cosine, or minus the squared distance. A row is good until the next is asked for."""
    rows = min(len(query_x), max(1, CHUNK // len(gallery_x)))
    block = max(1, BLOCK // max(gallery_x.shape[1], rows))
    similarity = np.empty((rows, len(gallery_x)), np.float32)
    for start in range(0, len(query_x), rows):
        queries = to_device(query_x[start : start + rows], device)
        unit, squares = F.normalize(queries, dim=1), queries.square().sum(1, keepdim=True)
        for begin in range(0, len(gallery_x), block):
            gallery = to_device(gallery_x[begin : begin + block], device)
            if protocol.metric == "cosine":
                found = (unit @ gallery.T).div_(torch.linalg.vector_norm(gallery, dim=1).clamp_(min=1e-12))
            else:
                found = (queries @ gallery.T).mul_(2).sub_(gallery.square().sum(1)).sub_(squares)
            similarity[: len(queries), begin : begin + block] = found.cpu().numpy()
        yield from similarity[: len(queries)]


def _check(query: Identified[Features], gallery: Identified[Features]) -> None:
    for what, part in (("query", query), ("gallery", gallery)):
        x, pid, cam = part.x, part.pid, part.cam
        if not len(x) == len(pid) == len(cam) or not len(x):
            raise ValueError(
                f"{what}: {len(x)} features, {len(pid)} identities and {len(cam)} cameras;"
                " the numbers must be equal and above 0"
            )
        check_finite(x)
    if (query.pid == JUNK).any():
        raise ValueError(
            f"query {int(np.flatnonzero(query.pid == JUNK)[0])} is junk (identity -1); only gallery images may be junk"
        )
