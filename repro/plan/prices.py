"""What the jobs of a plan will take, learnt from what such jobs took. Reads records and imports no torch.

A line of a plan is priced by the first of these that knows its work on its track:

    records                 runs on this device with as many threads: of the workspace, else the published ones
    calibration             `plan --calibrate` on this device (calibration.py), kept in the workspace
    records, other device   runs anywhere, as above; on a GPU by the speed of both cards
    constants               seconds of kinds.py, gflops of tracks.toml or the speed of the card (cards.py),
                            relative_cost of the recipe

Two jobs are the same work when their recipes (of an evaluation: network and protocol) differ in nothing that costs
time. Epochs and pictures may differ: they scale what was measured.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eval import protocols
from leaderboards.record_fields import last_attempt_only
from repro.plan import cards, kinds
from repro.plan.cards import Card
from repro.plan.planned import CALIBRATION, ELSEWHERE, RECORDS, Plan, PlannedJob, root_of
from repro.plan.recipes import without_neutral
from repro.plan.tracks import Track
from repro.settings import Settings
from repro.store import records
from repro.store.hashes import digest
from repro.store.job import Recipe
from repro.store.provenance import cpu_name
from repro.store.workspace import Workspace

# Keys of recipes and protocols that scale the work, or cost no time.
_FREE = frozenset(
    "epochs iterations overfit_iterations train_pictures train_share tuning_trials lr head_lr base_batch weight_decay"
    " warmup_epochs warmup milestones seed mean std cosine_start clip_adaptive bank_drops crop_scale".split()
)


@dataclass(frozen=True)
class Sample:
    """What a job took, or a part of one that was long enough to tell.

    key: of its work (`key_of`).  amount: of epochs x pictures and the like, 0 where it does not scale.
    fixed, scaled: seconds, the second in proportion to the amount.
    """

    key: str
    device: str
    threads: int
    amount: float
    fixed: float
    scaled: float
    memory_gb: float = 0.0  # peak on a GPU, 0 where it was not recorded

    def seconds(self, amount: float) -> float:
        """For that amount of the same work."""
        return self.fixed + self.scaled * (amount / self.amount if amount and self.amount else 1.0)


@dataclass(frozen=True)
class Machine:
    """card: that estimates are for; None: of CPUs.  devices: what records of it are of, () where that is not known."""

    card: Card | None = None
    devices: tuple[str, ...] = ()

    @classmethod
    def of(cls, track: Track, settings: Settings) -> Machine:
        """The card of --card, else the one of this machine, else the track's. UserError for an unknown one."""
        if not any(need.gpus for need in track.resources.values()):
            return cls()
        if settings.card:
            named = cards.find(settings.card)
            return cls(named, tuple(named.smi))
        seen = cards.here()
        if here := seen.card():
            return cls(here, (seen.name,))
        return cls(cards.find(track.card) if track.card else None)

    def moved(self, sample: Sample) -> Sample | None:
        """What was measured elsewhere, by the speed of both cards; None where a GPU is wanted and it was none known."""
        if self.card is None:
            return sample
        if (other := cards.named(sample.device)) is None:
            return None
        return dataclasses.replace(sample, scaled=sample.scaled * other.rate("bf16") / self.card.rate("bf16"))


def priced(plan: Plan, found: Sequence[records.Record], settings: Settings, machine: Machine) -> Plan:
    """The plan with the seconds of what is to do, and what they are from. found: the records of the workspace."""
    if not plan.to_do():
        return plan
    places = (_by_key(_of_records(found)), _by_key(_published()))
    calibrated = _by_key(calibrations(settings))
    known, found_prices = plan.by_fingerprint(), dict[Any, tuple[float, str, float] | None]()
    jobs = []
    for job in plan.jobs:
        if not job.cached:
            work = key, amount, threads = key_of(job, known), job.amount, job.spec["threads"]
            if work not in found_prices:
                used = machine if plan.resources(job).gpus else Machine(devices=(cpu_name(),))
                found_prices[work] = _price(key, amount, used, threads, places, calibrated)
            if (price := found_prices[work]) is not None:
                job = dataclasses.replace(job, seconds=price[0], priced_by=price[1], memory_gb=price[2])
        jobs.append(job)
    return dataclasses.replace(plan, jobs=tuple(jobs))


