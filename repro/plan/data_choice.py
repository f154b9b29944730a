"""Which of a track's data sets is used where there are several, and what is missing of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repro.data import standing
from repro.data.data_sets import entry_of
from repro.data.types import Kind, MissingData
from repro.plan.tracks import ROLES, Track
from repro.settings import Where
from repro.terminal.text import size

_JOBS: Mapping[Kind, str] = {
    "classification": "all jobs",
    "detection": "the jobs of detection and segmentation",
    "reid": "the re-ID jobs",
}
"""By the kind of a data set, the jobs that read it."""


@dataclass(frozen=True)
class Choice:
    """The data set that a track uses in a role, and those that it could have used, the preferred one first.

    here: whether its pictures are there.
    """

    name: str
    among: tuple[str, ...]
    here: bool

    def line(self, here: bool) -> str:
        """`pictures: CIFAR-10 (JPEG copy) [cifar10-jpeg], since cifar10 was not found; ...`.

        here: whether its pictures are there by now.
        """
        chosen, first = entry_of(self.name).called, self.among[0]
        if self.name == first:
            if not here:
                return f"images: none of these was found: {', '.join(self.among)}"
            return f"images: {chosen}, preferred to {', '.join(self.among[1:])}"
        wanted = entry_of(first)
        return (
            f"images: {chosen}, since {first} was not found. With {first} (python -m repro data get"
            f" {wanted.made_of or first}) {_JOBS[wanted.kind]} run again, and their results are in separate tables"
        )


def choose(track: Track, role: str, where: Where, pictures: str = "") -> Choice:
    """The first of a track's data sets for a role that is there; the preferred one where none is.

    pictures: of classification, where the user says them: what is made of those comes first.
    """
    among = track.data_sets(role)
    among = tuple(sorted(among, key=lambda name: not pictures or entry_of(name).made_of != pictures))
    for name in among:
        if standing.of(name, where).place is not None:
            return Choice(name, among, True)
    return Choice(among[0], among, False)


def choices(track: Track, data: str | None, stated: Mapping[str, Any], where: Where) -> dict[str, Choice]:
    """`choose` by role, but for roles of which the user says the data set.

    data: the pictures of classification that the user brings.  stated: table [data] of `--set`.
    """
    said = {*stated, *(["classification"] if data is not None else [])}
    pictures = str(data or stated.get("classification", ""))
    return {role: choose(track, role, where, pictures) for role in ROLES if role not in said}


def preferred(track: Track) -> tuple[str, ...]:
    """The data sets that a track prefers, one a role: what `data get` with its name is about."""
    return tuple(dict.fromkeys(track.data_sets(role)[0] for role in ROLES))


def how_missing(error: MissingData, name: str, track: Track) -> str:
    """The line for a data set that is missing; of one that may be downloaded with the command that does it."""
    if error.download is None:
        return str(error)
    wanted = track.name if name in preferred(track) else name
    return f"{error.problem}; get it: python -m repro data get {wanted} ({size(error.download)})"
