"""Times of several ways to do the same, taken in turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence

import torch

_SAMPLES = 8  # aimed at in the time that is given
_FEWEST = 3


def clock(here: torch.device) -> Callable[[], float]:
    """For what one thread of a CPU computes, this process's own time, to which other processes add little.

    Else the time of the wall.
    """
    return time.process_time if here.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def interleaved(
    sides: Sequence[Iterator[None]],
    seconds: float,
    here: torch.device,
    now: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds, by the clock `now`, that one step of each iterator takes, in turns: one sample of each, then again."""

    def sample(side: Iterator[None], steps: int) -> float:
        started = now()
        with contextlib.redirect_stdout(io.StringIO()):  # noise collapses, which the loop would say
            for _ in range(steps):
                next(side)
        if here.type == "cuda":
            torch.cuda.synchronize()
        return (now() - started) / steps

    for side in sides:  # the first step counts operations, fills caches and chooses algorithms
        sample(side, 1)
    once = [sample(side, 1) for side in sides]
    steps = [max(1, round(seconds / _SAMPLES / spent)) for spent in once]
    samples: list[list[float]] = [[] for _ in sides]
    ends = now() + seconds * len(sides)
    while len(samples[0]) < _FEWEST or now() < ends:
        for side, count, kept in zip(sides, steps, samples, strict=True):
            kept.append(sample(side, count))
    return samples


def device_in_words() -> str:
    """What a table of times calls the device of this process."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def clock_in_words(here: torch.device) -> str:
    """What a table of times measured with `clock` says of them."""
    return "of this process's own time" if clock(here) is time.process_time else "by the wall's clock"
