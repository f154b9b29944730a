"""A lab in which every training ends at once: in place of the executor it leaves the records of made-up accuracies.

As a program it gives one command line of `repro` to such a lab, for tests that kill it:

    python made_up_lab.py NAME_OF_ACCURACIES SECONDS_A_JOB WORDS...

It writes the fingerprint of every job that it has done to `made.txt`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.protocols.base import collapse_metrics
from leaderboards.claims import Claim
from repro.plan.fingerprints import code_of
from repro.plan.planned import Plan
from repro.results import find_records
from repro.settings import Settings
from repro.store import records
from repro.store.job import Job
from repro.store.workspace import Workspace

Reach = Callable[[str, int], float]  # method, seed -> accuracy


def clear(method: str, seed: int) -> float:
    """GLNet, and a method of one's own, are about 5 points better; seeds move both."""
    return 40.0 + seed + (5.0 + 0.5 * (-1) ** seed if method == "glnet" or method.endswith("toy") else 0.0)


def rough(method: str, seed: int) -> float:
    """GLNet is 5 points better, with so much noise that it takes seven pairs to know."""
    return 40.0 + seed + (5.0 + 3.0 * (-1) ** seed if method == "glnet" else 0.0)


def noisy(method: str, seed: int) -> float:
    """No method is better, and the noise is five times any margin."""
    return 40.0 + 6.0 * float(np.random.default_rng([seed, len(method)]).normal())


def same(method: str, seed: int) -> float:
    """Seeds move both alike, and what is left is far below any margin."""
    return 40.0 + seed + 0.05 * float(np.random.default_rng([seed, len(method)]).normal())


def worse(method: str, seed: int) -> float:
    """GLNet is about 5 points worse."""
    return 80.0 - clear(method, seed)


REACHES: dict[str, Reach] = {"clear": clear, "rough": rough}
CLAIM = "glnet-imagenet-gain"


def alone(every_claim: Callable[[], list[Claim]]) -> Callable[[], list[Claim]]:
    """The claims, with CLAIM in a family of its own: so evidence of 40 decides it, whatever claims there are."""
    return lambda: [replace(claim, family="alone") if claim.id == CLAIM else claim for claim in every_claim()]


def record_of(job: Job, reach: Reach, flops: float = 1e12) -> dict[str, Any]:
    """What a job leaves."""
    data = {"name": "cifar10-jpeg", "source": "pictures", "manifest": "c0c0"}
    if "data" in job.spec:
        data |= {"limit": job.spec["data"]["limit"]}
    about: dict[str, Any] = {"data": data, "threads": 1, "date": "2026-01-01T00:00:00+00:00"}
    trained: dict[str, Any] = {}
    if job.kind == "pretrain":
        about |= {"trials": job.recipe["pretrain"]["tuning_trials"], "training_code": code_of(job)[:16]}
        trained = {"recipe": job.recipe}
    record = {
        "schema": 1,
        **{key: getattr(job, key) for key in ("fingerprint", "kind", "method", "variant", "track", "seed")},
        "parents": list(job.parents),
        "protocol": records.protocol_of(job.kind, **job.protocol),
        "metrics": dict.fromkeys(collapse_metrics("train", "test"), 1.0)
        | ({"top1": reach(job.method, job.seed)} if job.kind == "linear" else {}),
        "cost": {"wall_s": 60.0, "flops": flops},
        "provenance": about,
        "details": trained,
        "artifacts": {},
    }
    assert records.problems(record) == []
    return record


class Lab:
    """In place of `repro.run.execute.carry_out`.

    runs: (methods, seeds) that each run trains.  fails, loses: whether runs fail, or leave no record.  seconds: of each
    job.  flops: of one epoch, by method; those of all trainings are equal where it is empty.
    """

    def __init__(self, reach: Reach, seconds: float = 0.0, made: Path | None = None) -> None:
        self.reach, self.seconds, self.made = reach, seconds, made
        self.runs: list[tuple[tuple[str, ...], tuple[int, ...]]] = []
        self.fails = self.loses = False
        self.flops: dict[str, float] = {}

    def carry_out(self, planned: Plan, settings: Settings, words: Sequence[str], views: object) -> int:
        trained = [job for job in planned.to_do() if job.kind == "pretrain"]
        arms, seeds = dict.fromkeys(job.arm for job in trained), {job.seed for job in trained}
        self.runs.append((tuple(arms), tuple(sorted(seeds))))
        if self.fails:
            return 1
        for job in () if self.loses else planned.to_do():
            self.do(job, Workspace(settings.workspace))
        return 0

    def do(self, job: Job, place: Workspace) -> None:
        time.sleep(self.seconds)
        epochs = job.recipe["pretrain"]["epochs"] if job.kind == "pretrain" else 0
        flops = self.flops[job.arm] * epochs if self.flops and epochs else 1e12
        _, ours = records.write(place.records, record_of(job, self.reach, flops))
        if self.made:
            with self.made.open("a") as file:
                file.write(f"{job.fingerprint} {ours}\n")


def leave_records(workspace: str, jobs: Sequence[Mapping[str, Any]], data_root: str | None = None) -> None:
    """In place of `repro.jobs.run`, in a process of its own."""
    for job in map(Job.from_json, jobs):
        records.write(Workspace(Path(workspace)).records, record_of(job, rough))


if __name__ == "__main__":
    from repro.cli.dispatch import main
    from repro.run import execute

    execute.carry_out = Lab(REACHES[sys.argv[1]], float(sys.argv[2]), Path("made.txt")).carry_out  # type: ignore[assignment]
    find_records.every_claim = alone(find_records.every_claim)
    find_records.published_records = lambda: ([], [])  # which would decide the claim without a run
    sys.exit(main(sys.argv[3:]))
