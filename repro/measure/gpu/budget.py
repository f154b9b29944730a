"""The time that there is, and what of it a part may take."""

from __future__ import annotations

import time
from collections.abc import Callable

_AIM, _OVER = 0.85, 1.5  # of its share: what a part plans with, and after what it is ended
_LAST = 3.0  # seconds to write and tell at the end


class Budget:
    """Shares by weight of what is left: who was quick leaves more to those that come later, who was slow less."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends = now() + seconds - _LAST

    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._ends - self._now())

    def aim(self, weight: float, later: float) -> float:
        """Seconds that a part of that weight plans with, where those after it weigh `later` together."""
        return _AIM * self._share(weight, later)

    def limit(self, weight: float, later: float) -> float:
        """Seconds after which it is ended: the whole must end in time whatever it does."""
        return min(self.left(), _OVER * self._share(weight, later))

    def _share(self, weight: float, later: float) -> float:
        return self.left() * weight / (weight + later)
