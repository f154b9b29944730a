"""What the leaderboards are told: the evaluations, protocols and neutral keys as they stand, and what pairs take."""

from __future__ import annotations

import dataclasses
from functools import cache

from leaderboards.claims import Claim
from leaderboards.suite import Price, Suite
from repro.results import bare_suite
from repro.results.citations import citations


@cache
def suite() -> Suite:
    """The evaluations in the order of their boards, and all else that the leaderboards are told."""
    return dataclasses.replace(bare_suite.suite(), price=_price, bibliography=citations())


def _price(claim: Claim, track: str, own: bool) -> Price | None:
    from repro.results import pair_prices  # plans import numpy, which most users of a suite do not need

    return pair_prices.published(claim, track, own)
