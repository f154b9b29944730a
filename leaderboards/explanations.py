"""Why a claim holds or not, in a sentence a track: what each part of the method adds, by the claims that ask for it.

Such a claim names a `part` and its `parent`: one of our own (kind "mechanism"), or one that the paper itself makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim, of_training
from leaderboards.verdicts import HOLDS, NO_DIFFERENCE, OPPOSITE, SMALLER, UNDECIDED, Verdict
from leaderboards.wording import so_far, unit

_HOLD = (HOLDS, HOLDS + SMALLER)
_ORDER = (HOLDS, HOLDS + SMALLER, NO_DIFFERENCE, OPPOSITE + SMALLER, OPPOSITE, UNDECIDED)
Verdicts = Mapping[str, Sequence[Verdict]]  # by track, of one claim


def explanations(claim: Claim, verdicts: Verdicts, parts: Sequence[tuple[Claim, Verdicts]]) -> list[str]:
    """One sentence for each track at which a part was tested, without its full stop.

    verdicts: on the claim.  parts: the claims on parts of it, with their verdicts.
    """
    found = []
    for track, own in verdicts.items():
        tested = [(part, first) for part, theirs in parts if (first := _first(theirs.get(track, ())))]
        tested.sort(key=lambda item: _ORDER.index(item[1].outcome))
        if tested:
            found.append(_sentence(claim, track, _first(own), tested))
    return found


def _first(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict at equal epochs, where pairs were tested."""
    return next((one for one in verdicts if one.basis != COMPUTE and one.evidence and one.outcome in _ORDER), None)


def _sentence(claim: Claim, track: str, own: Verdict | None, tested: Sequence[tuple[Claim, Verdict]]) -> str:
    """`on mini, what glnet gains over moco_v3 comes at least in part from A (2.1 points, n = 7); B: nothing`."""
    helps = [(part, verdict) for part, verdict in tested if verdict.outcome in _HOLD and not of_training(part)]
    said = []
    if own is not None and own.outcome in _HOLD and helps:
        listed = " and ".join(f"{part.part} ({_points(verdict)}, n = {verdict.n})" for part, verdict in helps)
        said.append(f"what {claim.arm} gains over {claim.baseline_arm} comes at least in part from {listed}")
        tested = [item for item in tested if item not in helps]
    said += [_words(part, verdict) for part, verdict in tested]
    return f"on {track}, " + "; ".join(said)


def _words(part: Claim, verdict: Verdict) -> str:
    about = f"({verdict.outcome}, n = {verdict.n})"
    if verdict.outcome == UNDECIDED:
        return f"{part.part}: {UNDECIDED} ({so_far(verdict)})"
    if of_training(part):
        return f"{part.part}: {about[1:-1]}"
    if verdict.outcome == NO_DIFFERENCE:
        return f"{part.part}: nothing {about}"
    return f"{part.part}: {'+' if verdict.outcome in _HOLD else '-'}{_points(verdict)} {about}"


def _points(verdict: Verdict) -> str:
    return f"{abs(verdict.gap or 0.0):.1f} {unit(verdict.claim)}"
