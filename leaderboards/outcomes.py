"""How many of the comparisons have which outcome: a small table, and what to know when reading it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboards.answers import Answer, Said, by_outcome
from leaderboards.claims import COST
from leaderboards.verdicts import HOLDS, NOT_RUN, two_bases


@dataclass(frozen=True)
class Outcomes:
    """Comparisons counted by their outcome."""

    words: list[str]  # the outcomes that occur, `holds` first
    rows: list[tuple[str, int, list[int]]]  # (what was compared, how many comparisons, how many of each outcome)
    about: str  # what to know when reading them


def outcomes(found: Sequence[Answer]) -> Outcomes:
    """Comparisons of accuracy at equal epochs and at equal compute, and of cost, counted by their outcome.

    Of several tracks the smallest counts.
    """
    costs = [answer for answer in found if answer.claim.evaluation == COST]
    others = [answer for answer in found if answer.claim.evaluation != COST]
    at_compute = [answer for answer in others if two_bases(answer.claim)]
    counted = {
        "accuracy, equal epochs": Counter(outcome_word(answer.epochs) for answer in others),
        "accuracy, equal compute": Counter(outcome_word(answer.compute) for answer in at_compute),
        "cost": Counter(outcome_word(answer.epochs) for answer in costs),
    }
    words = sorted({one for of in counted.values() for one in of}, key=by_outcome)
    rows = [(what, of.total(), [of[one] for one in words]) for what, of in counted.items() if of]
    return Outcomes(words, rows, _about(found, others, len(others) - len(at_compute)))


def outcome_word(said: Said | None) -> str:
    """The outcome; `not run` where there is none."""
    return said.word if said else NOT_RUN


def _about(found: Sequence[Answer], others: Sequence[Answer], apart: int) -> str:
    """apart: how many comparisons of accuracy have no equal compute."""
    there = sum(answer.own for answer in found)
    said = [
        "The comparisons are derived from the papers' abstracts and code pages.",
        f"{there or 'None'} of them {'was' if there < 2 else 'were'} tested in the paper's own setting.",
        "`holds` means better in our test; it does not confirm the paper's number.",
        _in_their_own_form(others),
        f"{apart} of accuracy compares two lengths of training, so it has no equal compute." if apart == 1 else "",
    ]
    return " ".join(filter(None, said))


def _in_their_own_form(found: Sequence[Answer]) -> str:
    """How many hold only where our recipe departs from the paper's own form; "" without such."""
    holding = [answer for answer in found if answer.epochs and _holds(answer.epochs)]
    departing = [answer for answer in holding if answer.claim.form]
    if not departing:
        return ""
    held = sum(any(other.form and _holds(other.said) for other in answer.beside) for answer in departing)
    if len(departing) == 1:
        does = "does too" if held else "does not"
        return f"1 comparison of accuracy holds with a recipe unlike the paper's (†); with the paper's, it {does}."
    return (
        f"Of the {len(holding)} comparisons of accuracy that hold at equal epochs, {len(departing)} (†) use a recipe"
        f" unlike the paper's; with the paper's, {held} of these {len(departing)} {'holds' if held == 1 else 'hold'}."
    )


def _holds(said: Said) -> bool:
    return said.word.partition(",")[0] == HOLDS
