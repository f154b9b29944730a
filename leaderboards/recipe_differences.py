"""Recipes of arms: in what two differ, and what a table says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from leaderboards.arms import Arm
from leaderboards.setting import value_words


def unlike(a: Arm, b: Arm) -> int:
    """In how many keys that both recipes have they differ: what two arms should share, beside their setting."""
    if a.recipe == b.recipe:
        return 0
    theirs = b.options
    return sum([key in theirs and theirs[key] != value for key, value in a.options.items()])


def recipes_apart(found: Sequence[Arm]) -> list[str]:
    """A line for every name under which recipes stand in a table that differ in more than the epochs of its column.

    `Recipes of byol, the newest first: f9fbd8: pretrain.lr 0.3, ...; 718553: pretrain.lr 0.5, ...`
    """
    groups: dict[tuple[str, str], dict[str, Arm]] = defaultdict(dict)
    for arm in found:
        groups[arm.name, arm.trust].setdefault(arm.recipe, arm)
    lines = []
    for (name, _), by_recipe in sorted(groups.items()):
        if len(by_recipe) == 1:
            continue
        several = sorted(by_recipe.values(), key=lambda arm: (arm.trained, arm.recipe), reverse=True)
        keys = dict.fromkeys(key for arm in several for key in arm.options)
        said = {key: [_said(arm, key) for arm in several] for key in keys}
        differing = [key for key, words in said.items() if len(set(words)) > 1]
        if set(differing) - {"pretrain.epochs"}:
            parts = [
                f"{arm.recipe[:6] or '-'}: {', '.join(f'{key} {said[key][place]}' for key in differing)}"
                for place, arm in enumerate(several)
            ]
            lines.append(f"Recipes of {name}, the newest first: {'; '.join(parts)}.")
    return lines


def _said(arm: Arm, key: str) -> str:
    value = arm.options.get(key)
    return "-" if value is None else value_words(value)


def tuned_by(found: Sequence[Arm]) -> list[str]:
    """A line for every procedure that tuned arms of a table: `Tuned by procedure P1-0a1b2c: byol rate x 2; glnet,
    simclr unchanged.`"""
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    for arm in found:
        for tuning in arm.tuning:
            if tuning.procedure:
                chosen[tuning.procedure][arm.name] = tuning.chosen or "an earlier recipe"
    lines = []
    for procedure, by_name in sorted(chosen.items()):
        by_point: dict[str, list[str]] = defaultdict(list)
        for name, point in sorted(by_name.items()):
            by_point[point].append(name)
        parts = [f"{', '.join(names)} {point}" for point, names in sorted(by_point.items())]
        lines.append(f"Tuned by procedure {procedure}: {'; '.join(parts)}.")
    return lines


def left_out(superseded: Sequence[Arm]) -> list[str]:
    """The line under a table that says which arms do not stand in it any more, and how to reach them; none for none."""
    recipes = [arm for arm in superseded if arm.setting.drawn is not None]
    if not recipes:
        return []
    names, several = ", ".join(sorted(f"{arm.name}@{arm.recipe[:6]}" for arm in recipes)), len(recipes) > 1
    gone = f"{_configurations(len(recipes))} of an older recipe {'are' if several else 'is'} left out: {names}"
    return [f"{gone}. You can still read {'them' if several else 'it'} with `compare` (by that name) and `explain`."]


def older_setups(superseded: Sequence[Arm]) -> str:
    """What stands above the tables of a board, of arms of which all seeds share one subset; "" for none."""
    number = sum(arm.setting.drawn is None for arm in superseded)
    setup = "of an older setup of mini, where all seeds shared one training subset"
    still = "You can still read their records with `explain`."
    return f"Left out: {_configurations(number)} {setup}. {still}" if number else ""


def _configurations(number: int) -> str:
    return f"{number} configuration{'' if number == 1 else 's'}"
