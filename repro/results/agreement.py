"""Records that a run of this checkout would make again: recipe, data, protocol and code are the same.

The fingerprint of a job covers all of these, so such a record has the fingerprint of a job of today's plan, whoever
made it and where. These may be counted in one test; others may not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from leaderboards.record_fields import entry, origin_of
from repro.errors import UserError
from repro.plan import builder, fingerprints, recipes, registry, tracks
from repro.plan.request import Request
from repro.results import rerun
from repro.settings import Settings
from repro.store import records
from repro.store.job import Job
from repro.store.records import Record

Parse = Callable[[Sequence[str]], Request]
"""The words of a command `run` (without `python -m repro`) as a request."""


def reproducible(found: Sequence[Record], settings: Settings, parse: Parse) -> set[str]:
    """The fingerprints of those of these records that a run of this checkout would make again.

    found: with the pre-trainings that they come from; without, nothing is known of what made them.
    """
    by_fingerprint = records.by_fingerprint(found)
    wanted: dict[tuple[str, ...], set[int]] = defaultdict(set)  # by command for seed 0: the seeds
    trained: dict[str, bool] = {}
    for record in found:
        found_origin = origin_of(record, by_fingerprint)
        if found_origin is None or found_origin["kind"] != "pretrain":
            continue
        origin = dict(found_origin)
        if origin["fingerprint"] not in trained:
            trained[origin["fingerprint"]] = _same_training_code(origin)
        words, problem = rerun.words(record, origin, (0,)) if trained[origin["fingerprint"]] else ([], "")
        if words and not problem:
            wanted[tuple(words)].add(record["seed"])
    made: set[str] = set()
    for command, seeds in wanted.items():
        at = command.index("--seed")
        words = [*command[3 : at + 1], *map(str, sorted(seeds)), *command[at + 2 :]]
        try:
            made.update(job.fingerprint for job in builder.make(parse(words), settings).jobs)
        except UserError:  # a recipe or data set that this checkout does not have
            continue
    return made & by_fingerprint.keys()


def _same_training_code(origin: Record) -> bool:
    """Whether today's code would train this arm: quick to tell, and most records of older code end here."""
    try:
        info, variant = registry.find(records.arm_of(origin))
        recipe = recipes.resolve(info, variant, tracks.find(origin["track"]).name, {})
    except UserError:
        return False
    job = Job("pretrain", info.name, variant, info.module, origin["track"], 0, {"recipe": recipe}, ())
    return bool(entry(origin, "provenance", "training_code") == fingerprints.code_of(job)[:16])
