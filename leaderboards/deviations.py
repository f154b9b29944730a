"""In what an arm differs from the setting that a claim states for itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from leaderboards.arms import Arm
from leaderboards.claims import Claim, of_training
from leaderboards.neutral_keys import alike, differing, options
from leaderboards.reasons import CLAIMS, OWN_TRACKS, Departure, Deviation, OtherValues
from leaderboards.record_fields import entry
from leaderboards.suite import Suite

_NOT_KNOWN = "not known"


def deviations(claim: Claim, arm: Arm, suite: Suite, but: Collection[str] = ()) -> list[Departure]:
    """In what an arm differs from the claim's own setting; what no source or record tells differs.

    but: what is passed over: "protocol", "epochs", "batch", "recipe", "data of pre-training".
    """
    setting = arm.setting
    found: list[Departure] = []

    def differ(what: str, run: object, stated: object) -> None:
        if what not in but:
            found.append(Deviation(what, run, stated))

    if setting.track != claim.track:
        differ("track", setting.track, claim.track)
    if setting.data != claim.data:
        differ("data", setting.data, claim.data)
    if not claim.backbone or setting.network != claim.backbone:
        differ("network", setting.network, claim.backbone or _NOT_KNOWN)
    if not claim.epochs or not claim.epochs[0] <= (setting.epochs or 0) <= claim.epochs[1]:
        differ("epochs", setting.epochs, claim.epochs_span or _NOT_KNOWN)
    if not claim.batch or setting.batch != claim.batch:
        differ("batch", setting.batch, claim.batch or _NOT_KNOWN)
    if not of_training(claim) and "protocol" not in but:
        found += protocol_deviations(arm, suite, claim.protocol, claim.changes.get(arm.kind, {}))
    trained = frozenset(entry(origin, "provenance", "data", "name") for origin in arm.origins.values())
    if claim.pretrain_data and trained != {claim.pretrain_data}:
        differ("data of pre-training", trained, claim.pretrain_data)
    origin = next(iter(arm.origins.values()), {})
    for table, values in claim.changes.items() if "recipe" not in but else ():
        for key, stated in values.items() if table != arm.kind else ():
            run = entry(origin, "details", "recipe", table, key)
            if run != stated:
                differ(f"{table}.{key}", _recorded(run), stated)
    return found


def protocol_deviations(
    arm: Arm, suite: Suite, name: str, changes: Mapping[str, object], whose: str = CLAIMS
) -> list[Departure]:
    """In what an arm was judged otherwise than under the named protocol as it stands, with these values changed."""
    setting = arm.setting
    if setting.protocol != name:
        return [Deviation("protocol", setting.protocol, name or _NOT_KNOWN, whose)]
    known = suite.protocols.get(arm.kind, {}).get(name, {})
    if not changes and setting.protocol_hash != known.get("hash"):
        return [OtherValues(name, setting.protocol_hash, setting.changed)]
    if not changes:
        return []
    stated = {**known.get("values", {}), **changes}
    judged = entry(next(iter(arm.records.values())), "protocol", "values") or {}
    return [
        Deviation(f"{arm.kind}.{key}", _recorded(judged.get(key)), value, whose)
        for key, value in stated.items()
        if judged.get(key) != value
    ]


def departures(claim: Claim, arm: Arm, suite: Suite) -> list[Deviation]:
    """In what an arm's recipe is not that of the paper's track, with the claim's changes.

    That one follows the paper as far as its sources tell. What a recipe says of the machine alone is passed over.
    """
    stated = suite.recipe(claim.arm, claim.papers_track)
    changed = {table: {**values, **claim.changes.get(table, {})} for table, values in stated.items()}
    theirs = options(changed, suite.neutral)
    return [Deviation(key, arm.options[key], theirs[key], OWN_TRACKS) for key in differing(arm.options, theirs)]


def of_older_recipe(arm: Arm, suite: Suite) -> bool:
    """Whether an arm was trained by another recipe than the one of its name that its track has today, length aside."""
    now = suite.recipe(arm.name, arm.setting.track)
    return bool(now) and not alike(arm.options, options(now, suite.neutral))


def main(departure: Deviation) -> bool:
    """Whether it is a main one: of the method's kinds, switches and temperatures, the network, optimizer or epochs.

    The rest are sizes and learning rates.
    """
    table, _, key = departure.what.partition(".")
    if table == "method":
        return isinstance(departure.run, str | bool) or "temperature" in key
    return key in (("arch", "depth", "width", "dim", "stem", "pool") if table == "network" else ("optimizer", "epochs"))


def _recorded(value: object) -> object:
    return "not recorded" if value is None else value
