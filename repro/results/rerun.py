"""The command that makes a record again with this checkout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboards.record_fields import drawn_of, entry
from repro.errors import UserError
from repro.plan import kinds, protocol_files, recipes, registry, tracks
from repro.results.overrides import differing, nearest_arch
from repro.store import records
from repro.store.records import Record

ANY = "knn"  # the evaluation that is asked for where a pre-training is all that is wanted: the cheapest


def words(record: Record, origin: Record, seeds: Sequence[int] = ()) -> tuple[list[str], str]:
    """The command that makes a record again with this checkout, and what stands in the way, or "".

    origin: the pre-training or import behind it.  seeds: others in place of its own.
    """
    kind = kinds.KINDS.get(record["kind"])
    if kind is None:
        return [], f"this checkout cannot: it knows no kind '{record['kind']}'"
    try:
        return _words(record, origin, seeds, kind)
    except (LookupError, TypeError, ValueError, AttributeError, UserError) as error:
        if isinstance(error, UserError):
            return [], f"this checkout cannot: {error}"
        return (
            [],
            f"this checkout cannot: the record does not say enough about how it was made ({type(error).__name__})",
        )


def _words(record: Record, origin: Record, seeds: Sequence[int], kind: kinds.Kind) -> tuple[list[str], str]:
    changes, problem = _changes(record, origin)
    track = tracks.find(record["track"])
    used: dict[str, str] = {
        "classification": str(entry(origin, "provenance", "data", "name") or ""),
        kind.data or "classification": record["provenance"]["data"]["name"],
    }
    changes += data_changes(track, used) + limit_changes(record, origin, track.limit)
    evaluation = kind.evaluations[0].name if kind.judges else ANY
    what = _what(record, origin, seeds or (record["seed"],))
    command = ["python", "-m", "repro", *what, "--track", record["track"], "--eval", evaluation]
    protocol = record.get("protocol") or {}
    network = str(entry(origin, "details", "recipe", "network", "arch") or "")
    usual = track.protocol(record["kind"], network) if network and record["kind"] in track.protocols else ""
    if protocol.get("name") and protocol["name"] != usual:
        command += ["--protocol", f"{record['kind']}={protocol['name']}"]
    return [str(word) for word in command] + (["--set", *changes] if changes else []), problem


def data_changes(track: tracks.Track, used: Mapping[str, str]) -> list[str]:
    """`data.ROLE=NAME` wherever these data sets by role are not what a run on the track is sure to take by itself.

    "" and "-" stand for one that is not known.
    """
    return [
        f"data.{role}={json.dumps(name)}"
        for role, name in used.items()
        if name not in ("", "-") and track.data_sets(role) != (name,)
    ]


def limit_changes(record: Mapping[str, Any], origin: Mapping[str, Any], usual: int) -> list[str]:
    """`data.limit=N` where a run takes another number of training pictures by itself (`usual`)."""
    return limit_change(next((n for n in map(drawn_of, (origin, record)) if n is not None), usual), usual)


def limit_change(drawn: int, usual: int) -> list[str]:
    """The same of the number drawn (0: all)."""
    return [f"data.limit={drawn}"] if drawn != usual else []


def _what(record: Record, origin: Record, seeds: Sequence[int]) -> list[str]:
    """The verb and what it is done with."""
    if origin["kind"] != "import":
        processes = origin["provenance"].get("processes", 1)
        together = ["--processes", str(processes)] if processes > 1 else []
        return ["run", "--method", registry.spelled(records.arm_of(record)), "--seed", *map(str, seeds), *together]
    details = origin["details"]
    network, _ = nearest_arch(details["recipe"]["network"])
    words = ["eval", "--checkpoint", details["file"], "--arch", network, "--name", record["method"]]
    if details["normalise"] == "given":
        mean, std = (",".join(map(str, details[key])) for key in ("mean", "std"))
        return [*words, "--mean", mean, "--std", std]
    return [*words, "--normalise", details["normalise"]]


def _changes(record: Record, origin: Record) -> tuple[list[str], str]:
    """`table.key=value` wherever recipe or protocol differ from this checkout's, and what stands in the way."""
    changes = nearest_arch(origin["details"]["recipe"]["network"])[1] if origin["kind"] == "import" else []
    then = origin["details"].get("recipe") if origin["kind"] == "pretrain" else None
    if then:
        try:
            info, variant = registry.find(records.arm_of(record))
            now = recipes.resolve(info, variant, record["track"], {})
            arch = then.get("network", {}).get("arch", now["network"]["arch"])
            if arch != now["network"]["arch"]:  # `--set network.arch` brings the track's network of that kind along
                changes.append(f"network.arch={json.dumps(arch)}")
                now = recipes.resolve(info, variant, record["track"], {"network": {"arch": arch}})
        except UserError as error:
            return [], f"this checkout cannot: {error}"
        for table in registry.TABLES:
            changes += differing(table, then.get(table, {}), now[table])
    protocol = record.get("protocol") or {}
    if protocol.get("name") and kinds.find(record["kind"]).judges:
        try:
            values = protocol_files.load(record["kind"], protocol["name"]).values()
        except ValueError as error:
            return changes, f"this checkout cannot: {error}"
        changes += differing(record["kind"], protocol["values"], values)
    return changes, ""
