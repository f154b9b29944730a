"""How to read verdicts: what stands above the claims, and of the track at which none is given."""

from __future__ import annotations

from functools import cache

from leaderboards import evalues, learning, testable
from leaderboards.verdicts import NO_VERDICTS

OF_EMBEDDED = (
    f"No claim is tested on {NO_VERDICTS}. Its numbers show whether a method learns: how far it is above the same"
    " network untrained (`random`, `random:vit`, `random:vit_mean` for `mae`). They do not show which method is better."
)
"""What can be read from numbers of the track at which no verdict is given."""


def of_embedded(pixels: bool) -> str:
    """The same below a table.  pixels: whether raw pixels are in it."""
    return OF_EMBEDDED + (" Digits are easy: raw pixels (`random:pixels`) are hard to beat." if pixels else "")


_EXPONENTIAL, *_LOSSES = evalues.MEASURED
_ALPHA = f"{100 * evalues.ALPHA:g} %"
OLDER_RECIPE = "`older recipe`: the cost was counted before the recipe changed. One run of the new recipe replaces it."
"""What the words mean that stand behind a verdict on a cost."""
AT_MOST = (
    f"For the claims of each paper, the chance of one or more wrong `holds` or `opposite` is at most {_ALPHA} at equal"
    " epochs, and again at equal compute, if differences are roughly normal."
)
"""How often verdicts are wrong, in a sentence."""
_WRONG = sorted(measured.wrong for measured in evalues.MEASURED)
ERROR_RATE = (
    "A family is all claims of one paper's abstract that can be tested on one track. The same claims in the paper's own"
    " form are a second family, and our claims on why a method works are a third one. In each family the chance of even"
    f" one false `holds` or `opposite` at equal epochs is at most {_ALPHA}, and so is that of one false `no"
    " difference` (Holm's procedure). Equal compute has the same error rates of its own. This is true if differences"
    " are roughly normal. With skewed differences, or if some trainings fail (collapse), errors are more frequent"
    f" ({_WRONG[0]} to {_WRONG[-1]} % of single claims in our simulations)."
)
"""How often verdicts are wrong."""
_FEWEST = "(the fewest pairs)"  # stands for `_fewest`, which needs numpy
FAMILY = 7  # claims of the largest family that `_fewest` speaks of


def _fewest() -> str:
    """The fewest pairs that can decide a claim: `5 pairs at evidence 40, 6 at 80 to 160, 7 at 200 to 280`."""
    by_pairs: dict[int, list[float]] = {}
    for takes in map(evalues.first_takes, range(1, FAMILY + 1)):
        by_pairs.setdefault(evalues.least(takes), []).append(takes)
    said = [
        f"{pairs} at {' to '.join(f'{end:g}' for end in dict.fromkeys((takes[0], takes[-1])))}"
        for pairs, takes in by_pairs.items()
    ]
    return ", ".join(said).replace(" at ", " pairs at evidence ", 1)


