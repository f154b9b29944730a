"""Why a claim holds or not, in a sentence a track: what each part of the method adds, by the claims that ask for it.

Such a claim names a `part` and its `parent`: one of our own (kind "mechanism"), or one that the paper itself makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboards.cells import signed
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim, of_training
from leaderboards.verdicts import HOLDS, NO_DIFFERENCE, OPPOSITE, SMALLER, UNDECIDED, Verdict
from leaderboards.wording import so_far, unit

_HOLD = (HOLDS, HOLDS + SMALLER)
_ORDER = (HOLDS, HOLDS + SMALLER, NO_DIFFERENCE, OPPOSITE + SMALLER, OPPOSITE, UNDECIDED)
Verdicts = Mapping[str, Sequence[Verdict]]  # by track, of one claim


@dataclass(frozen=True)
class _Part:
    """A claim on a part, tested."""

    claim: Claim
    verdict: Verdict  # at equal epochs
    cost: str  # see `cost_words`

    @property
    def about(self) -> str:
        """`n = 9, 4.00 times the operations; equal compute: not decided yet`."""
        return ", ".join(filter(None, (f"n = {self.verdict.n}", self.cost)))


def explanations(claim: Claim, verdicts: Verdicts, parts: Sequence[tuple[Claim, Verdicts]]) -> list[str]:
    """One sentence for each track at which a part was tested, without its full stop.

    verdicts: on the claim.  parts: the claims on parts of it, with their verdicts.
    """
    found = []
    for track, own in verdicts.items():
        tested = [
            _Part(part, first, cost_words(first, theirs[track]))
            for part, theirs in parts
            if (first := _first(theirs.get(track, ())))
        ]
        tested.sort(key=lambda item: _ORDER.index(item.verdict.outcome))
        if tested:
            found.append(_sentence(claim, track, _first(own), tested))
    return found


def _first(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict at equal epochs, where pairs were tested."""
    return next((one for one in verdicts if one.basis != COMPUTE and one.evidence and one.outcome in _ORDER), None)


def cost_words(first: Verdict, verdicts: Sequence[Verdict]) -> str:
    """`4.00 times the operations; equal compute: opposite -2.1`; "" where both sides took about as many.

    first: on a part, at equal epochs.  verdicts: all on that part, on the same track.
    """
    compute = next((one for one in verdicts if one.basis == COMPUTE and not one.form), None)
    if first.times is None or compute is None or compute.same_runs:
        return ""
    decided = f" {signed(compute.gap or 0.0, 1).text}" if compute.decided else ""
    return f"{first.times:.2f} times the operations; {COMPUTE}: {compute.outcome}{decided}"


def _sentence(claim: Claim, track: str, own: Verdict | None, tested: Sequence[_Part]) -> str:
    """`on mini, what glnet gains over moco_v3 comes at least in part from A (2.1 points, n = 7); B: nothing`."""
    helps = [item for item in tested if item.verdict.outcome in _HOLD and not of_training(item.claim)]
    said = []
    if own is not None and own.outcome in _HOLD and helps:
        listed = " and ".join(f"{item.claim.part} ({_points(item.verdict)}, {item.about})" for item in helps)
        said.append(f"what {claim.arm} gains over {claim.baseline_arm} comes at least in part from {listed}")
        tested = [item for item in tested if item not in helps]
    said += map(_words, tested)
    return f"on {track}, " + "; ".join(said)


def _words(item: _Part) -> str:
    part, verdict = item.claim, item.verdict
    about = f"({verdict.outcome}, {item.about})"
    if verdict.outcome == UNDECIDED:
        return f"{part.part}: {UNDECIDED} ({so_far(verdict)})"
    if of_training(part):
        return f"{part.part}: {about[1:-1]}"
    if verdict.outcome == NO_DIFFERENCE:
        return f"{part.part}: nothing {about}"
    return f"{part.part}: {'+' if verdict.outcome in _HOLD else '-'}{_points(verdict)} {about}"


def _points(verdict: Verdict) -> str:
    return f"{abs(verdict.gap or 0.0):.1f} {unit(verdict.claim)}"
