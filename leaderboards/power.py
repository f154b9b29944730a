"""How many pairs decide a claim with a probability of 80 %, if the differences are normal with a known mean and spread.

Simulated with one fixed set of draws, looking after every pair, so the same question always has the same answer. No
e-value is computed for the draws: of n values it rises with their t statistic, so it is enough to know the t at which
it reaches what is needed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from leaderboards import evalues

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POWER = 0.8
MOST = 100
"""Pairs that are looked at."""
_RUNS = 2000
"""Simulated claims: the power at the number found is within 1.8 points, twice its standard error, of POWER."""
_STEPS = 60  # of the bisection


def pairs_for_difference(mean: float, takes: float) -> int | None:
    """The fewest pairs that show a difference to be above 0 with a probability of POWER; None for more than MOST.

    mean: of the differences, in their standard deviations.  takes: evidence that is needed.
    """
    return _pairs(round(mean, 3), 0.0, takes)


def pairs_for_band(margin: float, takes: float) -> int | None:
    """The fewest values that show their mean to be within a margin with a probability of POWER; None: more than MOST.

    The true mean is in the middle.  margin: in standard deviations of the values, above 0.  takes: evidence needed.
    """
    return _pairs(0.0, round(margin, 3), takes)


@cache
def _pairs(mean: float, margin: float, takes: float) -> int | None:
    import numpy as np

    least, (means, errors) = critical(takes), _draws()
    reached = _reached(means + (margin or mean), errors, least)
    if margin:
        reached &= _reached(margin - means, errors, least)
    share = reached.mean(0)
    return int(np.argmax(share >= POWER)) + 2 if share[-1] >= POWER else None


def _reached(means: Floats, errors: Floats, least: Floats) -> NDArray[np.bool_]:
    """[runs, MOST - 1]: whether the evidence of a positive mean has been as large as needed after 2, 3, ... values."""
    import numpy as np

    found: NDArray[np.bool_] = np.logical_or.accumulate(means / errors >= least, axis=1)
    return found


@cache
def _draws() -> tuple[Floats, Floats]:
    """Means of 2, 3, ... draws of a standard normal and their standard errors, float64 [runs, MOST - 1] each."""
    import numpy as np

    drawn = np.random.default_rng(0).standard_normal((_RUNS, MOST))
    n = np.arange(1, MOST + 1, dtype=np.float64)
    means = drawn.cumsum(1) / n
    means, n = means[:, 1:], n[1:]
    return means, means / evalues.t_statistics(drawn)


@cache
def critical(takes: float) -> Floats:
    """The t of 2, 3, ... values at which their evidence reaches `takes`.

    Returns float64 [MOST - 1]; infinite where no t is enough.
    """
    import numpy as np

    n = np.arange(2, MOST + 1, dtype=np.float64)

    def t_of(share: Floats) -> Floats:
        return share * np.sqrt((n - 1) / np.maximum(1 - share**2, 1e-300))

    low, high = np.full(n.shape, -1.0), np.ones(n.shape)  # of t / sqrt(n - 1 + t^2)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        enough = evalues.log_ratio(t_of(middle), n) >= math.log(takes)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    possible = evalues.log_ratio(np.array(math.inf), n) >= math.log(takes)
    return np.where(possible, t_of(high), math.inf)
