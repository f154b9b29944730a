"""The commands that make what a claim still lacks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace

from leaderboards import claims, evalues
from leaderboards.arms import Arm, Arms
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim, of_training, usual_length
from leaderboards.missing_runs import ALONE, Missing, at_equal_compute, in_vain, missing
from leaderboards.reason_words import reason
from leaderboards.reasons import Flagged
from leaderboards.setting import network_name
from leaderboards.testable import hindrance, unreachable
from leaderboards.verdicts import Verdict
from repro.data.data_sets import entry_of
from repro.plan import kinds, protocol_files, recipes, registry, tracks
from repro.plan.request import parse_overrides
from repro.results import rerun
from repro.results.bare_suite import suite
from repro.results.overrides import nearest_arch


def wanting(
    claim: Claim,
    known: Arms,
    track: str,
    own: bool,
    verdict: Verdict | None = None,
    takes: float = ALONE,
    compute: Verdict | None = None,
) -> list[str]:
    """What the next check of one test lacks, and the commands that make it; or why nothing would decide it.

    verdict: that of this test so far.  takes: the evidence that it takes, as far as no verdict says it.
    compute: that at equal compute, which follows when the other one is decided.
    """
    where = f"{track}, {'setting of the paper' if own else 'better or not'}"
    why = unreachable(claim, suite()) if own else hindrance(claim, suite(), track)
    if why:
        return [f"{where}: {reason(why)}"]
    if verdict and (why := in_vain(verdict)):
        fresh = f"  python -m repro settle {claim.id.partition(':')[0]} --track {track} --budget 3h --workspace NEW"
        others = [f"{fresh}   (makes pairs with one version of the code)"] if isinstance(why, Flagged) else []
        return [f"{where}: no further seeds help: {reason(why)}", *others]
    lacking = missing(claim, known, track, own, verdict, takes)
    if verdict and verdict.decided and compute and not compute.decided and not in_vain(compute):
        more = missing(claim, known, track, own, compute, takes) if compute.arms else []
        lacking = more or at_equal_compute(verdict, compute, takes)
        where, verdict, own = f"{where}, {COMPUTE}", compute, False  # the arms of equal epochs go on
    if not lacking:
        return []
    return [f"{where}: {_least(claim, lacking, verdict)}", *(f"  {line}" for line in _lines(track, own, lacking))]


def _least(claim: Claim, lacking: Sequence[Missing], verdict: Verdict | None) -> str:
    """`at least 3 more pairs`: without these no check can decide it."""
    if claims.counted(claim):
        return "one run of each method"
    count = len({seed for item in lacking for seed in item.seeds})
    unit = "run" if claim.kind == "number" else "pair"
    more = "more " if verdict and verdict.n else ""
    return f"at least {count} {more}{unit}{'' if count == 1 else 's'}"


def next_runs(claim: Claim, known: Arms, track: str, own: bool) -> tuple[tuple[str, ...], ...]:
    """The commands that make the next seed which a test of no pair yet lacks, word by word."""
    return runs_of(missing(claim, known, track, own), track, own)


def runs_of(
    lacking: Sequence[Missing], track: str, own: bool, *, all_seeds: bool = False
) -> tuple[tuple[str, ...], ...]:
    """The commands that make the next seed of what a test lacks, word by word, or all of its seeds."""
    if all_seeds:
        return tuple(tuple(words) for words, _ in _commands(track, own, lacking))
    seed = min((seed for item in lacking for seed in item.seeds), default=0)
    one = [replace(item, seeds=(seed,)) for item in lacking if seed in item.seeds]
    return tuple(tuple(words) for words, _ in _commands(track, own, one))


def _lines(track: str, own: bool, lacking: Sequence[Missing]) -> list[str]:
    return [
        shlex.join(words) + (f"   ({problem})" if problem else "") for words, problem in _commands(track, own, lacking)
    ]


def _commands(track: str, own: bool, lacking: Sequence[Missing]) -> list[tuple[list[str], str]]:
    """The fewest commands that make these seeds, and what stands in the way of each, or ""."""
    found: list[tuple[list[str], str]] = []
    together: list[list[Missing]] = []  # of one claim and with the same seeds
    for item in lacking:
        if not own and item.like is not None:
            words, problem = _more(item.like, item.seeds)
            found.append((_lasting(words, item.epochs) if item.epochs else words, problem))
        elif not own and item.beside is not None:
            found.append((_like(item), ""))
        elif together and (together[-1][0].claim, together[-1][0].seeds) == (item.claim, item.seeds):
            together[-1].append(item)
        else:
            together.append([item])
    for items in together:
        names = [item.arm for item in items]
        found.append((_run(names, items[0].seeds, _conditions(items[0].claim, track, names, own=own)), ""))
    return found


def for_step(claim: Claim, key: str, takes: float) -> list[str]:
    """What makes a step of the gap (leaderboards.gap.STEPS), or why nothing does.  takes: evidence that decides it."""
    sides = [(claim.method, claim.variant), *([(claim.baseline, claim.baseline_variant)] if claim.baseline else [])]
    if key == "a":
        return [weights(claim, *side) for side in sides]
    if why := unreachable(claim, suite(), papers=key == "b"):
        return [reason(why)]
    names = [claims.arm_name(*side) for side in sides]
    conditions = _conditions(claim, claim.track, names, own=True, papers=key == "b")
    return [shlex.join(_run(names, range(evalues.least(takes)), conditions))]


def weights(claim: Claim, method: str, variant: str) -> str:
    """The command that puts an author's weights through our evaluation."""
    from repro.weights.architectures import ARCHS

    arm = claims.arm_name(method, variant)
    info, kept = registry.find(arm)
    overrides = parse_overrides(_trained(claim, claim.track, [arm], own=True))
    network = recipes.resolve(info, kept, claim.track, overrides)["network"]
    known = next(table for table in ARCHS.values() if table["arch"] == network["arch"])
    nearest, changes = nearest_arch({key: network[key] for key in known})
    words = ["python", "-m", "repro", "eval", "--checkpoint", "FILE", "--arch", nearest]
    words += ["--name", f"{method}_{variant}" if variant else method]
    words += _conditions(claim, claim.track, (), own=True, trains=False)
    if changes:
        words += [*(() if "--set" in words else ("--set",)), *changes]
    return shlex.join(words)


