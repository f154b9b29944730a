"""The statistics behind the verdicts, on numpy and scipy; what they can show at these sample sizes.

A comparison rests on the mean of n paired differences (same seed, same data) and on how far such a mean strays. With
three pairs their own spread says little, so it is taken from all arms of the table at once: a randomised-block model,
value = arm + seed + residual, whose residual variance s^2 is pooled over the arms. The mean of n differences then has
the standard error s sqrt(2 / n) with the degrees of freedom of the model. With two arms this is the paired t-test.

From five pairs on, and where the pair is noisier or quieter than the other arms, the pairs speak for themselves. Such
a pair is found by F = (variance of its differences) / (2 s^2 of the others), at 20 % two-sided: a test that misses it
errs the more often. It then gets the paired t-test, not Welch's, since that keeps what the seeds share. No bootstrap:
with three seeds its intervals are far too narrow.

Of scipy only the special functions are imported: `scipy.stats` and statsmodels, which give the same numbers (tested),
take a second to import, half of what the boards of a thousand records take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

ALPHA = 0.05
POWER = 0.8
ALONE = 5  # pairs from which on their own spread is used
UNLIKE = 0.2  # two-sided p-value below which a pair's spread is not that of the other arms


@dataclass(frozen=True)
class Mean:
    """A mean, and how sure one may be of it."""

    value: float
    sd: float  # of a single one of the n values
    n: int
    df: int  # degrees of freedom of sd
    how: str  # where sd comes from, in words

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.sd / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean, of two values or more."""
        reach = _quantile(0.975, self.df) * self.error
        return self.value - reach, self.value + reach

    def above(self, bound: float) -> float:
        """One-sided p-value that the true mean lies above `bound`. Values without spread decide for themselves."""
        if self.error <= 1e-12 * max(1.0, abs(self.value)):
            return 0.0 if self.value > bound else 1.0
        from scipy.special import stdtr

        return float(stdtr(self.df, (bound - self.value) / self.error))

    def below(self, bound: float) -> float:
        """One-sided p-value that the true mean lies below `bound`."""
        return Mean(-self.value, self.sd, self.n, self.df, self.how).above(-bound)

    def within(self, target: float, margin: float) -> float:
        """p-value of two one-sided tests (TOST) that the true mean lies within `margin` of `target`."""
        return max(self.above(target - margin), self.below(target + margin))

    def resolvable(self, alpha: float = ALPHA) -> float:
        """The smallest mean that would have been shown to lie above 0 at this level."""
        return _quantile(1 - alpha, self.df) * self.error

    def next_value(self) -> tuple[float, float]:
        """The 95 % prediction interval of one further value."""
        reach = _quantile(0.975, self.df) * self.sd * math.sqrt(1 + 1 / self.n)
        return self.value - reach, self.value + reach

    def needed(self, effect: float, alpha: float = ALPHA) -> int | None:
        """Values that a one-sided t-test at this level needs to show a true mean of `effect` four times in five.

        A pooled spread keeps its degrees of freedom a seed, as long as `paired` would pool. None where no number is
        enough (no effect) or the spread is unknown.
        """
        if effect <= 0 or not 0 < self.sd < math.inf:
            return None
        from scipy.special import ndtri

        a_seed, ratio = self.df / (self.n - 1), effect / self.sd
        n = max(2, math.floor(float((ndtri(POWER) - ndtri(alpha)) / ratio) ** 2))  # a t-test needs more
        while True:
            df = (n - 1) * (a_seed if n < ALONE else 1)
            size = min(ratio, 30 / math.sqrt(n))  # beyond that the non-central t is numerically lost
            if power(size, n, alpha, df) >= POWER:
                return n
            n += 1


def _quantile(p: float, df: float) -> float:
    """The value below which Student's t lies with probability p."""
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def power(size: float, n: int, alpha: float, df: float) -> float:
    """How often a one-sided t-test of n values at this level shows a true mean of `size` standard deviations."""
    from scipy.special import nctdtr

    return 1.0 - float(nctdtr(df, size * math.sqrt(n), _quantile(1 - alpha, df)))


