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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from eval import rerank
from eval.features import check_finite, to_tensor
from eval.protocols.reid import ReidProtocol
from eval.scores import Progress, pack, percent, standard_error

JUNK = -1
CHUNK = 1 << 28  # similarities held at a time: 1 GiB
BLOCK = 1 << 23  # numbers of gallery features read at a time: 32 MiB
RANKS = (1, 5, 10, 20)

Features = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Answers = Callable[[int, int], tuple[Ids, Ids]]


@dataclass(frozen=True)
class Ranking:
    """What `strip` shows of one query: `nearest` and `first` (right answer) are gallery indices, junk left out."""

    query: int
    nearest: Ids
    first: int
    rank: int  # of `first`, from 1
    right: Ids  # gallery indices, all of them
    similarity: Features  # of `nearest`, then of `first`


def evaluate(
    query_x: Features,
    query_pid: Ids,
    query_cam: Ids,
    gallery_x: Features,
    gallery_pid: Ids,
    gallery_cam: Ids,
    protocol: ReidProtocol,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    query_images: Pixels | None = None,
    gallery_images: Pixels | None = None,
    work_dir: Path | None = None,
) -> dict[str, Any]:
    """rank1, rank5, rank10, rank20, mAP, mAP_trapezoid and mINP in percent over the queries.

    x: float32 [N, D], memory maps too; pid, cam: int64 [N]. Queries without a right answer are left out and counted, or
    score 0, as the protocol says. With protocol.rerank the order is that of rerank.py. Memory beside the features does
    not grow with the number of queries: at most 1.3 GB (re-ranking: see there).
    Given the images (uint8 [N, 3, H, W]) and a folder, the artifact "ranking" is the picture that `strip` draws.
    ValueError for arrays that do not fit each other, features that are not finite, no query with a right answer, or a
    gallery too large to re-rank.
    """
    _check(query_x, query_pid, query_cam, gallery_x, gallery_pid, gallery_cam)
    answers = _answers(gallery_pid, gallery_cam)
    drawn = query_images is not None and gallery_images is not None and work_dir is not None
    shown = _spread(answers, query_pid, query_cam) if drawn else ()
    rankings = []
    first = np.zeros(len(query_x), np.int64)  # rank of the first right answer, 0 = there is none
    scores = np.zeros((3, len(query_x)))  # AP at hits, AP by trapezoids, INP
    before = 0  # steps of `progress` that re-ranking takes
    rows: Iterator[Features]
    if protocol.rerank:
        rows = (np.negative(d) for d in rerank.distances(query_x, gallery_x, protocol, device, progress))
        before = len(query_x) + len(gallery_x)
    else:
        rows = _similarities(query_x, gallery_x, protocol, device)
    for i, similarity in enumerate(rows):
        right, junk = answers(query_pid[i], query_cam[i])
        ranks = hit_ranks(similarity, right, junk)
        if len(ranks):
            first[i] = ranks[0]
            scores[:, i] = average_precision(ranks)
        if i in shown:
            rankings.append(_ranking(i, similarity, right, junk))
        if progress and (i + 1 == len(query_x) or i % 64 == 63):
            progress(before + i + 1, before + len(query_x), {})

    matched = first > 0
    if not matched.any():
        raise ValueError(
            f"none of the {len(query_x)} queries has a picture of its identity by another camera in the gallery"
        )
    counted = matched if protocol.no_match == "exclude" else np.ones_like(matched)
    n = int(counted.sum())
    hits = {k: (matched & (first <= k))[counted] for k in RANKS}
    metrics = {f"rank{k}": percent(hit) for k, hit in hits.items()}
    for name, values in zip(("mAP", "mAP_trapezoid", "mINP"), scores, strict=True):
        metrics[name] = percent(values[counted])
    details = {
        "n_query": n,
        "n_gallery": len(gallery_x),
        "n_without_match": int((~matched).sum()),
        "standard_error": standard_error(metrics["rank1"], n),
        "standard_error_mAP": float(100 * scores[0, counted].std() / n**0.5),
        "correct": pack(hits[1]),
    }
    artifacts = {}
    if query_images is not None and gallery_images is not None and work_dir is not None:
        path = work_dir / "ranking.png"
        strip(rankings, query_pid, query_cam, gallery_cam, query_images, gallery_images, path)
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