def _more(arm: Arm, seeds: Sequence[int]) -> tuple[list[str], str]:
    """More seeds of an arm that is there: the command, and what stands in its way, or ""."""
    first = next(iter(arm.records.values()))
    record = dict(first)
    origin = next((dict(arm.origins[seed]) for seed in arm.records if seed in arm.origins), record)
    return rerun.words(record, origin, seeds)


def _lasting(words: Sequence[str], epochs: int) -> list[str]:
    """A command with other epochs of pre-training."""
    kept = [word for word in words if not word.startswith("pretrain.epochs=")]
    return [*kept, *(() if "--set" in kept else ("--set",)), f"pretrain.epochs={epochs}"]


def _like(item: Missing) -> list[str]:
    """An arm of which nothing is there, at the setting of the one that it is compared with."""
    assert item.beside is not None
    claim, setting = item.claim, item.beside.setting
    info, variant = registry.find(item.arm)
    pretrain = recipes.resolve(info, variant, setting.track, {})["pretrain"]
    shared = {"epochs": setting.epochs, "batch": setting.batch}
    changes = [f"pretrain.{key}={value}" for key, value in shared.items() if value and pretrain[key] != value]
    role = kinds.find(_kind(claim)).data or "classification"
    used: dict[str, str] = {"classification": setting.trained_on, role: setting.data}
    track = tracks.find(setting.track)
    changes += rerun.data_changes(track, used) + rerun.limit_change(setting.drawn or 0, track.limit)
    words = _run([item.arm], item.seeds, _conditions(claim, setting.track, (), own=False, trains=False))
    return words + (["--set", *changes] if changes else [])


def _run(names: Sequence[str], seeds: Sequence[int], conditions: Sequence[str]) -> list[str]:
    return [
        "python",
        "-m",
        "repro",
        "run",
        "--method",
        *map(registry.spelled, names),
        "--seed",
        *map(str, seeds),
        *conditions,
    ]


def _kind(claim: Claim) -> str:
    """The evaluation that gives the records of a claim; a pre-training gives its cost with any."""
    return rerun.ANY if of_training(claim) else kinds.evaluations()[claim.evaluation].kind


def own_protocol(claim: Claim, track: str) -> str:
    """The protocol of a claim's evaluation on a track where none is asked for."""
    kind = _kind(claim)
    own = entry_of(claim.data).protocol if kinds.find(kind).data != "classification" else ""
    if own in protocol_files.names(kind):
        return own
    network = recipes.resolve(*registry.find(claims.arm_name(claim.method, claim.variant)), track, {})["network"]
    return tracks.find(track).protocol(kind, network["arch"])


def _conditions(
    claim: Claim, track: str, names: Sequence[str], *, own: bool, papers: bool = True, trains: bool = True
) -> list[str]:
    """The options of `run` (or, where nothing is trained, of `eval`) that put arms under the setting of a claim.

    own: its own setting; else the track's.  papers: under the paper's protocol, where it is known.
    """
    kind = _kind(claim)
    words = ["--track", track, "--eval", rerun.ANY if of_training(claim) else claim.evaluation]
    changes = _trained(claim, track, names, own) if trains else []
    if not own:
        return words + (["--set", *changes] if changes else [])
    role = kinds.find(kind).data or "classification"
    if claim.data != getattr(tracks.find(track), role):
        if role == "classification":
            words += ["--data", claim.data]
        else:
            changes.append(f"data.{role}={claim.data}")
    if papers and claim.protocol not in ("", own_protocol(claim, track)):
        words += ["--protocol", f"{kind}={claim.protocol}"]
    for table, values in claim.changes.items():
        if (table in registry.TABLES and trains) or (table == kind and papers):
            changes += [f"{table}.{key}={json.dumps(value)}" for key, value in values.items()]
    return words + (["--set", *changes] if changes else [])


def _trained(claim: Claim, track: str, names: Sequence[str], own: bool) -> list[str]:
    """What `--set` must change so that these arms train as the claim says, and else all as the first one does."""
    found = [recipes.resolve(*registry.find(name), track, {}) for name in names]
    networks = {network_name(recipe["network"]) for recipe in found}
    changes = []
    if own and claim.backbone.startswith("ResNet-") and networks != {claim.backbone}:
        changes.append(f"network.depth={claim.backbone.removeprefix('ResNet-')}")
    for key in ("epochs", "batch"):
        runs = [recipe["pretrain"][key] for recipe in found]
        stated = getattr(claim, key) if own else usual_length(claim, track, suite()) if key == "epochs" else None
        first, last = stated if isinstance(stated, tuple) else (stated, stated)
        if stated is None:
            first = last = runs[0]
        if not all(first <= run <= last for run in runs):
            changes.append(f"pretrain.{key}={last}")
    return changes
