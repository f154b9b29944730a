"""From a printed number back to what made it: `explain` and `compare`, over the workspace's records and the published
ones.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any

from eval import protocols
from leaderboards import published
from leaderboards.arms import MAIN_METRICS, OURS, TRUST, Arm, arms, cost_of, entry, kind_of, origin_of, trust_of
from leaderboards.curves import Curve, at_epoch, by_seed, watched
from leaderboards.pairs import Difference, apart, difference, fairest, no_ratio
from leaderboards.statistics import paired
from repro.errors import UserError, unknown
from repro.plan import recipes, tracks
from repro.settings import Settings
from repro.store import records
from repro.store.records import Record
from repro.store.workspace import Workspace
from repro.terminal import text


def everything(settings: Settings) -> tuple[list[Record], list[str]]:
    """The records of the workspace and the published ones, each once; and a line for each file that is none."""
    found, faults = records.read_all(Workspace(settings.workspace).records)
    others, damaged = records.read_all(published.FOLDER / "records")
    here = {record["fingerprint"] for record in found}
    return found + [record for record in others if record["fingerprint"] not in here], faults + damaged


# -------------------------------------------------------------------------------------------------------------- explain


def explain(cell: str, settings: Settings) -> str:
    """What a cell of a board is made of, and the commands that give it again.

    cell: the file that the cell links to (its name or path), or the beginning of a record's fingerprint.
    """
    found, _ = everything(settings)
    name = Path(cell).name
    matching = [
        r for r in found if records.file_name(r) == name or (len(cell) >= 6 and r["fingerprint"].startswith(cell))
    ]
    if not matching:
        nearest = str(unknown("record", name, [records.file_name(record) for record in found] or ["(there is none)"]))
        raise UserError(nearest.partition("; valid")[0] + "; give a file that a board links to, or a fingerprint")
    if len(matching) > 1:
        raise UserError(f"{cell} is the beginning of {len(matching)} fingerprints; give more of it")
    record = matching[0]
    by_mark = {r["fingerprint"]: r for r in found}
    chain = _chain(record, by_mark)
    origin = by_mark[(origin_of(record, by_mark) or record)["fingerprint"]]
    about = record["provenance"]
    lines = [
        f"{record['kind']} of {_arm(record)}, track {record['track']}, seed {record['seed']}",
        "  " + ", ".join(f"{key} {value:.4g}" for key, value in record["metrics"].items()),
        "",
        "made by",
        text.table(
            [[r["kind"], r["fingerprint"][:12], _date(r), _time(r), _machine(r)] for r in chain],
            ["job", "fingerprint", "date", "time", "on"],
        ),
        "",
        f"pictures: {about['data']['source']} ({about['data']['name']}, manifest {about['data']['manifest'][:12]})",
        f"code:     {_code(about)}",
        "packages: " + ", ".join(f"{package} {version}" for package, version in about["packages"].items()),
    ]
    trust = trust_of(record, origin)
    if trust != OURS:
        lines.append(f"trust:    {trust}, {TRUST.get(trust, 'unknown')}; no verdict rests on it")
    protocol = record.get("protocol") or {}
    if protocol.get("name"):
        lines.append(f"protocol: {protocol['name']} ({protocol['hash']})")
    if record["kind"] == "detection":
        lines.append("boxes and masks come from this one record")
    if record is not origin and origin["kind"] not in ("pretrain", "import"):
        lines.append("the pre-training behind it is not at hand")
    lines += ["", "to do it again (with the code of then: the first line too)"]
    if about.get("commit", "unknown") != "unknown":
        lines.append(f"  git checkout {about['commit'][:12]} && pip install -e .")
    words, problem = again(record, origin)
    lines.append("  " + shlex.join(words))
    if problem:
        lines.append(f"  {problem}")
    return "\n".join(lines)


def again(record: Record, origin: Record, seeds: Sequence[int] = ()) -> tuple[list[str], str]:
    """The command that makes a record again with this checkout, and what stands in the way, or "".

    origin: the pre-training or import behind it.  seeds: others in place of its own.
    """
    changes, problem = _changes(record, origin)
    track = tracks.find(record["track"])
    data = record["provenance"]["data"]["name"]
    role = {"reid": "reid", "reid_finetune": "reid", "detection": "detection"}.get(record["kind"], "classification")
    if data != getattr(track, role):
        changes.append(f"data.{role}={json.dumps(data)}")
    evaluation = record["kind"] if record["kind"] in MAIN_METRICS else "knn"
    what = _what(record, origin, seeds or (record["seed"],))
    words = ["python", "-m", "repro", *what, "--track", record["track"], "--eval", evaluation]
    protocol = record.get("protocol") or {}
    network = str(entry(origin, "details", "recipe", "network", "arch") or "")
    usual = track.protocol(record["kind"], network) if network and record["kind"] in track.protocols else ""
    if protocol.get("name") and protocol["name"] != usual:
        words += ["--protocol", f"{record['kind']}={protocol['name']}"]
    return words + (["--set", *changes] if changes else []), problem


def _what(record: Record, origin: Record, seeds: Sequence[int]) -> list[str]:
    """The verb and what it is done with."""
    if origin["kind"] != "import":
        processes = origin["provenance"].get("processes", 1)
        together = ["--processes", str(processes)] if processes > 1 else []
        return ["run", "--method", _arm(record), "--seed", *map(str, seeds), *together]
    details = origin["details"]
    words = ["eval", "--checkpoint", details["file"], "--arch", arch(_network(origin))[0], "--name", record["method"]]
    if details["normalise"] == "given":
        mean, std = (",".join(map(str, details[key])) for key in ("mean", "std"))
        return [*words, "--mean", mean, "--std", std]
    return [*words, "--normalise", details["normalise"]]


def _network(origin: Record) -> Mapping[str, Any]:
    """The table [network] of a checkpoint that was imported."""
    network: Mapping[str, Any] = origin["details"]["recipe"]["network"]
    return network


def arch(network: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The `--arch` that is nearest to a table [network], and what `--set` must change in it."""
    from repro.weights.architectures import ARCHS

    apart = {
        name: _differing("network", network, known) for name, known in ARCHS.items() if known["arch"] == network["arch"]
    }
    return min(apart.items(), key=lambda item: len(item[1]))


