"""A plan: jobs in an order in which they can run, what is cached of them, and what the rest will take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from repro.data.account import Account
from repro.plan import kinds
from repro.plan.cards import Card
from repro.plan.data_choice import Choice
from repro.plan.few_pictures import Fitted
from repro.plan.request import Request
from repro.plan.tracks import Resources, Track
from repro.settings import STORED
from repro.store.job import Job, Recipe

RECORDS, CALIBRATION, ELSEWHERE, CONSTANTS = "records", "calibration", "records, other device", "constants"
PRICED_BY = (RECORDS, CALIBRATION, ELSEWHERE, CONSTANTS)
"""Where an estimate may be from, see `repro.plan.prices`."""


@dataclass(frozen=True)
class PlannedJob(Job):
    """A job, and how it stands before anything runs."""

    seconds: float = 0.0  # estimate
    amount: float = 0.0  # of work, see `repro.plan.workload`
    cached: bool = False
    missing: str = ""  # why it could not run: the data that is not there
    priced_by: str = CONSTANTS
    memory_gb: float = 0.0  # highest recorded peak on a GPU of the same work, 0 where there is none

    @property
    def task(self) -> str:
        """The kind of task that it runs in."""
        return kinds.KINDS[self.kind].task_of(self.protocol.get("values", {}))


@dataclass(frozen=True)
class Plan:
    """Jobs in an order in which they can run."""

    request: Request
    track: Track
    jobs: tuple[PlannedJob, ...]
    faults: tuple[str, ...] = ()  # records of the workspace that cannot be read
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()  # of data sets, where the track leaves one
    account: Account | None = None  # of the user's own pictures
    fits: Mapping[str, Fitted] = field(default_factory=dict)  # of recipes to them, by name
    left_out: tuple[tuple[str, str], ...] = ()  # arm and kind of what cannot be done
    card: Card | None = None  # that estimates are for, where jobs ask for a GPU
    stored: str = STORED[0]  # see settings.Where: no result depends on it

    def left_out_lines(self) -> list[str]:
        """A line for each evaluation that an arm cannot have."""
        return [f"left out: {kind} of {arm}, which has no network to train" for arm, kind in self.left_out]

    def other_data_lines(self) -> list[str]:
        """A line where the user says the pictures (--data), and some evaluations read others."""
        others = [name for name in self.request.evaluations if name in kinds.on_other_data()]
        said = f"--data is not for {', '.join(others)}: the data of the track is used there"
        return [said] if self.request.data and others else []

    def by_fingerprint(self) -> dict[str, PlannedJob]:
        """Jobs by fingerprint."""
        return {job.fingerprint: job for job in self.jobs}

    def resources(self, job: PlannedJob) -> Resources:
        """What the task of that job asks for."""
        own = kinds.KINDS[job.kind].resources
        return self.track.need(own or job.task)

    def to_do(self) -> list[PlannedJob]:
        """The jobs without a record, and those whose output was lost and is needed."""
        return [job for job in self.jobs if not job.cached]

    @property
    def seconds(self) -> float:
        """Estimate of what is to do, one job after another."""
        return sum(job.seconds for job in self.to_do())

    def gpu_hours(self, job: PlannedJob) -> float:
        """Estimate of the time that a job holds GPUs, times their number."""
        return job.seconds * self.resources(job).gpus / 3600


def root_of(job: PlannedJob, by_fingerprint: Mapping[str, PlannedJob]) -> PlannedJob:
    """The pre-training or import that a job descends from."""
    while job.parents:
        job = by_fingerprint[job.parents[0]]
    return job


def merge(plans: Sequence[Plan]) -> Plan:
    """Plans of one track as one: what they share is done once."""
    jobs = {job.fingerprint: job for planned in plans for job in planned.jobs}
    faults = dict.fromkeys(fault for planned in plans for fault in planned.faults)
    return dataclasses.replace(plans[0], jobs=tuple(jobs.values()), faults=tuple(faults))
