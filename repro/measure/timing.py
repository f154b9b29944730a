"""Times of several ways to do the same, taken in turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Sequence

import torch

_SAMPLES = 8  # aimed at in the time that is given
_FEWEST = 3


def interleaved(sides: Sequence[Iterator[None]], seconds: float, here: torch.device) -> list[list[float]]:
    """Seconds that one step of each iterator takes, measured in turns: one sample of each, then again."""

    def sample(side: Iterator[None], steps: int) -> float:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # noise collapses, which the loop would say
            for _ in range(steps):
                next(side)
        if here.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    for side in sides:  # the first step counts operations, fills caches and chooses algorithms
        sample(side, 1)
    once = [sample(side, 1) for side in sides]
    steps = [max(1, round(seconds / _SAMPLES / spent)) for spent in once]
    samples: list[list[float]] = [[] for _ in sides]
    ends = time.perf_counter() + seconds * len(sides)
    while len(samples[0]) < _FEWEST or time.perf_counter() < ends:
        for side, count, kept in zip(sides, steps, samples, strict=True):
            kept.append(sample(side, count))
    return samples


def device_in_words() -> str:
    """What a table of times calls the device of this process."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
