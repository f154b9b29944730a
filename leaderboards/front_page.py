"""What the front page says of the records: the outcomes counted, the table of verdicts, and what stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leaderboards.answers import answers, by_title, in_brief, summary
from leaderboards.arms import PIXELS, UNTRAINED, Arms
from leaderboards.assessments import Assessment, assess, older_recipes
from leaderboards.claim_arms import COMPUTE
from leaderboards.claims import Claim, of_training
from leaderboards.controls import Controls
from leaderboards.explanations import cost_words
from leaderboards.gains import gains
from leaderboards.learnt import warnings
from leaderboards.reading import OLDER_RECIPE
from leaderboards.record_fields import Record
from leaderboards.suite import Suite
from leaderboards.verdict_table import verdict_table
from leaderboards.verdicts import NO_DIFFERENCE

MOST = 19  # rows of the table of verdicts; the page may have 150 lines
_EVALUATION = "linear"  # in which the sentence on what is learnt says how far methods get


def front(records: Sequence[Record], claims: Sequence[Claim], suite: Suite, page: str, track: str) -> str:
    """Outcomes counted, the table of verdicts; below it what is learnt at all and what parts add.

    page: address of the page of claims.  track: on which is said what is learnt and what parts add.
    """
    known = Arms(records, suite)
    found = assess(claims, known)
    papers: dict[str, list[Assessment]] = {}
    for item in found:
        papers.setdefault(item.claim.paper, []).append(item)
    titled = by_title(answers(papers))
    table, rest = verdict_table(titled, page, warnings(found, Controls((), known.records, suite)), MOST)
    parts, older = parts_words(found, track), OLDER_RECIPE if older_recipes(found) else ""
    every = [answer for those in titled.values() for answer in those]
    listed = "\n".join(f"* {words}" for words in (learnt_words(records, suite, track), *parts, rest, older) if words)
    return "\n\n".join(filter(None, [summary(every), table, listed]))


def learnt_words(records: Iterable[Record], suite: Suite, track: str) -> str:
    """How far untrained networks, the methods and training with labels get, by network, and raw pixels.

    "" without records of a method.
    """
    by_network: dict[str, dict[str, list[float]]] = {}
    pixels, seeds = "", set[int]()
    for row in gains(records, suite, track, [_EVALUATION]):
        gain, arm = row.gains[0], row.arm
        if gain is None:
            continue
        if arm.variant == PIXELS:
            pixels = f"; raw pixels {gain.value:.1f}"
            continue
        seeds.add(len(arm.values(gain.metric)))
        kind = "methods" if not arm.control else "untrained" if arm.method == UNTRAINED else "with labels"
        by_network.setdefault(arm.setting.network.split()[0], {}).setdefault(kind, []).append(gain.value)
    shown = {network: kinds for network, kinds in sorted(by_network.items()) if "methods" in kinds}
    said = "; ".join(f"{network}: {_levels(kinds)}" for network, kinds in shown.items())
    many = " to ".join(map(str, dict.fromkeys((min(seeds), max(seeds))))) if seeds else ""
    of = f"means over {many} seeds, methods at their recipes' lengths"
    return f"Accuracy of a linear probe on {track} ({of}). {said}{pixels}." if said else ""


def _levels(kinds: Mapping[str, Sequence[float]]) -> str:
    """`untrained 33.3, methods 40.2 to 48.3, with labels 57.5`."""
    found = []
    for kind in ("untrained", "methods", "with labels"):
        ends = [f"{end:.1f}" for end in (min(kinds[kind]), max(kinds[kind]))] if kind in kinds else []
        found += [f"{kind} {' to '.join(dict.fromkeys(ends))}"] if ends else []
    return ", ".join(found)


def parts_words(found: Iterable[Assessment], track: str) -> list[str]:
    """What parts of methods add, where that is decided, a line for each paper: `GLNet: the location loss +2.0; ...`."""
    by_paper: dict[str, list[str]] = {}
    for item in found:
        here = [one for one in item.answered if one.track == track and one.basis != COMPUTE and not one.form]
        if item.claim.part and here and here[0].decided and not of_training(item.claim):
            said = in_brief(here[0])
            plain, _, smaller = said.word.partition(", ")
            cost = cost_words(here[0], [one for one in item.verdicts if one.track == track])
            words = ", ".join(filter(None, [plain if plain == NO_DIFFERENCE else "", said.amount, smaller]))
            words += f" ({cost})" * bool(cost)
            by_paper.setdefault(item.claim.paper_title, []).append(f"{item.claim.part}: {words}")
    what = "what its parts add, in points at equal epochs"
    return [f"{paper}, {what}: {'; '.join(parts)}." for paper, parts in by_paper.items()]
