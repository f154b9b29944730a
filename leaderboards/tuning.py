"""How arms were tuned, and whether two were tuned alike: by one procedure, or by hand with as many trials.

Of two that were not, the one with the fewer trials may still be shown to be the better one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leaderboards.record_fields import Record, entry
from leaderboards.suite import Suite

FREE = ("epochs", "tuning_trials", "devices", "accumulate", "precision", "exchange", "channels_last")
"""Keys of [pretrain] that are of the length or of the machine: no part of what was tuned."""
CROPS = "crop_scale"
"""The key of [method] that is tuned, too."""


@dataclass(frozen=True, order=True)
class Tuning:
    """How the recipe of an arm was found."""

    procedure: str  # "" where it was tuned by hand
    trials: int  # by hand; with a procedure those before it
    chosen: str = field(default="", compare=False)  # by the procedure, in words, where the recipe says it

    def __str__(self) -> str:
        return self.procedure or str(self.trials)


def tunings(name: str, track: str, origins: Iterable[Record], suite: Suite) -> tuple[Tuning, ...]:
    """How an arm was tuned, one entry each distinct answer; () where no pre-training says it.

    A recipe says by which procedure it was tuned, and that is true of all records with its values, also of those from
    before, as long as the recipe stands. Else the records say it themselves.
    """
    stated = suite.tuned(name, track)
    recipe = suite.recipe(name, track) if stated else {}
    found = set()
    for record in origins:
        trials = entry(record, "provenance", "trials")
        own = str(entry(record, "provenance", "tuned") or "")
        procedure = stated if stated and alike(entry(record, "details", "recipe") or {}, recipe) else own
        if procedure or isinstance(trials, int):
            chosen = suite.chosen(name, track) if procedure and procedure == stated else ""
            found.add(Tuning(procedure, trials if isinstance(trials, int) else 0, chosen))
    return tuple(sorted(found))


def alike(recipe: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two recipes, by table, are of one tuning: what both have is the same in [pretrain], and so are the crops.

    But for what is of the length or of the machine.
    """

    def same(table: str, keys: Iterable[str]) -> bool:
        here, there = recipe.get(table, {}), other.get(table, {})
        return all(here[key] == there[key] for key in keys if key in here and key in there)

    return same("pretrain", recipe.get("pretrain", {}).keys() - set(FREE)) and same("method", (CROPS,))


def tuned_alike(ours: Sequence[Tuning], theirs: Sequence[Tuning]) -> bool:
    """Whether both are known to be tuned by the same procedure, or by hand with as many trials."""
    if not (ours and theirs):
        return False
    procedures = {tuning.procedure for tuning in (*ours, *theirs)}
    if len(procedures) > 1:
        return False
    return procedures != {""} or {tuning.trials for tuning in ours} == {tuning.trials for tuning in theirs}


def fewer(ours: Sequence[Tuning], theirs: Sequence[Tuning]) -> bool:
    """Whether ours had fewer trials for certain: a procedure is more than the trials by hand before it."""
    return bool(ours and theirs) and all(
        not a.procedure and (a.trials <= b.trials if b.procedure else a.trials < b.trials) for a in ours for b in theirs
    )