def strip(
    rankings: Sequence[Ranking],
    query_pid: Ids,
    query_cam: Ids,
    gallery_cam: Ids,
    query_images: Pixels,
    gallery_images: Pixels,
    path: Path,
) -> None:
    """Write a PNG: a row a query, with its nearest pictures, and at the end its first right one if that is not there.

    images: uint8 [N, 3, H, W], drawn as the network gets them. A green frame and + mean the same identity, a red frame
    and x another; under each picture stands its similarity: cosine, or minus the squared or the re-ranked distance.
    """
    from PIL import Image, ImageDraw, ImageFont

    wide, gap, text, head, font = 96, 10, 30, 26, ImageFont.load_default(12)
    high = round(wide * min(max(query_images.shape[2] / query_images.shape[3], 0.5), 2))
    green, red, ink = (0, 140, 70), (200, 40, 40), (40, 40, 40)
    left, columns = gap + wide + 3 * gap, max(len(ranking.nearest) for ranking in rankings)
    last = left + columns * (wide + gap) + 2 * gap
    width = max(last + wide + gap, left + 720)
    sheet = Image.new("RGB", (width, head + (high + text + gap) * len(rankings) + gap), "white")
    draw = ImageDraw.Draw(sheet)

    def place(pixels: Pixels, x: int, y: int, colour: tuple[int, int, int], caption: str) -> None:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        scale = min((wide - 8) / picture.width, (high - 8) / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        sheet.paste(picture, (x + (wide - picture.width) // 2, y + (high - picture.height) // 2))
        draw.rectangle((x, y, x + wide - 1, y + high - 1), outline=colour, width=3)
        draw.text((x, y + high + 1), caption, fill=colour, font=font, spacing=1)

    at = left
    draw.text((gap, 6), "query", fill=ink, font=font)
    for words, colour in (
        ("nearest gallery pictures:", ink),
        ("green + = same identity", green),
        ("red x = another", red),
        ("(junk and the query's identity by its own camera left out)", ink),
    ):
        draw.text((at, 6), words, fill=colour, font=font)
        at += round(draw.textlength(words, font=font)) + 16
    if any(ranking.first not in ranking.nearest for ranking in rankings):
        draw.text((last, 6), "first right one", fill=green, font=font)
    for number, ranking in enumerate(rankings):
        i, y = ranking.query, head + number * (high + text + gap)
        place(query_images[i], gap, y, ink, f"id {query_pid[i]}, cam {query_cam[i]}\nfirst right: rank {ranking.rank}")
        for column, (j, similarity) in enumerate(zip(ranking.nearest, ranking.similarity[:-1], strict=True)):
            colour, mark = (green, "+") if j in ranking.right else (red, "x")
            caption = f"{mark} {similarity:.3f}  cam {gallery_cam[j]}"
            place(gallery_images[j], left + column * (wide + gap), y, colour, caption)
        if ranking.first not in ranking.nearest:
            caption = f"+ {ranking.similarity[-1]:.3f}  cam {gallery_cam[ranking.first]}\nrank {ranking.rank}"
            place(gallery_images[ranking.first], last, y, green, caption)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _spread(answers: Answers, query_pid: Ids, query_cam: Ids, count: int = 6) -> set[int]:
    """A few queries, evenly spaced among those with a right answer."""
    able = [i for i in range(len(query_pid)) if len(answers(query_pid[i], query_cam[i])[0])]
    return {able[i] for i in np.linspace(0, len(able) - 1, min(count, len(able))).round().astype(int)}


def _ranking(query: int, similarity: Features, right: Ids, junk: Ids, nearest: int = 8) -> Ranking:
    order = np.argsort(-similarity, kind="stable")
    order = order[~np.isin(order, junk)]
    rank = int(np.flatnonzero(np.isin(order, right))[0])
    shown, first = order[:nearest], int(order[rank])
    return Ranking(query, shown, first, rank + 1, right, similarity[[*shown, first]])


def _answers(gallery_pid: Ids, gallery_cam: Ids) -> Answers:
    """A function of a query's identity and camera: gallery indices of the right answers, and of junk."""
    order = np.argsort(gallery_pid, kind="stable")
    pids = gallery_pid[order]
    always = np.flatnonzero(gallery_pid == JUNK)

    def answers(pid: int, cam: int) -> tuple[Ids, Ids]:
        same = order[np.searchsorted(pids, pid) : np.searchsorted(pids, pid, side="right")]
        by_cam = gallery_cam[same] == cam
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
        queries = to_tensor(query_x[start : start + rows]).to(device)
        unit, squares = F.normalize(queries, dim=1), queries.square().sum(1, keepdim=True)
        for begin in range(0, len(gallery_x), block):
            gallery = to_tensor(gallery_x[begin : begin + block]).to(device)
            if protocol.metric == "cosine":
                found = (unit @ gallery.T).div_(torch.linalg.vector_norm(gallery, dim=1).clamp_(min=1e-12))
            else:
                found = (queries @ gallery.T).mul_(2).sub_(gallery.square().sum(1)).sub_(squares)
            similarity[: len(queries), begin : begin + block] = found.cpu().numpy()
        yield from similarity[: len(queries)]


def _check(
    query_x: Features, query_pid: Ids, query_cam: Ids, gallery_x: Features, gallery_pid: Ids, gallery_cam: Ids
) -> None:
    for what, x, pid, cam in (
        ("query", query_x, query_pid, query_cam),
        ("gallery", gallery_x, gallery_pid, gallery_cam),
    ):
        if not len(x) == len(pid) == len(cam) or not len(x):
            raise ValueError(
                f"{what}: {len(x)} features, {len(pid)} identities and {len(cam)} cameras; need as many of each, not 0"
            )
        check_finite(x)
    if (query_pid == JUNK).any():
        raise ValueError(
            f"query {int(np.flatnonzero(query_pid == JUNK)[0])} is junk (identity -1); only gallery pictures may be"
        )
