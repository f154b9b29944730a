"""Which arms a picture shows at once, and which only where a reader asks for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards.arms import PIXELS, UNTRAINED, Arm
from leaderboards.claims import MECHANISM, Claim
from leaderboards.record_fields import OURS
from leaderboards.suite import Suite

MOST = 16
"""Arms in one picture: more names than this have no room beside their marks."""


@dataclass(frozen=True)
class Pictured:
    """The arms of one table, as pictures show them.

    first: one arm a name: the methods, the baselines of claims, the controls.
    more: ablations, other lengths of training, imports and numbers of others, at most `MOST` a picture.
    """

    first: list[Arm]
    more: list[list[Arm]]


class Roles:
    """What the arms are to the claims."""

    def __init__(self, claims: Sequence[Claim], suite: Suite) -> None:
        self.suite = suite
        of_papers = [claim for claim in claims if claim.kind != MECHANISM]
        across = [claim for claim in of_papers if claim.baseline and claim.baseline != claim.method]
        self._methods = {claim.method for claim in claims}
        self._compared = {name for claim in across for name in (claim.arm, claim.baseline_arm)}

    def style(self, arm: Arm) -> int:
        """Shape and colour of its mark: 0 for a paper's method, 1 for a baseline, 2 for a control."""
        return 2 if arm.control else 0 if arm.method in self._methods else 1

    def pictured(self, found: Iterable[Arm]) -> Pictured:
        """Split the arms of one table. The values decide nothing."""
        arms = list(found)
        stands: dict[str, Arm] = {}
        for arm in arms:
            if self._plain(arm) and (arm.name not in stands or arm.standing > stands[arm.name].standing):
                stands[arm.name] = arm
        first = set(sorted(stands.values(), key=self._rank)[:MOST])
        rest = sorted((arm for arm in arms if arm not in first), key=lambda arm: (arm.name, arm.setting.epochs or 0))
        parts = -(-len(rest) // MOST)
        return Pictured(
            [arm for arm in arms if arm in first],
            [rest[part * len(rest) // parts : (part + 1) * len(rest) // parts] for part in range(parts)],
        )

    def _plain(self, arm: Arm) -> bool:
        if arm.trust != OURS or arm.imported:
            return False
        return not arm.variant or arm.control or arm.name in self._compared

    def _rank(self, arm: Arm) -> tuple[int, int, str]:
        """Which arms come first where there are too many: papers' methods, controls, baselines, what has a variant."""
        if arm.control:
            place = 4 if arm.options.get("network.arch") == PIXELS else 1
            place += bool(arm.variant and arm.method != UNTRAINED)
        elif arm.variant:
            place = 3
        else:
            place = 0 if arm.method in self._methods else 2
        return place, -len(arm.records), arm.name


def names(arms: Sequence[Arm], suite: Suite) -> dict[Arm, str]:
    """How the arms of a table or picture are called: `byol`, or `byol@15` where the name alone would mislead.

    That is where the recipe has another number of epochs, and where two arms share a name.
    """
    several = Counter(arm.name for arm in arms)

    def plain(arm: Arm) -> bool:
        usual = suite.recipe(arm.name, arm.setting.track).get("pretrain", {}).get("epochs")
        return several[arm.name] == 1 and arm.setting.epochs in (usual, None)

    return {
        arm: arm.name if plain(arm) or not arm.setting.epochs else f"{arm.name}@{arm.setting.epochs}" for arm in arms
    }
