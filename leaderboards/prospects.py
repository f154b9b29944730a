"""How likely further pairs are to decide a claim: simulated from the pairs so far.

The differences are taken for normal, with the reference prior on their mean and variance: given n of them with mean m
and variance s^2, the true variance is (n - 1) s^2 / chi^2 with n - 1 degrees of freedom, and the true mean is normal
about m with that variance over n. With fewer than two pairs nothing is known: the true difference is then normal about
0 with a standard deviation of PRIOR, in standard deviations of the differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboards import evalues

PRIOR = 1.5
RUNS = 400
"""Simulated continuations: the standard error of a probability is 2.5 points at most."""


@dataclass(frozen=True)
class Prospect:
    """What further pairs may bring.

    chance: of a decision within them, 0 to 1.  pairs: that it takes in the median where it comes; None where it never
    came.
    """

    chance: float
    pairs: int | None


NOTHING = Prospect(0.0, None)


def prospect(
    values: Sequence[float],
    takes: float,
    further: int,
    seed: int = 0,
    margin: float | None = None,
    beyond: float = 0.0,
    same: float | None = None,
) -> Prospect:
    """What `further` pairs may bring.

    values: the differences so far, in the order in which they entered.  takes: the evidence that decides for either
    direction.  same: the evidence that decides for no difference within `margin`, with two values or more (None: as
    much as for a direction; no margin: that is not asked). What counts as a difference is one of more than `beyond`,
    with fewer than two values of more than 0.
    """
    import numpy as np

    if further < 1:
        return NOTHING
    rng = np.random.default_rng(seed)
    n = len(values)
    if n >= 2 and np.std(values) > 0:
        spread = np.sqrt((n - 1) * np.var(values, ddof=1) / rng.chisquare(n - 1, RUNS))
        mean = rng.normal(np.mean(values), spread / math.sqrt(n))
    else:
        spread = np.ones(RUNS) if n < 2 else np.full(RUNS, 1e-9 + 1e-6 * abs(float(np.mean(values))))
        mean = rng.normal(0.0, PRIOR, RUNS) if n < 2 else np.full(RUNS, float(np.mean(values)))
    drawn = rng.normal(mean[:, None], spread[:, None], (RUNS, further))
    known = np.broadcast_to(np.asarray(values if n >= 2 else (), dtype=np.float64), (RUNS, n if n >= 2 else 0))
    paths = np.concatenate([known, drawn], axis=1)
    if paths.shape[1] < 2:
        return NOTHING
    counts = np.arange(2, paths.shape[1] + 1, dtype=np.float64)
    bound = beyond if n >= 2 else 0.0
    up, down = evalues.t_statistics(paths - bound), -evalues.t_statistics(paths + bound)
    reached = np.maximum(evalues.log_ratio(up, counts), evalues.log_ratio(down, counts)) >= math.log(takes)
    if margin is not None and n >= 2:
        over = evalues.log_ratio(evalues.t_statistics(paths + margin), counts)
        under = evalues.log_ratio(-evalues.t_statistics(paths - margin), counts)
        reached |= np.minimum(np.maximum.accumulate(over, 1), np.maximum.accumulate(under, 1)) >= math.log(
            same or takes
        )
    reached = reached[:, max(0, known.shape[1] - 1) :]  # a column a further pair; before the second pair there is none
    came = reached.any(1)
    if not came.any():
        return NOTHING
    first = reached.argmax(1)[came] + 1 + (further - reached.shape[1])
    return Prospect(float(came.mean()), int(np.median(first)))
