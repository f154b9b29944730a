"""What the front page says of the records: the outcomes counted, the table of verdicts, and what stands behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
    """Outcomes counted, what is learnt at all, the table of verdicts; below it the papers' own forms, what parts add.

    page: address of the page of claims.  track: on which is said what is learnt and what parts add.
    """
    known = Arms(records, suite)
    found = assess(claims, known)
    papers: dict[str, list[Assessment]] = {}
    for item in found:
        papers.setdefault(item.claim.paper, []).append(item)
    every = [answer for those in answers(papers).values() for answer in those]
    table, rest = verdict_table(papers, page, warnings(found, Controls((), known.records, suite)))
    said = [*beside_words(every), parts_words(found, track), *rest]
    behind = "\n".join(f"* {words}" for words in said if words)
    return "\n\n".join(filter(None, [summary(every), learnt_words(records, suite, track), table, behind]))


def beside_words(found: Iterable[Answer]) -> list[str]:
    """What was found of the papers' own forms, where our recipes have another, and on further tracks; a line for each.

    `The paper's temperature (t1): at equal epochs **holds**: better than BYOL +3.6; at equal compute ...`
    """
    found = list(found)
    at_epochs = _by_name((answer, other) for answer in found for other in answer.beside)
    at_compute = _by_name((answer, other) for answer in found for other in answer.beside_compute)
    lines = []
    for name in dict.fromkeys([*at_epochs, *at_compute]):
        instead = " in place of our recipe's" if name.endswith(")") else ""
        first, second = _grouped(at_epochs.get(name, ())), _grouped(at_compute.get(name, ()))
        said = [f"{name[0].upper()}{name[1:]}{instead}: {first}." if first else ""]
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
    """How far untrained networks, the methods and training with labels get, by network, and raw pixels.

    "" without records of a method.
    """
    by_network: dict[str, dict[str, list[float]]] = {}
    pixels = ""
    for row in gains(records, suite, track, [_EVALUATION]):
        gain, arm = row.gains[0], row.arm
        if gain is None:
            continue
        if arm.variant == PIXELS:
            pixels = f"; raw pixels {gain.value:.1f}"
            continue
        kind = "methods" if not arm.control else "untrained" if arm.method == UNTRAINED else "with labels"
        by_network.setdefault(arm.setting.network.split()[0], {}).setdefault(kind, []).append(gain.value)
    shown = {network: kinds for network, kinds in sorted(by_network.items()) if "methods" in kinds}
    said = "; ".join(f"{network}: {_levels(kinds)}" for network, kinds in shown.items())
    return f"Accuracy of a linear probe on {track}, {said}{pixels}." if said else ""


def _levels(kinds: Mapping[str, Sequence[float]]) -> str:
    """`untrained 33.3, methods 40.2 to 48.3, with labels 57.5`."""
    found = []
    for kind in ("untrained", "methods", "with labels"):
        ends = [f"{end:.1f}" for end in (min(kinds[kind]), max(kinds[kind]))] if kind in kinds else []
        found += [f"{kind} {' to '.join(dict.fromkeys(ends))}"] if ends else []
    return ", ".join(found)


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
