"""`repro claims` and `repro gap`: what the papers assert, how we test it, and which commands make what is missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboards import boards, gap, verdicts
from leaderboards import claims as asserted
from leaderboards.arms import Arm, kind_of, network_name
from leaderboards.claims import NO_TRACK, VERIFIED, Claim
from repro.data.entries import entry_of
from repro.errors import UserError, unknown
from repro.plan import recipes, tracks
from repro.plan.request import parse_overrides
from repro.results import trace
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record
from repro.terminal import text

_TABLE = 12  # rows of further legs that are shown


def listing(settings: Settings, wanted: Mapping[str, str], outcome: str | None = None) -> str:
    """The claims that fit, with their verdicts so far, from the workspace's records and the published ones.

    wanted: as for `leaderboards.claims.select`.  outcome: of a verdict; with a track, of one at that track.
    """
    every = asserted.load()
    try:
        chosen = {claim.id for claim in asserted.select(every, **wanted)}
    except ValueError as error:
        raise UserError(str(error)) from None
    found, faults = trace.everything(settings)
    items = boards.asserted(every, found)
    if outcome is not None:
        reached = {verdict.outcome for item in items for verdict in item.verdicts}
        if outcome not in reached:
            raise unknown("outcome, among those reached,", outcome, reached)
    shown = [
        item
        for item in items
        if item.claim.id in chosen
        and (outcome is None or any(v.outcome == outcome for v in item.verdicts if _at(v, wanted.get("track"))))
    ]
    lines = [f"passed over: {fault}" for fault in faults]
    lines += [boards.claims_table(shown)] if shown else []
    lines += ["", f"{len(shown)} of {len(every)} claims; python -m repro claims ID explains one"]
    if any(record["track"] == "embedded" for record in found):
        lines.append("embedded: no verdicts at this track, whatever its records say")
    return "\n".join(lines)


def _at(verdict: verdicts.Verdict, track: str | None) -> bool:
    return track is None or verdict.track == track


def _find(name: str) -> Claim:
    known = {claim.id: claim for claim in asserted.load()}
    if name not in known:
        nearest = asserted.unknown("claim", name, known).partition("; choose from")[0]
        raise UserError(f"{nearest}; python -m repro claims lists them")
    return known[name]


# -------------------------------------------------------------------------------------------------------------- explain


def explain(settings: Settings, name: str) -> str:
    """One claim: what it says and where, our test of it, the verdicts so far, and what would complete them."""
    claim = _find(name)
    found, faults = trace.everything(settings)
    (item,) = (item for item in boards.asserted(asserted.load(), found) if item.claim.id == name)
    spread = f"{claim.spread:g} over {claim.spread_n} runs" if claim.spread is not None else "none stated"
    conditions = [
        ["paper", claim.citation],
        ["source", f"{claim.source} ({VERIFIED[claim.verified]})"],
        ["kind", f"{claim.kind}: {claim.stated}"],
        ["spread", spread],
        ["evaluation", f"{claim.evaluation} {claim.metric} on {claim.data}"],
        *([key, _said(claim, key)] for key in asserted.SETTING if key != "protocol" or claim.evaluation != "cost"),
        *([f"{table}.{key}", value] for table, values in claim.changes.items() for key, value in values.items()),
        *([["pre-trained on", claim.pretrain_data]] if claim.pretrain_data else []),
        *([["note", claim.note]] if claim.note else []),
    ]
    lines = [f"passed over: {fault}" for fault in faults]
    lines += [f"{claim.id}: {claim.statement}", "", *_listed(conditions)]
    rows = {row.id: row for row in asserted.references()}
    reported = [row for row in rows.values() if row.id in claim.references]
    if reported:
        lines += ["", "reported numbers"]
        for row in reported:
            lines.append(f"  {row.words}")
            lines += [f"    reported otherwise: {rows[mark].words}" for mark in row.conflicts]
    against = f" and {claim.baseline_arm}" if claim.baseline else ""
    what = "pre-trainings" if claim.kind == "number" else "pairs of pre-trainings with the same seed"
    unit = "of the ratio" if claim.evaluation == "cost" else "points"
    lines += [
        "",
        f"test: {claim.arm}{against}, {claim.n} {what}; Holm over family {claim.family}",
        *(
            f"  {track}, {'its own setting' if own else 'its direction'}: margin {margin:g} {unit}"
            for track, own, margin in _tests(claim)
        ),
        "",
        "verdicts so far",
        *(f"  {verdict.sentence}" for verdict in item.verdicts),
    ]
    wanting = [line for track, own, _ in _tests(claim) for line in _wanting(claim, found, track, own)]
    if claim.track == NO_TRACK:
        wanting.insert(0, f"its own setting: no track runs {claim.data}")
    return "\n".join([*lines, "", "missing", *(f"  {line}" for line in wanting or ["nothing: the frozen n is there"])])


def _said(claim: Claim, key: str) -> str:
    value = getattr(claim, key)
    if isinstance(value, tuple):
        value = "-".join(str(edge) for edge in dict.fromkeys(value))
    return str(value) if value else "not known"


def _listed(rows: Sequence[Sequence[object]]) -> list[str]:
    width = max(len(str(row[0])) for row in rows)
    return [f"  {row[0]!s:{width}}  {row[1]}" for row in rows]


def _tests(claim: Claim) -> list[tuple[str, bool, float]]:
    """(track, whether it is the claim's own setting, margin) of every test of a claim, the smallest track first."""
    own = [(claim.track, True, claim.margin)] if claim.track != NO_TRACK else []
    return [(track, False, claim.proxies[track]) for track in asserted.TRACKS if track in claim.proxies] + own


def _wanting(claim: Claim, found: Sequence[Record], track: str, own: bool) -> list[str]:
    """What one test lacks, and the commands that make it."""
    lacking = verdicts.missing(claim, found, track, own)
    if not lacking:
        return []
    lines = [f"{track}, {'its own setting' if own else 'its direction'}"]
    if own and (why := _impossible(claim)):
        return [f"{lines[0]}: {why}"]
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for item in lacking:
        if not own and item.like is not None:
            lines.append(f"  {_more(item.like, found, item.seeds)}")
        elif not own and item.beside is not None:
            lines.append(f"  {_like(claim, item)}")
        else:
            by_seeds.setdefault(item.seeds, []).append(item.arm)
    for seeds, names in by_seeds.items():
        lines.append("  " + shlex.join(_run(names, seeds, _conditions(claim, track, names, own=own))))
    return lines


def _impossible(claim: Claim, papers: bool = True) -> str:
    """Why nothing that we can run counts as the claim's own setting, or "".

    papers: under the paper's protocol; else under ours.
    """
    if claim.pretrain_data:
        return f"no track pre-trains on {claim.pretrain_data}"
    if unknown := [key for key in claim.unknown if papers or key != "protocol"]:
        return f"not known: {', '.join(unknown)}; so that nothing counts as it"
    for name in filter(None, (claim.arm, claim.baseline_arm)):
        recipe = recipes.resolve(*recipes.find(name), claim.track, {})
        for table in claim.changes.keys() & recipe.keys():
            if lacking := sorted(claim.changes[table].keys() - recipe[table].keys()):
                return f"the recipe of {name} has no {table}.{lacking[0]}"
    return ""


def _more(arm: Arm, found: Sequence[Record], seeds: Sequence[int]) -> str:
    """More seeds of an arm that is there."""
    first = next(iter(arm.records.values()))
    record = dict(first)
    origin = next((dict(arm.origins[seed]) for seed in arm.records if seed in arm.origins), record)
    words, problem = trace.again(record, origin, seeds)
    return shlex.join(words) + (f"   ({problem})" if problem else "")


def _like(claim: Claim, item: verdicts.Missing) -> str:
    """An arm of which nothing is there, at the setting of the one that it is compared with."""
    assert item.beside is not None
    setting = item.beside.setting
    info, variant = recipes.find(item.arm)
    pretrain = recipes.resolve(info, variant, setting.track, {})["pretrain"]
    shared = {"epochs": setting.epochs, "batch": setting.batch}
    changes = [f"pretrain.{key}={value}" for key, value in shared.items() if value and pretrain[key] != value]
    words = _run([item.arm], item.seeds, _conditions(claim, setting.track, [item.arm], own=False))
    return shlex.join(words + (["--set", *changes] if changes else []))


# ------------------------------------------------------------------------------------------------------------- commands


def _run(names: Sequence[str], seeds: Sequence[int], conditions: Sequence[str]) -> list[str]:
    return ["python", "-m", "repro", "run", "--method", *names, "--seed", *map(str, seeds), *conditions]


def _kind(claim: Claim) -> str:
    """The evaluation that gives the records of a claim; a pre-training gives its cost with any."""
    return "knn" if claim.evaluation == "cost" else kind_of(claim.evaluation)


def own_protocol(claim: Claim, track: str) -> str:
    """The protocol of a claim's evaluation on a track where none is asked for."""
    kind = _kind(claim)
    if kind in ("detection", "reid") and (own := entry_of(claim.data).protocol):
        return own
    network = recipes.resolve(*recipes.find(asserted.arm_name(claim.method, claim.variant)), track, {})["network"]
    return tracks.find(track).protocol(kind, network["arch"])


def _conditions(
    claim: Claim, track: str, names: Sequence[str], *, own: bool, papers: bool = True, trains: bool = True
) -> list[str]:
    """The options of `run` (or, where nothing is trained, of `eval`) that put arms under the setting of a claim.

    own: its own setting; else the track's.  papers: under the paper's protocol, where it is known.
    """
    kind = _kind(claim)
    words = ["--track", track, "--eval", "knn" if claim.evaluation == "cost" else claim.evaluation]
    changes = _trained(claim, track, names, own) if trains else []
    if not own:
        return words + (["--set", *changes] if changes else [])
    role = kind if kind in ("detection", "reid") else "classification"
    if claim.data != getattr(tracks.find(track), role):
        if role == "classification":
            words += ["--data", claim.data]
        else:
            changes.append(f"data.{role}={claim.data}")
    if papers and claim.protocol not in ("", own_protocol(claim, track)):
        words += ["--protocol", f"{kind}={claim.protocol}"]
    for table, values in claim.changes.items():
        if (table in recipes.TABLES and trains) or (table == kind and papers):
            changes += [f"{table}.{key}={json.dumps(value)}" for key, value in values.items()]
    return words + (["--set", *changes] if changes else [])


def _trained(claim: Claim, track: str, names: Sequence[str], own: bool) -> list[str]:
    """What `--set` must change so that these arms train as the claim says, and else all as the first one does."""
    found = [recipes.resolve(*recipes.find(name), track, {}) for name in names]
    networks = {network_name(recipe["network"]) for recipe in found}
    changes = []
    if own and claim.backbone.startswith("ResNet-") and networks != {claim.backbone}:
        changes.append(f"network.depth={claim.backbone.removeprefix('ResNet-')}")
    for key in ("epochs", "batch"):
        runs = [recipe["pretrain"][key] for recipe in found]
        stated = getattr(claim, key) if own else None
        first, last = stated if isinstance(stated, tuple) else (stated, stated)
        if stated is None:
            first = last = runs[0]
        if not all(first <= run <= last for run in runs):
            changes.append(f"pretrain.{key}={last}")
    return changes


def _weights(claim: Claim, method: str, variant: str) -> str:
    """The command that puts an author's weights through our evaluation."""
    from repro.weights.architectures import ARCHS

    arm = asserted.arm_name(method, variant)
    info, kept = recipes.find(arm)
    overrides = parse_overrides(_trained(claim, claim.track, [arm], own=True))
    network = recipes.resolve(info, kept, claim.track, overrides)["network"]
    known = next(table for table in ARCHS.values() if table["arch"] == network["arch"])
    nearest, changes = trace.arch({key: network[key] for key in known})
    words = ["python", "-m", "repro", "eval", "--checkpoint", "FILE", "--arch", nearest]
    words += ["--name", f"{method}_{variant}" if variant else method]
    words += _conditions(claim, claim.track, (), own=True, trains=False)
    if changes:
        words += [*(() if "--set" in words else ("--set",)), *changes]
    return shlex.join(words)


# ------------------------------------------------------------------------------------------------------------------ gap


def shortfall(settings: Settings, name: str) -> str:
    """The legs between a claimed number and ours, their differences and what each is due to, and what is missing."""
    claim = _find(name)
    if why := gap.reason(claim):
        raise UserError(f"claim {name} {why}; see python -m repro claims {name}")
    found, faults = trace.everything(settings)
    lines = [f"passed over: {fault}" for fault in faults]
    lines += [f"{claim.id}: {claim.statement}", ""]
    if claim.track == NO_TRACK:
        return "\n".join([*lines, f"claimed {claim.stated}; no track runs {claim.data}, so there is no leg to compare"])
    own = own_protocol(claim, claim.track)
    legs = gap.legs(claim, found, own)
    here = gap.taken(legs)
    rows: list[list[Any]] = [["claimed", f"{claim.value:g} {claim.unit}", "-", claim.data, claim.source]]
    for key in gap.expected(claim, own):
        rows.append(_row(here[key]) if key in here else [f"{key}: {gap.LEGS[key]}", "missing", "-", "-", "-"])
    lines.append(text.table(rows, ["leg", "value", "n", "where", "from"]))
    if "b" in gap.expected(claim, own) and "c" not in gap.expected(claim, own):
        lines.append(f"no leg c: the paper's protocol, {own}, is the track's own")
    if not claim.protocol:
        lines.append(f"no leg b: the paper's protocol is not known; ours is {own}")
    if claim.metric.endswith("_best_on_test"):
        lines.append("claimed, a and b: the best epoch on the test pictures, as the paper reports; c: the last one")
    made = gap.steps(claim, legs, own)
    if made:
        due = [[f"{step.start} - {step.end}", f"{step.points:+.2f}", _due(step)] for step in made]
        total = ["claimed - " + made[-1].end, f"{sum(step.points for step in made):+.2f}", "all of it"]
        lines += ["", text.table([*due, *([total] if len(due) > 1 else [])], ["difference", "points", "due to"])]
    else:
        lines += ["", "no leg at the claim's own setting: nothing to subtract"]
    others = [leg for leg in legs if leg.apart]
    if others:
        lines += ["", "not comparable, so never subtracted"]
        lines.append(text.table([[*_row(leg), "; ".join(leg.apart)] for leg in others[:_TABLE]], _APART))
        if len(others) > _TABLE:
            lines.append(f"and {len(others) - _TABLE} more")
    absent = [key for key in gap.expected(claim, own) if key not in here]
    if absent:
        lines += ["", "to make what is missing", *(f"  {key}: {line}" for key in absent for line in _make(claim, key))]
    return "\n".join(lines)


_APART = ["leg", "value", "n", "where", "from", "because"]


def _row(leg: gap.Leg) -> list[Any]:
    setting = leg.arms[0].setting
    files = [records.file_name(dict(record)) for arm in leg.arms for record in arm.records.values()]
    where = f"{setting.track}, {setting.data}, {setting.protocol}"
    return [
        f"{leg.key}: {gap.LEGS[leg.key]}",
        boards.spread(leg.values.values()),
        len(leg.values),
        where,
        "\n".join(files),
    ]


def _due(step: gap.Step) -> str:
    if len(step.due) == 1:
        return step.due[0]
    return " and ".join(step.due) + ", which cannot be told apart"


def _make(claim: Claim, key: str) -> list[str]:
    sides = [(claim.method, claim.variant), *([(claim.baseline, claim.baseline_variant)] if claim.baseline else [])]
    if key == "a":
        return [_weights(claim, *side) for side in sides]
    if why := _impossible(claim, papers=key == "b"):
        return [why]
    names = [asserted.arm_name(*side) for side in sides]
    conditions = _conditions(claim, claim.track, names, own=True, papers=key == "b")
    return [shlex.join(_run(names, range(claim.n), conditions))]
