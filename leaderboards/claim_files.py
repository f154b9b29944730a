"""The files of claims (`claims/*.toml`, one a paper): read, and held to what a claim must say.

A file is named for its paper and holds `citation`, `[defaults]` (keys that its claims share) and one `[[claim]]` a
claim, whose keys are the fields of `Claim`. Anything else in a file is an error, so that a typing slip cannot silence
a claim. Our own claims on why follow, one `[[mechanism]]` each: `parent` is the id of a claim above it, and what it
does not state (method, variant, evaluation, metric, data, margins) it has from that one.

`protocol`, `backbone`, `epochs` and `batch` of a paper's claim are each given or named in `unknown`: nothing is left
out in silence. A default is taken back by the key with "", [] or {}.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from leaderboards.claims import (
    COST,
    INTERACTION,
    KINDS,
    MECHANISM,
    NO_TRACK,
    SETTING,
    TRACKS,
    TRAINING,
    VERIFIED,
    Claim,
    of_training,
)
from leaderboards.references import references
from leaderboards.suite import Suite
from leaderboards.unknown_names import UnknownName


def load(suite: Suite, folder: Path | None = None) -> list[Claim]:
    """Every claim of `folder` (default: the package's own), by file and then as written.

    suite: the evaluations that a claim may name, beside COST.

    Raises:
        ValueError: one line that names file, claim and key: unknown or missing key, wrong type, unknown name, an id
            used twice, a margin above half of the claimed gain, a reference that references.csv lacks.
    """
    source: Traversable | Path = folder or files("leaderboards").joinpath("claims")
    known = {reference.id for reference in references()}
    found: dict[str, Claim] = {}
    for item in sorted(source.iterdir(), key=lambda entry: entry.name):
        if not item.name.endswith(".toml"):
            continue
        for claim in _parse(item, suite):
            if claim.id in found:
                raise ValueError(f"{item}: claim '{claim.id}': the id is used twice; choose another")
            for row in claim.references:
                if row not in known:
                    raise ValueError(f"{item}: claim '{claim.id}': references: {UnknownName('row', row, known)}")
            found[claim.id] = claim
    return list(found.values())


def _parse(file: Traversable, suite: Suite) -> list[Claim]:
    try:
        raw = tomllib.loads(file.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid TOML ({error})") from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); move it away") from None
    for key in raw:
        if key not in (known := ("citation", "defaults", "claim", MECHANISM)):
            raise ValueError(f"{file}: {UnknownName('key', key, known)}")
    if not isinstance(raw.get("citation"), str):
        raise ValueError(f"{file}: key 'citation' is missing")
    defaults = raw.get("defaults", {})
    if not isinstance(defaults, dict):
        raise ValueError(f"{file}: defaults = {defaults!r} must be a table")
    for name in ("claim", MECHANISM):
        tables = raw.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ValueError(f"{file}: {name} must be tables; write [[{name}]] above each")
    about = {"paper": file.name.removesuffix(".toml"), "citation": raw["citation"]}
    found = [_claim({**about, **defaults, **table}, str(file), suite) for table in raw.get("claim", [])]
    by_id = {claim.id: claim for claim in found}
    for claim in found:
        if claim.parent and claim.parent not in by_id:
            raise ValueError(f"{file}: claim '{claim.id}': parent: {UnknownName('claim', claim.parent, by_id)}")
    return found + [_mechanism(table, by_id, str(file), suite) for table in raw.get(MECHANISM, [])]


_OF_THE_PARENT = ("paper", "citation", "method", "variant", "evaluation", "metric", "better", "data", "unit", "margin")


def _mechanism(table: Mapping[str, Any], by_id: Mapping[str, Claim], file: str, suite: Suite) -> Claim:
    """One of our own claims on why: at the tracks of its parent's proxies alone, in a family of such claims."""
    where = f"{file}: {MECHANISM} '{table.get('id', '(no id)')}'"
    above = str(table.get("parent", ""))
    parent = by_id.get(above)
    if parent is None:
        raise ValueError(f"{where}: parent: {UnknownName('claim', above, by_id)}")
    shared = {key: getattr(parent, key) for key in _OF_THE_PARENT}
    tests = {key: dict(getattr(parent, key)) for key in ("proxies", "proxy_epochs", "lengths")}
    ours = {"kind": MECHANISM, "source": "none", "verified": "ours", "track": NO_TRACK, "recipe_track": parent.track}
    return _claim({**shared, **tests, **ours, "family": f"{parent.paper} mechanisms", **table}, file, suite)


@cache
def _types() -> Mapping[str, Any]:
    return get_type_hints(Claim, include_extras=True)


def _claim(table: Mapping[str, Any], file: str, suite: Suite) -> Claim:
    where = f"{file}: claim '{table.get('id', '(no id)')}'"
    for key in table:
        if key not in _types():
            raise ValueError(f"{where}: {UnknownName('key', key, _types())}")
    for field in fields(Claim):
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{where}: key '{field.name}' is missing")
    span = table.get("epochs")
    given = {**table, "epochs": [span, span]} if type(span) is int else table
    claim = Claim(**{key: _converted(key, value, _types()[key], where) for key, value in given.items()})
    _check(claim, where, suite)
    return claim


def _converted(key: str, value: Any, hint: Any, where: str) -> Any:
    """The value as that type, or a ValueError that says what it should have been."""
    if get_origin(hint) is Mapping and isinstance(value, dict):
        return {name: _converted(f"{key}.{name}", item, get_args(hint)[1], where) for name, item in value.items()}
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        wanted = "a table" if get_origin(hint) is Mapping else get_args(hint)[1].description
        raise ValueError(f"{where}: {key} = {value!r} must be {wanted}") from None


def _check(claim: Claim, where: str, suite: Suite) -> None:
    """What types alone cannot say."""
    valid = {
        "kind": KINDS,
        "verified": VERIFIED,
        "track": (*TRACKS, NO_TRACK),
        "better": ("higher", "lower"),
        "evaluation": (*suite.evaluations, COST, TRAINING),
    }
    for key, names in valid.items():
        if (name := getattr(claim, key)) not in names:
            raise ValueError(f"{where}: {UnknownName(key, name, names)}")
    for track in claim.proxies:
        if track not in TRACKS:
            raise ValueError(f"{where}: proxies: {UnknownName('track', track, TRACKS)}")
    for track in claim.proxy_epochs:
        if track not in claim.proxies:
            raise ValueError(f"{where}: proxy_epochs: {UnknownName('track of its proxies', track, claim.proxies)}")
    for track, epochs in claim.lengths.items():
        if track not in claim.proxies:
            raise ValueError(f"{where}: lengths: {UnknownName('track of its proxies', track, claim.proxies)}")
        many = 2 if claim.kind == INTERACTION else 1
        if len(set(epochs)) != many or len(epochs) != many or min(epochs) < 1:
            raise ValueError(f"{where}: lengths.{track} = {list(epochs)} must hold {many}, each from 1 and once")
    if claim.kind == INTERACTION and (not claim.proxies or claim.proxies.keys() != claim.lengths.keys()):
        raise ValueError(f"{where}: an interaction needs 'proxies', and 'lengths' for each of them")
    if claim.kind == INTERACTION and "epochs" not in claim.unknown:
        raise ValueError(f"{where}: an interaction is tested on its proxies alone; name 'epochs' in 'unknown'")
    if claim.kind == MECHANISM and not claim.proxies:
        raise ValueError(f"{where}: key 'proxies' is missing; neither it nor its parent names a track to test it on")
    if bool(claim.parent) != bool(claim.part):
        raise ValueError(f"{where}: 'parent' and 'part' go together")
    if claim.assumption and not claim.unknown:
        raise ValueError(f"{where}: 'assumption' needs 'unknown': it stands in for what no source tells")
    for key in claim.unknown:
        if key not in SETTING:
            raise ValueError(f"{where}: unknown: {UnknownName('key of a setting', key, SETTING)}")
    if claim.epochs and not 1 <= claim.epochs[0] <= claim.epochs[1]:
        raise ValueError(f"{where}: epochs = {list(claim.epochs)} must be a whole number from 1, or [first, last]")
    if claim.kind == "number" and (claim.baseline or claim.proxies):
        raise ValueError(f"{where}: a number stands alone; drop 'baseline' and 'proxies', or choose kind 'gain'")
    if claim.kind != "number" and not claim.baseline:
        raise ValueError(f"{where}: key 'baseline' is missing; kind '{claim.kind}' compares with one")
    if claim.arm == claim.baseline_arm:
        raise ValueError(f"{where}: it compares {claim.arm} with itself; name another 'baseline' or 'variant'")
    if claim.kind in ("number", "gain", "cost_ratio") and claim.value is None:
        raise ValueError(f"{where}: key 'value' is missing; kind '{claim.kind}' states one")
    if (claim.kind == "cost_ratio") and claim.evaluation != COST:
        raise ValueError(f"{where}: kind 'cost_ratio' needs evaluation = 'cost'")
    for key in SETTING if claim.kind != MECHANISM else ():
        given, no_source = bool(getattr(claim, key)), key in claim.unknown
        if key == "protocol" and of_training(claim):
            if given or no_source:
                raise ValueError(f"{where}: {claim.evaluation} is of the pre-training and has no protocol; drop it")
        elif given and no_source:
            raise ValueError(f"{where}: {key} is given and said to be unknown; drop one of the two")
        elif not given and not no_source:
            raise ValueError(f"{where}: key '{key}' is missing; give it, or name it in 'unknown'")
    if (claim.spread is None) != (claim.spread_n is None):
        raise ValueError(f"{where}: 'spread' and 'spread_n' go together")
    for at, margin in {claim.track: claim.margin, **claim.proxies}.items():
        if claim.kind in ("gain", "direction") and claim.value is not None and margin > claim.value / 2:
            raise ValueError(
                f"{where}: margin {margin:g} on {at} is more than half of the claimed {claim.value:g}; lower it"
            )
