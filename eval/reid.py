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
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from eval.features import check_finite, to_tensor
from eval.protocols import ReidProtocol
from eval.scores import Progress, pack, percent, standard_error

JUNK = -1
CHUNK = 1 << 26  # similarities held at a time: 256 MiB
RANKS = (1, 5, 10, 20)

Features = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


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

    x: float32 [N, D]; pid, cam: int64 [N]. Queries without a right answer are left out and counted, or score 0, as the
    protocol says. Memory beside the features does not grow with the number of queries: about 0.3 GB.
    Given the images (uint8 [N, 3, H, W]) and a folder, the artifact "ranking" is the picture that `strip` draws.
    ValueError for arrays that do not fit each other, features that are not finite, or no query with a right answer.
    """
    _check(query_x, query_pid, query_cam, gallery_x, gallery_pid, gallery_cam)
    first = np.zeros(len(query_x), np.int64)  # rank of the first right answer, 0 = there is none
    scores = np.zeros((3, len(query_x)))  # AP at hits, AP by trapezoids, INP
    rows = _similarities(query_x, gallery_x, protocol, device)
    answers = _answers(gallery_pid, gallery_cam)
    for i, similarity in enumerate(rows):
        ranks = hit_ranks(similarity, *answers(query_pid[i], query_cam[i]))
        if len(ranks):
            first[i] = ranks[0]
            scores[:, i] = average_precision(ranks)
        if progress and (i + 1 == len(query_x) or i % 64 == 63):
            progress(i + 1, len(query_x), {})

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
        queries, gallery = (query_x, query_pid, query_cam), (gallery_x, gallery_pid, gallery_cam)
        path = strip(*queries, *gallery, query_images, gallery_images, protocol, work_dir / "ranking.png")
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
    query_x: Features,
    query_pid: Ids,
    query_cam: Ids,
    gallery_x: Features,
    gallery_pid: Ids,
    gallery_cam: Ids,
    query_images: Pixels,
    gallery_images: Pixels,
    protocol: ReidProtocol,
    path: Path,
    *,
    queries: int = 6,
    nearest: int = 8,
) -> Path:
    """Write a PNG: a few queries, evenly spaced among those with a right answer, each with its nearest pictures.

    images: uint8 [N, 3, H, W]. Junk is left out as in the metrics; a green frame and + mean the same identity, a red
    frame and x another; under each picture stands its cosine (or minus its squared distance). Returns `path`.
    """
    from PIL import Image, ImageDraw, ImageFont

    _check(query_x, query_pid, query_cam, gallery_x, gallery_pid, gallery_cam)
    answers = _answers(gallery_pid, gallery_cam)
    has_answer = [i for i in range(len(query_x)) if len(answers(query_pid[i], query_cam[i])[0])]
    if not has_answer:
        raise ValueError("no query has a picture of its identity by another camera: nothing to show")
    shown = [
        has_answer[i] for i in np.linspace(0, len(has_answer) - 1, min(queries, len(has_answer))).round().astype(int)
    ]

    tile, gap, text, head, font = 96, 10, 30, 26, ImageFont.load_default(12)
    green, red, ink = (0, 140, 70), (200, 40, 40), (40, 40, 40)
    width = gap + (tile + gap) * (nearest + 1) + 2 * gap
    sheet = Image.new("RGB", (width, head + (tile + text + gap) * len(shown) + gap), "white")
    draw = ImageDraw.Draw(sheet)

    def place(pixels: Pixels, x: int, y: int, colour: tuple[int, int, int]) -> None:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        scale = (tile - 8) / max(picture.size)
        picture = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BICUBIC
        )
        sheet.paste(picture, (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2))
        draw.rectangle((x, y, x + tile - 1, y + tile - 1), outline=colour, width=3)

    draw.text((gap, 6), "query", fill=ink, font=font)
    left = gap + tile + 3 * gap
    draw.text((left, 6), "nearest gallery pictures:", fill=ink, font=font)
    draw.text((left + 150, 6), "green + = same identity", fill=green, font=font)
    draw.text((left + 300, 6), "red x = another", fill=red, font=font)
    draw.text((left + 410, 6), "(junk and the query's identity by its own camera left out)", fill=ink, font=font)
    for row, i in enumerate(shown):
        y = head + row * (tile + text + gap)
        (similarity,) = _similarities(query_x[i : i + 1], gallery_x, protocol, "cpu")
        right, junk = answers(query_pid[i], query_cam[i])
        place(query_images[i], gap, y, ink)
        first = hit_ranks(similarity, right, junk)[0]
        caption = f"id {query_pid[i]}, camera {query_cam[i]}\nfirst right: rank {first}"
        draw.text((gap, y + tile + 1), caption, fill=ink, font=font, spacing=1)
        order = np.argsort(-similarity, kind="stable")
        for column, j in enumerate(order[~np.isin(order, junk)][:nearest]):
            x, colour, mark = left + column * (tile + gap), *((green, "+") if j in right else (red, "x"))
            place(gallery_images[j], x, y, colour)
            draw.text((x, y + tile + 1), f"{mark} {similarity[j]:.3f}  cam {gallery_cam[j]}", fill=colour, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _answers(gallery_pid: Ids, gallery_cam: Ids) -> Callable[[int, int], tuple[Ids, Ids]]:
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
    """Row by row, float32 [G]: cosine, or minus the squared distance."""
    gallery, queries = to_tensor(gallery_x).to(device), to_tensor(query_x).to(device)
    # Lengths instead of a unit-length copy: SYSU-30k's gallery alone is 4 GB.
    squares = torch.cat([part.square().sum(1) for part in gallery.split(65536)])
    lengths = squares.sqrt().clamp(min=1e-12)
    for part in queries.split(max(1, CHUNK // len(gallery))):
        if protocol.metric == "cosine":
            similarity = (F.normalize(part, dim=1) @ gallery.T).div_(lengths)
        else:
            similarity = (part @ gallery.T).mul_(2).sub_(squares).sub_(part.square().sum(1, keepdim=True))
        yield from similarity.cpu().numpy()


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
