"""The parts of `repro gpu`: a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """run: its function, Case and Tell -> Found.  weight: its share of the time, in seconds of eight minutes."""

    name: str
    run: str
    weight: float


PARTS = {
    part.name: part
    for part in (
        Part("stages", "repro.measure.gpu.stages:run", 80),
        Part("agreement", "repro.measure.gpu.agreement:run", 80),
        Part("precision", "repro.measure.gpu.precision:run", 45),
        Part("speed", "repro.measure.gpu.speed:run", 70),
        Part("memory", "repro.measure.gpu.memory:run", 30),
        Part("resume", "repro.measure.gpu.resume:run", 45),
        Part("training", "repro.measure.gpu.training:run", 130),
    )
}
"""In this order. The last takes what the others leave."""
