"""Re-ID metrics against a literal loop, known cases, and real vehicles."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from eval import protocols, reid
from eval.context import Context
from eval.data import Identified
from eval.invariants import check_invariants
from eval.protocols.reid import ReidProtocol
from eval.scores import unpack


def protocol(**changes: object) -> ReidProtocol:
    return protocols.load_as(ReidProtocol, "fast", changes)


def loop(query_x, query_pid, query_cam, gallery_x, gallery_pid, gallery_cam, metric, no_match):
    """The protocol read aloud, one gallery picture at a time, in Python floats."""
    rows = []
    for x, pid, cam in zip(query_x.tolist(), query_pid, query_cam, strict=True):
        ranking = []
        for j, z in enumerate(gallery_x.tolist()):
            if gallery_pid[j] == -1 or (gallery_pid[j] == pid and gallery_cam[j] == cam):
                continue
            if metric == "cosine":
                dot, xx, zz = (sum(a * b for a, b in zip(u, v, strict=True)) for u, v in ((x, z), (x, x), (z, z)))
                distance = -dot / (xx * zz) ** 0.5
            else:
                distance = sum((a - b) ** 2 for a, b in zip(x, z, strict=True))
            ranking.append((distance, j))
        hits = [gallery_pid[j] == pid for _, j in sorted(ranking)]
        if not any(hits):
            rows.append(None)
            continue
        good, rectangle, trapezoid, old_precision, seen, last = sum(hits), 0.0, 0.0, 1.0, 0, 0
        for rank, hit in enumerate(hits, 1):
            seen += hit
            if hit:
                rectangle += seen / rank / good
                trapezoid += (old_precision + seen / rank) / 2 / good
                last = rank
            old_precision = seen / rank
        first = hits.index(True) + 1
        rows.append([first <= 1, first <= 5, first <= 10, first <= 20, rectangle, trapezoid, good / last])
    kept = [row or [0] * 7 for row in rows if row or no_match == "zero"]
    names = ("rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid", "mINP")
    return dict(zip(names, (100 * np.mean(kept, axis=0)).tolist(), strict=True)), rows.count(None)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("no_match", ["exclude", "zero"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(metric: str, no_match: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few corners of a cube (exact in float32, so ties are ties), junk, same camera, identities without a match."""
    rng = np.random.default_rng(seed)
    query_x, gallery_x = (rng.choice([-1.0, 1.0], (n, 16)).astype(np.float32) for n in (30, 120))
    gallery_x[40:] = gallery_x[rng.integers(0, 40, 80)]
    query_x[:15] = gallery_x[:15]
    query_pid, gallery_pid = rng.integers(1, 26, 30), rng.choice([-1, 0, *range(1, 21)], 120)
    query_cam, gallery_cam = rng.integers(1, 4, 30), rng.integers(1, 4, 120)
    monkeypatch.setattr(reid, "CHUNK", 500)  # four queries at a time
    arrays = (query_x, query_pid, query_cam, gallery_x, gallery_pid, gallery_cam)
    given = Identified(*arrays[:3]), Identified(*arrays[3:])
    result = reid.evaluate(*given, protocol(metric=metric, no_match=no_match))
    expected, missing = loop(*arrays, metric, no_match)
    assert missing > 0
    assert result["details"]["n_without_match"] == missing
    assert result["details"]["n_query"] == (30 if no_match == "zero" else 30 - missing)
    assert result["metrics"] == pytest.approx(expected, abs=1e-9)
    assert check_invariants(result["metrics"]) == []
    flags = unpack(result["details"]["correct"], result["details"]["n_query"])
    assert 100 * flags.mean() == pytest.approx(result["metrics"]["rank1"])


def test_one_right_answer_at_rank_r() -> None:
    """Values of the SYSU-30k sheet: trapezoid AP = 1 at rank 1, else 1 / (2 r); at hits 1 / r."""
    for r in (1, 2, 5, 40):
        at_hits, trapezoid, inp = reid.average_precision(np.array([r]))
        assert at_hits == inp == 1 / r
        assert trapezoid == (1 if r == 1 else 1 / (2 * r))


def test_several_right_answers() -> None:
    at_hits, trapezoid, inp = reid.average_precision(np.array([1, 3, 6]))
    assert at_hits == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    assert trapezoid == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 5 + 3 / 6) / 2) / 3)
    assert inp == 3 / 6


