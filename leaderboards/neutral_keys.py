"""What of a recipe counts. A key that came later has a value at which it changes nothing: its neutral value.

A recipe that lacks such a key, and one that has it at that value, are one recipe. `Suite.neutral` says which these are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Neutral = Mapping[str, Mapping[str, Any]]
"""Recipe table -> key -> neutral value."""


def digest(recipe: object, neutral: Neutral) -> str:
    """The hash by which a recipe is known, without its neutral keys; "" for none."""
    if not isinstance(recipe, Mapping) or not recipe:
        return ""
    counting = {table: _counting(values, neutral.get(table, {})) for table, values in recipe.items()}
    text = json.dumps(counting, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _counting(values: Any, neutral: Mapping[str, Any]) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {key: value for key, value in values.items() if key not in neutral or value != neutral[key]}


def options(recipe: object, neutral: Neutral) -> dict[str, Any]:
    """A recipe as `table.key` -> value; what it lacks has its neutral value. {} for no recipe."""
    if not isinstance(recipe, Mapping) or not recipe:
        return {}
    whole = {**{table: {} for table in neutral}, **recipe}
    return {
        f"{table}.{key}": value
        for table, values in whole.items()
        if isinstance(values, Mapping)
        for key, value in {**neutral.get(table, {}), **values}.items()
    }


_OF_THE_MACHINE = ("devices", "accumulate", "precision", "exchange", "channels_last", "tuning_trials")


def differing(run: Mapping[str, Any], stated: Mapping[str, Any]) -> list[str]:
    """By which keys the `options` of a run are not the stated ones, but for what is of the machine alone."""
    return [
        key
        for key, value in run.items()
        if key in stated and stated[key] != value and key.partition(".")[2] not in _OF_THE_MACHINE
    ]


def alike(run: Mapping[str, Any], stated: Mapping[str, Any]) -> bool:
    """Whether they are the same recipe, length aside."""
    return set(differing(run, stated)) <= {"pretrain.epochs"}