_TERMS = (
    "Example: `holds on mini (n = 7 pairs)` means that the method was better than its baseline on the track mini, in"
    " seven pairs. A pair is the method and its baseline, trained from the same seed.",
    "A verdict applies only to the track that it names. mini is CIFAR-10 with a small network. `the paper's setting`"
    " has its own verdict. It stays `not run` until there are records of the paper's network, epochs, data and"
    " protocol.",
    "`equal epochs`: both train for the epochs of the method's recipe. The baseline's own recipe is often longer.",
    "`equal compute`: both take the same number of operations (FLOPs, within 10 %; time can differ). So the baseline"
    " trains for more or fewer epochs. Until equal epochs is decided, the difference at equal compute is shown without"
    " a verdict (`waits for equal epochs`).",
    "`holds`: the method is better, by however little; of operations, which do not vary by chance, by more than the"
    " claim's margin. `opposite`: the baseline is better.",
    "`no difference`: the difference is shown to be smaller than the claim's margin. `settle` stops there, so a smaller"
    " difference may exist. `smaller than the margin`: shown to be better or worse, but by less than the margin.",
    "`not decided yet`: the pairs so far do not show which of these is true.",
    "`reproduced`, `above`, `below`: of a claim that states a number, our number is within the margin of it, higher or"
    " lower.",
    "`incomparable`: there are records, but they cannot be compared, for example because the epochs differ."
    " `not run`: there are no records. `no verdict`: on this track no claim is tested.",
    "`cannot be tested`: the paper's setting is unknown, so we cannot rerun it, or no track has its data; the reason"
    " follows. `direction only`, `better or not`: we only test whether the method is better, not by how much.",
    "`fragile`: a sign test of the same pairs, or of speed the checks during the trainings alone, do not confirm it.",
    "`to the same accuracy`: we take the lower of the two final accuracies of k-NN on training images, and ask what"
    " each method needs to reach it.",
)
_EVIDENCE = (
    "Evidence is an e-value. It starts at 1 and grows while the pairs agree. Example: `evidence 7 of 200 that it is"
    " better` means that the claim holds when this evidence reaches 200; until then it is `not decided yet`."
    " Evidence that the method is worse, or that there is no difference, is counted separately; the line shows the"
    " largest. Of each, the largest value so far counts, so evidence stays when later pairs disagree.",
    "A single claim needs evidence of 40. Of the m claims of a family, the strongest needs 40 m, the next"
    " 40 (m - 1), and so on. Example: of 4 claims, the strongest needs 160, the next 120, then 80 and 40. Hence"
    f" a verdict needs at least {_FEWEST}.",
    f"{ERROR_RATE} You may check the results as often as you like.",
    "The 95 % intervals assume that the number of pairs was fixed in advance (`fixed n`). So a claim may be undecided"
    " although its interval excludes 0.",
)
HOW_TESTED = (
    "What we read of the papers: abstracts and the authors' public code, not the full text. Some sources are only"
    " recalled, and marked so. Each claim names its source and whether we read it. Details that these sources do not"
    " state are marked `not known`.",
    "The 95 % intervals are Student's t intervals. They are valid only if the number of pairs was fixed in advance"
    " (`fixed n`). Seeds enter in order; none is left out or replaced. Collapsed trainings are named. Where a track"
    " uses a part of the training images, all methods use the same part for the same seed. The test images are the"
    " same for all seeds. The evidence of each claim lists the differences from the recipe of the paper's track. The"
    " published"
    " pairs of mini use a JPEG copy of CIFAR-10; pairs on the official images get a separate verdict.",
    "A verdict applies to the recipes as they are (`for these recipes`). Example: `both tuned alike (1 trial by"
    " hand)` means that both learning rates were chosen by hand in one trial. `procedure NAME` means that the common"
    " procedure of methods/tuning.toml chose the settings of both: the same changes of the recipe, seeds and held-out"
    " training images. It compares linear accuracy; a recipe within 1 point of the best setting is kept"
    " (`unchanged`). NAME ends with a hash of its rules. A variant, and a method"
    " over a base (`rotation_aux` over `byol`), takes over the settings that were chosen for its base. If they are"
    " not tuned alike, only the one with fewer trials can be shown to be better.",
    "The error rate is higher if the differences are far from normally distributed. We simulated single claims without"
    " a true difference and checked after each of the pairs 3 to 20. A verdict is `fragile` if a sign test of the same"
    f" pairs (one-sided, {_ALPHA}) does not agree; claims on speed have a further reason (below). With exponentially"
    f" distributed differences, {_EXPONENTIAL.wrong} % of claims get a wrong verdict, and {_EXPONENTIAL.fragile} % of"
    " these are marked `fragile`. If one seed in twenty"
    " collapses, these numbers are "
    + "; ".join(
        f"{loss.wrong} % and {loss.fragile} % for a loss of {loss.loss:g} standard deviations" for loss in _LOSSES
    )
    + ".",
    testable.ABOUT,
    learning.ABOUT,
    f"Operations and updates do not vary by chance, so they are compared without a test. {OF_EMBEDDED}",
)
"""How claims are tested, a paragraph each."""


def terms(older: bool) -> tuple[str, ...]:
    """The words of verdicts, an item of a list each.  older: whether any verdict is of an older recipe."""
    return (*_TERMS, OLDER_RECIPE) if older else _TERMS


@cache
def evidence() -> tuple[str, ...]:
    """How sure verdicts are, a paragraph each."""
    return tuple(paragraph.replace(_FEWEST, _fewest()) for paragraph in _EVIDENCE)
