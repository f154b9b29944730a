"""How long a re-ID evaluation of SYSU-30k's size takes, and how much memory beside the features:

    python tests/eval/sysu_size.py [--queries 1000] [--gallery 479730] [--dim 2048] [--threads 2]

Prints one line of JSON: seconds, seconds of all threads together (cpu_s), megabytes above those of a process that has
read all features once, and metrics. The features are noise, made in chunks from fixed seeds into a file (3.9 GB at full
size) that is memory-mapped and deleted in the end; each query has one right answer, some way off.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import beta

from eval import protocols, reid
from eval.data import Identified
from eval.protocols.reid import ReidProtocol


def generate(path: Path, query_x: np.ndarray, gallery: int) -> None:
    """Noise; gallery picture i, below the number of queries, is also a little like query i."""
    dim = query_x.shape[1]
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(gallery, dim))
    for start in range(0, gallery, 8192):
        rows = np.random.default_rng([1, start]).random((min(8192, gallery - start), dim), np.float32) - 0.5
        like = query_x[start : start + len(rows)]
        rows[: len(like)] += 0.1 * like
        out[start : start + len(rows)] = rows
    out.flush()


def likely_rank1(query_x: np.ndarray, right_x: np.ndarray, gallery: int) -> float:
    """Rank-1 in percent, given the cosines to the right answers: the others' directions are as good as random."""
    lengths = np.linalg.norm(query_x, axis=1) * np.linalg.norm(right_x, axis=1)
    cosine = (query_x * right_x).sum(1) / lengths
    half = (query_x.shape[1] - 1) / 2
    return float(100 * (beta.cdf((1 + cosine) / 2, half, half) ** (gallery - 1)).mean())


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("queries", 1000), ("gallery", 479_730), ("dim", 2048), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    protocol = protocols.load_as(ReidProtocol, "triplet")
    query_x = np.random.default_rng(0).random((asked.queries, asked.dim), np.float32) - 0.5
    query_pid = np.arange(1, asked.queries + 1)
    gallery_pid = np.zeros(asked.gallery, np.int64)
    gallery_pid[: asked.queries] = query_pid
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.npy"
        generate(path, query_x, asked.gallery)
        gallery_x = np.load(path, mmap_mode="r")
        sum(float(gallery_x[i : i + 8192].max()) for i in range(0, asked.gallery, 8192))  # all of it is mapped now
        before = peak_mb()
        started, used = time.perf_counter(), time.process_time()
        cams = np.ones(asked.queries, np.int64), np.full(asked.gallery, 2)
        given = Identified(query_x, query_pid, cams[0]), Identified(gallery_x, gallery_pid, cams[1])
        result = reid.evaluate(*given, protocol)
        wall, cpu = time.perf_counter() - started, time.process_time() - used
        report = {
            "seconds": round(wall, 1),
            "cpu_s": round(cpu, 1),
            "extra_mb": round(peak_mb() - before),
            "likely_rank1": likely_rank1(query_x, gallery_x[: asked.queries], asked.gallery),
            **result["metrics"],
        }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
