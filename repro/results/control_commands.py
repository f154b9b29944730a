"""The commands that make the controls which a table lacks: the network untrained, and raw pixels."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from leaderboards.arms import PIXELS, UNTRAINED, Arm
from leaderboards.controls import network_of
from leaderboards.record_fields import entry
from leaderboards.summary import Lacking
from repro.data.data_sets import FOLDER
from repro.plan import kinds, protocol_files, recipes, registry, tracks
from repro.results.overrides import differing
from repro.results.rerun import data_changes, limit_changes
from repro.results.suite import suite

_Words = tuple[str, ...]
_Group = tuple[str, _Words, _Words, _Words]  # track, options, changes of --set, evaluations


def commands(lacking: Iterable[Lacking]) -> list[str]:
    """The fewest commands that make what is missing.

    None for what cannot be made: of weights of a file, of a network that is not known, of pixels what trains them.
    """
    wanted: dict[tuple[str, str, _Words, _Words], dict[str, set[int]]] = defaultdict(dict)  # seeds by evaluation
    for item in lacking:
        kind = kinds.find(kinds.evaluations()[item.evaluation].kind)
        network = network_of(item.arm, suite())
        if item.arm.imported or not network or (item.pixels and kind.task != kinds.FROZEN):
            continue
        track = item.arm.setting.track
        name, changes = (f"{UNTRAINED}:{PIXELS}", []) if item.pixels else _control(track, network)
        options, more = _setting(item.arm, kind)
        by_evaluation = wanted[name, track, options, (*changes, *more)]
        seeds = sorted(item.arm.records)
        once = item.pixels and not item.arm.setting.drawn  # pixels differ by seed only where the pictures do
        by_evaluation.setdefault(item.evaluation, set()).update(seeds[:1] if once else seeds)
    grouped: dict[_Group, dict[str, set[int]]] = defaultdict(dict)  # seeds by control
    for (name, track, options, sets), by_evaluation in wanted.items():
        evaluations = tuple(evaluation for evaluation in kinds.evaluations() if evaluation in by_evaluation)
        grouped[track, options, sets, evaluations][name] = set().union(*by_evaluation.values())
    return [_command(*group, by_name) for group, by_name in grouped.items()]


def _command(track: str, options: _Words, changes: _Words, evaluations: _Words, names: Mapping[str, set[int]]) -> str:
    seeds = sorted(set().union(*names.values()))
    words = ["python", "-m", "repro", "run", "--method", *sorted(names), "--track", track]
    words += ["--seed", *map(str, seeds)] if seeds != [0] else []
    words += ["--eval", *evaluations, *options, *(["--set", *changes] if changes else [])]
    return shlex.join(words)


def _control(track: str, network: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The control nearest to such a network, and what `--set` must change of what it has on the track."""
    variants = registry.methods()[UNTRAINED].variants
    found: list[tuple[str, list[str]]] = []
    for name in (UNTRAINED, *(f"{UNTRAINED}:{variant}" for variant in variants)):
        now = recipes.resolve(*registry.find(name), track, {})["network"]
        if now["arch"] == network["arch"]:
            found.append((name, differing("network", network, now)))
    return min(found, key=lambda control: len(control[1]))


def _setting(arm: Arm, kind: kinds.Kind) -> tuple[tuple[str, ...], list[str]]:
    """The options, and the changes of `--set`, that put a control under the data and the protocol of an arm."""
    record, track = next(iter(arm.records.values())), tracks.find(arm.setting.track)
    origin = next(iter(arm.origins.values()))
    used: dict[str, str] = {
        "classification": str(entry(origin, "provenance", "data", "name") or ""),
        str(kind.data): str(entry(record, "provenance", "data", "name") or ""),
    }
    options: list[str] = []
    if used["classification"].startswith(FOLDER):
        options += ["--data", used.pop("classification").removeprefix(FOLDER)]
    protocol: Mapping[str, Any] = record["protocol"]
    if protocol["name"] != track.protocol(kind.name, str(arm.options["network.arch"])):
        options += ["--protocol", f"{kind.name}={protocol['name']}"]
    usual = track.limit if "classification" in used else 0  # a folder has all its pictures used
    changes = data_changes(track, used) + limit_changes(record, origin, usual)
    if protocol["name"] in protocol_files.names(kind.name):
        changes += differing(kind.name, protocol["values"], protocol_files.load(kind.name, protocol["name"]).values())
    return tuple(options), changes
