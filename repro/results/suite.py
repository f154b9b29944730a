"""What the leaderboards are told: the evaluations, protocols and neutral keys as they stand, and what pairs take."""

from __future__ import annotations

import dataclasses
from functools import cache

from leaderboards.suite import Suite
from repro.results import bare_suite, pair_prices


@cache
def suite() -> Suite:
    """The evaluations in the order of their boards, what compares old records with new ones, and prices of pairs."""
    return dataclasses.replace(bare_suite.suite(), price=pair_prices.published)
