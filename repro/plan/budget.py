"""`--budget`: a plan that is estimated at more is refused in one line, or with `--trim` made smaller until it fits.

    2h  90m  90min  45s  3d     of work, all that is to do, one job after another
    12gpuh                      GPU-hours: the time that a job holds GPUs, times their number

Trimmed are, in this order, the last seeds (never the first), then evaluations: fine-tuned re-ID, segmentation and
detection (one training), fine-tuning, re-ID, linear, k-NN (never the last one left). What is cached costs nothing and
stays.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from repro.errors import UserError
from repro.plan import kinds
from repro.plan.builder import make
from repro.plan.planned import Plan
from repro.plan.request import Request
from repro.settings import Settings
from repro.terminal.text import duration, gpu_hours

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "gpuh": 3600}


@dataclass(frozen=True)
class Budget:
    """At most so many seconds of work, or (gpu) seconds on a GPU."""

    text: str
    seconds: float
    gpu: bool

    @classmethod
    def parse(cls, text: str) -> Budget:
        """UserError for what is no budget."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
        if not match or match[2] not in _UNITS or not 0 < float(match[1]) < math.inf:
            raise UserError(f"--budget {text}: write it as 2h, 90min or 3d (time), or 12gpuh (GPU-hours)")
        return cls(text, float(match[1]) * _UNITS[match[2]], match[2] == "gpuh")

    def holds(self, planned: Plan) -> bool:
        """Whether all that is to do fits."""
        return self._of(planned) <= self.seconds

    def told(self, planned: Plan) -> str:
        """The estimate in the words of the budget."""
        return (
            f"{gpu_hours(self._of(planned) / 3600)} GPU-hours" if self.gpu else f"{duration(planned.seconds)} of work"
        )

    def _of(self, planned: Plan) -> float:
        return 3600 * sum(map(planned.gpu_hours, planned.to_do())) if self.gpu else planned.seconds


def within(request: Request, settings: Settings, text: str | None, trim: bool) -> Plan:
    """The plan of a request, made smaller where it has to be and may be. UserError where it does not fit."""
    planned = make(request, settings)
    if text is None:
        if trim:
            raise UserError("--trim goes with --budget, for example --budget 2h --trim")
        return planned
    budget = Budget.parse(text)
    if budget.holds(planned):
        return planned
    said = f"--budget {budget.text}: the plan needs about {budget.told(planned)}"
    smaller, dropped = planned, list[str]()
    for what, less in _less(planned):
        dropped.append(what)
        smaller = make(less, settings)
        if budget.holds(smaller):
            break
    else:
        raise UserError(
            f"{said}; the smallest plan ({_named(smaller.request)}) needs about {budget.told(smaller)};"
            " raise the budget, name fewer methods, or shorten the recipe with --set"
        )
    if not trim:
        raise UserError(
            f"{said}; {_named(smaller.request)} would fit ({budget.told(smaller)}): add --trim to drop"
            f" {', '.join(dropped)}, or raise the budget"
        )
    print(f"{said}; dropped {', '.join(dropped)}: {budget.told(smaller)} left")
    return smaller


def _less(planned: Plan) -> Iterator[tuple[str, Request]]:
    """Ever smaller requests, and what each drops of the one before; only what has something to do."""
    request, todo = planned.request, planned.to_do()
    for seed in reversed(list(dict.fromkeys(request.seeds))[1:]):  # the first one stays
        if any(job.seed == seed for job in todo):
            request = dataclasses.replace(request, seeds=tuple(s for s in request.seeds if s != seed))
            yield f"seed {seed}", request
    for name in _trimmed():
        kind = kinds.evaluations()[name].kind
        busy = any(job.kind == kind for job in todo)
        if name in request.evaluations and len(request.evaluations) > 1 and busy:
            left = tuple(other for other in request.evaluations if other != name)
            asked = kinds.of_evaluations(left)
            given = tuple(text for text in request.protocols if text.partition("=")[0].strip() in asked)
            request = dataclasses.replace(request, evaluations=left, protocols=given)
            yield name, request


def _trimmed() -> list[str]:
    """The evaluations in the order in which they are dropped; what a record gives beside another goes before it."""
    order = sorted(kinds.KINDS.values(), key=lambda kind: kind.dropped)
    return [evaluation.name for kind in order for evaluation in reversed(kind.evaluations)]


def _named(request: Request) -> str:
    return f"--seed {' '.join(map(str, request.seeds))} --eval {' '.join(request.evaluations)}"
