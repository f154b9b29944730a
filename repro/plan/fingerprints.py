"""What a job is known by: all that makes its result, and the code that it can reach as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repro.data.data_sets import known_as
from repro.plan import kinds, recipes
from repro.store.hashes import digest
from repro.store.job import Job
from repro.store.source_hash import REACHES, source_hash


def fingerprint_of(job: Job) -> str:
    """The fingerprint of a job by today's code, whatever it says of its own."""
    code = [kinds.KINDS[job.kind].stage.partition(":")[0]]
    rooms: tuple[str, ...] = REACHES
    spec: Mapping[str, Any] = job.spec
    if job.kind == "pretrain":
        # Evaluations cannot change an encoder: only its learning curve, which is for looking at, is made with them.
        rooms = tuple(room for room in rooms if room != "eval")
        code.append(job.module.rpartition(":")[0])
        if base := job.recipe.get("base"):
            code.append(base["module"].rpartition(":")[0])
        spec = {**spec, "recipe": recipes.without_neutral(job.recipe)}
    if "data" in spec:
        spec = {**spec, "data": {**spec["data"], "name": known_as(spec["data"]["name"])}}
    return digest(
        {
            "kind": job.kind,
            "method": job.method,
            "variant": job.variant,
            "track": job.track,
            "seed": job.seed,
            "spec": spec,
            "parents": sorted(job.parents),
            "code": source_hash(*code, rooms=rooms),
        }
    )