def own(values: Sequence[float], what: str = "own spread") -> Mean:
    """The mean of some values with their own spread, which for a single one is unknown: infinite."""
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if len(array) == 1:
        return Mean(float(array[0]), math.inf, 1, 0, what)
    return Mean(float(array.mean()), float(array.std(ddof=1)), len(array), len(array) - 1, what)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], table: Sequence[Mapping[int, float]] = ()) -> Mean:
    """The mean difference ours - theirs over their common seeds.

    ours, theirs: value by seed.  table: the other arms that were judged the same way; of them, too, only these seeds
    count, and only arms that have two of them. One whose seeds all agree was not trained (raw pixels), and is left out.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    alone = own([ours[seed] - theirs[seed] for seed in seeds], "paired t")
    if len(seeds) >= ALONE or len(seeds) < 2:
        return alone
    rest = [{seed: arm[seed] for seed in seeds if seed in arm} for arm in table]
    rest = [arm for arm in rest if len(set(arm.values())) >= 2]
    if len(rest) < 2:
        return alone
    if _unlike(alone, *block_model(rest)[1:]):
        return replace(alone, how="paired t, as the spread of this pair is not that of the other arms")
    arms = [{seed: arm[seed] for seed in seeds} for arm in (ours, theirs)] + rest
    _, variance, df = block_model(arms)
    how = f"variance pooled over {len(arms)} arms, {df} degrees of freedom"
    return Mean(alone.value, math.sqrt(2 * variance), len(seeds), df, how)


def block_model(arms: Sequence[Mapping[int, float]]) -> tuple[list[list[float]], float, int]:
    """Ordinary least squares of value = arm + seed: (residuals by arm, residual variance, degrees of freedom).

    The means of the arms are taken out of the values and of the indicators of the seeds first. That leaves the
    residuals as they are (theorem of Frisch, Waugh and Lovell), and as many unknowns as seeds.

    arms: value by seed, of one seed or more.
    """
    import numpy as np

    arm = np.repeat(np.arange(len(arms)), [len(found) for found in arms])
    seeds = np.array([seed for found in arms for seed in sorted(found)])
    values = np.array([found[seed] for found in arms for seed in sorted(found)], dtype=np.float64)
    table = np.column_stack([values, *(seeds == seed for seed in np.unique(seeds))])
    starts = np.searchsorted(arm, np.arange(len(arms)))
    table -= (np.add.reduceat(table, starts) / np.diff([*starts, len(arm)])[:, None])[arm]
    values, indicators = table[:, 0], table[:, 1:]
    effects, _, rank, _ = np.linalg.lstsq(indicators, values, rcond=None)
    residuals = values - indicators @ effects
    df = len(arm) - len(arms) - int(rank)
    variance = float(residuals @ residuals) / df if df else math.nan
    return [part.tolist() for part in np.split(residuals, starts[1:])], variance, df


def _unlike(pair: Mean, variance: float, df: int) -> bool:
    """Whether the differences of a pair stray otherwise than two arms of that residual variance would."""
    from scipy.special import fdtr, fdtrc

    if df < 1 or variance <= 0:
        return True
    if pair.sd == 0:  # rounding, no sign of a quiet pair: on its own it would decide with certainty
        return False
    f = pair.sd**2 / (2 * variance)
    return 2 * min(float(fdtrc(pair.df, df, f)), float(fdtr(pair.df, df, f))) < UNLIKE


def holm(p: Sequence[float]) -> list[bool]:
    """Which hypotheses of a family Holm's step-down procedure rejects at ALPHA.

    From the smallest p-value on, each has to meet ALPHA over the number of those that are left; the first one that does
    not ends it (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979).
    """
    reject = [False] * len(p)
    for left, place in zip(range(len(p), 0, -1), sorted(range(len(p)), key=p.__getitem__), strict=True):
        if p[place] > ALPHA / left:
            break
        reject[place] = True
    return reject
