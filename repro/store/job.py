"""One job as plain values: all that makes its result, and the fingerprint that it is known by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

Recipe = dict[str, dict[str, Any]]
"""The tables [method], [network] and [pretrain], and [base] of an auxiliary task."""


@dataclass(frozen=True)
class Job:
    """What a stage does, once.

    kind: a row of the table of kinds (repro.plan.kinds).  module: of the method, "package.module:Class" or a plug-in's
    file; "" for an import.  spec: what else can change the result, as JSON.  parents: fingerprints of the jobs whose
    output it reads.  source: of an import, the file; its content is in the spec, its place is not.
    """

    kind: str
    method: str
    variant: str
    module: str
    track: str
    seed: int
    spec: dict[str, Any]
    parents: tuple[str, ...]
    fingerprint: str = ""
    source: Path | None = None

    @property
    def arm(self) -> str:
        """`aps` or `aps:flip_aware`."""
        return self.method + (f":{self.variant}" if self.variant else "")

    @property
    def label(self) -> str:
        """How messages name it: `knn aps seed 0`."""
        return f"{self.kind} {self.arm} seed {self.seed}"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Name and values; {} for a job that is no evaluation."""
        return self.spec.get("protocol", {})

    @property
    def recipe(self) -> Recipe:
        """Of a pre-training; {} for any other job."""
        return self.spec.get("recipe", {})

    @property
    def network(self) -> Mapping[str, Any]:
        """Table [network] of a pre-training or an import."""
        found: Mapping[str, Any] = self.recipe["network"] if self.recipe else self.spec["network"]
        return found

    @property
    def ranks(self) -> int:
        """How many share it."""
        return int(self.spec.get("processes", 1))

    def to_json(self) -> dict[str, Any]:
        """The plain values that the job's task gets."""
        values = {name: getattr(self, name) for name in _FIELDS}
        source = str(self.source.resolve()) if self.source else None
        return {**values, "parents": list(self.parents), "source": source}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """The inverse. Keys that are none of a job's, as older workspaces have them, are passed over."""
        known = {name: values[name] for name in _FIELDS if name in values}
        source = Path(values["source"]) if values.get("source") else None
        return cls(**{**known, "parents": tuple(values["parents"]), "source": source})


_FIELDS = tuple(field.name for field in fields(Job))
