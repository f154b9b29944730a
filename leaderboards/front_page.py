"""What the front page says of the records: the outcomes counted, the table of verdicts, and what stands behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from leaderboards.answers import Answer, Beside, Said, answers, rank, summary
from leaderboards.arms import PIXELS, UNTRAINED, Arms
from leaderboards.assessments import Assessment, assess
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim, of_training
from leaderboards.controls import Controls
from leaderboards.gains import gains
from leaderboards.learnt import warnings
from leaderboards.record_fields import Record
from leaderboards.suite import Suite
from leaderboards.verdict_table import verdict_table
from leaderboards.verdicts import HOLDS, NO_DIFFERENCE, OPPOSITE, Verdict
from leaderboards.wording import unit

_EVALUATION = "linear"  # in which the sentence on what is learnt says how far methods get


def front(records: Sequence[Record], claims: Sequence[Claim], suite: Suite, page: str, track: str) -> str:
    """Outcomes counted, the table of verdicts; below it the papers' own forms, what is learnt at all, what parts add.

    page: address of the page of claims.  track: of which the last two speak.
    """
    known = Arms(records, suite)
    found = assess(claims, known)
    papers: dict[str, list[Assessment]] = {}
    for item in found:
        papers.setdefault(item.claim.paper, []).append(item)
    every = [answer for those in answers(papers).values() for answer in those]
    table, rest = verdict_table(papers, page, warnings(found, Controls((), known.records, suite)))
    said = [*beside_words(every), learnt_words(records, suite, track), parts_words(found, track), *rest]
    behind = "\n".join(f"* {words}" for words in said if words)
    return "\n\n".join(filter(None, [summary(every), table, behind]))


def beside_words(found: Iterable[Answer]) -> list[str]:
    """What was found of the papers' own forms, where our recipes have another, and on further tracks; a line for each.

    `The paper's temperature (t1): at equal epochs **holds**: better than BYOL +3.6; at equal compute ...`
    """
    found = list(found)
    at_epochs = _by_name((answer, other) for answer in found for other in answer.beside)
    at_compute = _by_name((answer, other) for answer in found for other in answer.beside_compute)
    lines = []
    for name in dict.fromkeys([*at_epochs, *at_compute]):
        first, second = _grouped(at_epochs.get(name, ())), _grouped(at_compute.get(name, ()))
        said = [f"{name[0].upper()}{name[1:]}: {first}." if first else ""]
        said += [f"At equal compute: {second}." if second else ""]
        lines.append(" ".join(filter(None, said)))
    return lines


def _by_name(found: Iterable[tuple[Answer, Beside]]) -> dict[str, list[tuple[Answer, Said]]]:
    named: dict[str, list[tuple[Answer, Said]]] = {}
    for answer, other in found:
        named.setdefault(other.name, []).append((answer, other.said))
    return named


def _grouped(found: Sequence[tuple[Answer, Said]]) -> str:
    """`**holds**: better than BYOL +3.6, better than SimSiam +2.7; **opposite**: better than SimCLR -2.4`."""
    often = Counter(answer.claim.title for answer, _ in found)
    by_word: dict[str, list[str]] = {}
    for answer, said in found:
        where = f" ({answer.evaluation})" if often[answer.claim.title] > 1 else ""
        by_word.setdefault(said.word, []).append(
            f"{answer.claim.title}{where} {said.same_runs or said.amount}".rstrip()
        )
    return "; ".join(f"**{word}**: {', '.join(by_word[word])}" for word in sorted(by_word, key=rank))


def learnt_words(records: Iterable[Record], suite: Suite, track: str) -> str:
    """How far untrained networks, raw pixels, the methods and training with labels get; "" without records."""
    rows = [row for row in gains(records, suite, track, [_EVALUATION]) if row.gains[0]]
    values = {row.arm: gain.value for row in rows if (gain := row.gains[0])}
    methods = [value for arm, value in values.items() if not arm.control]
    if not methods:
        return ""
    untrained = sorted(
        f"{value:.1f} ({arm.setting.network.split()[0]})"
        for arm, value in values.items()
        if arm.method == UNTRAINED and arm.variant != PIXELS
    )
    pixels = [f"{value:.1f}" for arm, value in values.items() if arm.method == UNTRAINED and arm.variant == PIXELS]
    labels = [f"{value:.1f}" for arm, value in values.items() if arm.control and arm.method != UNTRAINED]
    said = [
        f"untrained networks {' and '.join(untrained)}" if untrained else "",
        f"raw pixels {' and '.join(pixels)}" if pixels else "",
        f"pre-trained methods {min(methods):.1f} to {max(methods):.1f}",
        f"trained with labels {' and '.join(labels)}" if labels else "",
    ]
    return f"Accuracy of a linear probe on {track}: {', '.join(filter(None, said))}."


def parts_words(found: Iterable[Assessment], track: str) -> str:
    """What parts of methods add, those that are decided: `GLNet: the location loss +2.0 points; ...`, by paper."""
    by_paper: dict[str, list[str]] = {}
    for item in found:
        here = [one for one in item.answered if one.track == track and one.basis != COMPUTE and not one.form]
        if item.claim.part and here and not of_training(item.claim) and (words := _adds(here[0])):
            by_paper.setdefault(item.claim.paper_title, []).append(f"{item.claim.part} {words}")
    said = "; ".join(f"{paper}: {', '.join(parts)}" for paper, parts in by_paper.items())
    return f"What parts of the methods add (equal epochs, decided tests only): {said}." if said else ""


def _adds(verdict: Verdict) -> str:
    """`+9.6 points`, `no difference (+0.1)`; "" of what is not decided."""
    plain = verdict.outcome.partition(",")[0]
    if verdict.gap is None or plain not in (HOLDS, OPPOSITE, NO_DIFFERENCE):
        return ""
    if plain == NO_DIFFERENCE:
        return f"no difference ({verdict.gap:+.1f})"
    return f"{verdict.gap:+.1f} {unit(verdict.claim)}"