def test_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gallery of 100,000: 600 queries at once would hold 240 MB of similarities; a chunk here holds 40."""
    rng = np.random.default_rng(0)
    query, gallery = (rng.normal(size=(n, 4)).astype(np.float32) for n in (600, 100_000))
    ids = rng.integers(0, 50_000, 100_000)
    rows = []
    unit = reid.F.normalize
    monkeypatch.setattr(reid.F, "normalize", lambda x, dim: rows.append(len(x)) or unit(x, dim=dim))
    monkeypatch.setattr(reid, "CHUNK", 10_000_000)
    tracemalloc.start()
    queries = Identified(query, ids[:600], np.zeros(600, int))
    reid.evaluate(queries, Identified(gallery, ids, np.ones(100_000, int)), protocol())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == [100] * 6  # at a time
    assert peak < 60e6  # that chunk; a row, ids, their order


def test_memory_maps_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gallery of 26 MB on disk, 1 MB of it and of similarities at a time; the numbers are those of plain arrays."""
    rng = np.random.default_rng(0)
    query, gallery = (rng.normal(size=(n, 64)).astype(np.float32) for n in (20, 100_000))
    np.save(tmp_path / "query.npy", query)
    np.save(tmp_path / "gallery.npy", gallery)
    pid, cam = np.arange(100_000) // 5, np.arange(100_000) % 2
    monkeypatch.setattr(reid, "CHUNK", 250_000)
    monkeypatch.setattr(reid, "BLOCK", 250_000)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("query", "gallery")]
    plain = Identified(query, pid[:20], cam[:20] + 2), Identified(gallery, pid, cam)
    expected = reid.evaluate(*plain, protocol())
    tracemalloc.start()
    given = [dataclasses.replace(part, x=x) for part, x in zip(plain, mapped, strict=True)]
    result = reid.evaluate(*given, protocol())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result == expected
    assert peak < 10e6


@pytest.mark.slow
@pytest.mark.processes
def test_a_tenth_of_sysu_30k() -> None:
    """A tenth of the gallery in a tenth of 3 GB; Rank-1 is what the noise of the features makes likely."""
    command = [sys.executable, str(Path(__file__).with_name("sysu_size.py")), "--gallery", "47973", "--threads", "1"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    assert told["extra_mb"] < 300  # a copy of the features alone would be 393
    assert told["rank1"] == pytest.approx(told["likely_rank1"], abs=3)  # two standard errors of 1,000 queries


def test_refusals() -> None:
    x, ids, cams = np.eye(4, dtype=np.float32), np.arange(4), np.ones(4, int)
    others = Identified(x, ids, cams + 1)
    with pytest.raises(ValueError, match="no image from another camera with the identity of any of the 4 queries"):
        reid.evaluate(Identified(x, ids, cams), Identified(x, ids, cams), protocol())
    with pytest.raises(ValueError, match="query 2 is junk"):
        reid.evaluate(Identified(x, np.array([0, 1, -1, 3]), cams), others, protocol())
    with pytest.raises(ValueError, match="gallery: 4 features, 3 identities and 4 cameras"):
        reid.evaluate(Identified(x, ids, cams), dataclasses.replace(others, pid=ids[:3]), protocol())
    with pytest.raises(ValueError, match="1 of 4 features are not finite"):
        spoilt = dataclasses.replace(others, x=np.diag([1, 1, 1, np.nan]).astype(np.float32))
        reid.evaluate(Identified(x, ids, cams), spoilt, protocol())


def vehicles(folder: Path):
    """Query and gallery, each features and pictures: roots of the colour histograms of four stripes."""
    from PIL import Image

    sets = []
    for part in ("query", "bounding_box_test"):
        features, pids, cams, pictures = [], [], [], []
        for file in sorted((folder / part).glob("*.jpg")):
            pid, cam = re.match(r"([-\d]+)_c(\d)", file.name).groups()
            with Image.open(file) as opened:
                pixels = np.asarray(opened.convert("RGB").resize((64, 64)))
            bins = (pixels // 64).astype(int) @ [16, 4, 1]
            stripes = [np.bincount(s.ravel(), minlength=64) for s in np.array_split(bins, 4)]
            features.append(np.sqrt(np.concatenate(stripes)))
            pids.append(int(pid))
            cams.append(int(cam))
            pictures.append(pixels.transpose(2, 0, 1))
        features = np.array(features, np.float32)
        sets.append((Identified(features, np.array(pids), np.array(cams)), np.array(pictures)))
    return sets


def test_real_vehicles(data_root: Path, tmp_path: Path) -> None:
    """The sanity baseline that the pack's README states: mAP 44.2, Rank-1 33.3, Rank-5 53.7."""
    from PIL import Image

    (query, query_pictures), (gallery, gallery_pictures) = vehicles(data_root / "vehicle-reid-market")
    pictures = query_pictures, gallery_pictures
    result = reid.evaluate(query, gallery, protocol(), Context(folder=tmp_path), pictures=pictures)
    metrics = result["metrics"]
    assert (round(metrics["rank1"], 1), round(metrics["rank5"], 1)) == (33.3, 53.7)
    assert round(metrics["mAP"], 1) == 44.2
    assert metrics["mINP"] == pytest.approx(metrics["mAP"])  # one right answer each
    assert result["details"]["standard_error"] == pytest.approx(3.7, abs=0.05)

    with Image.open(result["artifacts"]["ranking"]) as opened:
        sheet = np.asarray(opened)
    green = (sheet == (0, 140, 70)).all(-1).sum()
    red = (sheet == (200, 40, 40)).all(-1).sum()
    # Six queries with at most one right picture each among eight: frames of 96 px, 3 px wide.
    frame = 4 * 3 * 96 - 36
    assert red > 40 * frame
    assert 0 < green < 8 * frame
