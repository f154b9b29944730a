"""A question to the user."""

from __future__ import annotations

import sys


def can_ask() -> bool:
    """Whether somebody is there to answer: both ends are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agrees(question: str) -> bool:
    """Whether the user types y or yes; anything else is no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
