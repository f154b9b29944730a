"""Recipes of arms: in what two differ, and what a page says of them below its tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from leaderboards.arms import Arm
from leaderboards.setting import value_words

_KEPT = "unchanged"
"""What the procedure chose where it changed nothing, in the words of a recipe."""
_IN_COLUMNS = ("pretrain.epochs", "pretrain.tuning_trials")
"""Keys that the columns of a table tell already."""


def unlike(a: Arm, b: Arm) -> int:
    """In how many keys that both recipes have they differ: what two arms should share, beside their setting."""
    if a.recipe == b.recipe:
        return 0
    theirs = b.options
    return sum([key in theirs and theirs[key] != value for key, value in a.options.items()])


def recipes_apart(called: Mapping[Arm, str]) -> list[str]:
    """A line for every name under which recipes stand in a table that differ in more than its columns tell.

    `mini: the recipes of byol differ: byol@8 has pretrain.lr 0.5; byol@4 has pretrain.lr 0.3.`

    called: the arms of the table, with their names.
    """
    groups: dict[tuple[str, str], dict[str, Arm]] = defaultdict(dict)
    for arm in called:
        groups[arm.name, arm.trust].setdefault(arm.recipe, arm)
    lines = []
    for (name, _), by_recipe in sorted(groups.items()):
        several = sorted(by_recipe.values(), key=lambda arm: (arm.trained, arm.recipe), reverse=True)
        keys = dict.fromkeys(key for arm in several for key in arm.options if key not in _IN_COLUMNS)
        said = {key: [_said(arm, key) for arm in several] for key in keys}
        differing = [key for key, words in said.items() if len(set(words)) > 1]
        if differing:
            shared = Counter(called[arm] for arm in several)
            parts = [
                called[arm]
                + (f" (recipe {arm.recipe[:6]})" if shared[called[arm]] > 1 else "")
                + f" has {', '.join(f'`{key}` {said[key][place]}' for key in differing)}"
                for place, arm in enumerate(several)
            ]
            lines.append(f"{several[0].setting.track}: the recipes of {name} differ: {'; '.join(parts)}.")
    return lines


def _said(arm: Arm, key: str) -> str:
    value = arm.options.get(key)
    return "-" if value is None else value_words(value)


def tuned(found: Iterable[Arm]) -> list[str]:
    """How the methods of a page were tuned, a line for each track and way."""
    by_track: dict[str, list[Arm]] = defaultdict(list)
    for arm in found:
        if not arm.control and not arm.imported:
            by_track[arm.setting.track].append(arm)
    return [f"{track}: {line}" for track, arms in by_track.items() for line in _ways(arms)]


def _ways(found: Sequence[Arm]) -> list[str]:
    """How the arms of one track were tuned: by which procedures, by hand, or not known."""
    every = {arm.name for arm in found}
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    by_hand, unknown = set(), set()
    for arm in found:
        if not arm.tuning:
            unknown.add(arm.name)
        for tuning in arm.tuning:
            if tuning.procedure:
                chosen[tuning.procedure][arm.name] = tuning.chosen
            else:
                by_hand.add(arm.name)
    alone = len(chosen) + bool(by_hand) + bool(unknown) == 1
    lines = [_by_procedure(name, points, every, alone) for name, points in sorted(chosen.items())]
    if by_hand:
        who = "the methods" if alone else _listed(_short(by_hand, every))
        lines.append(
            f"no procedure tuned {who}. The column `trials`, under All columns, counts the tries by hand; 0 means not"
            " tuned."
        )
    if unknown:
        who = "the methods were" if alone else f"{_listed(_short(unknown, every))} {_were(unknown)}"
        lines.append(f"how {who} tuned is not recorded.")
    return lines


def _by_procedure(procedure: str, points: Mapping[str, str], every: Collection[str], alone: bool) -> str:
    """What a procedure changed.  points: what it chose by name; alone: whether it tuned all names."""
    by_point: dict[str, list[str]] = defaultdict(list)
    for name, point in points.items():
        by_point[point].append(name)
    kept, lost = by_point.pop(_KEPT, []), by_point.pop("", [])
    who = "every method" if alone else _listed(_short(points, every))
    rules = "`methods/tuning.toml` holds the rules of today's procedure."
    said = [f"one procedure, `{procedure}`, tuned {who} in the same way. {rules}"]
    if by_point:
        parts = [f"{point} for {_listed(_short(names, every))}" for point, names in sorted(by_point.items())]
        said.append(f"It chose {'; '.join(parts)}.")
    if kept:
        rest = by_point or lost
        others = "all others" if alone and not lost else _listed(_short(kept, every))
        said.append(f"It kept the values of {others}." if rest else "It kept all values.")
    if lost:
        said.append(f"What it chose for {_listed(_short(lost, every))} is not recorded.")
    return " ".join(said)


def left_out(superseded: Sequence[Arm]) -> list[str]:
    """What has left the tables of a page, a line for each track and reason, and the commands that still read it."""
    recipes: dict[str, set[tuple[str, str]]] = defaultdict(set)
    setups: dict[str, list[Arm]] = defaultdict(list)
    for arm in superseded:
        if arm.setting.drawn is None:
            setups[arm.setting.track].append(arm)
        else:
            recipes[arm.setting.track].add((arm.name, f"{arm.name}@{arm.recipe[:6]}"))
    lines = [
        f"{track}, older recipes: {', '.join(f'`{which}`' for _, which in sorted(found))}."
        for track, found in recipes.items()
    ]
    if recipes:
        track = next(iter(recipes))
        name, which = min(recipes[track])
        lines.append(
            "The letters after `@` are the start of the recipe's hash. To compare an older recipe with the newer one:"
            f" `python -m repro compare {which} {name} --track {track}`."
        )
    for track, arms in setups.items():
        rows = "1 row" if len(arms) == 1 else f"{len(arms)} rows"
        record = min(mark for arm in arms for mark in arm.fingerprints)[:12]
        lines.append(
            f"{track}, older setup: {rows}. In that setup all seeds shared one training subset. To read one of the"
            f" records, give its fingerprint: `python -m repro explain {record}`."
        )
    return lines


def _short(names: Iterable[str], every: Iterable[str]) -> list[str]:
    """Names, in which a method with all its variants is `glnet and its variants`.  every: all names of the track."""
    own: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        own[_method(name)].append(name)
    there = Counter(_method(name) for name in every)
    found = []
    for method, some in own.items():
        whole = method in some and len(some) == there[method] > 2
        found += [f"{method} (and its variants)"] if whole else some
    return found


def _method(name: str) -> str:
    return name.partition(":")[0]


def in_turn(names: Iterable[str]) -> str:
    """Each of some names once, in the order of the alphabet, as code: "`a`, `b` and `c`"."""
    return _listed([f"`{name}`" for name in sorted(set(names))])


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _were(names: Collection[str]) -> str:
    return "was" if len(names) == 1 else "were"
