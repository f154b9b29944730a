"""All that is said of a verdict as one text, for tests that look for words in it."""

from __future__ import annotations

from leaderboards.verdicts import Verdict
from leaderboards.wording import details, headline


def sentence(verdict: Verdict) -> str:
    """The headline and the details; the pages print them a line each."""
    return "; ".join([headline(verdict), *details(verdict)])
