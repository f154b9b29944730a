"""What a job is known by: all that makes its result, and the code that it can reach as it is now."""

from __future__ import annotations

from typing import Any

from repro.data.data_sets import known_as
from repro.plan import kinds, recipes
from repro.store.hashes import digest
from repro.store.job import Job
from repro.store.source_hash import REACHES, source_hash


def fingerprint_of(job: Job) -> str:
    """The fingerprint of a job by today's code, whatever it says of its own."""
    spec: dict[str, Any] = job.spec
    if job.kind == "pretrain":
        spec = {key: value for key, value in spec.items() if key != "tuned"}  # how values were found changes no result
        spec["recipe"] = recipes.without_neutral(job.recipe)
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
            "code": code_of(job),
        }
    )


def code_of(job: Job) -> str:
    """Hash of the code that a job can reach: results of different code are not replicates of each other."""
    modules = [kinds.KINDS[job.kind].stage.partition(":")[0]]
    if job.kind != "pretrain":
        return source_hash(*modules)
    modules.append(job.module.rpartition(":")[0])
    if base := job.recipe.get("base"):
        modules.append(base["module"].rpartition(":")[0])
    # Evaluations cannot change an encoder: only its learning curve, which is for looking at, is made with them.
    return source_hash(*modules, rooms=tuple(room for room in REACHES if room != "eval"))
