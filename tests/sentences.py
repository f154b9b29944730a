"""All that is said of a verdict as one text, for tests that look for words in it."""

from __future__ import annotations

from leaderboards.verdicts import Verdict
from leaderboards.wording import finding


def sentence(verdict: Verdict) -> str:
    """The headline and the details; the pages print them a line each."""
    found = finding(verdict)
    return "; ".join([found.headline, *found.details])
