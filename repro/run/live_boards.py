"""What a run shows of its workspace while it goes on and at its end. The views themselves are made in repro.results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from repro.plan.tracks import Track
from repro.store.workspace import Workspace


@dataclass(frozen=True)
class Views:
    """boards: writes boards and report of a workspace.  finish: that, and prints the table of the runs with these
    fingerprints."""

    boards: Callable[[Workspace], object]
    finish: Callable[[Collection[str], Track, Workspace], None]

    @classmethod
    def none(cls) -> Views:
        """For whoever looks at the records alone."""
        return cls(lambda place: None, lambda fingerprints, track, place: None)


class Fresh:
    """Keeps boards and report of a workspace fresh while a run goes on, for a twentieth of one core at most."""

    def __init__(self, place: Workspace, views: Views) -> None:
        self._place, self._views, self._not_before = place, views, 0.0

    def __call__(self) -> None:
        began = time.monotonic()
        if began < self._not_before:
            return
        try:
            self._views.boards(self._place)
        except Exception as error:  # a view that cannot be written must not end a night of training
            print(f"boards not written: {error}", file=sys.stderr)
        now = time.monotonic()
        self._not_before = now + max(5.0, 19 * (now - began))