def _chain(record: Record, by_mark: Mapping[str, Record]) -> list[Record]:
    """The record's ancestors that are at hand and itself, the oldest first."""
    parents = [by_mark[mark] for mark in record.get("parents") or () if mark in by_mark]
    return [ancestor for parent in parents for ancestor in _chain(parent, by_mark)] + [record]


def _arm(record: Record) -> str:
    return record["method"] + (f":{record['variant']}" if record["variant"] else "")


def _date(record: Record) -> str:
    return str(record["provenance"].get("date", "-"))[:16].replace("T", " ")


def _time(record: Record) -> str:
    wall = cost_of(record, "wall_s")
    return "-" if wall is None else text.duration(wall)


def _machine(record: Record) -> str:
    about = record["provenance"]
    times = f"{about['processes']} x " if "processes" in about else ""
    return f"{times}{about.get('device', '-')}, {about.get('threads', '-')} threads"


def _code(about: Mapping[str, Any]) -> str:
    commit = str(about.get("commit", "unknown"))
    if commit == "unknown":
        return f"no commit known; source {about.get('source_hash', '-')}"
    return f"commit {commit[:12]}" + (", with changes that no commit holds" if about.get("dirty") else "")


def _changes(record: Record, origin: Record) -> tuple[list[str], str]:
    """`table.key=value` wherever recipe or protocol differ from this checkout's, and what stands in the way."""
    changes = arch(_network(origin))[1] if origin["kind"] == "import" else []
    then = origin["details"].get("recipe") if origin["kind"] == "pretrain" else None
    if then:
        try:
            info, variant = recipes.find(_arm(record))
            now = recipes.resolve(info, variant, record["track"], {})
        except UserError as error:
            return [], f"this checkout cannot: {error}"
        for table in recipes.TABLES:
            changes += _differing(table, then.get(table, {}), now[table])
    protocol = record.get("protocol") or {}
    if protocol.get("name") and record["kind"] in protocols.KINDS:
        try:
            values = protocols.values(protocols.load(record["kind"], protocol["name"]))
        except ValueError as error:
            return changes, f"this checkout cannot: {error}"
        changes += _differing(record["kind"], protocol["values"], values)
    return changes, ""