def _price(
    key: str,
    amount: float,
    used: Machine,
    threads: int,
    places: Sequence[Mapping[str, list[Sample]]],
    calibrated: Mapping[str, list[Sample]],
) -> tuple[float, str, float] | None:
    """Seconds, what they are from, and the highest peak on a GPU that any record of the work has."""

    def alike(sample: Sample) -> bool:
        return sample.device in used.devices and sample.threads == threads

    tried = [(RECORDS, [s for s in place.get(key, ()) if alike(s)]) for place in places]
    tried.append((CALIBRATION, [s for s in calibrated.get(key, ()) if alike(s)]))
    tried += [(ELSEWHERE, [s for s in map(used.moved, place.get(key, ())) if s is not None]) for place in places]
    for source, samples in tried:
        if samples:
            peak = max((sample.memory_gb for place in places for sample in place.get(key, ())), default=0.0)
            return statistics.median(sample.seconds(amount) for sample in samples), source, peak
    return None


def _by_key(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    grouped: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        grouped[sample.key].append(sample)
    return grouped


def calibrations(settings: Settings) -> list[Sample]:
    """What `plan --calibrate` has left in the workspace; nothing where the file cannot be read."""
    try:
        stored = json.loads(Workspace(settings.workspace).calibration.read_text(encoding="utf-8"))
        return [Sample(**sample) for sample in stored]
    except (OSError, ValueError, TypeError):
        return []


# ------------------------------------------------------------------------------------------------ what the same work is


def key_of(job: PlannedJob, known: Mapping[str, PlannedJob]) -> str:
    """The work of a job. known: the jobs of its plan by fingerprint."""
    method = (job.method, job.variant) if job.kind == "pretrain" else ()
    data = job.spec.get("data", {}).get("name", "")
    values = job.protocol.get("values", {})
    return _key(job.kind, job.track, method, job.recipe, root_of(job, known).network, values, data, job.ranks)


def _key(
    kind: str,
    track: str,
    method: Sequence[str],
    recipe: Recipe,
    network: Mapping[str, Any],
    values: Mapping[str, Any],
    data: str,
    ranks: int,
) -> str:
    tables = {name: _timed(table) for name, table in without_neutral(recipe).items()}
    protocol = _timed(protocols.hashed(kind, values)) if values else {}
    return digest([kind, track, list(method), tables, dict(network), protocol, data, ranks])[:24]


def _timed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in _FREE}


@cache
def _published() -> tuple[Sample, ...]:
    return tuple(_of_records(records.read_published()[0]))


def _of_records(found: Sequence[records.Record]) -> Iterable[Sample]:
    """What records say.

    Nothing: those of elsewhere, those whose pre-training is not among them, those with the wall time of one attempt of
    several.
    """
    known = records.by_fingerprint(found)
    for record in found:
        if last_attempt_only(record):
            continue
        root, passed = record, set[str]()
        while root.get("parents") and root["parents"][0] in known and root["fingerprint"] not in passed:
            passed.add(root["fingerprint"])  # of records from elsewhere that go in a ring
            root = known[root["parents"][0]]
        try:
            recipe = root["details"]["recipe"]
            own = record["kind"] == "pretrain"
            ranks = record["provenance"].get("processes", 1)
            key = _key(
                record["kind"],
                record["track"],
                (record["method"], record["variant"]) if own else (),
                recipe if own else {},
                recipe["network"],
                record["protocol"]["values"],
                record["provenance"]["data"].get("name", ""),
                ranks,
            )
            cost = record["cost"]
            wall, scaled = cost["wall_s"], cost["device_s"] / ranks
            yield Sample(
                key,
                record["provenance"]["device"],
                record["provenance"]["threads"],
                kinds.KINDS[record["kind"]].work.recorded(record),
                max(0.0, wall - scaled),
                scaled,
                cost.get("peak_device_memory_mb", 0.0) / 1024,
            )
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            continue
