"""Evidence that may be looked at after every pair: e-values of the paired t statistic.

Of n paired differences with t statistic t the e-value is the ratio of two densities of t with n - 1 degrees of
freedom: with non-centrality sqrt(n) DELTA, and with none (Perez-Ortiz, Lardy, de Heide, Gruenwald, "E-statistics, group
invariance and anytime-valid testing", Annals of Statistics 2024). With no difference, or a negative one, it ever
reaches 1 / a with a probability of a at most, however often one looks (Ville). So the largest value so far is the
evidence.

    f(t; v, m) / f(t; v, 0) = exp(-m^2 / 2) I_v(y) / I_v(0),    y = m t / sqrt(v + t^2),
    I_v(y) = integral over w > 0 of w^v exp(-w^2 / 2 + y w)

|y| is m at most, so that nothing overflows at any t, and values without spread (t infinite) have evidence, too. That of
three pairs never exceeds 11, that of five 66.

Of scipy nothing is imported: `scipy.stats`, which gives the same numbers (tested), takes a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALPHA = 0.05
DELTA = 1.2
"""The difference that is looked for, in standard deviations of the paired differences: the same for every claim."""


@dataclass(frozen=True)
class Measured:
    """How often two arms that are as good are told apart at 40, of differences that are not normal: simulated."""

    loss: float  # of one seed in twenty, in standard deviations of the others; 0: the differences are exponential
    wrong: int  # percent of the claims, looked at after every pair from the third to the twentieth
    fragile: int  # percent of these with which the sign test disagrees when they are decided


MEASURED = (Measured(0, 13, 16), Measured(10, 16, 13), Measured(20, 54, 13))

_NODES, _REACH = 96, 10.0  # of the quadrature: the logarithm of the integrand falls by w^2 / 2 at least off its mode
_LARGEST = 700.0  # logarithm of evidence that is still a number
_FLAT = 1e-12  # a spread below this part of the largest value is rounding


def log_ratio(t: Floats, n: Floats) -> Floats:
    """Natural logarithm of the e-value.

    t: float [...], infinite where the values have no spread.  n: how many values, 2 or more; broadcasts with t.
    Returns float [...], never infinite.
    """
    import numpy as np

    t, n = np.broadcast_arrays(np.asarray(t, dtype=np.float64), np.asarray(n, dtype=np.float64))
    v, m = n - 1.0, DELTA * np.sqrt(n)
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(t), np.sign(t), t / np.hypot(np.sqrt(v), t))
    y = m * share
    mode = (y + np.sqrt(y * y + 4.0 * v)) / 2.0
    low, high = np.maximum(mode - _REACH, 0.0), mode + _REACH
    nodes, weights = _quadrature()
    w = low[..., None] + (high - low)[..., None] * nodes
    at_mode = v * np.log(mode) - mode * mode / 2.0 + y * mode
    inner = v[..., None] * np.log(w) - w * w / 2.0 + y[..., None] * w - at_mode[..., None]
    integral = at_mode + np.log((np.exp(inner) * weights).sum(-1) * (high - low))
    central = (v - 1.0) / 2.0 * math.log(2.0) + np.vectorize(math.lgamma, otypes=[float])((v + 1.0) / 2.0)
    found: Floats = integral - central - m * m / 2.0
    return found


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Gauss-Legendre on (0, 1): (nodes, weights), float64 [96] each."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1.0) / 2.0, weights / 2.0


def t_statistics(values: Floats) -> Floats:
    """t of the first 2, 3, ... of the values against 0.

    values: float64 [..., n], in the order in which they enter.  Returns float64 [..., n - 1]; infinite where values
    without spread are not 0, 0 where they are.
    """
    import numpy as np

    n = np.arange(1, values.shape[-1] + 1, dtype=np.float64)
    first = values[..., :1]
    shifted = values - first  # so that squares lose nothing where the spread is small
    means = np.cumsum(shifted, -1) / n
    squares = np.maximum(np.cumsum(shifted**2, -1) - n * means**2, 0.0)
    size = np.maximum.accumulate(np.abs(values), -1)
    sd = np.sqrt(squares[..., 1:] / (n[1:] - 1.0))
    mean = (means + first)[..., 1:]
    sd = np.where(sd <= _FLAT * size[..., 1:], 0.0, sd)
    mean = np.where(np.abs(mean) <= _FLAT * size[..., 1:], 0.0, mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        t: Floats = np.where(mean == 0.0, 0.0, mean / (sd / np.sqrt(n[1:])))
    return t


def above(values: Sequence[float], bound: float = 0.0) -> float:
    """The evidence that the true mean of the values lies above `bound`: its largest so far, 1 where there is none.

    values: in the order in which they enter.
    """
    import numpy as np

    if len(values) < 2:
        return 1.0
    array = np.asarray(values, dtype=np.float64) - bound
    n = np.arange(2, len(array) + 1, dtype=np.float64)
    return max(1.0, math.exp(min(float(log_ratio(t_statistics(array), n).max()), _LARGEST)))


def below(values: Sequence[float], bound: float = 0.0) -> float:
    """The evidence that the true mean of the values lies below `bound`."""
    return above([-value for value in values], -bound)


def within(values: Sequence[float], low: float, high: float) -> float:
    """The evidence that the true mean lies between two bounds: the smaller one of those of either side."""
    return min(above(values, low), below(values, high))


def holm(evidence: Sequence[float]) -> list[tuple[bool, float]]:
    """Of each claim of a family, whether a question is decided, and the evidence that it takes, or took.

    From the claim of the largest evidence on, the k-th of m has to reach 2 (m - k + 1) / ALPHA; the first one that does
    not ends it (Holm, 1979). 2, as a claim may be wrong in two ways. It needs no independence.

    evidence: of each claim the largest of the tests of one question. Questions (is there a difference? is there none?)
        have a Holm each: were they mixed, claims shown to be equal, of which nothing false was said, would make it
        easier for the others, and in a family of seven equal claims a false difference would have 8.7 % (simulated).
    """
    m, shown = len(evidence), 0
    found = [(False, 0.0)] * m
    for k, place in enumerate(sorted(range(m), key=lambda place: -evidence[place])):
        takes = first_takes(m - shown)
        decided = shown == k and evidence[place] >= takes
        shown += decided
        found[place] = decided, takes
    return found


def first_takes(claims: int) -> float:
    """The evidence that the first of so many claims of a family takes: see `holm`."""
    return 2 * max(1, claims) / ALPHA


def least(takes: float) -> int:
    """The fewest values with which evidence can reach `takes` at all, however much they say: 5 for 40."""
    import numpy as np

    n = 2
    while math.exp(float(log_ratio(np.array(math.inf), np.array(float(n))))) < takes:
        n += 1
    return n


def sign_test(values: Sequence[float], bound: float = 0.0) -> float:
    """One-sided p-value of the sign test that the median of the values lies above `bound`; ties count for neither."""
    over, under = sum(value > bound for value in values), sum(value < bound for value in values)
    n = over + under
    return sum(math.comb(n, k) for k in range(over, n + 1)) / 2**n
