"""Which pairs of a settlement run side by side, and running them on this machine."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence

from repro.plan.planned import Plan, merge
from repro.results.settle_asked import Asked, Step
from repro.results.settle_ledger import Ledger
from repro.run import execute
from repro.run.live_boards import Views
from repro.settings import Settings
from slurm.machine import cores_here, gpus_here

_TRAININGS = 2  # for each that can run at once: a pair is two of unequal length, and would leave half of a machine idle


def affordable(steps: Iterable[Step], left: float) -> list[Step]:
    """Those with something to run that fit together into what is left of the budget, the most telling first."""
    chosen = []
    for step in sorted(steps, key=lambda step: step.order):
        if step.commands and step.price <= left:
            chosen.append(step)
            left -= step.price
    return chosen


def next_round(steps: Iterable[Step], left: float, settings: Settings) -> list[Step]:
    """The pairs that run next on this machine: the most telling one, and more until all cores have work."""
    chosen: list[Step] = []
    begun: set[str] = set()
    for step in affordable(steps, left):
        if chosen and len(begun) >= _TRAININGS * at_once(chosen[0].plans[0], settings):
            break
        chosen.append(step)
        begun |= trainings(step.plans)
    return chosen


def trainings(plans: Iterable[Plan]) -> set[str]:
    """Fingerprints of the pre-trainings that these plans have to do."""
    return {job.fingerprint for plan in plans for job in plan.to_do() if job.kind == "pretrain"}


def at_once(planned: Plan, settings: Settings) -> int:
    """How many trainings of such a plan this machine runs side by side."""
    wants = next((planned.resources(job) for job in planned.jobs if job.kind == "pretrain"), None)
    if wants is None:
        return 1
    cores = (settings.cores or cores_here()) // max(1, wants.cpus)
    return max(1, min(cores, len(gpus_here()) // wants.gpus) if wants.gpus else cores)


def carry_out(steps: Sequence[Step], asked: Asked, ledger: Ledger) -> None:
    """Run the pairs of a round. One that fails is not tried again: its claim is left with the reason.

    The time counts for the claims by the estimates of their pairs. KeyboardInterrupt where it was interrupted.
    """
    for step in steps:
        ledger.begin(step.claim.id, step.commands, step.plans)
    began = time.monotonic()
    planned = merge([plan for step in steps for plan in step.plans])
    status = execute.carry_out(planned, asked.settings, (), Views.none())
    took, whole = time.monotonic() - began, sum(step.price for step in steps)
    for step in steps:
        share = took * (step.price / whole if whole else 1 / len(steps))
        if status == 130:
            ledger.cut(step.claim.id, share)
        else:
            ledger.end(step.claim.id, share, _failed(step, asked) if status else "")
    if status == 130:
        raise KeyboardInterrupt


def _failed(step: Step, asked: Asked) -> str:
    """Why a pair of a round in which something failed is not whole; "" where it is."""
    for words, planned in zip(step.commands, asked.plans(step.commands), strict=True):
        if planned.to_do():
            return f"a run failed: {shlex.join(words)}"
    return ""
