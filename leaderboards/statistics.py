"""Means and their classical intervals, on numpy and scipy.

An interval is for one look: whoever adds pairs until it leaves 0 out will get there in every fifth case where nothing
is to be found. Verdicts rest on `evalues.py`, which may be looked at after every pair. The spread is that of the values
themselves, so that nothing which is added to a table moves another pair's interval.

Of scipy only the special functions are imported: `scipy.stats`, which gives the same numbers (tested), takes a second
to import, half of what the boards of a thousand records take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """A mean of n values, and how far they stray."""

    value: float
    sd: float  # of a single value; infinite where there is one only
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean, of two values or more: for one look."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.n - 1, 0.975)) * self.sd / math.sqrt(self.n)
        return self.value - reach, self.value + reach


def own(values: Sequence[float]) -> Mean:
    """The mean of some values, one at least."""
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    return Mean(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else math.inf, len(array))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Mean:
    """The mean difference ours - theirs over their common seeds, one at least.

    ours, theirs: value by seed.
    """
    return own([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
