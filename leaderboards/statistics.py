"""The statistics behind the verdicts, on scipy and statsmodels; what they can show at these sample sizes.

A comparison rests on the mean of n paired differences (same seed, same data) and on how far such a mean strays. With
three pairs their own spread says little, so it is taken from all arms of the table at once: a randomised-block model,
value = arm + seed + residual, whose residual variance s^2 is pooled over the arms. The mean of n differences then has
the standard error s sqrt(2 / n) with the degrees of freedom of the model. With two arms this is the paired t-test.

From five pairs on, and where the pair is noisier or quieter than the other arms, the pairs speak for themselves. Such
a pair is found by F = (variance of its differences) / (2 s^2 of the others), at 20 % two-sided: a test that misses it
errs the more often. It then gets the paired t-test, not Welch's, since that keeps what the seeds share. No bootstrap:
with three seeds its intervals are far too narrow.
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
        from scipy import stats

        reach = float(stats.t.ppf(0.975, self.df)) * self.error
        return self.value - reach, self.value + reach

    def above(self, bound: float) -> float:
        """One-sided p-value that the true mean lies above `bound`. Values without spread decide for themselves."""
        if self.error <= 1e-12 * max(1.0, abs(self.value)):
            return 0.0 if self.value > bound else 1.0
        from scipy import stats

        return float(stats.t.sf((self.value - bound) / self.error, self.df))

    def below(self, bound: float) -> float:
        """One-sided p-value that the true mean lies below `bound`."""
        return Mean(-self.value, self.sd, self.n, self.df, self.how).above(-bound)

    def within(self, target: float, margin: float) -> float:
        """p-value of two one-sided tests (TOST) that the true mean lies within `margin` of `target`."""
        return max(self.above(target - margin), self.below(target + margin))

    def resolvable(self, alpha: float = ALPHA) -> float:
        """The smallest mean that would have been shown to lie above 0 at this level."""
        from scipy import stats

        return float(stats.t.ppf(1 - alpha, self.df)) * self.error

    def next_value(self) -> tuple[float, float]:
        """The 95 % prediction interval of one further value."""
        from scipy import stats

        reach = float(stats.t.ppf(0.975, self.df)) * self.sd * math.sqrt(1 + 1 / self.n)
        return self.value - reach, self.value + reach

    def needed(self, effect: float, alpha: float = ALPHA) -> int | None:
        """Values that a one-sided t-test at this level needs to show a true mean of `effect` four times in five.

        A pooled spread keeps its degrees of freedom a seed, as long as `paired` would pool. None where no number is
        enough (no effect) or the spread is unknown.
        """
        if effect <= 0 or not 0 < self.sd < math.inf:
            return None
        from scipy import stats
        from statsmodels.stats.power import TTestPower

        a_seed, ratio, test = self.df / (self.n - 1), effect / self.sd, TTestPower()
        n = max(2, math.floor(((stats.norm.isf(alpha) + stats.norm.ppf(POWER)) / ratio) ** 2))  # a t-test needs more
        while True:
            df = (n - 1) * (a_seed if n < ALONE else 1)
            size = min(ratio, 30 / math.sqrt(n))  # beyond that the non-central t is numerically lost
            if test.power(size, n, alpha, df=df, alternative="larger") >= POWER:
                return n
            n += 1


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
    """Ordinary least squares of value = arm + seed: (residuals by arm, residual variance, degrees of freedom)."""
    import numpy as np
    import statsmodels.api as sm

    rows = [(arm, seed, value) for arm, found in enumerate(arms) for seed, value in sorted(found.items())]
    seeds = sorted({seed for _, seed, _ in rows})
    design = np.zeros((len(rows), len(arms) + len(seeds) - 1))
    for row, (arm, seed, _) in enumerate(rows):
        design[row, arm] = 1.0
        if seed != seeds[0]:
            design[row, len(arms) + seeds.index(seed) - 1] = 1.0
    fit = sm.OLS(np.array([value for *_, value in rows]), design).fit()
    grouped: list[list[float]] = [[] for _ in arms]
    for (arm, *_), residual in zip(rows, fit.resid, strict=True):
        grouped[arm].append(float(residual))
    return grouped, float(fit.mse_resid), int(fit.df_resid)


def _unlike(pair: Mean, variance: float, df: int) -> bool:
    """Whether the differences of a pair stray otherwise than two arms of that residual variance would."""
    from scipy import stats

    if df < 1 or variance <= 0:
        return True
    if pair.sd == 0:  # rounding, no sign of a quiet pair: on its own it would decide with certainty
        return False
    ratio = stats.f(pair.df, df)
    f = pair.sd**2 / (2 * variance)
    return 2 * min(float(ratio.sf(f)), float(ratio.cdf(f))) < UNLIKE


def holm(p: Sequence[float]) -> list[bool]:
    """Which hypotheses of a family Holm's step-down procedure rejects at ALPHA."""
    if not p or min(p) >= ALPHA / len(p):  # the library collects garbage at every call, which takes a tenth of a second
        return [False] * len(p)
    from statsmodels.stats.multitest import multipletests

    return [bool(reject) for reject in multipletests(p, alpha=ALPHA, method="holm")[0]]
