"""How much training two arms need up to an accuracy that both reach, seed by seed, from their learning curves.

The accuracy is the lower one of the two ends: the baseline's end where the method gets as far, which is what a paper
says when it speaks of the time to the baseline's accuracy, and else the method's end. So no seed is censored. But a
method that rises early and stays below the baseline counts as the faster one: which ends higher is not asked here.

Of both arms the cost is that of first reaching the accuracy. The whole cost of the baseline would not do: a curve is
noisy and crosses its own end early, so that of two arms that are the same each would seem faster than the other. As it
is, exchanging the arms changes the sign of the logarithm of the ratio and nothing else. Before its first check of a
training a curve says nothing; what is reached there counts as reached at that check. Where an arm did not learn at all,
both reached its accuracy at their first check: in epochs the ratio is 1 then, in operations that of their epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from leaderboards.arms import Arm
from leaderboards.claims import TO_ACCURACY
from leaderboards.curves import Curve, Reach, by_seed, reaching
from leaderboards.statistics import Mean, own

ABOUT = (
    "Claims about the speed of learning. We take the lower of the two final accuracies (k-NN on training images) and"
    " compare the training that each needs to reach it first. Example: BYOL ends at 40 % and the method at 44 %; we"
    " compare what each needs to reach 40 %. A training is checked up to six times; between two checks we take the"
    " accuracy to rise in a straight line. If the first check that reaches 40 % does not give the same verdict, the"
    " verdict is `fragile`. A method can be faster here and still end lower. We do not divide by the"
    " whole training of the baseline: noisy curves reach the other's final accuracy early, even if both methods are"
    " equal. An interaction compares two differences of the same seed: the one after few epochs and the one after more."
)
"""What claims on speed, and interactions, compare."""


def costs_to_accuracy(
    ours: Mapping[int, Curve], theirs: Mapping[int, Curve], metric: str, between: bool = True
) -> tuple[dict[int, float], dict[int, float]]:
    """By seed, for the seeds that both have, what either needs until it is as good as the worse of the two at its end.

    ours, theirs: curves by seed, as `curves.by_seed` gives them.  metric: of TO_ACCURACY.  between: whether a curve may
    get there between two checks, on the straight line; else it is there at the first check that is as high.
    """
    axis = TO_ACCURACY[metric]
    left, right = dict[int, float](), dict[int, float]()
    for seed in sorted(ours.keys() & theirs.keys()):
        accuracy = min(ours[seed][-1].top1, theirs[seed][-1].top1)
        left[seed], right[seed] = (_cost(curve, accuracy, axis, between) for curve in (ours[seed], theirs[seed]))
    return left, right


def share(item: Reach, metric: str) -> Mean | None:
    """What the method needs, divided by what its baseline needs, by seed: the mean of its natural logarithm.

    None where the baseline learnt nothing that could be reached, and where no seed has a curve on both sides.
    metric: of TO_ACCURACY.
    """
    left, right = costs_to_accuracy(usable_curves(item.ours), usable_curves(item.theirs), metric)
    if not left or not item.risen:
        return None
    return own([math.log(left[seed] / right[seed]) for seed in left])


def usable_curves(arm: Arm) -> dict[int, Curve]:
    """The curves of an arm of pre-trainings that can be compared, by seed."""
    return {seed: curve for seed, curve in by_seed(arm).items() if usable(curve)}


def usable(curve: Curve) -> bool:
    """Whether a curve has looks at the training itself, with their costs."""
    return sum(look.epochs > 0 and look.flops > 0 for look in curve) > 1


def _cost(curve: Curve, accuracy: float, axis: str, between: bool) -> float:
    there = reaching(curve, accuracy) if between else next((look for look in curve if look.top1 >= accuracy), None)
    assert there is not None  # it is no higher than the curve's end
    first = min(getattr(look, axis) for look in curve if look.epochs > 0)
    return max(float(getattr(there, axis)), float(first))