def _differing(table: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    plain = json.loads(json.dumps(dict(now)))  # tuples become lists, as in the record
    return [
        f"{table}.{key}={json.dumps(value)}" for key, value in then.items() if key not in plain or plain[key] != value
    ]


# -------------------------------------------------------------------------------------------------------------- compare


_CHOICE = "after @ stands a number of epochs, or a recipe's hash from its sixth letter on"


@dataclass(frozen=True)
class _Choice:
    """An arm as people name it: `byol`, `byol@15` (epochs), `byol@f9fbd8` (recipe)."""

    words: str
    name: str
    epochs: int | None = None
    recipe: str = ""

    @staticmethod
    def of(words: str) -> _Choice:
        name, at, which = words.partition("@")
        if at and len(which) >= 6:
            return _Choice(words, name, recipe=which)
        if at and not which.isdecimal():
            raise UserError(f"{words}: {_CHOICE}")
        return _Choice(words, name, epochs=int(which) if at else None)

    def fits(self, arm: Arm) -> bool:
        return (
            arm.name == self.name and self.epochs in (None, arm.setting.epochs) and arm.recipe.startswith(self.recipe)
        )

    def require(self, known: Sequence[Arm], track: str) -> None:
        """Raises UserError where no arm fits."""
        if self.name not in {arm.name for arm in known}:
            raise unknown(
                f"arm with records at {track}:", self.name, {arm.name for arm in known} or ["(there is none)"]
            )
        if not any(map(self.fits, known)):
            there = {f"{arm.name}@{arm.setting.epochs}" for arm in known if arm.name == self.name}
            there |= {f"{arm.name}@{arm.recipe[:6]}" for arm in known if arm.name == self.name}
            raise unknown(f"arm with records at {track}:", self.words, there)


def compare(first: str, second: str, track: str, settings: Settings, trust: Sequence[str] = ()) -> str:
    """Two arms seed by seed in every evaluation that both have, with the mean difference and its 95 % interval.

    first, second: `NAME[:VARIANT]`, with `@EPOCHS` or `@RECIPE` where there are several; else those that may best be
    held against each other.  trust: of which records too, beside our own.
    """
    if first == second:
        raise UserError(f"{first} and {first} are one arm; say which two: NAME@EPOCHS or NAME@RECIPE, of {first}")
    choices = _Choice.of(first), _Choice.of(second)
    for name in trust:
        if name not in TRUST:
            raise unknown("trust", name, TRUST)
    found = [record for record in everything(settings)[0] if record["track"] == track]

    def trusted(every: Sequence[Arm]) -> list[Arm]:
        return [arm for arm in every if arm.trust in (OURS, *trust)]

    known = {evaluation: trusted(arms(found, kind_of(evaluation))) for evaluation in MAIN_METRICS}
    seen = trusted(watched(found))
    for choice in choices:
        choice.require([*seen, *(arm for every in known.values() for arm in every)], track)
    left, right = choices
    rows: dict[tuple[str, ...], list[list[str]]] = {}  # by what the two arms are
    costs: dict[tuple[str, ...], list[list[str]]] = {}
    different: list[str] = []
    for evaluation, metrics in MAIN_METRICS.items():
        every = known[evaluation]
        sides = [arm for arm in every if left.fits(arm)], [arm for arm in every if right.fits(arm)]
        pair = fairest(*sides, methodcaller("values", metrics[0]))
        if pair is None:
            if all(sides):
                different.append(evaluation)
            continue
        heading = _heading(*pair)
        costs.setdefault(heading, _cost_rows(*pair))
        for metric in metrics:
            item = difference(evaluation, metric, pair, every)
            rows.setdefault(heading, []).extend(_rows(item) if item else [])
    looked = fairest(filter(left.fits, seen), filter(right.fits, seen), by_seed)
    if not rows and not looked:
        raise UserError(f"{first} and {second} share no evaluation at {track} with the same data, protocol and seed")
    head = ["at " + track, "seed", first, second, "difference", "95 % interval; spread from"]
    parts = {heading: [text.table(rows[heading] + costs[heading], head)] for heading in rows}
    if looked:
        parts.setdefault(_heading(*looked), []).append(_curves(first, second, *looked))
    texts = ["\n\n".join(["\n".join(heading), *part]) for heading, part in parts.items()]
    why = "both have records, but under different protocols or data, or of other seeds"
    return "\n\n".join([*texts, *(f"{evaluation}: {why}" for evaluation in different)])


def _heading(a: Arm, b: Arm) -> tuple[str, ...]:
    """What two arms are, a line each, and a line that says in what they are unlike."""
    lines = [
        f"{arm.name}: {arm.setting.network}, epochs {arm.setting.epochs or '-'}, batch {arm.setting.batch or '-'},"
        f" recipe {arm.recipe[:6] or '-'}, trials {arm.tuned}, {arm.trust}"
        for arm in (a, b)
    ]
    unequal = apart(a, b)
    told = f"unlike, so that a difference is not the methods' alone: {'; '.join(unequal)}"
    return (*lines, told) if unequal else tuple(lines)


def _curves(first: str, second: str, a: Arm, b: Arm) -> str:
    """The k-NN monitor of two arms' pre-trainings: each seed's course, and their differences at the same epochs.

    No differences where the trainings are of other lengths: the middle of a long one's schedule is no short one's end.
    """
    left, right = by_seed(a), by_seed(b)
    seeds = sorted(left.keys() & right.keys())
    values = [look.top1 for side in (left, right) for seed in seeds for look in side[seed]]
    courses = [
        [
            name,
            str(seed),
            text.sparkline([look.top1 for look in curve], min(values), max(values)),
            f"{curve[0].top1:.2f} to {curve[-1].top1:.2f}",
            f"{curve[0].epochs:.3g} to {curve[-1].epochs:.3g}",
            text.duration(curve[-1].device_s),
            f"{curve[-1].flops / 1e12:.4g}",
        ]
        for name, side in ((first, left), (second, right))
        for seed in seeds
        for curve in [side[seed]]
    ]
    head = ["k-NN on training pictures", "seed", "course", "percent", "epochs", "device time", "TFLOP"]
    lines = [text.table(courses, head)]
    about = "k-NN on training pictures: a monitor, not a test score; between two looks on a straight line"
    if a.setting.epochs != b.setting.epochs:
        return "\n".join([*lines, f"{about}; epoch by epoch not compared, as the schedules end at different epochs"])
    rows = [
        row
        for epochs in sorted({look.epochs for seed in seeds for look in left[seed]})
        if (row := _at(epochs, {seed: left[seed] for seed in seeds}, {seed: right[seed] for seed in seeds}))
    ]
    if rows:
        lines += ["", text.table(rows, ["after epochs", first, second, "difference", "95 % interval of paired t"])]
    return "\n".join([*lines, about])


def _at(epochs: float, left: Mapping[int, Curve], right: Mapping[int, Curve]) -> list[str] | None:
    """Both sides' means and their difference after so many epochs; None where a curve does not go there."""
    found = [{seed: at_epoch(curve, epochs) for seed, curve in side.items()} for side in (left, right)]
    ours, theirs = ({seed: look.top1 for seed, look in side.items() if look} for side in found)
    if not len(ours) == len(theirs) == len(left):
        return None
    means = [sum(side.values()) / len(side) for side in (ours, theirs)]
    gap = paired(ours, theirs)
    sure = "{:+.2f} to {:+.2f}".format(*gap.interval) if gap.n > 1 else ""
    return [f"{epochs:.3g}", *(f"{mean:.2f}" for mean in means), f"{gap.value:+.2f}", sure]


def _cost_rows(a: Arm, b: Arm) -> list[list[str]]:
    """Operations and time of the two arms' pre-trainings, and their ratio where it may be one of the methods."""
    shown = [
        ("training TFLOP", 1e12, a.training("flops"), b.training("flops"), ""),
        ("training CPU seconds", 1.0, a.cpu_time(), b.cpu_time(), ""),
        ("training seconds", 1.0, a.training("device_s"), b.training("device_s"), no_ratio(a, b)),
    ]
    rows = []
    for label, unit, ours, theirs, hindered in shown:
        if ours and theirs:
            means = [sum(cost.values()) / len(cost) / unit for cost in (ours, theirs)]
            ratio = f"{means[0] / means[1]:.2f} times" if means[1] and not hindered else "-"
            why = f"no ratio: {hindered}" if hindered else ""
            rows.append([label, "mean", *(f"{mean:.4g}" for mean in means), ratio, why])
    return rows


def _rows(item: Difference) -> list[list[str]]:
    what, seeds = f"{item.evaluation} {item.metric}", item.seeds
    left, right = item.ours.values(item.metric), item.theirs.values(item.metric)
    rows = [
        [what, str(seed), f"{left[seed]:.2f}", f"{right[seed]:.2f}", f"{left[seed] - right[seed]:+.2f}", ""]
        for seed in seeds
    ]
    if item.mean:
        values = [sum(side[seed] for seed in seeds) / len(seeds) for side in (left, right)]
        rows.append([what, "mean", *(f"{value:.2f}" for value in values), f"{item.mean.value:+.2f}", item.interval])
    return rows
