"""How to read verdicts: what stands above the claims, and of the track at which none is given."""

from __future__ import annotations

from leaderboards import evalues, learning, testable
from leaderboards.verdicts import NO_VERDICTS

OF_EMBEDDED = (
    f"No claim is tested at {NO_VERDICTS}. Its numbers show whether a method learns: how far it is above the same"
    " network untrained (`random`, `random:vit`, `random:vit_mean` for `mae`). They do not show which method is better."
    " Digits are easy: raw pixels (`random:pixels`) are hard to beat."
)
"""What can be read from numbers of the track at which no verdict is given."""


_EXPONENTIAL, *_LOSSES = evalues.MEASURED
_ALPHA = f"{100 * evalues.ALPHA:g} %"
CLAIMS_INTRO = (
    "Example: `holds at mini (n = 6 pairs)` means that the method was better than its baseline on the track"
    " mini, in six pairs. A pair is the method and its baseline, trained from the same seed. A verdict applies"
    " only to the track that it names. The claim in the paper's own setting stays `not run` until there are"
    " records of the paper's network, epochs, data and protocol. A claim can have two verdicts on a track: at"
    " equal epochs and, once that is decided, at equal compute.",
    "Each pair changes the evidence (an e-value). It starts at 1 and grows while pairs agree. You may look after"
    f" every pair: if there is no difference, at most {_ALPHA} of claims get a wrong verdict, however often you"
    " look. A single claim needs evidence of 40. Several claims of one paper share this error rate: with m"
    " claims, the strongest needs 40 m, the next 40 (m - 1), and so on. Until then a claim is `not decided"
    " yet`. At least five pairs are needed. `no difference`: the mean lies within the claim's margin. `smaller"
    " than the margin`: there is a difference, but it is smaller than the margin.",
    "The 95 % intervals are Student's t intervals. They are valid only if the number of pairs was fixed in advance"
    " (`fixed n`). Seeds enter in order; none is left out or replaced. Collapsed trainings are named. Where"
    " a track uses a part of the training pictures, each seed draws its own, the same for all methods; the test"
    " pictures are the same for all seeds. Older pairs, marked `superseded`, share one part for all seeds; new pairs"
    " do not join them. Each verdict lists how the recipe differs from the recipe of the paper's track. The published"
    " pairs of mini use a JPEG copy of"
    " CIFAR-10; pairs on the official pictures get a separate verdict.",
    "A verdict applies to the recipes as they are (`for these recipes`). Two arms are tuned alike if the same procedure"
    " chose their rates (methods/tuning.toml: the same points, seeds and held-out training pictures for every method),"
    " or if both were tuned by hand with equally many trials. If they are not tuned alike, only the one with fewer"
    " trials can be shown to be better.",
    "Errors are more frequent if the differences are far from normally distributed. We simulated claims without a"
    f" true difference and looked after each of the pairs 3 to 20. With exponentially distributed differences,"
    f" {_EXPONENTIAL.wrong} % of claims get a wrong verdict. If one seed in twenty collapses, it is "
    + ", ".join(f"{loss.wrong} % (it loses {loss.loss:g} standard deviations)" for loss in _LOSSES)
    + f". A verdict is `fragile` if a sign test of the same pairs (one-sided, {_ALPHA}) does not agree. This mark"
    f" finds {_EXPONENTIAL.fragile} % of the wrong verdicts of the first kind and "
    + ", ".join(f"{loss.fragile} %" for loss in _LOSSES)
    + " of the others.",
    testable.ABOUT,
    learning.ABOUT,
    f"Operations and updates do not vary by chance, so they are compared without a test. {OF_EMBEDDED}",
)
"""How to read verdicts, a paragraph each."""
