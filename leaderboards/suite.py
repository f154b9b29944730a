"""What the program around this room tells it of the suite. This room imports nothing of that program, so it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Protocols = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Kind of record -> name -> `hash` and `values` of a protocol as it stands."""

PROGRAM = "repro"
"""The key by which the bibliography knows this program."""


@dataclass(frozen=True)
class Evaluation:
    """One board: what it is read from, and how it is shown."""

    name: str
    kind: str  # of the records that it is read from: boxes and masks both come from kind "detection"
    title: str  # of its board
    metrics: tuple[str, ...]  # that it is known by; the first one sorts its board
    unit: str  # of the metrics, in words
    further: tuple[str, ...] = ()  # metrics that get a column where records have them
    task: str = ""  # what a model index calls it
    few: str = ""  # the metric with few labels, which has a row of its own where a run ends; "": there is none


@dataclass(frozen=True)
class Price:
    """What one pair of a claim takes on a track: one seed of both arms with their evaluations; of a number, one run."""

    jobs: Mapping[str, float]  # hours of each job, by what it is known by: claims that share an arm share its jobs
    gpu: bool  # whether these are GPU-hours
    sources: tuple[str, ...]  # of the estimates, the one with most hours first
    card: str = ""  # that the estimate is for; "": none

    @property
    def hours(self) -> float:
        """Of all its jobs."""
        return sum(self.jobs.values())

    @property
    def unit(self) -> str:
        """Of its hours."""
        return "GPU-hours" if self.gpu else "hours"


@dataclass(frozen=True)
class Suite:
    """The evaluations, in the order of their boards, and what is needed to compare old records with new ones."""

    evaluations: Mapping[str, Evaluation]
    preparing: tuple[str, ...] = ()  # kinds without a board, as they run
    protocols: Protocols = field(default_factory=dict)
    neutral: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recipe table -> key -> the value that changes nothing: a recipe without the key is the same recipe."""
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind of network -> the keys of a recipe's table [network] that make one of it, as it is before training."""
    recipe: Callable[[str, str], Mapping[str, Mapping[str, Any]]] = lambda arm, track: {}
    """The recipe of an arm on a track as it stands, by table; {} where there is none."""
    one_subset: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Track -> data sets of which all seeds were trained on one subset, where a record does not say which pictures."""
    tuned: Callable[[str, str], str] = lambda arm, track: ""
    """The procedure by which that recipe was tuned, or ""."""
    chosen: Callable[[str, str], str] = lambda arm, track: ""
    """What the procedure chose, in words: `rate x 2`; "" where it was none."""
    price: Callable[[Any, str, bool], Price | None] = lambda claim, track, own: None
    """What one pair of a claim takes on a track of GPUs, in the claim's own setting or of its direction; else None."""
    bibliography: Mapping[str, str] = field(default_factory=dict)
    """BibTeX entries of this program and of the papers of the methods, by their keys."""
    own: str = ""  # how the names of a user's own pictures begin; "": there are none

    def kind_of(self, evaluation: str) -> str:
        """The kind of record that an evaluation is read from."""
        return self.evaluations[evaluation].kind
