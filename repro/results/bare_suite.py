"""What the leaderboards are told, but for prices: evaluations and how each is shown, protocols and neutral keys."""

from __future__ import annotations

from functools import cache
from typing import Any

from leaderboards.suite import Suite
from repro.data.data_sets import FOLDER
from repro.errors import UserError
from repro.plan import kinds, protocol_files, recipes, registry, tracks, tuning
from repro.store import records
from repro.store.job import Recipe
from repro.weights.architectures import ARCHS

_OF_TRAINING = ("freeze_patches",)  # keys of a network that change nothing before it is trained


@cache
def suite() -> Suite:
    """The evaluations in the order of their boards, and what is needed to compare old records with new ones.

    For what prices are made with; all others take `repro.results.suite`.
    """
    return Suite(
        evaluations=kinds.evaluations(),
        preparing=tuple(kind.name for kind in kinds.KINDS.values() if not kind.judges),
        protocols=_named_protocols(),
        neutral=recipes.neutral(),
        networks={table["arch"]: tuple(key for key in table if key not in _OF_TRAINING) for table in ARCHS.values()},
        recipe=_recipe,
        tuned=_tuned,
        chosen=_chosen,
        own=FOLDER,
    )


@cache
def _recipe(arm: str, track: str) -> Recipe:
    try:
        return recipes.resolve(*registry.find(arm), tracks.find(track).name, {})
    except UserError:  # a method of somebody else's records, or no track
        return {}


@cache
def _tuned(arm: str, track: str) -> str:
    recipe = _recipe(arm, track)
    return recipes.tuned_by(*registry.find(arm), track, recipe) if recipe else ""


@cache
def _chosen(arm: str, track: str) -> str:
    found = tuning.section(*registry.find(arm), track) if _tuned(arm, track) else None
    return str(found.point) if found else ""


def _named_protocols() -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluation -> name -> hash and values, as records hold them."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in kinds.judged()}
    for kind, named in found.items():
        for name in protocol_files.names(kind):
            values = protocol_files.load(kind, name).values()
            stated = records.protocol_of(kind, name, values)
            named[name] = {key: value for key, value in stated.items() if key != "name"}
    return found
